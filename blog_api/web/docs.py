"""`/docs` (Swagger UI), `/redoc` (ReDoc) and `/static`, served without the internet."""

import re
from base64 import b64encode
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from blog_api.web.conditional import ETagCondition

router = APIRouter(include_in_schema=False)

# The files have no fingerprints in their names: after a day they are revalidated by their ETag.
STATIC_CACHE_CONTROL = "public, max-age=86400"


class CachedStaticFiles(StaticFiles):
    """Static files that caches store for a day. Ranges are not supported."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [line for line in scope["headers"] if line[0] not in (b"range", b"if-range")]
        await super().__call__({**scope, "headers": headers}, receive, send)

    def file_response(self, *args: Any, **values: Any) -> Response:
        response = super().file_response(*args, **values)
        response.headers["Cache-Control"] = STATIC_CACHE_CONTROL
        response.headers["Accept-Ranges"] = "none"
        return response

    def is_not_modified(self, response_headers: Headers, request_headers: Headers) -> bool:
        known = ETagCondition(request_headers.getlist("If-None-Match"))
        if known.is_present:
            return known.matches(response_headers["ETag"])
        return super().is_not_modified(response_headers, request_headers)


# The package `fastapi-offline` contains the scripts of Swagger UI and ReDoc.
MOUNTS: list[BaseRoute] = [
    Mount("/static/docs", CachedStaticFiles(packages=[("fastapi_offline", "static")])),
    Mount("/static", CachedStaticFiles(directory=Path(__file__).parent / "static")),
]

# Swagger UI and ReDoc set styles from scripts, use data URLs as images, and search in a worker.
POLICY = (
    "default-src 'none'; script-src 'self'{digests}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; worker-src blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def secure_page(page: HTMLResponse, *, style: str = "") -> HTMLResponse:
    """Allow a page to load from this server only, and to run only the scripts that it contains."""
    html = bytes(page.body).decode()
    scripts = re.findall("<script>(.*?)</script>", html, re.DOTALL)
    digests = [b64encode(sha256(script.encode()).digest()).decode() for script in scripts]
    if style:
        html = html.replace("</head>", f'<link rel="stylesheet" href="{style}"></head>')
    policy = POLICY.format(digests="".join(f" 'sha256-{digest}'" for digest in digests))
    return HTMLResponse(html, headers={"Content-Security-Policy": policy})


@router.get("/openapi.json", include_in_schema=False)
async def read_openapi(request: Request) -> JSONResponse:
    # Building it takes a second.
    document = await anyio.to_thread.run_sync(request.app.openapi)
    root = request.scope.get("root_path", "")
    servers = document.get("servers", [{"url": "/"}])
    if root and {"url": root} not in servers:
        document = document | {"servers": [{"url": root}, *servers]}
    return JSONResponse(document)


@router.get("/docs")
async def read_docs(request: Request) -> HTMLResponse:
    """Return Swagger UI."""
    root: str = request.scope["root_path"]
    return secure_page(
        get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title=escape(request.app.title),
            swagger_js_url=f"{root}/static/docs/swagger-ui-bundle.js",
            swagger_css_url=f"{root}/static/docs/swagger-ui.css",
            swagger_favicon_url=f"{root}/static/favicon.svg",
            swagger_ui_parameters={"persistAuthorization": False, "tryItOutEnabled": True},
        )
    )


@router.get("/redoc")
async def read_redoc(request: Request) -> HTMLResponse:
    """Return ReDoc."""
    root: str = request.scope["root_path"]
    return secure_page(
        get_redoc_html(
            openapi_url=f"{root}/openapi.json",
            title=escape(request.app.title),
            redoc_js_url=f"{root}/static/docs/redoc.standalone.js",
            redoc_favicon_url=f"{root}/static/favicon.svg",
            with_google_fonts=False,
        ),
        style=f"{root}/static/redoc.css",
    )
