"""The application: the only module that knows all others."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Security
from fastapi.routing import APIRoute
from sqlmodel import SQLModel
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware

from blog_api import health, me, posts, tokens, users
from blog_api.database import Database
from blog_api.errors import HANDLERS, raises, set_media_type
from blog_api.middleware import (
    AccessLog,
    HeadAsGet,
    ProblemDocuments,
    RequestId,
    SecurityHeaders,
    TrailingSlash,
    TrustedHosts,
)
from blog_api.migrating import prepare
from blog_api.security import Passwords
from blog_api.settings import Settings, load_settings

VERSION = version("blog-api")
MAX_BODY_BYTES = 8 * 1024 * 1024

EXPOSED_HEADERS = ("Retry-After", "WWW-Authenticate", "X-Process-Time", "X-Request-ID")

TAGS = [
    {"name": "index", "description": "What this is, and where to go on."},
    {"name": "users", "description": "Accounts and public profiles."},
    {"name": "tokens", "description": "Signing up, logging in and out."},
    {"name": "me", "description": "One's own account."},
    {"name": "posts", "description": "What is written here: drafts, scheduled, published."},
    {"name": "health", "description": "For those who run the service."},
]

router = APIRouter()


class Index(SQLModel):
    """What this is and where to go on."""

    name: str
    version: str
    links: dict[str, str]


@router.get("/", tags=["index"])
async def read_index(request: Request) -> Index:
    """Tell the name, the version and where the documentation is."""
    settings: Settings = request.app.state.settings
    base = settings.public_url or request.scope.get("root_path", "")
    paths = {"docs": "/docs", "openapi": "/openapi.json", "posts": "/posts", "users": "/users"}
    links = {name: f"{base}{path}" for name, path in paths.items()}
    return Index(name=request.app.title, version=VERSION, links=links)


class BlogAPI(FastAPI):
    def openapi(self) -> dict[str, Any]:
        return set_media_type(super().openapi())


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    database: Database = app.state.database
    app.state.secret_key = await prepare(app.state.settings, database)
    yield
    await database.engine.dispose()


def function_name(route: APIRoute) -> str:
    """The operation's id: what a generated client calls its method."""
    return route.name


def layers(settings: Settings) -> list[Middleware]:
    """What a request passes on its way to its route, outermost first."""
    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=EXPOSED_HEADERS,
    )
    return [
        Middleware(RequestId),
        Middleware(AccessLog),
        Middleware(SecurityHeaders),
        # Outside of what makes problems: a browser has to be allowed to read those too.
        *([cors] if settings.cors_origins else []),
        Middleware(ProblemDocuments),
        Middleware(TrustedHosts, allowed_hosts=settings.trusted_hosts, www_redirect=False),
        Middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BODY_BYTES),
        Middleware(HeadAsGet),
        Middleware(TrailingSlash),
    ]


def create_app(settings: Settings) -> FastAPI:
    """The application for these settings. It opens nothing until it is started."""
    app = BlogAPI(
        title="Blog API",
        version=VERSION,
        description="A blog as a JSON API.",
        openapi_tags=TAGS,
        middleware=layers(settings),
        exception_handlers=HANDLERS,
        lifespan=lifespan,
        generate_unique_id_function=function_name,
        # A redirect would name the host that the request claims.
        redirect_slashes=False,
    )
    app.state.settings = settings
    app.state.database = Database(settings)
    app.state.passwords = Passwords(settings)
    for one in (router, users.router, tokens.router, me.router, posts.router, health.router):
        app.include_router(one)
    app.include_router(
        users.profiles,
        dependencies=[Security(tokens.get_reader)],
        responses=raises(*tokens.READER_PROBLEMS),
    )
    return app


app = create_app(load_settings())
