"""What the service computes: one queue, one model thread, and for each request a wait that ends with its caller."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from PIL.Image import Image
from starlette.requests import Request

from goca.guidance.generate import DEFAULT_SCALE, Generation, Generator, name_things
from goca.images import TooLargeError, load_bytes, size_of_bytes, upright_rgb
from goca.lookup import Names, look_up, read_names
from goca.messages import sentence
from goca.method import find_method
from goca.observation import Explanation
from goca.result import Segmentation
from goca.segmenter import Segmenter
from goca.server.metrics import Metrics
from goca.server.refusals import RETRY_AFTER, TOO_MANY, Refusal
from goca.server.settings import Settings
from goca.server.worker import QueueFullError, Work, Worker
from goca.types import Prompt

NAME = "the file"
POLL = 0.1  # seconds between two looks whether the caller is still there
HEADS_UP_TO = 128  # tokens of a text
IMAGES_HELD = 4  # times the limit of pixels of one image
CLOSING = 30.0  # seconds for the last batch at the end
LONGEST_CLASSES = 20_000  # characters of all names

HELPERS = 2  # threads that decode images and write answers

Models = Mapping[str, Segmenter]
T = TypeVar("T")


@dataclass(frozen=True)
class SegmentOptions:
    """How to segment one image; see :meth:`goca.Segmenter.__call__`.

    Attributes:
        model: name of one of the service's models, by default the first.
        preset: name of a method, by default the model's own.
    """

    model: str | None = None
    preset: str | None = None
    caption: str | None = None
    background: Names = ()
    threshold: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class GenerateOptions:
    """How to draw one image; see :class:`goca.guidance.generate.Generator`.

    Attributes:
        classes: what to segment, by default what the prompt names.
    """

    model: str | None = None
    classes: Names | None = None
    guidance: str = "goca"
    scale: float = DEFAULT_SCALE
    steps: int | None = None
    size: int | None = None
    seed: int = 0


@dataclass
class Caller:
    """Who waits for a result.

    Attributes:
        request: whose client may leave; ``None`` for a job, which goes on without one.
        work: what is being computed, while it is.
    """

    request: Request | None = None
    work: Work | None = field(default=None, repr=False)

    async def is_gone(self) -> bool:
        """Whether nobody waits any more."""
        return self.request is not None and await self.request.is_disconnected()


class Service:
    """Models behind a bounded queue, for any number of callers on one event loop.

    Args:
        load: gives the models by name, at least one; it is called in the model thread after :meth:`start`.
    """

    def __init__(self, load: Callable[[], Models], settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.models: Models = {}
        self._load = load
        self._pixels = 0
        self.worker = Worker(self.settings.queue, self._start, lambda count: self.metrics.batch.observe(count))
        self.metrics = Metrics(self.worker.waiting)
        self._helpers = ThreadPoolExecutor(HELPERS, "goca-helper")

    def start(self) -> None:
        """Begin to load the models."""
        self.worker.start()

    def close(self) -> None:
        """Give up what waits and end the model thread after the batch that it computes."""
        self.worker.close(CLOSING)
        self._helpers.shutdown(wait=False)

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """What a function returns that reads or writes images, in one of a few threads, so that the event loop goes on
        and memory is shared out among few."""
        return await asyncio.get_running_loop().run_in_executor(self._helpers, partial(function, *arguments))

    def check_ready(self) -> None:
        """Refuse to work before the models are loaded.

        Raises:
            Refusal: 503.
        """
        if self.worker.error is not None:
            raise Refusal(503, f"the models could not be loaded: {sentence(self.worker.error)}")
        if not self.worker.ready:
            raise Refusal(503, "the models are being loaded; try again later", RETRY_AFTER)

    def model(self, name: str | None) -> Segmenter:
        """The model of that name, by default the first.

        Raises:
            ValueError: no such model. Refusal: the models are not loaded.
        """
        self.check_ready()
        segmenter: Segmenter = look_up(self.models, self.model_name(name), "model")
        return segmenter

    def model_name(self, name: str | None) -> str:
        """The name under which that model is asked for."""
        return next(iter(self.models)) if name is None else name

    async def segment(
        self, image: bytes, classes: Names, options: SegmentOptions = SegmentOptions(), caller: Caller | None = None
    ) -> Segmentation:
        """Segment one image when its turn comes, together with others of the same settings where that helps.

        Args:
            image: the bytes of an image file.
            classes: see :meth:`goca.Segmenter.__call__`.
            caller: who waits; the work is given up when the caller leaves.

        Raises:
            ValueError: bad input. Refusal: the service is full, loading, too slow, or the model failed.
            MemoryError: the memory does not hold it.
        """
        segmenter = self.model(options.model)
        names, background = self._names(classes, "class"), self._names(options.background, "background")
        method = None if options.preset is None else find_method(options.preset)
        resolved = segmenter.resolve(method, options.threshold)
        async with self._held(image):
            picture = await self.in_thread(decode, image)
            work = Work(
                key=(id(segmenter), options.preset, options.threshold, options.seed),
                prepare=lambda: (picture, segmenter.prompt(names, caption=options.caption, background=background)),
                compute=lambda pairs: _segment(segmenter, pairs, resolved, options.seed),
                most=segmenter.forward_batch(self.settings.batch),
            )
            result: Segmentation = await self._result(work, caller)
        return result

    async def explain(
        self, image: bytes, classes: Names, options: SegmentOptions = SegmentOptions(), caller: Caller | None = None
    ) -> Explanation:
        """Segment one image and keep what led to it, alone, when its turn comes; the maps of heads are kept of models
        with short texts only, whose maps fit into memory.

        Raises: as :meth:`segment`.
        """
        segmenter = self.model(options.model)
        names = self._names(classes, "class")
        chosen: dict[str, Any] = {
            "caption": options.caption,
            "background": self._names(options.background, "background"),
            "threshold": options.threshold,
            "seed": options.seed,
            "method": None if options.preset is None else find_method(options.preset),
            "layers": None if segmenter.model.backbone.max_tokens <= HEADS_UP_TO else (),
        }
        async with self._held(image):
            picture = await self.in_thread(decode, image)
            work = Work(object(), lambda: picture, lambda _: [segmenter.explain(picture, names, **chosen)])
            result: Explanation = await self._result(work, caller)
        return result

    async def generate(
        self, prompt: str, options: GenerateOptions = GenerateOptions(), caller: Caller | None = None
    ) -> Generation:
        """Draw an image and segment it, with the regions of every step, when its turn comes.

        Raises: as :meth:`segment`.
        """
        segmenter = self.model(options.model)
        size = None if options.size is None else (options.size, options.size)
        if options.size is not None and options.size**2 > self.settings.pixels:
            raise ValueError(f"images of {options.size} x {options.size} pixels are too large here; draw a smaller one")
        vocabulary = segmenter.model.spec.vocabulary
        make = Generator(segmenter, options.guidance, scale=options.scale, steps=options.steps, size=size)
        classes = name_things(prompt, vocabulary) if options.classes is None else self._names(options.classes, "class")

        def draw(_prepared: Sequence[Any]) -> list[Generation]:
            return [make(prompt, options.seed, classes=classes, trace=True, progress=work.report)]

        work = Work(object(), lambda: make.check(prompt, classes), draw)
        result: Generation = await self._result(work, caller)
        return result

    def _start(self) -> None:
        self.models = dict(self._load())

    def _names(self, names: Names, kind: str) -> list[str]:
        read = read_names(names, kind)
        most = self.settings.classes
        if len(read) > most or sum(map(len, read)) > LONGEST_CLASSES:
            raise ValueError(
                f"there are {len(read)} {kind} names; give at most {most}, of {LONGEST_CLASSES} characters"
            )
        return read

    @asynccontextmanager
    async def _held(self, content: bytes) -> AsyncIterator[None]:
        """Take an image's area by its header into account while it is held, before it is decoded."""
        width, height = await self.in_thread(size_of_bytes, content, NAME)
        pixels, most = width * height, self.settings.pixels
        if pixels > most:
            raise TooLargeError(f"{NAME} has {width} x {height} pixels, and at most {most} are taken; make it smaller")
        if self._pixels + pixels > IMAGES_HELD * most:
            raise Refusal(429, "too many large images wait; try again later", RETRY_AFTER)
        self._pixels += pixels
        try:
            yield
        finally:
            self._pixels -= pixels

    async def _result(self, work: Work, caller: Caller | None) -> Any:
        """Wait for a work's turn and its result, as long as the caller does and the time allows."""
        caller = caller or Caller()
        try:
            self.worker.submit(work)
        except QueueFullError:
            raise Refusal(429, TOO_MANY, RETRY_AFTER) from None
        caller.work, waited = work, asyncio.wrap_future(work.future)
        deadline = time.monotonic() + self.settings.timeout
        try:
            while not (await asyncio.wait({waited}, timeout=POLL))[0]:
                if await caller.is_gone():
                    raise Refusal(499, "the client left")
                if time.monotonic() > deadline:
                    raise Refusal(504, f"there was no result within {self.settings.timeout:g} seconds; try again later")
            if waited.cancelled():
                raise Refusal(503, "the service is being shut down; try again later", RETRY_AFTER)
            try:
                return waited.result()
            except (ValueError, MemoryError):
                raise
            except Exception as error:
                name = type(error).__name__
                raise Refusal(500, f"the model failed on this request ({name}: {sentence(error)})") from error
        finally:
            self.worker.cancel(work)
            waited.cancel()


def decode(content: bytes) -> Image:
    """The RGB image in the bytes of a file, upright."""
    return upright_rgb(load_bytes(content, NAME), NAME)


def _segment(
    segmenter: Segmenter, pairs: Sequence[tuple[Image, Prompt]], method: Any, seed: int
) -> Sequence[Segmentation]:
    pictures, prompts = zip(*pairs, strict=True)
    return segmenter.segment_batch(pictures, prompts, method, seed)
