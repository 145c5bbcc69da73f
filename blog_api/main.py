"""The application: the only module that knows all others."""

import gc
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, nullcontext
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Security
from fastapi.routing import APIRoute
from sqlmodel import SQLModel
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from blog_api import (
    admin,
    audit,
    bookmarks,
    comments,
    documentation,
    edits,
    feeds,
    follows,
    health,
    listings,
    logins,
    me,
    moderation,
    oauth2,
    personal_tokens,
    reading,
    takeout,
    threads,
    tokens,
    users,
)
from blog_api.caching import AnswerCache
from blog_api.changes import Changes, changes_of
from blog_api.conditional import ConditionalRequests
from blog_api.database import Database
from blog_api.errors import HANDLERS, raises
from blog_api.fields import SMALL_BODY_BYTES
from blog_api.links import link
from blog_api.logs import RequestLog
from blog_api.middleware import (
    AccessLog,
    BodyLimits,
    CrossOrigin,
    HeadAsGet,
    Paths,
    ProblemDocuments,
    SecurityHeaders,
    TrustedHosts,
    answer_unavailable,
)
from blog_api.migrating import prepare
from blog_api.rate_limits import RateLimits
from blog_api.rendering import Renderer
from blog_api.security import Passwords, Signer
from blog_api.settings import Settings, load_settings
from blog_api.telemetry import is_wanted, trace_sql
from blog_api.web import guide

VERSION = version("blog-api")
MAX_BODY_BYTES = 8 * 1024 * 1024

# What makes a difference to a public answer; what else stands in a query makes none.
PARAMETERS = {
    *listings.PostQuery.model_fields,
    *feeds.FeedQuery.model_fields,
    *users.UserQuery.model_fields,
}

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
EXPOSED_HEADERS = (
    "ETag",
    "Link",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "WWW-Authenticate",
    "X-Process-Time",
    "X-Request-ID",
)

TAGS = [
    {"name": "index", "description": "What this is, and where to go on."},
    {"name": "users", "description": "Accounts and public profiles."},
    {"name": "tokens", "description": "Signing up, logging in and out, OAuth2."},
    {"name": "personal tokens", "description": "For scripts and apps: named, scoped, revocable."},
    {"name": "me", "description": "One's own account."},
    {"name": "posts", "description": "What is written here: drafts, scheduled, published."},
    {"name": "comments", "description": "What readers say, in threads."},
    {"name": "follows", "description": "Authors whose posts one wants to read."},
    {"name": "bookmarks", "description": "Posts that one wants to find again."},
    {"name": "feeds", "description": "The newest posts, for feed readers."},
    {"name": "admin", "description": "For administrators: accounts, posts, figures, audit."},
    {"name": "health", "description": "For those who run the service."},
]

# What the index links to.
PATHS = {
    "docs": "/docs",
    "openapi": "/openapi.json",
    "posts": "/posts",
    "tags": "/tags",
    "users": "/users",
    "json_feed": "/feed.json",
    "atom_feed": "/feed.atom",
    "rss_feed": "/feed.rss",
}

# Each request looks for its route in this order: what is read most comes first.
MODULES = (
    reading,
    listings,
    me,
    edits,
    comments,
    threads,
    users,
    logins,
    oauth2,
    personal_tokens,
    follows,
    bookmarks,
    feeds,
    takeout,
    admin,
    moderation,
    audit,
    health,
    documentation,
    guide,
)

router = APIRouter()


class Index(SQLModel):
    """What this is and where to go on."""

    name: str
    version: str
    links: dict[str, str]


@router.get("/", tags=["index"])
async def read_index(request: Request) -> Index:
    """Tell the name, the version and where the documentation is."""
    links = {name: link(request, path) for name, path in PATHS.items()}
    return Index(name=request.app.title, version=VERSION, links=links)


