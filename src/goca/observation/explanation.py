"""Everything that leads from one image and one prompt to the labels, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from goca import explorer
from goca.calibration import Calibration
from goca.maps.resize import resize_maps
from goca.observation import files, pictures
from goca.observation.layers import LayerMaps, layer_index, role_sums
from goca.observation.pixels import PixelScores, check_pixel, sample_maps
from goca.observation.tokens import ROLES, Token, find_tokens, list_words
from goca.result import NOTEBOOK_BYTES, NOTEBOOK_SIDE, Segmentation

STAGES = ("layers", "heads", "aggregated", "rescaled", "refined", "labels")


@dataclass(frozen=True, eq=False)
class Explanation:
    """How one segmentation came about: the maps of every stage of the method, in float32 and in memory.

    The stages (:data:`STAGES`), in the order in which they can be stepped through, and where each is held:

    ============ ======================================= ================================= ==========================
    stage        attribute                               shape                             range
    ============ ======================================= ================================= ==========================
    layers       ``layers[l].maps``                      [seen, rows_l, columns_l]         sum over seen 1 (see below)
    (weights)    ``layers[l].weight``                    number                            [0, 1], sum over layers 1
    heads        ``layers[l].head_maps``                 [heads, seen, rows_l, columns_l]  [0, 1]
    (weights)    ``layers[l].head_weights``              [heads, rows_l, columns_l]        sum over heads 1
    aggregated   ``token_maps``                          [tokens, rows, columns]           [0, 1], sum over tokens 1
    (of classes) ``class_attention``                     [classes, rows, columns]          [0, 1]
    rescaled     ``rescaled``                            [classes, rows, columns]          [0, 1] with the paper's rule
    refined      ``refined``                             [classes, rows, columns]          [0, 1]
    labels       ``result.maps``, ``result.labels``      [classes, rows, columns],         [0, 1], indices
                                                         [height, width]
    ============ ======================================= ================================= ==========================

    ``seen`` are the tokens of the text in their order, then one map for the sum over all special tokens; in joint
    attention their sum is what goes to the text (see :class:`goca.observation.LayerMaps`). ``tokens`` are all tokens by
    position; ``classes`` are those of ``result``. Pixels are (x, y) of the image, from 0 at the top left.

    All of it describes one forward: the method's own timestep, the image not mirrored. Where the method averages
    several, ``result`` alone is made of all of them, and so is what :meth:`goca.Segmenter.__call__` gives.

    :meth:`to_dict` gives everything but the maps for JSON; :meth:`save_npz` and :meth:`load_npz` keep both.

    Attributes:
        result: the segmentation.
        model: name of the model.
        text: the prompt.
        tokens: what each of its tokens is.
        layers: those that were aggregated, in forward order.
        token_maps: the aggregated attention to each token.
        class_attention: the mean over each class's tokens, equation 9; of the background the highest of its phrases.
        rescaled: class maps after the rescaling rule.
        refined: class maps after refinement by self-attention.
        settings: of the method on this model, such as ``{"heads": "dot-product w/o clamp", "timestep": 100}``.
    """

    result: Segmentation
    model: str
    text: str
    tokens: tuple[Token, ...]
    layers: tuple[LayerMaps, ...]
    token_maps: Float[np.ndarray, "tokens rows columns"]
    class_attention: Float[np.ndarray, "classes rows columns"]
    rescaled: Float[np.ndarray, "classes rows columns"]
    refined: Float[np.ndarray, "classes rows columns"]
    settings: Mapping[str, Any]

    @property
    def image(self) -> Image.Image:
        """The RGB image, upright, at its own size."""
        return self.result.image

    @property
    def classes(self) -> tuple[str, ...]:
        """Names; ``background`` is the last one where there is a background."""
        return self.result.classes

    @cached_property
    def words(self) -> dict[str, tuple[int, ...]]:
        """Classes, background phrases and the prompt's other content words, each with the positions of its tokens."""
        return list_words(self.text, self.tokens)

    @cached_property
    def text_tokens(self) -> tuple[int, ...]:
        """Positions of the tokens that are not special, in the order of the axis ``seen``."""
        return tuple(token.position for token in self.tokens if token.role != "special")

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that the user should read."""
        return self.result.notes

    def layer(self, name: str | int) -> LayerMaps:
        """The layer of that name, or of that number counted from 0.

        Raises:
            ValueError: there is no such layer.
        """
        return self.layers[layer_index([each.name for each in self.layers], name)]

    def tokens_of(self, word: str) -> tuple[int, ...]:
        """Positions of the tokens of a class, or of any word or phrase of the prompt.

        Raises:
            ValueError: the prompt has no such word.
        """
        return self.words[word] if word in self.words else find_tokens(self.text, self.tokens, word)

    def grid_map(
        self, word: str, layer: str | int | None = None, head: int | None = None
    ) -> Float[np.ndarray, "rows columns"]:
        """What the pixels see of a word: the mean over its tokens, aggregated, of one layer, or of one head of it.

        Raises:
            ValueError: no such word, layer or head; a head without its layer; a head whose maps were not kept.
        """
        tokens = self.tokens_of(word)
        if layer is None:
            if head is not None:
                raise ValueError(
                    f"head {head} of which layer? name one of {', '.join(each.name for each in self.layers)}"
                )
            return self.token_maps[list(tokens)].mean(axis=0)
        found = self.layer(layer)
        maps = found.maps if head is None else found.head(head)
        return maps[[self.text_tokens.index(token) for token in tokens]].mean(axis=0)

    def word_map(
        self, word: str, layer: str | int | None = None, head: int | None = None
    ) -> Float[np.ndarray, "height width"]:
        """:meth:`grid_map` at the image's size (bilinear); raw attention, not stretched to [0, 1]."""
        grid = torch.from_numpy(self.grid_map(word, layer, head))[None]
        return resize_maps(grid, (self.image.height, self.image.width))[0].numpy()

    def heat_map(self, word: str, layer: str | int | None = None, head: int | None = None) -> Image.Image:
        """:meth:`word_map` over the grey image, from its lowest value (dark blue) to its highest (light yellow)."""
        return pictures.draw_word(self, word, layer, head)

    @cached_property
    def share_maps(self) -> Float[np.ndarray, "roles rows columns"]:
        """What each pixel gives to special, content and stuff tokens; the three sum to 1."""
        text = torch.from_numpy(self.token_maps)
        special = [token.position for token in self.tokens if token.role == "special"]
        seen = torch.cat([text[list(self.text_tokens)], text[special].sum(dim=0, keepdim=True)])
        return role_sums(seen, self._content).numpy()

    @property
    def shares(self) -> dict[str, float]:
        """Shares of special, content and stuff tokens in the aggregated attention, mean over the pixels; they sum to 1.

        The content tokens' share differs from pixel to pixel; dividing by it is equation 10.
        """
        return _name_shares(self.share_maps)

    def layer_shares(self, layer: str | int) -> dict[str, float]:
        """The same of one layer, from its maps clamped at 0."""
        seen = torch.from_numpy(self.layer(layer).maps).clamp_min(0)
        return _name_shares(role_sums(seen, self._content).numpy())

    def at(self, x: int, y: int) -> PixelScores:
        """All scores at a pixel of the image, interpolated between the maps' pixels as the labels are.

        Raises:
            ValueError: it lies outside the image.
        """
        x, y = check_pixel(x, y, self.image.size)

        def sample(maps: Float[np.ndarray, "*maps rows columns"]) -> Float[np.ndarray, "*maps"]:
            return sample_maps(maps, x, y, self.image.size)

        return PixelScores(
            x=x,
            y=y,
            label=self.classes[int(self.result.labels[y, x])],
            tokens=sample(self.token_maps),
            attention=sample(self.class_attention),
            rescaled=sample(self.rescaled),
            refined=sample(self.refined),
            scores=sample(self.result.maps),
            layers={each.name: sample(each.maps) for each in self.layers},
            heads={each.name: sample(each.head_maps) for each in self.layers if each.head_maps is not None},
            head_weights={each.name: sample(each.head_weights) for each in self.layers},
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything but the maps, for JSON: tokens, words, shares, and the weights and shares of layers and heads."""
        return files.describe(self)

    def save(
        self,
        folder: str | Path,
        stem: str = "image",
        *,
        at: Sequence[tuple[int, int]] = (),
        layer: str | int | None = None,
        head: int | None = None,
        overwrite: bool = False,
    ) -> dict[str, Path]:
        """Write JSON, ``.npz``, a page and pictures into a folder; either all of them or none.

        ``STEM_explanation.json`` is :meth:`to_dict` with the scores at the pixels ``at``; ``STEM_explanation.npz`` is
        that of :meth:`save_npz`; ``STEM_explanation.html`` is the page of :meth:`save_html`; what the pictures show is
        written in them.

        Args:
            at: pixels (x, y) of the image, each of which gets a picture.
            layer: whose heads and words are drawn; by default the heads of the layer with the highest weight.
            head: that is drawn in this layer, or in all of them.
            overwrite: replace files of an earlier run; they are refused by default.

        Returns:
            the path of each file by what it holds.

        Raises:
            ValueError: a pixel outside the image; a layer or head that does not exist.
            FileExistsError: files that are there already, and ``overwrite`` is not set.
            OSError: the folder cannot be written to.
        """
        pixels = [self.at(*each) for each in at]
        return files.write_folder(self, Path(folder), stem, pixels, layer, head, overwrite)

    def save_html(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write one page in which the stages can be stepped through, see :mod:`goca.explorer`; it loads nothing.

        Raises:
            FileExistsError: the file is there already, and ``overwrite`` is not set. OSError: it cannot be written.
        """
        return explorer.save_page(path, explorer.payload(self, title=Path(path).stem), overwrite=overwrite)

    def _repr_html_(self) -> str:
        """The explorer in a frame."""
        return explorer.iframe(explorer.payload(self, image_side=NOTEBOOK_SIDE, map_bytes=NOTEBOOK_BYTES))

    def save_npz(self, path: str | Path) -> None:
        """Write all maps, the image and :meth:`to_dict` to one file, see :func:`goca.observation.files.write_npz`.

        Raises:
            OSError: the folder cannot be written to.
        """
        files.write_npz(path, self)

    @classmethod
    def load_npz(cls, path: str | Path) -> Explanation:
        """Read what :meth:`save_npz` wrote.

        Raises:
            ValueError: the file is damaged, of another kind, or of a newer version. OSError: it cannot be read.
        """
        description, arrays = files.read_npz(path)
        try:
            return _from_arrays(description, arrays)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error} is missing); write it again with goca observe") from None

    @property
    def _content(self) -> list[bool]:
        return [self.tokens[position].role == "content" for position in self.text_tokens]


