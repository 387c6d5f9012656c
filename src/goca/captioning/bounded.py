"""An HTTP client for the openai package that no server can keep busy: answers are bounded in time and size."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

LARGEST_BODY = 4 * 2**20
MAX_REDIRECTS = 5


def bounded_client(base: type[Any], seconds: float) -> Any:
    """A client whose answers arrive whole within ``seconds``, from the first byte sent to the last one read.

    A redirect is followed on the same server alone, so that pictures and key go nowhere else. A body of more than
    :data:`LARGEST_BODY` bytes becomes an error of status 502, which is not tried again.

    Args:
        base: ``openai.DefaultHttpxClient``.
    """

    class BoundedClient(base):
        def send(self, request: Any, **options: Any) -> Any:
            deadline = time.monotonic() + seconds
            try:
                return call_within(seconds, lambda: self._exchange(request, deadline, options))
            except TimeoutError:
                library = import_module(type(request).__module__.partition(".")[0])  # httpx, or its successor
                raise library.ReadTimeout("the answer took too long", request=request) from None

        def _exchange(self, request: Any, deadline: float, options: dict[str, Any]) -> Any:
            options = {**options, "stream": True, "follow_redirects": False}
            response = super().send(request, **options)
            for _ in range(MAX_REDIRECTS):
                following = response.next_request
                if following is None or not _stays(request, following):
                    break
                response.close()
                request = following
                response = super().send(request, **options)
            try:
                return _read_whole(response, request, deadline)
            finally:
                response.close()

    return BoundedClient(timeout=seconds, follow_redirects=False)


def call_within(seconds: float, call: Callable[[], Any]) -> Any:
    """The result of a call in a thread of its own, which is abandoned after ``seconds``.

    Raises:
        TimeoutError: the call took longer.
    """
    results: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((call(), None))
        except BaseException as error:
            results.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        result, error = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return result


def _stays(request: Any, following: Any) -> bool:
    """Whether a redirect repeats the question on the same server."""
    here, there = request.url, following.url
    return following.method == request.method and (here.scheme, here.host, here.port) == (
        there.scheme,
        there.host,
        there.port,
    )


def _read_whole(response: Any, request: Any, deadline: float) -> Any:
    """The response with its body in memory; one that it makes no sense to ask for again is marked for openai."""
    content = bytearray()
    for chunk in response.iter_bytes():
        content += chunk
        if time.monotonic() > deadline:
            raise TimeoutError
        if len(content) > LARGEST_BODY:
            error = {"error": {"message": f"the body exceeds {LARGEST_BODY} bytes"}}
            return type(response)(502, headers={"x-should-retry": "false"}, json=error, request=request)
    headers = [
        (name, value)
        for name, value in response.headers.multi_items()
        if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
    ]
    if response.status_code in (501, 505) or b"insufficient_quota" in content:
        headers.append(("x-should-retry", "false"))
    return type(response)(response.status_code, headers=headers, content=bytes(content), request=request)
