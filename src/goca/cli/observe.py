"""``goca observe``: what tokens, heads and layers contribute to a segmentation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goca.cli.common import clean_stdout, print_json, print_settings, say, split_classes, split_list
from goca.cli.options import (
    BackgroundOption,
    JsonOption,
    MethodOptions,
    ModelOptions,
    OutOption,
    PresetOption,
    count_option,
    seed_option,
)

if TYPE_CHECKING:
    from goca.observation.explanation import Explanation, PixelScores

SHOWN_TOKENS = 5


def observe(
    image: Annotated[str, typer.Argument(help="Image file.", metavar="IMAGE")],
    classes: Annotated[
        list[str],
        typer.Option(
            help='What to look for, separated by commas: "cat,grass,sky". Synonyms: "person|man|woman"; each is looked '
            "for, and a class takes the mean of what its words find."
        ),
    ],
    model: ModelOptions,
    method: MethodOptions,
    at: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y", help="Pixel of the image whose scores are written, from 0,0; may be repeated."),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            help="Layer whose heads and words are drawn: name, or number from 0. Default: the one that weighs most."
        ),
    ] = None,
    head: Annotated[
        int | None,
        count_option("Head that is drawn, from 0; without --layer that head of every layer.", least=0),
    ] = None,
    records: Annotated[
        bool, typer.Option("--records", help="Also write queries, keys, values and weights of every layer (.npz).")
    ] = False,
    caption: Annotated[
        str | None, typer.Option(help="A sentence that describes the image and mentions the classes.")
    ] = None,
    background: BackgroundOption = None,
    preset: PresetOption = None,
    seed: Annotated[int, seed_option("Seed of the noise.")] = 0,
    out: OutOption = Path("goca-observed"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how the segmentation of one image comes about.

    Writes pictures: IMAGE_words (attention to each word), IMAGE_shares (special, content and stuff tokens),
    IMAGE_layers (weight and maps of each layer), IMAGE_heads-of-LAYER (weight and maps of each head),
    IMAGE_head-weights, IMAGE_stages (from attention to labels), IMAGE_word-WORD (at the image's size),
    IMAGE_pixel-X-Y. All numbers are in IMAGE_explanation.json, all maps in IMAGE_explanation.npz, and
    IMAGE_explanation.html is a page to look into them: pixels, stages, layers and heads.

    Example: goca observe photo.jpg --classes "cat,grass,sky" --at 120,80 --out observed
    """
    names, pixels = split_classes(classes), [parse_pixel(each) for each in at or ()]
    with clean_stdout():
        from goca.observation.files import describe, describe_pixel
        from goca.observation.observe import check_request
        from goca.observation.observe import observe as run

        check_request(image, out, pixels, records, overwrite)
        saved = run(
            model.load(preset, method.settings),
            image,
            names,
            out,
            caption=caption,
            background=split_list(background or []),
            seed=seed,
            at=pixels,
            layer=layer,
            head=head,
            records=records,
            overwrite=overwrite,
        )
    explanation = saved.explanation
    scores = [explanation.at(*pixel) for pixel in pixels]
    for note in explanation.notes:
        say(f"note: {note}", error=True)
    if as_json:
        answer: dict[str, Any] = describe(explanation)
        answer["pixels"] = [describe_pixel(explanation, each) for each in scores]
        print_json({**answer, "files": {key: str(path) for key, path in saved.files.items()}})
    else:
        print_settings(method.settings)
        print_summary(explanation, scores)
        say(f"{len(saved.files)} files; open {saved.files['html']} in a browser")


def parse_pixel(text: str) -> tuple[int, int]:
    """X and Y of a pixel.

    Raises:
        ValueError: another form.
    """
    match = re.fullmatch(r"\s*(\d{1,9})\s*,\s*(\d{1,9})\s*", text, re.ASCII)
    if match is None:
        raise ValueError(
            f"--at takes a pixel as two whole numbers, X,Y from the top left, not {text!r}; e.g. --at 120,80"
        )
    return int(match[1]), int(match[2])


def print_summary(explanation: Explanation, pixels: Sequence[PixelScores]) -> None:
    """Shares, layer weights and the highest tokens at each pixel."""
    shares = ", ".join(f"{role} {share:.1%}" for role, share in explanation.shares.items())
    say(f"attention to the text: {shares}")
    say("layer weights:")
    for number, layer in enumerate(explanation.layers):
        say(f"  {number}  {layer.name}  {layer.weight:.3f}  ({layer.heads} heads)")
    for pixel in pixels:
        order = sorted(range(len(pixel.tokens)), key=lambda position: -pixel.tokens[position])[:SHOWN_TOKENS]
        tokens = ", ".join(f"{explanation.tokens[position].text} {pixel.tokens[position]:.3f}" for position in order)
        say(f"pixel {pixel.x},{pixel.y}: {pixel.label}; highest tokens {tokens}")