def _name_shares(shares: Float[np.ndarray, "roles rows columns"]) -> dict[str, float]:
    return {role: float(share.mean()) for role, share in zip(ROLES, shares, strict=True)}


def _from_arrays(description: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Explanation:
    tokens = (
        Token(each["position"], each["text"], each["role"], each["concept"], each["span"] and tuple(each["span"]))
        for each in description["tokens"]
    )
    layers = (
        LayerMaps(
            name=each["name"],
            weight=each["weight"],
            head_weights=arrays[f"layers/{index}/head_weights"],
            maps=arrays[f"layers/{index}/maps"],
            head_shares=arrays[f"layers/{index}/head_shares"],
            head_maps=arrays.get(f"layers/{index}/head_maps"),
        )
        for index, each in enumerate(description["layers"])
    )
    classes, notes = tuple(description["classes"]), tuple(description["notes"])
    curve = description.get("calibration")
    calibration = None if curve is None else Calibration.from_json(curve)
    image = Image.fromarray(arrays["image"])
    return Explanation(
        result=Segmentation(image, classes, arrays["labels"], arrays["maps"], notes, calibration=calibration),
        model=description["model"],
        text=description["text"],
        tokens=tuple(tokens),
        layers=tuple(layers),
        token_maps=arrays["token_maps"],
        class_attention=arrays["class_attention"],
        rescaled=arrays["rescaled"],
        refined=arrays["refined"],
        settings=description["settings"],
    )
