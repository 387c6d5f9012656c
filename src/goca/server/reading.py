"""What callers send, as one object: a form with a file, or JSON with the image in base64."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from goca.lookup import look_up
from goca.messages import shorten
from goca.ranges import LARGEST_SCALE, LARGEST_SEED, LARGEST_SIDE, MOST_STEPS
from goca.server.refusals import Refusal
from goca.storage.json_reader import parse_json

MOST_FIELDS = 32
LONGEST_TEXT = 4000
JSON, FORM = "application/json", "multipart/form-data"
KINDS = f"send {FORM} with the image as a file, or {JSON} with the image in base64"

Fields = TypeVar("Fields", bound="Common")


class Common(BaseModel):
    """What every request may say."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    model: str | None = Field(None, max_length=LONGEST_TEXT, description="One of GET /v1/models; by default the first.")
    seed: int = Field(0, ge=0, le=LARGEST_SEED, description="Seed of the noise.")
    format: str | list[str] = Field(
        "json",
        description="What to answer with, a list or separated by commas; several files come as a zip archive. "
        "explorer: the data of the page, alone.",
    )
    as_job: bool = Field(False, alias="async", description="Answer at once, with a job: GET /v1/jobs/{id}.")


class SegmentFields(Common):
    """POST /v1/segment."""

    classes: str | list[str] = Field(description="What to look for, a list or separated by commas; synonyms by |.")
    preset: str | None = Field(
        None,
        max_length=LONGEST_TEXT,
        description="How attention becomes labels; several, separated by commas, with format explorer. "
        "Default: the model's own.",
    )
    caption: str | None = Field(None, max_length=LONGEST_TEXT, description="A text that mentions the classes.")
    background: str | list[str] = Field("", description="Phrases that stand for everything else.")
    threshold: float | None = Field(None, ge=-1, le=1, description="Score of the background.")


class GenerateFields(Common):
    """POST /v1/generate."""

    prompt: str = Field(min_length=1, max_length=LONGEST_TEXT, description="What to draw.")
    classes: str | list[str] | None = Field(None, description="What to segment. Default: what the prompt names.")
    guidance: str = Field("goca", description="goca, s-cfg or cfg.")
    scale: float = Field(5.0, ge=0, le=LARGEST_SCALE, description="Guidance scale.")
    steps: int | None = Field(None, ge=1, le=MOST_STEPS, description="Denoising steps. Default: the pipeline's own.")
    size: int | None = Field(None, ge=1, le=LARGEST_SIDE, description="Side in pixels. Default: the model's own.")


async def read_segment(request: Request, limit: int) -> tuple[bytes, str, SegmentFields]:
    """The image's bytes, its name and what is asked of it.

    Args:
        limit: bytes of a body; the file is kept in memory up to it.

    Raises:
        Refusal, ValueError: a body that is neither of the two, without an image, or with unknown or wrong fields.
    """
    if _kind(request) == FORM:
        fields, image, name = await _read_form(request, limit)
    else:
        fields = await read_object(request)
        image, name = decode_image(fields.pop("image", None)), "image"
    if not image:
        raise ValueError(f"there is no image; {KINDS}")
    return image, name, check_fields(SegmentFields, fields)


async def read_generate(request: Request) -> GenerateFields:
    """What is to be drawn.

    Raises:
        Refusal, ValueError: a body that is no JSON, or with unknown or wrong fields.
    """
    return check_fields(GenerateFields, await read_object(request))


def check_fields(kind: type[Fields], fields: Mapping[str, Any]) -> Fields:
    """The fields of a request.

    Raises:
        ValueError: one sentence about the first that is wrong.
    """
    known = [each.alias or name for name, each in kind.model_fields.items()]
    for name in fields:
        look_up(known, name, "field")
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = first["loc"][0] if first["loc"] else "body"
        if first["type"] == "missing":
            raise ValueError(f"the field {place!r} is missing; add it") from None
        given = shorten(repr(first["input"]))
        raise ValueError(f"the field {place!r} cannot be {given}: {first['msg'].lower()}") from None


def decode_image(text: Any) -> bytes:
    """The bytes of an image in base64, with or without ``data:image/png;base64,`` before it.

    Raises:
        ValueError: it is no text, no base64, or an address.
    """
    if text is None:
        return b""
    if not isinstance(text, str):
        raise ValueError("the field 'image' is a text: the image's bytes in base64")
    if re.match(r"(?i)(https?|ftp|file)://", text):
        raise ValueError("addresses are not fetched; send the image's bytes in base64")
    if text[:5].lower() == "data:":
        head, _, text = text.partition(",")
        if not head.lower().endswith(";base64"):
            raise ValueError("the data URI of the field 'image' is in base64, like data:image/png;base64,...")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the field 'image' is no base64; encode the image's bytes") from None


def _kind(request: Request) -> str:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (JSON, FORM):
        raise Refusal(415, f"the content type {shorten(kind)!r} is not taken; {KINDS}")
    return kind


async def read_object(request: Request) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises:
        Refusal, ValueError: another type of content, no JSON, or no object.
    """
    if _kind(request) != JSON:
        raise Refusal(415, f"this is asked for with {JSON}")
    value = parse_json(await request.body(), "the request")
    if not isinstance(value, dict):
        raise ValueError("the request is a JSON object, like {...}")
    return value


async def _read_form(request: Request, limit: int) -> tuple[dict[str, Any], bytes, str]:
    """Fields, the image and its name; nothing is put into a temporary file."""
    parser = MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=MOST_FIELDS)
    parser.spool_max_size = limit + 1
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise ValueError(f"the form cannot be read: {error.message}") from None
    fields: dict[str, Any] = {}
    image, name = b"", "image"
    for key, value in form.multi_items():
        if isinstance(value, UploadFile):
            if key != "image":
                raise ValueError(f"the file stands in the field {shorten(key)!r}; send it as 'image'")
            image, name = await value.read(), value.filename or name
        elif key in fields:
            raise ValueError(f"the field {shorten(key)!r} stands twice; send it once, with commas")
        else:
            fields[key] = value
    if "image" in fields:
        if image:
            raise ValueError("the field 'image' stands twice; send one image")
        image = decode_image(fields.pop("image"))
    return fields, image, name
