"""Drawing through the service: the image, its masks, and the regions of the steps."""

from __future__ import annotations

import asyncio
import base64
import io
import zipfile
from typing import Any

import httpx
import numpy as np
from PIL import Image
from serving import client_of, is_refused, run, serving

from goca import Segmenter
from goca.guidance.generate import Generator
from goca.server import Service
from goca.server.reading import decode_image

PROMPT = "cat, grass, sky"


def scenes() -> Segmenter:
    return Segmenter.from_pretrained("scenes-dit")


def picture(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(decode_image(text))))


def test_a_prompt_gives_what_the_generator_gives() -> None:
    segmenter = scenes()

    async def ask() -> list[httpx.Response]:
        async with serving(segmenter=segmenter) as client:
            bodies: list[dict[str, Any]] = [{}, {"format": "explorer"}, {"format": "labels,overlay"}]
            asked = [{"prompt": PROMPT, "steps": 3, "seed": 4, **body} for body in bodies]
            return [await client.post("/v1/generate", json=body) for body in asked]

    plain, explored, files = run(ask)
    drawn = Generator(segmenter, steps=3)(PROMPT, 4, classes=PROMPT, trace=True)
    assert drawn.segmentation is not None
    np.testing.assert_array_equal(picture(plain.json()["picture"]), np.asarray(drawn.image))
    assert [each["pixels"] for each in plain.json()["classes"]] == [
        int(mask.sum()) for mask in drawn.segmentation.masks
    ]
    drawing = explored.json()["drawing"]
    assert drawing["names"] == ["cat", "grass", "sky", "other words"]
    assert len(drawing["steps"]) == 3
    for step, made in zip(drawing["steps"], drawn.steps, strict=True):
        cells = np.frombuffer(base64.b64decode(step["cells"]), np.uint8).reshape(step["grid"])
        regions = made.regions[0]
        assert regions is not None
        strongest = regions.masks.argmax(dim=0).numpy()
        for at, name in enumerate(drawing["names"][:-1]):
            np.testing.assert_array_equal(cells == at, strongest == drawn.words.index(name))
    names = zipfile.ZipFile(io.BytesIO(files.content)).namelist()
    assert sorted(names) == ["drawn.png", "drawn_labels.png", "drawn_overlay.png"]


def test_bad_prompts_get_a_sentence() -> None:
    bad: dict[str, dict[str, Any]] = {
        "zebra": {"prompt": "zebra, grass"},
        "'prompt'": {"prompt": ""},
        "'prompt' is missing": {},
        "guidance": {"prompt": PROMPT, "guidance": "gocca"},
        "scale": {"prompt": PROMPT, "scale": 0.5},
        "'steps'": {"prompt": PROMPT, "steps": 0},
        "multiples": {"prompt": PROMPT, "size": 129},
        "too large": {"prompt": PROMPT, "size": 16000},
        "class": {"prompt": PROMPT, "classes": "dog"},
    }

    async def ask() -> dict[str, httpx.Response]:
        async with serving(segmenter=scenes()) as client:
            answers = {words: await client.post("/v1/generate", json=body) for words, body in bad.items()}
            form = await client.post("/v1/generate", data={"prompt": PROMPT})
            return {**answers, "application/json": form}

    for words, response in run(ask).items():
        is_refused(response, 415 if words == "application/json" else 422, words)


def test_a_drawing_shows_its_progress_and_ends_when_it_is_stopped() -> None:
    async def ask() -> None:
        service = Service(lambda: {"scenes-dit": scenes()})
        async with client_of(service) as client:
            body = {"prompt": PROMPT, "steps": 500, "async": True}
            job = (await client.post("/v1/generate", json=body)).json()
            while not 0 < (state := (await client.get(job["url"])).json())["progress"] < 0.5:
                await asyncio.sleep(0.01)
            assert state["state"] == "running"
            await client.delete(job["url"])
            after = await client.post("/v1/generate", json={"prompt": PROMPT, "steps": 1})
            assert after.status_code == 200

    run(ask)
