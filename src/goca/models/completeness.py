"""Whether a pipeline has all parts that a segmentation needs, tokenizers with their words included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from goca.backbones.base import Backbone


def check_parts(pipeline: Any, family: type[Backbone], name: str) -> None:
    """Raise ``ValueError`` for a pipeline of ``family`` without its denoiser, VAE, scheduler, text encoders or
    tokenizers, or with a tokenizer whose files are missing; the message calls it ``name``.

    transformers makes a tokenizer without words of a folder without one, and diffusers takes it.
    """
    needed = {family.denoiser_name, "vae", "scheduler"}
    for part, value in pipeline.components.items():
        is_text = part.startswith(("tokenizer", "text_encoder"))
        if value is None and (part in needed or is_text) and part not in family.optional_parts:
            raise ValueError(f"{name} has no {part}, without which nothing can be segmented; load the whole pipeline")
        if value is not None and part.startswith("tokenizer"):
            _check_tokenizer(value if hasattr(value, "get_vocab") else value.tokenizer, part, name)


def _check_tokenizer(tokenizer: Any, part: str, name: str) -> None:
    words = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
    if len(words) < 2 or _missing_files(tokenizer):  # T5's without words has one for the space
        raise ValueError(
            f"the {part} of {name} lacks its words: files of {part}/ are missing; get the whole pipeline, or copy the "
            "folder from where the model comes from"
        )


def _missing_files(tokenizer: Any) -> list[str]:
    """Of a tokenizer that was read from a folder which is still there: files without which it is another one."""
    folder = Path(getattr(tokenizer, "name_or_path", None) or "?")
    files = dict(getattr(tokenizer, "vocab_files_names", {}))
    whole = files.pop("tokenizer_file", None)
    if not folder.is_dir() or (whole is not None and (folder / whole).is_file()):
        return []
    return [file for file in files.values() if not (folder / file).is_file()]
