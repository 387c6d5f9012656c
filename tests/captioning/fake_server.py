"""A caption server on this machine that does what a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[[int], tuple[int, Any]]


def chat(text: Any, finish: str = "stop") -> tuple[int, Any]:
    """A proper answer: status and body."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return 200, {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }


def refuse(status: int, message: str = "no", code: str | None = None) -> tuple[int, Any]:
    """An error as OpenAI's interface words it."""
    return status, {"error": {"message": message, "code": code}}


class FakeServer:
    """``behaviour`` maps the number of a request, from 0, to status and body (text stands for no JSON).

    Attributes:
        requests: decoded bodies, with the header under "authorization".
        busiest: most requests at one time.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.requests: list[dict[str, Any]] = []
        self.busiest = 0
        self._busy = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer._answer(self)

            def log_message(self, *words: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            number = len(self.requests)
            self.requests.append({**body, "authorization": handler.headers["Authorization"], "path": handler.path})
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
        status, content = self.behaviour(number)
        with self._lock:
            self._busy -= 1
        text = content if isinstance(content, str) else json.dumps(content)
        try:
            handler.send_response(status)
            handler.send_header("Content-Type", "text/html" if isinstance(content, str) else "application/json")
            handler.send_header("Content-Length", str(len(text.encode())))
            handler.send_header("retry-after-ms", "5")
            handler.end_headers()
            handler.wfile.write(text.encode())
        except OSError:
            pass  # the client has given up


@contextmanager
def serve(behaviour: Behaviour) -> Iterator[FakeServer]:
    """Run a server in a thread."""
    fake = FakeServer(behaviour)
    thread = threading.Thread(target=fake.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.server.shutdown()
        fake.server.server_close()
