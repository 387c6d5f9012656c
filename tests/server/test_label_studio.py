"""Label Studio's protocol: what it sends and what it takes, without the application.

label-studio-sdk pins an opencv that does not go with the NumPy of the tests, so it cannot be among their packages. The
shape of predictions is pinned here, as label-studio-sdk 2.1.2 checks it; where the SDK is installed (``pip install
--no-deps``), it checks them itself.
"""

from __future__ import annotations

import base64
import http.server
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from brush_codes import decode_brush
from PIL import Image, ImageDraw
from serving import is_refused, png, run, serving, tiny_segmenter
from small import photo

from goca.server import Settings
from goca.server.label_studio import fetch, read_configuration, read_image_of
from goca.server.refusals import Refusal

CONFIGURATION = (
    '<View><!-- a comment --><Image name="picture" value="$url"/>'
    '<{kind} name="tag" toName="picture"><Label value="cat|kitten"/><Label value="grass"/><Label value="sky"/></{kind}>'
    "</View>"
)
BRUSHES = CONFIGURATION.format(kind="BrushLabels")
LABELS = ["cat|kitten", "grass", "sky"]
URI = "data:image/png;base64," + base64.b64encode(png()).decode()


def ask(tasks: Any, configuration: Any = BRUSHES) -> Any:
    """The response to POST /predict."""

    async def body() -> Any:
        async with serving() as client:
            body = {"tasks": tasks, "label_config": configuration, "project": "1.2", "params": {"context": None}}
            return await client.post("/predict", json=body)

    return run(body)


def check_prediction(prediction: dict[str, Any], kind: str) -> None:
    """The fields that label-studio-sdk 2.1.2 requires of a prediction with regions on an image."""
    assert isinstance(prediction["model_version"], str) and 0 <= prediction["score"] <= 1
    assert len({region["id"] for region in prediction["result"]}) == len(prediction["result"])
    for region in prediction["result"]:
        assert (region["type"], region["from_name"], region["to_name"]) == (kind.lower(), "tag", "picture")
        assert region["image_rotation"] == 0 and set(region["value"][kind.lower()]) <= set(LABELS)


@pytest.mark.parametrize("kind", ["BrushLabels", "PolygonLabels"])
def test_the_sdk_takes_the_predictions(kind: str) -> None:
    interface = pytest.importorskip("label_studio_sdk.label_interface", reason="label-studio-sdk is not installed")
    configuration = CONFIGURATION.format(kind=kind)
    (prediction,) = ask([{"data": {"url": URI}}], configuration).json()["results"]
    checker = interface.LabelInterface(configuration)
    assert checker.validate_prediction(prediction, return_errors=True) == []
    prediction["result"][0]["from_name"] = "another"
    assert checker.validate_prediction(prediction, return_errors=True) != []


def test_masks_are_those_of_the_segmenter() -> None:
    tasks = [{"id": number, "data": {"url": URI}} for number in range(2)]
    response = ask(tasks)
    assert response.status_code == 200, response.text
    first, second = response.json()["results"]
    assert first == second
    check_prediction(first, "BrushLabels")
    expected = list(tiny_segmenter()(photo(0), LABELS))
    assert len(first["result"]) == len(expected) > 0
    for region, segment in zip(first["result"], expected, strict=True):
        (label,) = region["value"]["brushlabels"]
        assert label.split("|")[0] == segment.name and region["score"] == segment.confidence
        shape = (region["original_height"], region["original_width"], 4)
        decoded = decode_brush(region["value"]["rle"]).reshape(shape)
        assert np.array_equal(decoded, np.repeat(segment.mask[..., None] * 255, 4, axis=-1))


def test_polygons_cover_the_masks() -> None:
    prediction = ask([{"data": {"url": URI}}], CONFIGURATION.format(kind="PolygonLabels")).json()["results"][0]
    check_prediction(prediction, "PolygonLabels")
    width, height = photo(0).size
    drawn = {label: np.zeros((height, width), dtype=bool) for label in LABELS}
    for region in prediction["result"]:
        corners = np.array(region["value"]["points"]) / 100 * [width, height]
        picture = Image.new("1", (width * 8, height * 8))
        ImageDraw.Draw(picture).polygon([tuple(corner) for corner in corners.round() * 8], fill=1)
        drawn[region["value"]["polygonlabels"][0]] |= np.asarray(picture)[4::8, 4::8]
    for segment in tiny_segmenter()(photo(0), LABELS):
        (label,) = [each for each in LABELS if each.split("|")[0] == segment.name]
        assert np.array_equal(drawn[label], segment.mask)


