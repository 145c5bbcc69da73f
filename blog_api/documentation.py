"""The documentation: `/docs` and `/redoc` from this server alone, and the OpenAPI document."""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from blog_api.errors import MEDIA_TYPE

NOT_AUTHENTICATED = "#/components/schemas/NotAuthenticated"
JSON_LINES = "application/jsonl"
ANY_TOKEN = "Token"
A_STRING = {"schema": {"type": "string"}}
STATIC = Path(__file__).parent / "web" / "static"

router = APIRouter(include_in_schema=False)

# Our own files, and those of Swagger UI and ReDoc, which the package `fastapi-offline` carries.
MOUNTS: list[BaseRoute] = [
    Mount("/static/docs", StaticFiles(packages=[("fastapi_offline", "static")])),
    Mount("/static", StaticFiles(directory=STATIC)),
]


def page(html: HTMLResponse, *, style: str = "") -> HTMLResponse:
    """The page with a policy by which it loads nothing that is not from here.

    Scripts are from here too, or are one that stands in the page, known by its digest. Swagger
    UI and ReDoc set styles as they go, draw with data URLs, and search in a worker.
    """
    text = bytes(html.body).decode()
    scripts = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    digests = (b64encode(sha256(script.encode()).digest()).decode() for script in scripts)
    if style:
        html = HTMLResponse(
            text.replace("</head>", f'<link rel="stylesheet" href="{style}"></head>')
        )
    html.headers["Content-Security-Policy"] = "; ".join(
        (
            "default-src 'none'",
            " ".join(["script-src 'self'", *(f"'sha256-{digest}'" for digest in digests)]),
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data:",
            "font-src 'self'",
            "connect-src 'self'",
            "worker-src blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
    return html


@router.get("/docs")
async def read_docs(request: Request) -> HTMLResponse:
    """Swagger UI, where every route can be tried."""
    root: str = request.scope.get("root_path", "")
    return page(
        get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title=request.app.title,
            swagger_js_url=f"{root}/static/docs/swagger-ui-bundle.js",
            swagger_css_url=f"{root}/static/docs/swagger-ui.css",
            swagger_favicon_url=f"{root}/static/favicon.svg",
            swagger_ui_parameters={"persistAuthorization": False, "tryItOutEnabled": True},
        )
    )


@router.get("/redoc")
async def read_redoc(request: Request) -> HTMLResponse:
    """ReDoc, to read from beginning to end."""
    root: str = request.scope.get("root_path", "")
    return page(
        get_redoc_html(
            openapi_url=f"{root}/openapi.json",
            title=request.app.title,
            redoc_js_url=f"{root}/static/docs/redoc.standalone.js",
            redoc_favicon_url=f"{root}/static/favicon.svg",
            with_google_fonts=False,
        ),
        style=f"{root}/static/redoc.css",
    )


def refs(response: dict[str, Any]) -> set[str]:
    """The schemas that an answer may have."""
    (media,) = response["content"].values()
    return {one["$ref"] for one in media["schema"].get("anyOf", [media["schema"]])}


def finish_openapi(openapi: dict[str, Any]) -> None:
    """What FastAPI cannot be told of tokens, problems, conditional requests and pages."""
    # Wherever one of OAuth2 is taken: as a dependency it would cost each request something.
    openapi["components"]["securitySchemes"][ANY_TOKEN] = {
        "type": "http",
        "scheme": "bearer",
        "description": "Any token: of `/auth`, of `/token`, or a personal one.",
    }
    for operations in openapi["paths"].values():
        for method, operation in operations.items():
            responses = operation["responses"]
            for code, response in responses.items():
                if code >= "400":
                    # Whatever the route itself answers with.
                    (content,) = response["content"].values()
                    response["content"] = {MEDIA_TYPE: content}
            if "security" in operation:
                operation["security"].append({ANY_TOKEN: []})
            if "security" in operation and NOT_AUTHENTICATED not in refs(responses["401"]):
                # Who logs in sees more.
                operation["security"].append({})
            if method == "get" and JSON_LINES not in responses["200"]["content"]:
                responses["200"]["headers"] = {"ETag": A_STRING}
                responses["304"] = {"description": "It is what `If-None-Match` names."}
            if any(one["name"] == "page" for one in operation.get("parameters", ())):
                responses["200"]["headers"]["Link"] = A_STRING
