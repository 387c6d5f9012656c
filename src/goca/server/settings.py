"""What one service allows."""

from __future__ import annotations

import os
from dataclasses import dataclass

from goca.ranges import LONGEST_WAIT, MOST_AT_ONCE, SHORTEST_WAIT, check_number, check_whole

LOOPBACK = "127.0.0.1"
TOKEN_VARIABLE = "GOCA_TOKEN"
SHORTEST_TOKEN = 8
MOST_WAITING = 10_000
MOST_BYTES = 2**31
MOST_PIXELS = 2**31


@dataclass(frozen=True)
class Settings:
    """Limits of a service and who may use it.

    Attributes:
        host: name or address that the service listens at.
        allowed_hosts: further names by which callers may address it.
        token: that callers have to give; ``None`` asks for none.
        queue: requests that wait or are computed at once; more are refused with 429.
        batch: equal requests that share a forward; ``None`` for 1 on a CPU and 8 elsewhere.
        body_bytes: of a request.
        pixels: of an image, by its header; all images that are held at once have four times as many at most.
        classes: of a request.
        timeout: seconds from a request's arrival to its answer.
        read_timeout: seconds for a request's body to arrive.
        jobs: jobs that are kept, finished ones among them.
        job_seconds: for which a finished job is kept.

    Raises:
        ValueError: a number out of its range, or a token that is too short or cannot stand in a header.
    """

    host: str = LOOPBACK
    allowed_hosts: tuple[str, ...] = ()
    token: str | None = None
    queue: int = 32
    batch: int | None = None
    body_bytes: int = 32 * 2**20
    pixels: int = 50_000_000
    classes: int = 256
    timeout: float = 300.0
    read_timeout: float = 30.0
    jobs: int = 64
    job_seconds: float = 600.0

    def __post_init__(self) -> None:
        check_whole("the queue", self.queue, 1, MOST_WAITING)
        if self.batch is not None:
            check_whole("the batch", self.batch, 1, MOST_AT_ONCE)
        check_whole("the limit of bytes", self.body_bytes, 1024, MOST_BYTES)
        check_whole("the limit of pixels", self.pixels, 1, MOST_PIXELS)
        check_whole("the limit of classes", self.classes, 1)
        check_whole("the number of jobs", self.jobs, 1, MOST_WAITING)
        for name in ("timeout", "read_timeout", "job_seconds"):
            check_number(f"the {name}", getattr(self, name), SHORTEST_WAIT, LONGEST_WAIT)
        if self.token is not None and not (
            len(self.token) >= SHORTEST_TOKEN and self.token.isascii() and self.token.isprintable()
        ):
            raise ValueError(
                f"a token has {SHORTEST_TOKEN} or more printable ASCII characters; set {TOKEN_VARIABLE} anew"
            )


def token_from_environment() -> str | None:
    """The token that the environment asks callers for; ``None`` where the variable is missing or empty."""
    return os.environ.get(TOKEN_VARIABLE) or None
