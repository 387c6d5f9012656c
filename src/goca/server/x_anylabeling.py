"""X-AnyLabeling's protocol for models on a server: a list of models, and images to shapes.

``GET /v1/models`` and ``GET /health`` are those of the service; this adds what X-AnyLabeling looks for. As its protocol
has it, what is wrong with a request is answered with status 200, ``success: false`` and a message.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from goca.images import ImageError
from goca.lookup import look_up
from goca.messages import sentence
from goca.polygons import join_holes
from goca.ranges import check_number
from goca.result import Segmentation
from goca.server.reading import decode_image, read_object
from goca.server.service import Caller, SegmentOptions, Service

WIDGETS = (("edit_text", None), ("button_send", None), ("toggle_preserve_existing_annotations", False))


def x_anylabeling_router(service: Service) -> APIRouter:
    """The routes that the service does not have anyway."""
    router = APIRouter(tags=["X-AnyLabeling"])

    @router.get("/v1/models/{name}/info", summary="One model, for X-AnyLabeling.")
    async def info(name: str) -> Response:
        service.check_ready()
        models = model_list(service)["data"]
        if name not in models:
            return failure("MODEL_NOT_FOUND", f"there is no model {name!r}; choose one of {', '.join(models)}")
        return success({"model_id": name, **models[name]})

    @router.post("/v1/predict", summary="Segment an image for X-AnyLabeling.")
    async def predict(request: Request) -> Response:
        service.check_ready()
        body = await read_object(request)
        try:
            model = look_up(service.models, str(body.get("model")), "model")
        except ValueError as error:
            return failure("MODEL_NOT_FOUND", sentence(error))
        try:
            image = decode_image(body.get("image") or "")
        except ValueError as error:
            return failure("INVALID_IMAGE", sentence(error))
        try:
            text, least = read_params(body.get("params"))
            options = SegmentOptions(model=next(name for name, each in service.models.items() if each is model))
            result = await service.segment(image, text, options, Caller(request))
        except ImageError as error:
            return failure("INVALID_IMAGE", sentence(error))
        except ValueError as error:
            return failure("INFERENCE_ERROR", sentence(error))
        return success({"shapes": shapes_of(result, least), "description": ""})

    return router


def model_list(service: Service) -> dict[str, Any]:
    """The models of a service with what X-AnyLabeling shows for each: a field for the text and a button."""
    widgets = [{"name": name, "value": value} for name, value in WIDGETS]
    card = {"widgets": widgets, "params": {}, "batch_processing_mode": "text_prompt"}
    return {"success": True, "data": {name: {"display_name": f"goca: {name}", **card} for name in service.models}}


def read_params(params: Any) -> tuple[str, float]:
    """What to look for, and the confidence that a class has at least.

    Raises:
        ValueError: no names, or a confidence that is none.
    """
    given = params if isinstance(params, dict) else {}
    text = given.get("text_prompt")
    if not isinstance(text, str) or not text.strip():
        raise ValueError("type the names of what to look for, separated by commas (the parameter text_prompt)")
    return text, check_number("conf_threshold", given.get("conf_threshold") or 0.0, 0.0, 1.0)


def shapes_of(result: Segmentation, least: float = 0.0) -> list[dict[str, Any]]:
    """A polygon for each connected part of each class, with cuts of no width to its holes; the parts of a class are a
    group."""
    return [
        {
            "label": segment.name,
            "shape_type": "polygon",
            "points": join_holes(polygon).astype(float).tolist(),
            "score": segment.confidence,
            "group_id": segment.index,
            "description": None,
            "difficult": False,
            "direction": 0,
            "flags": None,
            "attributes": {},
            "kie_linking": [],
        }
        for segment in result
        if segment.confidence >= least
        for polygon in segment.polygons()
    ]


def success(data: dict[str, Any]) -> Response:
    """An answer in the protocol's shape."""
    return JSONResponse({"success": True, "data": data})


def failure(code: str, message: str) -> Response:
    """A refusal in the protocol's shape."""
    return JSONResponse({"success": False, "error": {"code": code, "message": message}})
