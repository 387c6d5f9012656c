"""Servers that drip, never end, redirect, or answer in other forms than the protocol's."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_server import chat, refuse, serve
from PIL import Image

from goca.captioning.job import caption_all
from goca.captioning.replies import final_answer, quote, read_reply
from goca.captioning.request import Reply, SourceError
from goca.captioning.server import Server

PICTURE = Image.new("RGB", (8, 8))


@contextmanager
def raw_server(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads each request and then does as ``talk`` says with the connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def handle(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65536)
                talk(connection)
            except OSError:
                pass  # the client has given up

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        listener.close()


def drip(connection: socket.socket, start: bytes) -> None:
    connection.sendall(start)
    for _ in range(300):
        connection.sendall(b" " if start else b"")
        time.sleep(0.02)


def flood(connection: socket.socket, status: bytes) -> None:
    connection.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json\r\n\r\n")
    while True:
        connection.sendall(b" " * 65536)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n"


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nX: ", HEAD], ids=["nothing", "header", "body"])
def test_a_server_that_drips_is_given_up_in_time(start: bytes) -> None:
    with raw_server(lambda connection: drip(connection, start)) as url:
        began = time.monotonic()
        with pytest.raises(ValueError, match=r"did not answer within 0\.3 seconds"):
            Server("m", url, timeout=0.3, retries=0)(PICTURE, 0)
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad Request", b"500 Oops"])
def test_a_body_without_end_is_refused(status: bytes) -> None:
    with (
        raw_server(lambda connection: flood(connection, status)) as url,
        pytest.raises(ValueError, match="the body exceeds 4194304 bytes"),
    ):
        Server("m", url, timeout=20.0, retries=2)(PICTURE, 0)


def redirect(target: str) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(
        f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()
    )


def test_a_redirect_to_another_server_is_not_followed_with_the_picture() -> None:
    with serve(lambda number: chat("cat")) as other, raw_server(redirect(f"{other.url}/chat/completions")) as url:
        with pytest.raises(SourceError, match=r"redirects to http://127.*; if you trust that one, name it with --base"):
            Server("m", url, retries=2)(PICTURE, 0)
        assert not other.requests


def test_a_redirect_on_the_same_server_is_followed_but_not_for_ever() -> None:
    with raw_server(redirect("/v1/elsewhere")) as url, pytest.raises(SourceError, match="redirects to /v1/elsewhere"):
        Server("m", url, retries=2)(PICTURE, 0)


def test_a_connection_that_breaks_is_the_failure_of_one_image() -> None:
    with (
        raw_server(lambda connection: connection.sendall(HEAD + b'{"choi')) as url,
        pytest.raises(ValueError, match="the server broke off its answer"),
    ):
        Server("m", url, retries=0)(PICTURE, 0)


@pytest.mark.parametrize(
    ("status", "message"),
    [(422, "max_completion_tokens: Extra inputs are not permitted"), (400, "Unknown parameter")],
)
def test_servers_that_know_max_tokens_alone_are_asked_with_it(status: int, message: str) -> None:
    with serve(lambda number: refuse(status, message) if number == 0 else chat("road, sky")) as server:
        source = Server("m", server.url, retries=1)
        assert [source(PICTURE, 0).text, source(PICTURE, 0).text] == ["road, sky"] * 2
    limits = [{key for key in request if key.startswith("max")} for request in server.requests]
    assert limits == [{"max_completion_tokens"}, {"max_tokens"}, {"max_tokens"}]


@pytest.mark.parametrize(
    ("answer", "kind", "message", "requests"),
    [
        (refuse(400, "this model sees \x1b[31mno images"), ValueError, r"sees \\x1b\[31mno images", 1),
        (refuse(413, "too large"), ValueError, "too large", 1),
        (refuse(402, "pay first"), SourceError, "pay first", 1),
        (refuse(429, "none left", "insufficient_quota"), SourceError, "none left", 1),
        (refuse(501, "never"), ValueError, "the server failed .*never", 1),
        (refuse(503, "busy"), ValueError, "the server failed .*busy", 3),
    ],
)
def test_reasons_reach_the_user_and_hopeless_questions_are_not_repeated(
    answer: Any, kind: type, message: str, requests: int
) -> None:
    with serve(lambda number: answer) as server, pytest.raises(kind, match=message):
        Server("m", server.url, retries=2)(PICTURE, 0)
    assert len(server.requests) == requests


FORMS: dict[str, tuple[Any, str]] = {
    "page": ("<html>\x1b[2J</html>", r"no JSON but '<html>\\x1b\[2J</html>'; check the address"),
    "choices null, error": ({"choices": None, "error": {"message": "no GPU", "code": 500}}, r"no answer \(no GPU\)"),
    "error as text": ({"error": "out of\nmemory"}, r"no answer \(out of memory\)"),
    "list": ([], "is no answer in OpenAI's form"),
    "choices of another type": ({"choices": {"0": 1}}, "the server sent no answer"),
    "message null": ({"choices": [{"message": None}]}, "the server sent no answer"),
    "cut": (chat("cat, do", "length")[1], "the answer was cut short"),
    "filtered": (chat(None, "content_filter")[1], "the model refuses to describe this image"),
    "refused": ({"choices": [{"message": {"content": None, "refusal": "I can't"}}]}, r"refuses .*\(I can't\)"),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_no_answer_has_a_reason(form: str) -> None:
    body, message = FORMS[form]
    reply = read_reply(body.encode() if isinstance(body, str) else json.dumps(body).encode())
    with pytest.raises(ValueError, match=message):
        raise ValueError(reply.problem)
    assert reply.text == "" and reply.final == (form in ("filtered", "refused"))


def test_errors_that_will_stay_are_final() -> None:
    for code, final in ((400, True), ("404", True), (429, False), (503, False), ("x", False), (None, False)):
        assert read_reply(json.dumps({"error": {"message": "m", "code": code}}).encode()).final is final


@pytest.mark.parametrize("count", [None, -1, 1.5, "7", True, [3], 10**30])
def test_odd_numbers_of_tokens_count_nothing(count: Any) -> None:
    body = {**chat([{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "cat"}, "!"])[1]}
    body["usage"] = {"prompt_tokens": count, "completion_tokens": 4}
    assert read_reply(json.dumps(body).encode()) == Reply("cat!", 0, 4)


@pytest.mark.parametrize(
    "answer",
    [
        "cat, grass",
        "<think>a cat, or a dog?\n</think>\n\ncat, grass",
        "I see a cat\n</think>cat, grass<|im_end|>",
        "```\ncat, grass\n```",
        "```text\ncat, grass",
        "Here it is:\n```\ncat, grass\n```\nAnything else?",
        '"cat, grass"',
        "\u201ccat, grass.\u201d",
        "Answer: cat, grass",
        "**Answer:** cat, grass",
        "Thinking of it.\n\n**Final answer:** `cat, grass`",
        "cat, grass</s>",
        "cat, grass<end_of_turn>\n<start_of_turn>user",
        "<|begin_of_box|>cat, grass<|end_of_box|>",
        "<|channel|>analysis<|message|>a cat<|end|><|start|>assistant<|channel|>final<|message|>cat, grass<|return|>",
    ],
)
def test_what_models_put_around_an_answer_is_taken_off(answer: str) -> None:
    assert final_answer(answer).rstrip(".") == "cat, grass"


def test_an_answer_inside_a_thought_is_none() -> None:
    assert final_answer("<think>cat, grass") == ""
    assert final_answer("(person, clothes), crow's nest") == "(person, clothes), crow's nest"


def test_control_characters_are_made_visible() -> None:
    assert quote("a\n\x1b[31m\u202eb\x00") == r"a \x1b[31m\u202eb\x00"
    assert len(quote("long" * 1000)) == len(quote("\x00" * 1000)) == 300


def test_a_final_reply_is_not_asked_for_again(tmp_path: Path) -> None:
    asked = []

    def refuse_all(subject: int, attempt: int) -> Reply:
        asked.append(attempt)
        return Reply("", 7, 1, problem="the model refuses", final=True)

    done = caption_all({"a": lambda: 1}, refuse_all, tmp_path / "c.json", {})
    assert asked == [0] and done.prompt_tokens == 7
    assert done.failures == {"a": "the model refuses (asked 1 times)"}


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), float("inf")])
def test_timeouts_that_are_none_are_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match=r"the timeout in seconds is a finite number from 0\.1 to 86400"):
        Server("m", "http://127.0.0.1:1/v1", timeout=timeout)


@pytest.mark.parametrize("url", ["http://h:99999/v1", "http://[::1/v1", "ftp://h/v1"])
def test_addresses_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is no address of a server"):
        Server("m", url)


def test_keys_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-\u00e4\nb")
    with pytest.raises(ValueError, match="OPENAI_API_KEY holds characters that no key has") as refused:
        Server("m", "http://127.0.0.1:1/v1")
    assert "sk-" not in str(refused.value)


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
@pytest.mark.parametrize("concurrency", [1, 4])
def test_an_interrupt_ends_at_once(concurrency: int, tmp_path: Path) -> None:
    arrived = threading.Event()

    def hold(connection: socket.socket) -> None:
        arrived.set()
        time.sleep(30)

    for name in "ab":
        PICTURE.save(tmp_path / f"{name}.png")
    with raw_server(hold) as url:
        words = ["caption", "a.png", "b.png", "--base-url", url, "--model", "m", "--concurrency", str(concurrency)]
        process = subprocess.Popen(
            [sys.executable, "-m", "goca", *words],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
        )
        assert arrived.wait(60)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert time.monotonic() - began < 5
    assert process.returncode not in (0, None) and b"Traceback" not in said


def test_captions_without_prices_end_without_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from goca.cli import app

    monkeypatch.chdir(tmp_path)
    PICTURE.save("a.png")
    with serve(lambda number: chat("cat")) as server:
        result = CliRunner().invoke(app, ["caption", "a.png", "--base-url", server.url, "--model", "m"])
    assert result.exit_code == 0 and result.stdout == "1 captions in captions.json, 0 failures, 110 tokens\n"
