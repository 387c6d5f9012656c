"""X-AnyLabeling's protocol for models on a server, as its documentation describes it (docs/router.md of
X-AnyLabeling-Server, whose code, under the AGPL, is not used here)."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from serving import png, run, serving, tiny_segmenter
from small import photo

from goca.server import Settings

URI = "data:image/png;base64," + base64.b64encode(png()).decode()
FIELDS = {
    "label": str,
    "shape_type": str,
    "points": list,
    "score": float,
    "attributes": dict,
    "description": type(None),
    "difficult": bool,
    "direction": int,
    "flags": type(None),
    "group_id": int,
    "kie_linking": list,
}


def ask(body: Any, path: str = "/v1/predict", **headers: str) -> Any:
    """The response to a prediction."""

    async def call() -> Any:
        async with serving(Settings(token=headers.get("Token"))) as client:
            return await client.post(path, json=body, headers=headers)

    return run(call)


def test_the_list_of_models_is_both_ours_and_the_protocols() -> None:
    async def body() -> None:
        async with serving() as client:
            answer = (await client.get("/v1/models")).json()
            assert answer["success"] is True and answer["default"] == "tiny"
            card = answer["data"]["tiny"]
            assert isinstance(card["display_name"], str) and card["batch_processing_mode"] == "text_prompt"
            assert {"edit_text", "button_send"} <= {widget["name"] for widget in card["widgets"]}
            info = (await client.get("/v1/models/tiny/info")).json()
            assert info == {"success": True, "data": {"model_id": "tiny", **card}}
            gone = (await client.get("/v1/models/gone/info")).json()
            assert (gone["success"], gone["error"]["code"]) == (False, "MODEL_NOT_FOUND")

    run(body)


def test_shapes_cover_the_masks() -> None:
    body = {"model": "tiny", "image": URI, "params": {"text_prompt": "cat|kitten, grass,sky"}}
    answer = ask(body, Token="a long token").json()
    assert answer["success"] is True and answer["data"]["description"] == ""
    width, height = photo(0).size
    expected = list(tiny_segmenter()(photo(0), ["cat|kitten", "grass", "sky"]))
    drawn = {segment.name: np.zeros((height, width), dtype=bool) for segment in expected}
    for shape in answer["data"]["shapes"]:
        assert {name: type(value) for name, value in shape.items()} == FIELDS
        assert shape["shape_type"] == "polygon" and 0 <= shape["score"] <= 1
        picture = Image.new("1", (width * 8, height * 8))
        ImageDraw.Draw(picture).polygon([tuple(np.array(corner) * 8) for corner in shape["points"]], fill=1)
        drawn[shape["label"]] |= np.asarray(picture)[4::8, 4::8]
    assert expected and all(np.array_equal(drawn[segment.name], segment.mask) for segment in expected)


def test_only_what_is_confident_enough() -> None:
    params = {"text_prompt": "cat,grass,sky"}
    everything = ask({"model": "tiny", "image": URI, "params": params}).json()["data"]["shapes"]
    least = max(shape["score"] for shape in everything)
    best = ask({"model": "tiny", "image": URI, "params": {**params, "conf_threshold": least}}).json()["data"]["shapes"]
    assert best == [shape for shape in everything if shape["score"] >= least] and len(best) < len(everything)


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        ({"model": "gone"}, "MODEL_NOT_FOUND", "unknown model 'gone'"),
        ({"model": None}, "MODEL_NOT_FOUND", "unknown model"),
        ({"image": "data:image/png;base64,AAAA"}, "INVALID_IMAGE", "the file"),
        ({"image": "http://example.org/a.png"}, "INVALID_IMAGE", "addresses are not fetched"),
        ({"image": None}, "INVALID_IMAGE", "image"),
        ({"params": None}, "INFERENCE_ERROR", "type the names"),
        ({"params": {"text_prompt": 3}}, "INFERENCE_ERROR", "type the names"),
        ({"params": {"text_prompt": "cat", "conf_threshold": 7}}, "INFERENCE_ERROR", "conf_threshold"),
    ],
)
def test_what_is_wrong_is_said_in_the_protocols_shape(change: dict[str, Any], code: str, reason: str) -> None:
    body = {"model": "tiny", "image": URI, "params": {"text_prompt": "cat,grass"}, **change}
    response = ask(body)
    assert response.status_code == 200 and response.json()["success"] is False
    assert response.json()["error"]["code"] == code and reason in response.json()["error"]["message"]


def test_a_missing_token_is_answered_as_everywhere() -> None:
    async def body() -> None:
        async with serving(Settings(token="a long token")) as client:
            response = await client.post("/v1/predict", json={"model": "tiny", "image": URI})
            assert response.status_code == 401 and "asks for a token" in response.json()["error"]

    run(body)
