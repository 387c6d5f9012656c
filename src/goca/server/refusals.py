"""What the service refuses: a status of HTTP and one sentence, always in the same shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from goca.images import TooLargeError
from goca.messages import one_line, sentence

RETRY_AFTER = 2  # seconds
TOO_MANY = "too many requests wait; try again later"
NO_MEMORY = "the memory does not hold this request now; try again later, or with a smaller image"


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        reason: one sentence that says what to do.
        retry_after: seconds after which the same request may work.
    """

    def __init__(self, status: int, reason: str, retry_after: int | None = None) -> None:
        super().__init__(one_line(reason))
        self.status, self.reason, self.retry_after = status, one_line(reason), retry_after


def refusal_of(error: Exception) -> Refusal:
    """The refusal that an error of the library comes to: 413 and 422 for bad input, 503 where memory or disk are short.

    Anything else is a fault of this program or of the model: 500."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, TooLargeError):
        return Refusal(413, sentence(error))
    if isinstance(error, ValueError):
        return Refusal(422, sentence(error))
    if isinstance(error, MemoryError):
        return Refusal(503, sentence(error) if str(error) else NO_MEMORY, RETRY_AFTER)
    if isinstance(error, OSError):
        return Refusal(503, f"the answer cannot be written now ({sentence(error)}); try again later", RETRY_AFTER)
    return Refusal(500, f"this request failed ({type(error).__name__}: {sentence(error)}); others are still answered")


def error_answer(error: Refusal, extra: Mapping[str, Any] | None = None) -> JSONResponse:
    """The response for a refusal: ``{"error": sentence}``."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="goca"'
    return JSONResponse({"error": error.reason, **(extra or {})}, error.status, headers)
