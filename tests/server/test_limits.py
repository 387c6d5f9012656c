"""Who may ask, and how much."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator

import httpx
import pytest
from serving import is_refused, png, run, segment, serving

from goca.server import Settings

TOKEN = "a-secret-token"


def get(path: str, settings: Settings | None = None, **headers: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with serving(settings) as client:
            return await client.get(path, headers=headers)

    return run(ask)


@pytest.mark.parametrize("host", ["localhost:8642", "127.0.0.1", "[::1]:8642", "192.168.0.7", "my-box", "LOCALHOST."])
def test_own_names_and_addresses_are_answered(host: str) -> None:
    assert get("/health", Settings(allowed_hosts=("my-box",)), host=host).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1", "localhost@evil.example"])
def test_other_names_are_refused(host: str) -> None:
    is_refused(get("/health", host=host), 421, "not known by that name")


def test_pages_of_other_sites_are_refused() -> None:
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "http://[::1"):
        is_refused(get("/v1/models", origin=origin), 403, "other sites")
    assert get("/v1/models", origin="http://127.0.0.1").status_code == 200


def test_a_token_is_asked_for_where_one_is_set() -> None:
    settings = Settings(token=TOKEN)
    basic = base64.b64encode(f"user:{TOKEN}".encode()).decode()
    for value in (
        "",
        "Bearer wrong",
        f"bearer {TOKEN[:-1]}",
        "Basic ???",
        "Basic " + base64.b64encode(b"\xff").decode(),
    ):
        answer = get("/v1/models", settings, authorization=value)
        is_refused(answer, 401, "asks for a token")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert TOKEN not in answer.text
    for value in (f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Basic {basic}"):
        assert get("/v1/models", settings, authorization=value).status_code == 200
    for path in ("/", "/health", "/docs", "/openapi.json", "/page/style.css"):
        assert get(path, settings).status_code == 200


def test_a_token_has_some_length() -> None:
    for token in ("short", "new\nline-and-more", "größer-als-acht"):
        with pytest.raises(ValueError, match="printable ASCII"):
            Settings(token=token)


def test_settings_out_of_range_are_refused() -> None:
    for wrong in ({"queue": 0}, {"batch": 0}, {"body_bytes": 1}, {"timeout": float("nan")}, {"jobs": 0}):
        with pytest.raises(ValueError, match="number"):
            Settings(**wrong)  # type: ignore[arg-type]


def test_bodies_too_large_are_refused_with_and_without_their_length() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield bytes(1024)

    async def ask() -> list[httpx.Response]:
        async with serving(Settings(body_bytes=10_000)) as client:
            known = await segment(client, bytes(20_000))
            chunked = await client.post("/v1/segment", content=pieces(), headers={"content-type": "application/json"})
            false = await client.post("/v1/segment", content=b"{}", headers={"content-length": "9" * 30})
            return [known, chunked, false, await segment(client, png())]

    *refused, good = run(ask)
    for response in refused:
        is_refused(response, 413, "more than 10000 bytes")
    assert good.status_code == 200


def test_a_body_that_drips_is_given_up() -> None:
    async def drip() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x"
            await asyncio.sleep(0.05)

    async def ask() -> list[httpx.Response]:
        async with serving(Settings(read_timeout=0.3)) as client:
            return [await client.post("/v1/segment", content=drip()), await segment(client)]

    slow, good = run(ask)
    is_refused(slow, 408, "within 0.3 seconds")
    assert good.status_code == 200


def test_bodies_that_are_read_at_once_are_bounded() -> None:
    async def ask() -> httpx.Response:
        release = asyncio.Event()

        async def hold() -> AsyncIterator[bytes]:
            yield b"x"
            await release.wait()

        async with serving(Settings(queue=1)) as client:
            held = [asyncio.create_task(client.post("/v1/segment", content=hold())) for _ in range(2)]
            await asyncio.sleep(0.1)
            refused = await client.get("/health")
            release.set()
            await asyncio.gather(*held)
            assert (await client.get("/health")).status_code == 200
            return refused

    is_refused(run(ask), 429, "being read")


def test_images_that_are_held_at_once_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from goca.server import service

    monkeypatch.setattr(service, "IMAGES_HELD", 0)

    async def ask() -> httpx.Response:
        async with serving() as client:
            return await segment(client)

    is_refused(run(ask), 429, "large images")
