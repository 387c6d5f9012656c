"""The routes of the API."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from goca.lookup import read_names
from goca.method import find_method
from goca.server.answers import (
    EXPLORER_FORMAT,
    Answer,
    explorer_answer,
    generation_answer,
    read_formats,
    safe_stem,
    segmentation_answer,
)
from goca.server.jobs import Jobs, Run
from goca.server.reading import FORM, JSON, GenerateFields, SegmentFields, read_generate, read_segment
from goca.server.refusals import RETRY_AFTER, TOO_MANY, Refusal
from goca.server.service import Caller, GenerateOptions, SegmentOptions, Service

MOST_PRESETS = 4
SAID = {"prompt", "guidance", "scale", "steps", "seed"}  # of a drawing, with its result
IMAGE = {"type": "string", "description": "The image's bytes in base64, or a data URI of them."}
FILE = {"type": "string", "format": "binary", "description": "The image file."}
ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
STATUSES = {
    401: "The token is missing or wrong.",
    413: "More bytes or pixels than are taken.",
    415: "Another type of content.",
    422: "Bad input.",
    429: "Too many requests wait; see Retry-After.",
    500: "The model failed on this request.",
    503: "The models are being loaded, or memory is short.",
    504: "There was no result in time.",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {JSON: {"schema": ERROR}}} for status, text in STATUSES.items()
}


def body_of(kind: type[SegmentFields] | type[GenerateFields], with_image: bool) -> dict[str, Any]:
    """What OpenAPI says of a request's body."""
    schema = kind.model_json_schema()
    required = [*(["image"] if with_image else []), *schema.get("required", [])]

    def content(image: dict[str, str]) -> dict[str, Any]:
        properties = {**({"image": image} if with_image else {}), **schema["properties"]}
        return {"schema": {"type": "object", "properties": properties, "required": required}}

    kinds = {JSON: content(IMAGE), **({FORM: content(FILE)} if with_image else {})}
    return {"requestBody": {"required": True, "content": kinds}}


def work_router(service: Service, jobs: Jobs) -> APIRouter:
    """Segmentation and generation."""
    router = APIRouter(tags=["work"])

    async def respond(request: Request, run: Run, as_job: bool) -> Response:
        if not as_job:
            return (await run(Caller(request))).response()
        if service.worker.waiting() >= service.settings.queue:
            raise Refusal(429, TOO_MANY, RETRY_AFTER)
        return JSONResponse(jobs.describe(jobs.start(run)), 202)

    @router.post(
        "/v1/segment", summary="Segment an image.", responses=ERRORS, openapi_extra=body_of(SegmentFields, True)
    )
    async def segment(request: Request) -> Response:
        service.check_ready()
        image, name, fields = await read_segment(request, service.settings.body_bytes)
        formats, methods = read_formats(fields.format), read_presets(fields)
        options = [segment_options(fields, method) for method in methods]
        about = {"model": service.model_name(fields.model), "preset": fields.preset, "seed": fields.seed}

        async def run(caller: Caller) -> Answer:
            if formats == [EXPLORER_FORMAT]:
                each = [await service.explain(image, fields.classes, chosen, caller) for chosen in options]
                named = dict(zip(map(str, methods), each, strict=True))
                return await service.in_thread(explorer_answer, named, safe_stem(name), about)
            result = await service.segment(image, fields.classes, options[0], caller)
            return await service.in_thread(segmentation_answer, result, formats, name, about)

        return await respond(request, run, fields.as_job)

    @router.post(
        "/v1/generate",
        summary="Draw an image and segment it.",
        responses=ERRORS,
        openapi_extra=body_of(GenerateFields, False),
    )
    async def generate(request: Request) -> Response:
        service.check_ready()
        fields = await read_generate(request)
        formats = read_formats(fields.format)
        options = GenerateOptions(**fields.model_dump(exclude={"prompt", "format", "as_job"}))

        async def run(caller: Caller) -> Answer:
            drawn = await service.generate(fields.prompt, options, caller)
            about = {"model": service.model_name(fields.model), **fields.model_dump(include=SAID)}
            return await service.in_thread(generation_answer, drawn, formats, about)

        return await respond(request, run, fields.as_job)

    return router


def job_router(jobs: Jobs) -> APIRouter:
    """What became of requests with ``async``."""
    router = APIRouter(tags=["jobs"], prefix="/v1/jobs")

    @router.get("/{name}", summary="How far a job is.", responses=ERRORS)
    async def state(name: str) -> Response:
        return JSONResponse(jobs.describe(jobs.get(name)))

    @router.get("/{name}/result", summary="What came of a job.", responses=ERRORS)
    async def result(name: str) -> Response:
        job = jobs.get(name)
        if job.error is not None:
            raise job.error
        if job.answer is None:
            raise Refusal(409, "the job is not finished yet; ask again later", RETRY_AFTER)
        return job.answer.response()

    @router.delete("/{name}", summary="Give a job up.", responses=ERRORS)
    async def stop(name: str) -> Response:
        jobs.stop(jobs.get(name))
        return JSONResponse({"id": name, "state": "stopped"})

    return router


def read_presets(fields: SegmentFields) -> list[str | None]:
    """The methods of a request; several for the explorer alone.

    Raises:
        ValueError: an unknown one, or several for another format.
    """
    names = read_names(fields.preset or "", "preset")
    for name in names:
        find_method(name)
    if len(names) > 1 and read_formats(fields.format) != [EXPLORER_FORMAT]:
        raise ValueError(f"several presets are compared with format {EXPLORER_FORMAT}; name one preset, or that format")
    if len(names) > MOST_PRESETS:
        raise ValueError(f"at most {MOST_PRESETS} presets are compared, not {len(names)}")
    return list(dict.fromkeys(names)) or [None]


def segment_options(fields: SegmentFields, preset: str | None) -> SegmentOptions:
    """How to segment, from the fields of a request."""
    return SegmentOptions(fields.model, preset, fields.caption, fields.background, fields.threshold, fields.seed)
