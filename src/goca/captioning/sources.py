"""Who is asked for captions, and what its answers depend on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL.Image import Image

from goca.captioning.request import REQUEST, Reply
from goca.models.devices import check_device
from goca.ranges import MOST_AT_ONCE, check_whole

SOURCES = ("classes", "openai", "transformers")


@dataclass(frozen=True)
class Source:
    """A model that captions images.

    Attributes:
        ask: from an image and the number of the attempt to an answer.
        settings: what the answers depend on.
        concurrency: how many questions may be asked at the same time.
    """

    ask: Callable[[Image, int], Reply]
    settings: dict[str, str]
    concurrency: int = 1


def server_source(
    model: str,
    base_url: str | None = None,
    *,
    question: str = REQUEST,
    timeout: float = 60.0,
    concurrency: int = 4,
) -> Source:
    """A model on a server with OpenAI's interface, see :class:`goca.captioning.server.Server`."""
    from goca.captioning.server import Server

    named = {} if base_url is None else {"server": base_url}
    check_whole("the concurrency", concurrency, 1, MOST_AT_ONCE)
    settings = {"source": "openai", "model": model, **named, "question": question}
    return Source(Server(model, base_url, timeout=timeout, question=question), settings, concurrency)


def local_source(model: str, device: str | None = None, *, question: str = REQUEST) -> Source:
    """A vision-language model on this machine, see :class:`goca.captioning.local_model.LocalModel`.

    Raises:
        ValueError: unknown device.
    """
    from goca.captioning.local_model import LocalModel

    check_device(device)
    loaded = LocalModel(model, device, question=question)
    settings = {"source": "transformers", "model": model, "weights": loaded.digest, "question": question}
    return Source(loaded, settings)