class BlogAPI(FastAPI):
    """FastAPI with layers around its own, which what is kept need not pass."""

    def __init__(self, *, outermost: Sequence[Middleware], **values: Any) -> None:
        super().__init__(**values)
        self.outermost = outermost

    def build_middleware_stack(self) -> ASGIApp:
        app = super().build_middleware_stack()
        for layer, args, values in reversed(self.outermost):
            app = layer(app, *args, **values)
        return app

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            documentation.finish_openapi(super().openapi())
        return super().openapi()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    settings: Settings = app.state.settings
    database: Database = app.state.database
    key = await prepare(settings, database)
    app.state.signer = Signer(key)
    if trace_sql(database.engine):
        database.reads_by_driver = False
    watching = app.state.changes.watch() if settings.cache_bytes else nullcontext()
    async with watching, app.state.request_log.writing():
        # What is there now stays there: no collection has to look at it again.
        gc.collect()
        gc.freeze()
        yield
    await app.state.rate_limits.close()
    await database.close()


def function_name(route: APIRoute) -> str:
    """The operation's id: what a generated client calls its method."""
    return route.name


def outermost_layers(settings: Settings, log: RequestLog, changes: Changes) -> list[Middleware]:
    """What a request passes before anything else, outermost first."""
    cors = Middleware(
        CrossOrigin,
        allow_origins=settings.cors_origins,
        allow_origin_regex=settings.cors_origin_pattern,
        allow_credentials=settings.cors_credentials,
        allow_methods=METHODS,
        allow_headers=["*"],
        expose_headers=EXPOSED_HEADERS,
        max_age=settings.cors_max_age,
    )
    cache = Middleware(
        AnswerCache,
        generation=changes.generation,
        max_bytes=settings.cache_bytes,
        parameters=PARAMETERS,
        by_host="*" not in settings.trusted_hosts,
        unavailable=SecurityHeaders(answer_unavailable),
    )
    return [
        Middleware(AccessLog, log=log),
        # Outside of what makes problems: a browser has to be allowed to read those too.
        *([cors] if settings.cors_origins or settings.cors_origin_pattern else []),
        # What is kept has passed all layers below.
        *([cache] if settings.cache_bytes else []),
    ]


def layers(settings: Settings) -> list[Middleware]:
    """What a request passes on its way from there to its route, outermost first."""
    trusted_hosts = Middleware(
        TrustedHosts, allowed_hosts=settings.trusted_hosts, www_redirect=False
    )
    return [
        Middleware(SecurityHeaders),
        Middleware(ProblemDocuments),
        Middleware(Paths, root=settings.public_path),
        *([trusted_hosts] if "*" not in settings.trusted_hosts else []),
        Middleware(
            BodyLimits,
            max_body_size=MAX_BODY_BYTES,
            max_body_size_without_token=SMALL_BODY_BYTES,
        ),
        Middleware(HeadAsGet),
        Middleware(ConditionalRequests),
    ]


def create_app(settings: Settings) -> FastAPI:
    """The application for these settings. It opens nothing until it is started."""
    is_traced = is_wanted()
    database = Database(settings)
    changes = changes_of(settings, database)
    request_log = RequestLog()
    app = BlogAPI(
        outermost=outermost_layers(settings, request_log, changes),
        title=settings.title,
        version=VERSION,
        description="A blog as a JSON API.",
        openapi_tags=TAGS,
        middleware=layers(settings),
        exception_handlers=HANDLERS,
        lifespan=lifespan,
        # FastAPI would ask for each request whether anybody wants to know of it.
        telemetry={"tracing": is_traced, "metrics": is_traced, "logs": is_traced},
        generate_unique_id_function=function_name,
        # A redirect would name the host that the request claims.
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        routes=documentation.MOUNTS,
    )
    app.state.settings = settings
    app.state.database = database
    app.state.changes = changes
    app.state.request_log = request_log
    app.state.passwords = Passwords(settings)
    app.state.rate_limits = RateLimits(settings)
    app.state.renderer = Renderer()
    for module in MODULES:
        app.include_router(module.router)
    app.include_router(router)
    app.include_router(
        users.profiles,
        dependencies=[Security(tokens.get_access)],
        responses=raises(*tokens.READER_PROBLEMS),
    )
    return app


app = create_app(load_settings())
