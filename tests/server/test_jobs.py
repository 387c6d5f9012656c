"""Jobs: progress, results, what is kept and what not."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from serving import Gate, is_refused, run, segment, serving, tiny_segmenter

from goca.server import Settings, jobs


async def finished(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    while (state := (await client.get(url)).json())["state"] in ("waiting", "running"):
        await asyncio.sleep(0.01)
    return state


def test_a_job_goes_from_waiting_to_done_and_gives_what_a_request_gives() -> None:
    segmenter = tiny_segmenter()
    gate = Gate(segmenter)

    async def ask() -> None:
        async with serving(segmenter=segmenter) as client:
            answer = await segment(client, **{"async": "true"})
            assert answer.status_code == 202
            first = answer.json()
            await gate.reached()
            second = (await segment(client, **{"async": "true"})).json()
            while (await client.get("/health")).json()["waiting"] < 1:
                await asyncio.sleep(0.01)
            assert (await client.get(first["url"])).json()["state"] == "running"
            waiting = (await client.get(second["url"])).json()
            assert (waiting["state"], waiting["before"], waiting["result"]) == ("waiting", 0, None)
            is_refused(await client.get(f"{second['url']}/result"), 409, "not finished")
            gate.open.set()
            done = await finished(client, second["url"])
            assert (done["state"], done["progress"]) == ("done", 1.0)
            assert (await client.get(done["result"])).json() == (await segment(client)).json()

    run(ask)


def test_a_job_that_fails_says_why() -> None:
    async def ask() -> None:
        async with serving() as client:
            answer = (await segment(client, b"no image", **{"async": "true"})).json()
            state = await finished(client, answer["url"])
            assert state["state"] == "failed"
            assert "is not an image" in state["error"]
            is_refused(await client.get(f"{answer['url']}/result"), 422, "is not an image")

    run(ask)


def test_a_job_can_be_stopped() -> None:
    segmenter = tiny_segmenter()
    gate = Gate(segmenter)

    async def ask() -> None:
        async with serving(segmenter=segmenter) as client:
            await segment(client, **{"async": "true"})
            await gate.reached()
            second = (await segment(client, **{"async": "true"})).json()
            while (await client.get("/health")).json()["waiting"] < 1:
                await asyncio.sleep(0.01)
            assert (await client.delete(second["url"])).json()["state"] == "stopped"
            is_refused(await client.get(second["url"]), 404, "no such job")
            while (await client.get("/health")).json()["waiting"]:
                await asyncio.sleep(0.01)
            gate.open.set()

    run(ask)
    assert gate.sizes == [1]


def test_jobs_are_bounded_and_the_oldest_finished_one_is_forgotten() -> None:
    segmenter = tiny_segmenter()
    gate = Gate(segmenter)

    async def ask() -> None:
        async with serving(Settings(jobs=2), segmenter) as client:
            asked = [(await segment(client, **{"async": "true"})).json() for _ in range(2)]
            is_refused(await segment(client, **{"async": "true"}), 429, "too many jobs")
            gate.open.set()
            for each in asked:
                await finished(client, each["url"])
            assert (await segment(client, **{"async": "true"})).status_code == 202
            is_refused(await client.get(asked[0]["url"]), 404, "no such job")
            assert (await client.get(asked[1]["url"])).status_code == 200

    run(ask)


def test_results_expire_by_age_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        async with serving(Settings(job_seconds=0.2)) as client:
            url = (await segment(client, **{"async": "true"})).json()["url"]
            await finished(client, url)
            await asyncio.sleep(0.3)
            is_refused(await client.get(url), 404, "not kept")
        async with serving() as client:
            monkeypatch.setattr(jobs, "KEPT_BYTES", 10)
            asked = [(await segment(client, **{"async": "true"})).json()["url"] for _ in range(2)]
            await finished(client, asked[1])
            assert (await client.get(asked[0])).status_code == 404
            assert (await client.get(asked[1])).status_code == 200

    run(ask)
