"""The page, the list of operations, and their files; nothing is loaded from elsewhere."""

from __future__ import annotations

import mimetypes
from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import Response

from goca.explorer import asset
from goca.server.refusals import Refusal
from goca.server.service import Service

FOLDER = files("goca.server") / "page"
EXPLORER = ("explorer.js", "explorer.css")
NAMES = ("app.js", "style.css", "docs.js", *EXPLORER)


def page_router(_service: Service) -> APIRouter:
    """The page at ``/``, the operations at ``/docs``."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def page() -> Response:
        return page_file("index.html")

    @router.get("/docs")
    async def docs() -> Response:
        return page_file("docs.html")

    @router.get("/page/{name}")
    async def file(name: str) -> Response:
        if name not in NAMES:
            raise Refusal(404, "the page has no such file")
        return page_file(name)

    return router


def page_file(name: str) -> Response:
    """A file of the page."""
    text = asset(name) if name in EXPLORER else (FOLDER / name).read_text(encoding="utf-8")
    return Response(text, media_type=mimetypes.guess_type(name)[0] or "text/plain")
