"""The ASGI application: routes behind the guard, and one shape for whatever is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from goca import __version__
from goca.server.api import job_router, work_router
from goca.server.jobs import Jobs
from goca.server.label_studio import label_studio_router
from goca.server.limits import Guard
from goca.server.pages import page_router
from goca.server.refusals import Refusal, error_answer, refusal_of
from goca.server.service import Service
from goca.server.state import state_router
from goca.server.x_anylabeling import x_anylabeling_router

ROUTERS: list[Callable[[Service], APIRouter]] = [state_router, page_router, label_studio_router, x_anylabeling_router]
"""Each gives routes for a service; :func:`create_app` takes all that are listed here."""


def create_app(service: Service) -> FastAPI:
    """The application for a service, which it starts and closes with itself.

    Args:
        service: the models and limits, not yet started.
    """
    jobs = Jobs(service)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        jobs.close()
        service.close()

    app = FastAPI(
        title="goca",
        version=__version__,
        summary="Segmentation with text-to-image diffusion models, without training on masks.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(Guard, settings=service.settings, metrics=service.metrics)
    for kind in (Refusal, ValueError, MemoryError, OSError):
        app.add_exception_handler(kind, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _wrong_parameter)
    for router in (work_router(service, jobs), job_router(jobs), *(make(service) for make in ROUTERS)):
        app.include_router(router)
    return app


async def _refused(_request: Request, error: Exception) -> Response:
    return error_answer(refusal_of(error))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reasons = {
        404: "there is nothing here; GET /docs lists what there is",
        405: f"{request.method} is not answered here",
    }
    answer = error_answer(Refusal(error.status_code, reasons.get(error.status_code, str(error.detail))))
    answer.headers.update(error.headers or {})
    return answer


async def _wrong_parameter(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return error_answer(Refusal(422, f"{first['loc'][-1]!r}: {first['msg'].lower()}"))
