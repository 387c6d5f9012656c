"""The service: a page and an API over HTTP in front of one model thread (docs/serve.md).

``create_app(service)`` is the ASGI application, :class:`Service` what it computes with; further routers are added in
``app.ROUTERS``. This package needs the extra ``serve``.
"""

from goca.server.app import create_app
from goca.server.service import GenerateOptions, SegmentOptions, Service
from goca.server.settings import Settings

__all__ = ["GenerateOptions", "SegmentOptions", "Service", "Settings", "create_app"]
