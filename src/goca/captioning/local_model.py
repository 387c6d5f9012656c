"""Captions from a vision-language model on this machine."""

from __future__ import annotations

from typing import Any

from PIL import Image

from goca.captioning.replies import quote
from goca.captioning.request import REQUEST, Reply, SourceError
from goca.models.fingerprint import module_digest

LONGEST_ANSWER = 256


class LocalModel:
    """Ask a model through ``transformers.pipeline("image-text-to-text")``.

    The first answer is the likeliest one; further attempts are sampled, the same for the same attempt.

    Args:
        model: hub id or folder.
        device: cpu, cuda, mps; the accelerator by default, if there is one.
        question: what every image is asked.
    """

    def __init__(self, model: str, device: str | None = None, *, question: str = REQUEST) -> None:
        import torch
        from transformers import pipeline

        self._question = question
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        try:
            self._pipeline: Any = pipeline(
                "image-text-to-text", model=model, device=device or str(accelerator or "cpu"), dtype="auto"
            )
        except Exception as error:  # a damaged model raises almost anything
            reason = quote(str(error))
            raise SourceError(
                f"{model} cannot be loaded as a vision-language model ({reason}); "
                "give a hub id or folder that transformers' image-text-to-text pipeline takes"
            ) from None

    @property
    def digest(self) -> str:
        """Of the model's weights."""
        return module_digest(self._pipeline.model)

    def __call__(self, image: Image.Image, attempt: int) -> Reply:
        import torch

        content = [{"type": "image", "image": image}, {"type": "text", "text": self._question}]
        torch.manual_seed(attempt)
        try:
            answers = self._pipeline(
                text=[{"role": "user", "content": content}],
                return_full_text=False,
                generate_kwargs={"max_new_tokens": LONGEST_ANSWER, "do_sample": attempt > 0},
            )
        except RuntimeError as error:
            raise ValueError(f"the model fails on this image ({quote(str(error))})") from None
        return Reply(answers[0]["generated_text"])
