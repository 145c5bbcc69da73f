"""The application factory."""

import ctypes
import gc
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from importlib.metadata import version
from threading import Lock
from typing import Any

from anyio import CapacityLimiter, create_task_group, move_on_after
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from blog_api import personal_data
from blog_api.accounts import (
    email_verification,
    login,
    oauth2,
    personal_tokens,
    recovery,
    revocation,
    sessions,
)
from blog_api.accounts.auth import Auth, authenticate
from blog_api.accounts.jwt import JWTSigner
from blog_api.accounts.passwords import PasswordHasher
from blog_api.accounts.rate_limits import RateLimiter
from blog_api.accounts.recovery import prepare_mail
from blog_api.accounts.token_uses import TokenUses
from blog_api.admin import audit, moderation, removal
from blog_api.admin import comments as admin_comments
from blog_api.admin import media as admin_media
from blog_api.admin import users as admin_users
from blog_api.comments import routes as comments
from blog_api.comments import threads
from blog_api.core.background import errors_logged, keep_running
from blog_api.core.errors import EXCEPTION_HANDLERS
from blog_api.core.settings import Settings
from blog_api.core.telemetry import get_meter, instrument_sql, is_telemetry_enabled
from blog_api.db.invalidation import create_invalidation
from blog_api.db.metrics import observe_database
from blog_api.db.migrate import prepare_database
from blog_api.db.session import Database
from blog_api.mail.outbox import Outbox
from blog_api.media import routes as media
from blog_api.media.storage import open_storage
from blog_api.posts import bookmarks, feeds, preview
from blog_api.posts import lists as post_lists
from blog_api.posts import routes as posts
from blog_api.posts.counts import count_posts_of_authors
from blog_api.posts.search_index import PendingIndex
from blog_api.profiles import follows, me
from blog_api.profiles import users as profiles
from blog_api.text.renderer import Renderer
from blog_api.web import docs, guide, health, index, openapi
from blog_api.web.access_log import AccessLogWriter
from blog_api.web.body_memory import BodyMemory
from blog_api.web.cache_metrics import CacheStatistics, observe_cache
from blog_api.web.middleware_stack import inner_middleware, outer_middleware
from blog_api.web.query_parameters import find_query_parameters

# Requests are matched against the routes in this order: the most frequent ones come first.
ROUTERS = (
    posts.router,
    post_lists.router,
    me.router,
    comments.router,
    threads.router,
    profiles.router,
    login.router,
    oauth2.router,
    personal_tokens.router,
    sessions.router,
    revocation.router,
    recovery.router,
    email_verification.router,
    follows.router,
    bookmarks.router,
    preview.router,
    media.router,
    feeds.router,
    personal_data.router,
    admin_users.router,
    removal.router,
    moderation.router,
    admin_comments.router,
    admin_media.router,
    audit.router,
    health.router,
    docs.router,
    guide.router,
    index.router,
)

# The first threshold of the garbage collector, in objects. A request leaves no reference cycles:
# the default of 700 costs a twentieth of a request's time and a sixth of the start.
GC_THRESHOLD = 10_000
# Shares of `BLOG_SHUTDOWN_SECONDS` after the requests (`blog_api.cli.serve`): for deliveries of
# mails that have begun, and for the last writes to the database.
BACKGROUND_SHARE = 0.2
CLOSING_SHARE = 0.1

# glibc raises this threshold when a larger buffer is freed, up to 32 MiB. Then response bodies lie
# between small objects, and their memory is never returned to the system.
M_MMAP_THRESHOLD = -3
MMAP_THRESHOLD_BYTES = 512 * 1024


class BlogAPI(FastAPI):
    """FastAPI with middleware outside of its own; a cache hit passes only that."""

    def __init__(self, *, outer_middleware: Sequence[Middleware], **values: Any) -> None:
        super().__init__(**values)
        self.outer_middleware = outer_middleware
        self.openapi_lock = Lock()

    def build_middleware_stack(self) -> ASGIApp:
        app = super().build_middleware_stack()
        for middleware, args, kwargs in reversed(self.outer_middleware):
            app = middleware(app, *args, **kwargs)
        return app

    def openapi(self) -> dict[str, Any]:
        # Called in threads.
        with self.openapi_lock:
            if self.openapi_schema is None:
                openapi.complete_openapi(super().openapi())
            return super().openapi()


