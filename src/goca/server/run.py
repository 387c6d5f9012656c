"""The service as a process: a socket, uvicorn, and an orderly end."""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
import threading
from collections.abc import Callable

import uvicorn

from goca.server.app import create_app
from goca.server.service import Models, Service
from goca.server.settings import Settings

LARGEST_PORT = 65535


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        port: 0 for any that is free.

    Raises:
        OSError: the port is in use or not for everybody, or the machine has no such address; one sentence.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: f"port {port} of {host} is in use; choose another with --port",
            errno.EACCES: f"port {port} may not be used; choose one above 1023 with --port",
        }
        known = reasons.get(error.errno or 0, f"cannot listen at {host!r} ({error.strerror}); choose another --host")
        raise OSError(known) from None


def address(listener: socket.socket) -> str:
    """The address to open in a browser."""
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


def run(load: Callable[[], Models], settings: Settings, listener: socket.socket) -> None:
    """Answer requests until the process is told to end (SIGTERM, SIGINT); those under way are answered then.

    Args:
        load: gives the models by name.

    Raises:
        Exception: what loading the models raises; the service ends then.
    """

    def load_or_end() -> Models:
        try:
            return load()
        except Exception:
            server.should_exit = True
            raise

    service = Service(load_or_end, settings)
    config = uvicorn.Config(
        create_app(service),
        http="h11",
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=round(settings.timeout),
    )
    server = uvicorn.Server(config)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn sends itself the signal again when all is done
    with contextlib.suppress(KeyboardInterrupt):
        server.run([listener])
    if service.worker.error is not None:
        raise service.worker.error
