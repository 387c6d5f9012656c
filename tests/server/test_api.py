"""What callers get: results in every format, and one sentence for whatever is bad."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from serving import CLASSES, Gate, client_of, is_refused, png, run, segment, serving, tiny_segmenter
from small import photo

from goca.datasets.scenes import make_scene
from goca.export import FORMATS
from goca.server import Service, Settings
from goca.server.reading import decode_image
from goca.server.state import SCENE_SEED, SCENE_SIDE


def test_a_form_and_json_give_what_the_segmenter_gives() -> None:
    segmenter = tiny_segmenter()

    async def ask() -> list[httpx.Response]:
        async with serving(segmenter=segmenter) as client:
            text = base64.b64encode(png()).decode()
            bodies = ({"image": text}, {"image": f"data:image/png;base64,{text}"})
            return [
                await segment(client),
                *[await client.post("/v1/segment", json={**body, "classes": CLASSES.split(",")}) for body in bodies],
            ]

    expected = segmenter(photo(0), CLASSES).to_dict()
    for response in run(ask):
        assert response.status_code == 200, response.text
        answer = response.json()
        assert {key: answer[key] for key in expected} == json.loads(json.dumps(expected))
        assert answer["model"] == "tiny"


def test_options_reach_the_model() -> None:
    segmenter = tiny_segmenter()

    async def ask() -> list[Any]:
        async with serving(segmenter=segmenter) as client:
            options: dict[str, Any] = {"preset": "vanilla", "seed": 3, "threshold": 0.4, "caption": "a cat, grass, sky"}
            return [(await segment(client, **options)).json(), (await segment(client, background="wall")).json()]

    with_options, with_background = run(ask)
    result = segmenter(photo(0), CLASSES, caption="a cat, grass, sky", seed=3, threshold=0.4, method="vanilla")
    assert with_options["classes"] == json.loads(json.dumps(result.to_dict()["classes"]))
    assert [each["name"] for each in with_background["classes"]][-1] == "background"


def test_every_format_comes_as_a_file_or_a_zip_archive() -> None:
    async def ask() -> dict[str, httpx.Response]:
        async with serving() as client:
            names = [*FORMATS, "labels,overlay"]
            return {name: await segment(client, format=name) for name in names}

    for name, response in run(ask).items():
        assert response.status_code == 200, f"{name}: {response.text}"
        kind = response.headers["content-type"]
        if kind == "application/zip":
            assert zipfile.ZipFile(io.BytesIO(response.content)).testzip() is None
        elif kind == "image/png":
            Image.open(io.BytesIO(response.content)).load()
        else:
            assert response.content
    assert sorted(zipfile.ZipFile(io.BytesIO(response.content)).namelist()) == ["photo_labels.png", "photo_overlay.png"]


def bomb() -> bytes:
    """A small file of 9,000 x 9,000 pixels."""
    return png(Image.new("1", (9000, 9000)))


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "no image": ({"content": b""}, 422, "no image"),
    "text": ({"content": b"I am no image."}, 422, "is not an image"),
    "cut short": ({"content": png()[:200]}, 422, "damaged"),
    "too many pixels": ({"content": bomb()}, 413, "9000 x 9000 pixels"),
    "no class": ({"classes": " , "}, 422, "No classes were given"),
    "class twice": ({"classes": "cat,cat"}, 422, "cat"),
    "10,000 classes": ({"classes": ",".join(f"c{number}" for number in range(10_000))}, 422, "10000 class names"),
    "long class": ({"classes": "x" * 50_000}, 422, "characters"),
    "unknown model": ({"model": "tinny"}, 422, "unknown model 'tinny' (did you mean 'tiny'?)"),
    "unknown preset": ({"preset": "papper"}, 422, "unknown"),
    "unknown format": ({"format": "jsn"}, 422, "unknown format 'jsn' (did you mean 'json'?)"),
    "no format": ({"format": ","}, 422, "at least one format"),
    "unknown field": ({"clases": "cat"}, 422, "unknown field 'clases' (did you mean 'classes'?)"),
    "caption without the class": ({"caption": "a dog"}, 422, "does not mention"),
    "seed of text": ({"seed": "one"}, 422, "'seed' cannot be 'one'"),
    "threshold": ({"threshold": "2"}, 422, "'threshold'"),
    "path as the model": ({"model": "../../etc/passwd"}, 422, "unknown model"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_get_a_sentence_and_the_next_is_answered(name: str) -> None:
    fields, status, words = BAD[name]

    async def ask() -> tuple[httpx.Response, httpx.Response]:
        async with serving() as client:
            return await segment(client, **fields), await segment(client)

    bad, good = run(ask)
    is_refused(bad, status, words)
    assert good.status_code == 200


BODIES: dict[str, tuple[dict[str, Any], int, str]] = {
    "no body": ({}, 415, "content type"),
    "text": ({"content": b"x", "headers": {"content-type": "text/plain"}}, 415, "text/plain"),
    "no JSON": ({"content": b"{", "headers": {"content-type": "application/json"}}, 422, "no JSON"),
    "deep JSON": ({"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}, 422, "no JSON"),
    "a list": ({"json": [1]}, 422, "JSON object"),
    "address": ({"json": {"image": "http://127.0.0.1/x.png", "classes": "a"}}, 422, "not fetched"),
    "no base64": ({"json": {"image": "data:image/png,abc", "classes": "a"}}, 422, "base64"),
    "number": ({"json": {"image": 3, "classes": "a"}}, 422, "is a text"),
    "classes missing": ({"json": {"image": base64.b64encode(png()).decode()}}, 422, "'classes' is missing"),
    "no boundary": ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 422, "form"),
    "broken form": ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=a"}}, 422, "form"),
    "two images": ({"files": [("image", png()), ("image", png())], "data": {"classes": "a"}}, 422, "form"),
    "another file": ({"files": {"picture": png()}, "data": {"classes": "a"}}, 422, "'picture'"),
}


def test_bad_bodies_get_a_sentence() -> None:
    async def ask() -> dict[str, httpx.Response]:
        async with serving() as client:
            return {name: await client.post("/v1/segment", **body) for name, (body, _, _) in BODIES.items()}

    for name, response in run(ask).items():
        is_refused(response, *BODIES[name][1:])


def test_hostile_class_names_stay_text() -> None:
    names = ["<img src=x onerror=alert(1)>", "\x1b[31mred\x00", "a\u202eb"]

    async def ask() -> list[httpx.Response]:
        async with serving() as client:
            image = base64.b64encode(png()).decode()
            asked = [{"image": image, "classes": ["cat", name]} for name in names]
            return [await client.post("/v1/segment", json=body) for body in asked]

    for response in run(ask):
        assert response.headers["content-type"] == "application/json"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.status_code in (200, 422)
        assert response.content.isascii()
        assert b"\x1b" not in response.content


@pytest.mark.parametrize("name", ["../../../evil.png", "..\\evil.png", "/etc/evil.png", "evil\x00\n.png", "..", "."])
def test_names_of_files_lead_nowhere(name: str) -> None:
    async def ask() -> httpx.Response:
        async with serving() as client:
            return await client.post(
                "/v1/segment",
                files={"image": (name, png())},
                data={"classes": CLASSES, "format": "labels,json"},
            )

    response = run(ask)
    assert response.status_code == 200, response.text
    for inside in zipfile.ZipFile(io.BytesIO(response.content)).namelist():
        assert "/" not in inside and "\\" not in inside and not inside.startswith(".")


def test_no_request_is_written_to_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> Any:
        raise AssertionError("a temporary file on the disk")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    image = png(Image.fromarray(noise))
    assert len(image) > 2 * 2**20

    async def ask() -> httpx.Response:
        async with serving() as client:
            return await segment(client, image)

    assert run(ask).status_code == 200


def test_results_as_files_lie_in_memory() -> None:
    from goca.server.answers import MEMORY

    if not MEMORY.is_dir():
        pytest.skip("this system has no /dev/shm")
    before = set(Path(tempfile.gettempdir()).iterdir())

    async def ask() -> httpx.Response:
        async with serving() as client:
            return await segment(client, format="labels")

    assert run(ask).status_code == 200
    new = {path.name for path in set(Path(tempfile.gettempdir()).iterdir()) - before}
    assert not any(name.startswith("goca-") for name in new)
    assert not list(MEMORY.glob("goca-*"))


def test_a_model_that_fails_answers_500_and_goes_on() -> None:
    segmenter = tiny_segmenter()
    inner, failures = segmenter.segment_batch, [RuntimeError("CUDA error\nline"), MemoryError()]

    def fails(*arguments: Any) -> Any:
        if failures:
            raise failures.pop(0)
        return inner(*arguments)

    segmenter.segment_batch = fails  # type: ignore[method-assign]

    async def ask() -> list[httpx.Response]:
        async with serving(segmenter=segmenter) as client:
            return [await segment(client) for _ in range(3)]

    broken, short, good = run(ask)
    is_refused(broken, 500, "the model failed on this request (RuntimeError: CUDA error line)")
    is_refused(short, 503, "memory")
    assert short.headers["retry-after"]
    assert good.status_code == 200


def test_a_fault_of_the_program_is_answered_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: Any) -> Any:
        raise KeyError("surprise")

    monkeypatch.setattr("goca.server.api.segmentation_answer", fail)

    async def ask() -> httpx.Response:
        async with serving() as client:
            return await segment(client)

    is_refused(run(ask), 500, "KeyError")


def test_more_than_the_queue_holds_get_429() -> None:
    segmenter = tiny_segmenter()
    gate = Gate(segmenter)

    async def ask() -> list[httpx.Response]:
        async with serving(Settings(queue=2), segmenter) as client:
            first = asyncio.create_task(segment(client))
            await gate.reached()
            waiting = [asyncio.create_task(segment(client)) for _ in range(2)]
            while len([1 for each in waiting if not each.done()]) == 2 and not await full(client):
                await asyncio.sleep(0.01)
            refused = await segment(client)
            gate.open.set()
            return [refused, await first, *[await each for each in waiting]]

    async def full(client: httpx.AsyncClient) -> bool:
        return bool((await client.get("/health")).json()["waiting"] == 2)

    refused, *answered = run(ask)
    is_refused(refused, 429, "too many requests wait")
    assert int(refused.headers["retry-after"]) > 0
    assert [response.status_code for response in answered] == [200] * 3


def test_equal_requests_are_computed_together_as_alone() -> None:
    segmenter = tiny_segmenter()
    expected = [segmenter(photo(number), CLASSES).areas for number in range(4)]
    gate = Gate(segmenter)

    async def ask() -> list[Any]:
        service = Service(lambda: {"tiny": segmenter}, Settings(batch=4))
        async with client_of(service) as client:
            first = asyncio.create_task(segment(client))
            await gate.reached()
            others = [asyncio.create_task(segment(client, png(photo(number)))) for number in range(4)]
            other_preset = asyncio.create_task(segment(client, preset="vanilla"))
            while service.worker.waiting() < 5:
                await asyncio.sleep(0.01)
            gate.open.set()
            await asyncio.gather(first, other_preset)
            return [(await each).json() for each in others]

    answers = run(ask)
    assert sorted(gate.sizes[1:]) == [1, 4]
    for answer, areas in zip(answers, expected, strict=True):
        assert {each["name"]: each["area"] for each in answer["classes"]} == pytest.approx(areas, abs=2e-3)


def test_requests_time_out() -> None:
    segmenter = tiny_segmenter()
    gate = Gate(segmenter)

    async def ask() -> list[httpx.Response]:
        service = Service(lambda: {"tiny": segmenter}, Settings(timeout=0.3))
        async with client_of(service) as client:
            late = await segment(client)
            gate.open.set()
            service.settings = Settings()
            return [late, await segment(client)]

    late, good = run(ask)
    is_refused(late, 504, "no result within 0.3 seconds")
    assert good.status_code == 200


def test_503_while_the_models_are_loaded_and_where_they_cannot_be() -> None:
    import threading

    go = threading.Event()

    def load() -> dict[str, Any]:
        assert go.wait(30)
        raise ValueError("no weights here")

    async def ask() -> list[httpx.Response]:
        service = Service(load)
        async with client_of(service, wait=False) as client:
            early = [await client.get("/health"), await segment(client)]
            go.set()
            while service.worker.error is None:
                await asyncio.sleep(0.01)
            return [*early, await client.get("/health")]

    loading, refused, failed = run(ask)
    is_refused(loading, 503, "being loaded")
    is_refused(refused, 503, "being loaded")
    assert refused.headers["retry-after"]
    is_refused(failed, 503, "no weights here")


def test_models_health_metrics_and_operations() -> None:
    async def ask() -> dict[str, httpx.Response]:
        async with serving() as client:
            await segment(client)
            await segment(client, b"x")
            paths = ("/v1/models", "/health", "/metrics", "/openapi.json", "/docs", "/", "/v1/scenes/1", "/nowhere")
            found = {path: await client.get(path) for path in paths}
            return {**found, "PUT": await client.put("/v1/segment"), "scene": await client.get("/v1/scenes/99")}

    found = run(ask)
    models = found["/v1/models"].json()
    assert models["default"] == models["models"][0]["name"] == "tiny"
    assert models["formats"] == list(FORMATS)
    assert found["/health"].json()["status"] == "UP"
    numbers = found["/metrics"].text
    for line in ("goca_waiting 0.0", 'goca_refused_total{status="422"} 1.0', "goca_batch_size_count 1.0"):
        assert line in numbers
    assert 'goca_seconds_count{path="/v1/segment"} 2.0' in numbers
    paths = found["/openapi.json"].json()["paths"]
    assert {"/v1/segment", "/v1/generate", "/v1/jobs/{name}", "/v1/models", "/health", "/metrics"} <= paths.keys()
    body = paths["/v1/segment"]["post"]["requestBody"]["content"]
    assert body["multipart/form-data"]["schema"]["required"] == ["image", "classes"]
    for page in ("/docs", "/"):
        assert found[page].headers["content-type"].startswith("text/html")
        assert "http://" not in found[page].text and "https://" not in found[page].text
    is_refused(found["/nowhere"], 404, "nothing here")
    is_refused(found["PUT"], 405, "PUT")
    is_refused(found["scene"], 404, "scenes 0 to")


def test_drawn_scenes_come_with_their_classes() -> None:
    async def ask() -> Any:
        async with serving() as client:
            return (await client.get("/v1/scenes/2")).json()

    scene, drawn = run(ask), make_scene(SCENE_SEED, 2, SCENE_SIDE)
    assert scene["classes"] == list(drawn.classes)
    assert Image.open(io.BytesIO(decode_image(scene["image"]))).tobytes() == drawn.image.tobytes()


def test_the_explorer_gets_what_led_to_the_result_of_each_method() -> None:
    async def ask() -> list[httpx.Response]:
        async with serving() as client:
            asked = ({"format": "explorer"}, {"format": "explorer", "preset": "paper,vanilla"})
            bad = ({"preset": "paper,vanilla"}, {"format": "explorer,json"}, {"format": "explorer", "preset": "papper"})
            return [await segment(client, **fields) for fields in (*asked, *bad)]

    one, two, *bad = run(ask)
    shown = one.json()["explorer"]
    assert [each["kind"] for each in shown["results"][0]["stages"]][-1] == "labels"
    assert len(shown["results"][0]["stages"]) > 3
    assert [each["name"] for each in two.json()["explorer"]["results"]] == ["paper", "vanilla"]
    for response, words in zip(bad, ("several presets", "unknown format 'explorer'", "papper"), strict=True):
        is_refused(response, 422, words)
