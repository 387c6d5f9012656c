"""A service of a tiny model, and clients that talk to it without a port."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Any, TypeVar

import httpx
import uvicorn
from PIL import Image
from small import photo, tiny_model

from goca import Segmenter
from goca.models import LoadedModel
from goca.server import Service, Settings, create_app
from goca.server.run import address, listen

CLASSES = "cat,grass,sky"
URL = "http://127.0.0.1"
T = TypeVar("T")


def run(body: Callable[[], Awaitable[T]]) -> T:
    """What a coroutine function returns, within minutes.

    The event loop has a thread of its own, because the tests in a browser leave one running in this thread."""

    async def bounded() -> T:
        return await asyncio.wait_for(body(), 300)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, bounded()).result()


def png(image: Image.Image | None = None) -> bytes:
    """A picture as a file."""
    buffer = io.BytesIO()
    (image or photo(0)).save(buffer, "PNG")
    return buffer.getvalue()


def tiny_segmenter() -> Segmenter:
    """A model of random weights, which computes in a few hundredths of a second."""
    return Segmenter(model(), "paper")


@cache
def model() -> LoadedModel:
    """Built once."""
    return tiny_model("unet")


@asynccontextmanager
async def client_of(service: Service, wait: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service's application, by default when its models are loaded."""
    app = create_app(service)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url=URL) as client:
        while wait and not service.worker.ready:
            assert service.worker.error is None, service.worker.error
            await asyncio.sleep(0.01)
        yield client


def serving(settings: Settings | None = None, segmenter: Segmenter | None = None, wait: bool = True) -> Any:
    """The same for a service with one model called ``tiny``."""
    made = segmenter or tiny_segmenter()
    return client_of(Service(lambda: {"tiny": made}, settings), wait)


async def segment(client: httpx.AsyncClient, content: bytes | None = None, **fields: Any) -> httpx.Response:
    """Ask for a segmentation with a form."""
    return await client.post(
        "/v1/segment",
        files={"image": ("photo.png", png() if content is None else content)},
        data={"classes": CLASSES, **fields},
    )


def is_refused(response: httpx.Response, status: int, words: str) -> None:
    """Check that a request was refused with one sentence in the one shape."""
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    assert words in response.json()["error"]
    assert "\n" not in response.json()["error"]


@contextmanager
def served(service: Service) -> Iterator[str]:
    """A service on a port of this machine, in a thread."""
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(create_app(service), http="h11", log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        wait_until(lambda: service.worker.ready)
        yield address(listener)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def wait_until(is_true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.01)


class Gate:
    """Wraps a function of a segmenter so that its calls wait to be let through, and are counted."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.open, self.entered = threading.Event(), threading.Event()
        self.sizes: list[int] = []
        inner = segmenter.segment_batch

        def segment_batch(pictures: Sequence[Any], *rest: Any) -> Any:
            self.sizes.append(len(pictures))
            self.entered.set()
            assert self.open.wait(30)
            return inner(pictures, *rest)

        segmenter.segment_batch = segment_batch  # type: ignore[method-assign]

    async def reached(self) -> None:
        """Wait until a call has begun."""
        while not self.entered.is_set():
            await asyncio.sleep(0.01)