def return_large_buffers() -> None:
    """Let the C library return the memory of large buffers, if it can be told so (`mallopt(3)`)."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        # musl has no such function, and returns large buffers anyway.
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    settings: Settings = app.state.settings
    database: Database = app.state.database
    gc.set_threshold(GC_THRESHOLD, 20, 20)
    return_large_buffers()
    app.state.secret_keys = await prepare_database(settings, database)
    app.state.signer = JWTSigner(app.state.secret_keys)
    if instrument_sql(database.engine):
        database.uses_driver_queries = False
    meter = get_meter()
    if meter is not None:
        observe_database(database, meter)
        observe_cache(app.state.cache_statistics, meter)
    access_log, token_uses = app.state.access_log, app.state.token_uses
    pending = PendingIndex(database, app.state.renderer)
    watching = app.state.invalidation.watch() if settings.cache_bytes else nullcontext()
    try:
        with open_storage(settings) as app.state.media_storage:
            async with watching, create_task_group() as tasks:
                deliver = partial(app.state.outbox.deliver_continuously, app.state.secret_keys)
                tasks.start_soon(keep_running, access_log.write_periodically, "access log")
                tasks.start_soon(keep_running, token_uses.write_periodically, "token uses")
                tasks.start_soon(keep_running, pending.index_continuously, "index of the search")
                if settings.mail_url is not None:
                    tasks.start_soon(keep_running, deliver, "delivery of mail")
                # Exclude the objects of the start from every later collection.
                gc.collect()
                gc.freeze()
                yield
                app.state.outbox.stop(settings.shutdown_seconds * BACKGROUND_SHARE)
                tasks.cancel_scope.cancel()
    finally:
        access_log.flush()
        # A database that does not respond must not delay the stop.
        with move_on_after(settings.shutdown_seconds * CLOSING_SHARE):
            with errors_logged("token uses"):
                await token_uses.write()
            await app.state.rate_limiter.close()
            await database.close()


def operation_id(route: APIRoute) -> str:
    """Return the route's function name, which generated clients use as a method name."""
    return route.name


def create_app(settings: Settings) -> FastAPI:
    """Return the application. It opens no files or connections until it is started."""
    is_traced = is_telemetry_enabled()
    database = Database(settings)
    invalidation = create_invalidation(settings, database)
    access_log = AccessLogWriter(settings)
    memory = BodyMemory(settings.body_memory_bytes)
    cache_statistics = CacheStatistics()

    async def authenticate_token(token: str) -> Auth:
        async with database.session(writes=False) as session:
            auth = await authenticate(session, app.state.signer, token)
        app.state.token_uses.record(auth.token_id)
        return auth

    def cache_parameters() -> frozenset[str]:
        return find_query_parameters(app.routes)

    app = BlogAPI(
        outer_middleware=outer_middleware(
            settings,
            access_log,
            invalidation.current_version,
            authenticate_token,
            cache_parameters,
            memory,
            cache_statistics,
        ),
        title=settings.title,
        version=version("blog-api"),
        openapi_tags=openapi.TAGS,
        # By default `/`, which generated clients would put before the `/` of each path.
        servers=[{"url": settings.public_path}] if settings.public_path else None,
        middleware=inner_middleware(settings, authenticate_token, memory),
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
        # By default FastAPI looks for a tracer on each request.
        telemetry={"tracing": is_traced, "metrics": is_traced, "logs": is_traced},
        generate_unique_id_function=operation_id,
        # A redirect would contain the Host header of the request.
        redirect_slashes=False,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        routes=docs.MOUNTS,
    )
    app.state.settings = settings
    app.state.database = database
    app.state.invalidation = invalidation
    app.state.body_memory = memory
    app.state.cache_statistics = cache_statistics
    app.state.snippet_thread = CapacityLimiter(1)
    app.state.count_posts = count_posts_of_authors
    app.state.access_log = access_log
    app.state.outbox = Outbox(settings, database, prepare_mail)
    app.state.token_uses = TokenUses(database)
    app.state.password_hasher = PasswordHasher(settings)
    app.state.rate_limiter = RateLimiter(settings)
    app.state.renderer = Renderer(iframe_hosts=settings.iframe_hosts)
    for router in ROUTERS:
        app.include_router(router)
    return app
