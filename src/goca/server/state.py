"""What a service is and how it is: models, examples, health, metrics."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from goca import __version__
from goca.datasets.scenes import make_scene
from goca.export import FORMATS
from goca.method import BASELINES, PRESETS
from goca.server import x_anylabeling
from goca.server.answers import png_uri
from goca.server.refusals import Refusal
from goca.server.service import Service

SCENES, SCENE_SEED, SCENE_SIDE = 6, 2026, 256


def state_router(service: Service) -> APIRouter:
    """Routes that compute nothing with the models."""
    router = APIRouter(tags=["state"])

    @router.get("/health", summary="Whether requests are answered; 503 while the models are loaded.")
    async def health() -> Response:
        service.check_ready()
        state = {"status": "UP", "model_class": "goca", "version": __version__, "models": list(service.models)}
        return JSONResponse({**state, "waiting": service.worker.waiting()})

    @router.get("/metrics", summary="Numbers for Prometheus.")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=service.metrics.content_type)

    @router.get("/v1/models", summary="Models of this service, and the presets and formats that it knows.")
    async def models() -> Response:
        service.check_ready()
        return JSONResponse(
            {
                "default": service.model_name(None),
                "models": [describe_model(service, name) for name in service.models],
                "presets": [*PRESETS, *BASELINES],
                "formats": list(FORMATS),
                **x_anylabeling.model_list(service),
            }
        )

    @router.get("/v1/scenes/{number}", summary=f"A drawn scene to try things with, 0 to {SCENES - 1}.")
    async def scene(number: int) -> Response:
        if not 0 <= number < SCENES:
            raise Refusal(404, f"there are scenes 0 to {SCENES - 1}")
        return JSONResponse(await service.in_thread(drawn_scene, number))

    return router


def describe_model(service: Service, name: str) -> dict[str, Any]:
    """What callers need to know of a model."""
    spec = service.models[name].model.spec
    method = service.models[name].resolve().settings
    words = None if spec.vocabulary is None else sorted(spec.vocabulary)
    return {"name": name, "size": spec.image_size, "method": method, "vocabulary": words}


@lru_cache(SCENES)
def drawn_scene(number: int) -> dict[str, Any]:
    """A scene as a data URI, with the names of what is in it."""
    scene = make_scene(SCENE_SEED, number, SCENE_SIDE)
    return {"image": png_uri(scene.image), "classes": list(scene.classes)}