def test_setup_and_health() -> None:
    async def body() -> None:
        async with serving() as client:
            project = {"project": "1.2", "schema": BRUSHES, "hostname": "", "x": 1}
            answer = (await client.post("/setup", json=project)).json()
            assert answer["model_version"].startswith("goca ") and answer["model_version"].endswith(" tiny")
            health = (await client.get("/health")).json()
            assert (health["status"], health["model_class"]) == ("UP", "goca")
            is_refused(await client.post("/setup", json={"schema": "<View/>"}), 422, "no BrushLabels or PolygonLabels")

    run(body)


@pytest.mark.parametrize(
    ("configuration", "reason"),
    [
        (None, "XML without a document type"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><View>&b;</View>', "XML without a document type"),
        ("<View>", "no XML"),
        ('<View><Image name="i" value="$url"/></View>', "no BrushLabels or PolygonLabels"),
        (BRUSHES.replace("$url", "url"), "whose value is a field"),
        (CONFIGURATION.format(kind="RectangleLabels"), "no BrushLabels or PolygonLabels"),
    ],
)
def test_bad_configurations_are_refused(configuration: Any, reason: str) -> None:
    is_refused(ask([{"data": {"url": URI}}], configuration), 422, reason)
    with pytest.raises(ValueError, match=reason):
        read_configuration(configuration)


@pytest.mark.parametrize(
    ("tasks", "reason"),
    [
        (None, "send 1 to 64 tasks"),
        ([], "send 1 to 64 tasks"),
        ([{"data": {"url": URI}}] * 65, "send 1 to 64 tasks"),
        ([{"data": {"image": URI}}], "no image in its field 'url'"),
        (["x"], "no image in its field 'url'"),
        ([{"data": {"url": "data:image/png;base64,AAAA"}}], "the file"),
        ([{"data": {"url": "http://169.254.169.254/latest"}}], "no other address is asked"),
        ([{"data": {"url": "file:///etc/passwd"}}], "no other address is asked"),
        ([{"data": {"url": "/data/upload/1/a.png"}}], "set it where goca serve starts"),
    ],
)
def test_bad_tasks_are_refused(tasks: Any, reason: str) -> None:
    is_refused(ask(tasks), 422, reason)


class Files(http.server.BaseHTTPRequestHandler):
    """A Label Studio with one file, a redirect, and nothing else."""

    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))
        self.send_response({"/data/a.png": 200, "/away": 302}.get(self.path, 404))
        self.send_header("Location", "http://127.0.0.1:1/secret")
        self.end_headers()
        self.wfile.write(png() if self.path == "/data/a.png" else b"")

    def log_message(self, *_words: object) -> None:
        pass


@pytest.fixture
def label_studio(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Files.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("LABEL_STUDIO_URL", f"{address}/")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "key")
    yield address
    server.shutdown()
    server.server_close()


def test_files_are_read_from_the_named_label_studio_alone(label_studio: str) -> None:
    values = ["/data/a.png", f"{label_studio}/data/a.png"]
    response = ask([{"data": {"url": value}} for value in values])
    assert response.status_code == 200, response.text
    assert Files.asked == [("/data/a.png", "Token key")] * 2
    is_refused(ask([{"data": {"url": "/data/gone.png"}}]), 502, "check LABEL_STUDIO_API_KEY")
    is_refused(ask([{"data": {"url": "//127.0.0.2/data/a.png"}}]), 422, "no other address is asked")
    with pytest.raises(Refusal, match="302"):
        read_image_of("/away", label_studio, 1000)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        fetch(f"{label_studio}/data/a.png", 10)


def test_the_token_is_asked_for() -> None:
    async def body() -> None:
        async with serving(Settings(token="a long token")) as client:
            task = {"tasks": [{"data": {"url": URI}}], "label_config": BRUSHES}
            is_refused(await client.post("/predict", json=task), 401, "asks for a token")
            given = await client.post("/predict", json=task, auth=("any", "a long token"))
            assert given.status_code == 200

    run(body)
