"""Label Studio's protocol for machine learning backends: ``POST /predict`` and ``POST /setup``; ``GET /health`` is the
service's own.

Images come in the tasks, as data URIs, or from the one Label Studio that the environment names: ``LABEL_STUDIO_URL``,
with ``LABEL_STUDIO_API_KEY`` (a legacy token) to read its files. Other addresses are never asked for anything.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from goca import __version__
from goca.captioning.bounded import call_within
from goca.export.label_studio import brush, mean_score, polygons
from goca.messages import shorten
from goca.result import Segmentation
from goca.server.reading import decode_image, read_object
from goca.server.refusals import Refusal
from goca.server.service import Caller, Service

URL_VARIABLE, KEY_VARIABLE = "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"
CONTROLS = ("BrushLabels", "PolygonLabels")
MOST_TASKS = 64
SECONDS = 30.0  # for one file


@dataclass(frozen=True)
class Control:
    """Where a labelling configuration wants masks.

    Attributes:
        kind: one of :data:`CONTROLS`.
        name: of the control.
        image: name of the image that it belongs to.
        field: of a task's data that holds the image.
        labels: what can be found; synonyms are separated by ``|``, as everywhere.
    """

    kind: str
    name: str
    image: str
    field: str
    labels: tuple[str, ...]


def label_studio_router(service: Service) -> APIRouter:
    """The routes, for the model that the service takes by default."""
    router = APIRouter(tags=["Label Studio"])
    server = os.environ.get(URL_VARIABLE, "").rstrip("/")

    def version() -> str:
        return f"goca {__version__} {service.model_name(None)}"

    @router.post("/setup", summary="Whether the labelling configuration can be served.")
    async def setup(request: Request) -> Response:
        service.check_ready()
        schema = (await read_object(request)).get("schema")
        if schema:
            read_configuration(schema)
        return JSONResponse({"model_version": version()})

    @router.post("/predict", summary="Masks for the tasks of a Label Studio project.")
    async def predict(request: Request) -> Response:
        service.check_ready()
        body = await read_object(request)
        control, results = read_configuration(body.get("label_config")), []
        for data in read_tasks(body.get("tasks"), control.field):
            image = await run_in_threadpool(read_image_of, data, server, service.settings.body_bytes)
            found = await service.segment(image, list(control.labels), caller=Caller(request))
            regions = regions_of(found, control)
            results.append({"model_version": version(), "score": mean_score(regions), "result": regions})
        return JSONResponse({"results": results})

    return router


def read_configuration(text: Any) -> Control:
    """The first control of a labelling configuration that takes masks.

    Raises:
        ValueError: no XML, or no control for masks on an image with labels of its own.
    """
    if not isinstance(text, str) or "<!" in text.replace("<!--", ""):
        raise ValueError("the labelling configuration is XML without a document type")
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise ValueError(f"the labelling configuration is no XML ({error})") from None
    images = {each.get("name"): each.get("value", "") for each in root.iter("Image")}
    for control in (each for each in root.iter() if each.tag in CONTROLS):
        image, name = control.get("toName"), control.get("name")
        labels = tuple(value for each in control.iter("Label") if (value := each.get("value")))
        if name and image and labels and images.get(image, "").startswith("$"):
            return Control(control.tag, name, image, images[image][1:], labels)
    raise ValueError(
        f"the labelling configuration has no {' or '.join(CONTROLS)} with labels for an Image whose value is a field, "
        "such as $image; add one"
    )


def read_tasks(tasks: Any, field: str) -> list[str]:
    """The image of each task, as it stands there.

    Raises:
        ValueError: no tasks, too many, or one without that field.
    """
    if not isinstance(tasks, list) or not 0 < len(tasks) <= MOST_TASKS:
        raise ValueError(f"send 1 to {MOST_TASKS} tasks in the field 'tasks'")
    found = []
    for task in tasks:
        data = task.get("data") if isinstance(task, dict) else None
        value = data.get(field) if isinstance(data, dict) else None
        if not isinstance(value, str) or not value:
            raise ValueError(f"a task has no image in its field {shorten(field)!r}")
        found.append(value)
    return found


def read_image_of(value: str, server: str, most: int) -> bytes:
    """The bytes of a task's image.

    Args:
        server: address of Label Studio; blank where none is named.
        most: bytes that are read.

    Raises:
        ValueError: another address. Refusal: 502, Label Studio does not give the file.
    """
    if value[:5].lower() == "data:":
        return decode_image(value)
    address = urljoin(f"{server}/", value)
    if not server or urlsplit(address)[:2] != urlsplit(server)[:2]:
        raise ValueError(
            f"the image {shorten(value)!r} does not lie in the Label Studio of {URL_VARIABLE}, and no other address is "
            "asked; set it where goca serve starts, or import images as data URIs"
        )
    try:
        return call_within(SECONDS, lambda: fetch(address, most))
    except (OSError, ValueError) as error:  # urllib's errors, and TimeoutError, are OSErrors
        raise Refusal(502, f"Label Studio does not give {shorten(value)!r} ({error}); check {KEY_VARIABLE}") from None


def fetch(address: str, most: int) -> bytes:
    """A file of Label Studio; redirects, which may lead elsewhere, are not followed.

    Raises:
        OSError: it cannot be had. ValueError: it is too large.
    """
    headers = {"Authorization": f"Token {key}"} if (key := os.environ.get(KEY_VARIABLE)) else {}
    opener = urllib.request.build_opener(_NoRedirects, urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(address, headers=headers), timeout=SECONDS) as response:
        content: bytes = response.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most} bytes")
    return content


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any, **_options: Any) -> None:
        return None


def regions_of(result: Segmentation, control: Control) -> list[dict[str, Any]]:
    """The classes of a result as regions of that control."""
    labels = {label.split("|")[0].strip(): label for label in control.labels}
    made: list[dict[str, Any]] = []
    for segment in result:
        label = labels[segment.name]
        made += [brush(segment, label)] if control.kind == "BrushLabels" else polygons(segment, label)
    names = {"from_name": control.name, "to_name": control.image}
    return [{"id": f"goca-{number}", **names, **region} for number, region in enumerate(made)]
