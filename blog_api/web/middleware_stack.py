"""Middleware of the application, in the order in which a request passes it."""

from collections.abc import Awaitable, Callable
from functools import partial

from starlette.middleware import Middleware

from blog_api.core.settings import Settings
from blog_api.db.cache_version import CacheVersion
from blog_api.web.access_log import AccessLogWriter
from blog_api.web.body_limits import BodyLimits
from blog_api.web.body_memory import BodyMemory
from blog_api.web.cache import ResponseCache
from blog_api.web.cache_metrics import CacheStatistics
from blog_api.web.conditional import ConditionalRequests
from blog_api.web.large_responses import LargeResponses, ResponseSender
from blog_api.web.middleware import (
    CORS,
    AccessLog,
    HeadAsGet,
    PathPrefixes,
    ProblemDocuments,
    SecurityHeaders,
    TrustedHosts,
    send_unavailable,
)

ALLOWED_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
EXPOSED_HEADERS = (
    "ETag",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "WWW-Authenticate",
    "X-Process-Time",
    "X-Request-ID",
)


def outer_middleware(
    settings: Settings,
    log: AccessLogWriter,
    get_version: Callable[[], CacheVersion | None],
    authenticate: Callable[[str], Awaitable[object]],
    parameters: Callable[[], frozenset[str]],
    memory: BodyMemory,
    statistics: CacheStatistics,
) -> list[Middleware]:
    """Return the middleware outside of FastAPI's own, outermost first.

    A cache hit passes only these.
    """
    stack = [Middleware(AccessLog, log=log)]
    if settings.cors_origins or settings.cors_origin_pattern:
        # Outside of ProblemDocuments, so that browsers may read problem documents too.
        stack.append(
            Middleware(
                CORS,
                allow_origins=settings.cors_origins,
                allow_origin_regex=settings.cors_origin_pattern,
                allow_credentials=settings.cors_credentials,
                allow_methods=ALLOWED_METHODS,
                allow_headers=["*"],
                expose_headers=EXPOSED_HEADERS,
                max_age=settings.cors_max_age,
            )
        )
    unavailable = SecurityHeaders(send_unavailable)
    limit_send = partial(ResponseSender, memory, unavailable)
    if settings.cache_bytes:
        stack.append(
            Middleware(
                ResponseCache,
                get_version=get_version,
                authenticate=authenticate,
                max_bytes=settings.cache_bytes,
                parameters=parameters,
                by_host="*" not in settings.trusted_hosts,
                unavailable=unavailable,
                limit_send=limit_send,
                statistics=statistics,
            )
        )
    else:
        stack.append(Middleware(LargeResponses, limit_send=limit_send))
    return stack


def inner_middleware(
    settings: Settings, authenticate: Callable[[str], Awaitable[object]], memory: BodyMemory
) -> list[Middleware]:
    """Return the middleware inside of FastAPI's own, outermost first."""
    trusted_hosts = Middleware(
        TrustedHosts, allowed_hosts=settings.trusted_hosts, www_redirect=False
    )
    return [
        Middleware(SecurityHeaders),
        Middleware(ProblemDocuments),
        Middleware(PathPrefixes, root=settings.public_path),
        *([trusted_hosts] if "*" not in settings.trusted_hosts else []),
        Middleware(
            BodyLimits,
            authenticate=authenticate,
            memory=memory,
            max_upload_bytes=settings.media_max_bytes,
        ),
        Middleware(HeadAsGet),
        Middleware(ConditionalRequests),
    ]
