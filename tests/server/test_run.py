"""The service as a process: address, callers that leave, and the end."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest
from serving import CLASSES, Gate, png, served, tiny_segmenter, wait_until

from goca.server import Service, Settings
from goca.server.run import listen

COMMAND = [sys.executable, "-m", "goca", "serve", "--port", "0"]


def post(url: str, timeout: float = 60) -> httpx.Response:
    files, data = {"image": ("photo.png", png())}, {"classes": CLASSES}
    return httpx.post(f"{url}/v1/segment", files=files, data=data, timeout=timeout)


def test_a_request_whose_caller_leaves_is_never_computed() -> None:
    segmenter = tiny_segmenter()
    gate = Gate(segmenter)
    service = Service(lambda: {"tiny": segmenter})
    with served(service) as url:
        first = threading.Thread(target=post, args=(url,))
        first.start()
        assert gate.entered.wait(30)
        with pytest.raises(httpx.ReadTimeout):
            post(url, timeout=0.5)
        wait_until(lambda: service.worker.waiting() == 0)
        gate.open.set()
        first.join(30)
        assert post(url).status_code == 200
    assert gate.sizes == [1, 1]


def test_a_body_that_drips_or_breaks_off_disturbs_nobody() -> None:
    segmenter = tiny_segmenter()
    with served(Service(lambda: {"tiny": segmenter}, Settings(read_timeout=0.5))) as url:
        port = int(url.rpartition(":")[2])
        lines = ("POST /v1/segment HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", "Content-Length: 99")
        head = "\r\n".join([*lines, "", "{"]).encode()
        with socket.create_connection(("127.0.0.1", port)) as broken:
            broken.sendall(head)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
            slow.sendall(head)
            assert post(url).status_code == 200
            assert slow.recv(1000).startswith(b"HTTP/1.1 408")


@pytest.mark.slow
def test_what_is_under_way_is_answered_before_the_process_ends() -> None:
    process = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.match(r"open (http://127\.0\.0\.1:\d+) in a browser; the API is listed at \1/docs\n", line)
        assert found, line
        url = found[1]
        assert httpx.get(url, timeout=30).status_code == 200
        wait_until(lambda: httpx.get(f"{url}/health").status_code == 200, 120)
        body = {"prompt": "cat, grass, sky", "steps": 30}
        answers: list[httpx.Response] = []
        caller = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{url}/v1/generate", json=body, timeout=120))
        )
        caller.start()
        wait_until(lambda: b"goca_batch_size_count 1.0" in httpx.get(f"{url}/metrics").content)
        process.send_signal(signal.SIGTERM)
        caller.join(120)
        assert [answer.status_code for answer in answers] == [200]
        assert process.wait(60) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_port_in_use_and_unknown_names_are_one_sentence() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} of 127.0.0.1 is in use; choose another with --port"):
            listen("127.0.0.1", port)
    with pytest.raises(OSError, match="choose another --host"):
        listen("256.0.0.1", 0)
    refused = subprocess.run([*COMMAND, "--model", "scenes-ditt"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert "did you mean 'scenes-dit'?" in refused.stderr
