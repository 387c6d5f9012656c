"""The options of ``goca segment`` by which a model says what is in the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from goca.lookup import look_up

if TYPE_CHECKING:
    from goca.captioning.sources import Source

MODELS = ("openai", "transformers")


@dataclass(frozen=True)
class CaptionWithOptions:
    """Who captions the images, if somebody does."""

    caption_with: Annotated[
        str | None,
        typer.Option(
            help="Let a model say what is in each image, and look for that: openai (any server with that interface), "
            "transformers (a vision-language model on this machine). With --classes: those that the caption mentions."
        ),
    ] = None
    caption_model: Annotated[str | None, typer.Option(help="--caption-with: the model's name, hub id or folder.")] = (
        None
    )
    base_url: Annotated[
        str | None,
        typer.Option(
            help="--caption-with openai: the server, e.g. http://localhost:8000/v1. Default: OpenAI's.",
            envvar="OPENAI_BASE_URL",
        ),
    ] = None

    def source(self, device: str | None) -> Source | None:
        """Who is asked; ``None`` without ``--caption-with``.

        Raises:
            ValueError: unknown source, no model, or what the source refuses.
        """
        if self.caption_with is None:
            if self.caption_model is not None:
                raise ValueError("--caption-model belongs to --caption-with openai or transformers; name one of them")
            return None
        from goca.captioning.sources import local_source, server_source

        look_up(MODELS, self.caption_with, "source of captions")
        if not self.caption_model:
            raise ValueError(f"name the model that --caption-with {self.caption_with} asks with --caption-model")
        if self.caption_with == "openai":
            return server_source(self.caption_model, self.base_url)
        return local_source(self.caption_model, device)
