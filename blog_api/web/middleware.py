"""The layers around the routes: pure ASGI classes, outermost first in `main.py`."""

import logging
import time
from collections.abc import Awaitable
from contextlib import suppress
from itertools import count
from secrets import randbits
from uuid import UUID, uuid4

from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blog_api.core.errors import (
    ContentTooLarge,
    CrossOriginRefused,
    InternalServerError,
    Problem,
    ServiceUnavailable,
    UntrustedHost,
    UriTooLong,
    problem_response,
)
from blog_api.web.access_log import AccessLogWriter

log = logging.getLogger(__name__)


# A new request id is this process' UUID, whose last digits count. `uuid4()` for each request would
# be a tenth of what it costs to answer from memory.
PROCESS_UUID = str(uuid4())[:-12]


REQUEST_NUMBERS = count(randbits(40))


# No address of ours is longer; a path of five thousand digits is not even a number to Python.
MAX_PATH_LENGTH = 1_000


# How much is read of a body that is refused for its size, so that its client, who may be still
# sending, gets to read the answer.
MAX_DRAINED_BYTES = 32 * 1024 * 1024


BODY_HEADERS = {b"content-length", b"transfer-encoding"}


API_PREFIX = "/api/v1"


HEALTH_PATHS = ("/health/live", "/health/ready")


# By their status, since these layers refuse in plain text.
PROBLEMS_BY_STATUS: dict[int, type[Problem]] = {
    UntrustedHost.status: UntrustedHost,
    ContentTooLarge.status: ContentTooLarge,
}


SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]


# The pages of the documentation have a policy of their own.
POLICY = b"content-security-policy"


STRICT_SECURITY_HEADERS = [
    *SECURITY_HEADERS,
    (POLICY, b"default-src 'none'; frame-ancestors 'none'"),
]


def get_request_id(scope: Scope) -> str:
    """The UUID that a request comes with, or a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            with suppress(ValueError):
                return str(UUID(value.decode("latin-1")))
    return f"{PROCESS_UUID}{next(REQUEST_NUMBERS):012x}"


class AccessLog:
    """An id for each request, a line in the log, and `X-Process-Time` in seconds."""

    def __init__(self, app: ASGIApp, log: AccessLogWriter) -> None:
        self.app = app
        self.log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 0
        request_id = get_request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id

        def send_with_id_and_time(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                seconds = time.perf_counter() - start
                message["headers"] += (
                    (b"x-request-id", request_id.encode()),
                    (b"x-process-time", b"%.6f" % seconds),
                )
            return send(message)

        try:
            await self.app(scope, receive, send_with_id_and_time)
        finally:
            client = scope["client"][0] if scope.get("client") else "-"
            seconds = time.perf_counter() - start
            self.log.add(client, scope["method"], scope["path"], status, seconds, request_id)


class SecurityHeaders:
    """Headers that keep a browser from making more of an answer than it is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        def send_with_headers(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                has_policy = any(name == POLICY for name, _ in headers)
                headers += SECURITY_HEADERS if has_policy else STRICT_SECURITY_HEADERS
            return send(message)

        return self.app(scope, receive, send_with_headers)


async def send_unavailable(scope: Scope, receive: Receive, send: Send) -> None:
    """Tell a client to come again."""
    await problem_response(ServiceUnavailable(), scope)(scope, receive, send)


class CORS(CORSMiddleware):
    """Let pages on other origins call; a preflight that is refused is a problem too."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            headers = Headers(scope=scope)
            if "Origin" in headers and "Access-Control-Request-Method" in headers:
                response = self.preflight_response(headers)
                if response.status_code == CrossOriginRefused.status:
                    response = problem_response(CrossOriginRefused(), scope)
                await response(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


class TrustedHosts(TrustedHostMiddleware):
    """Refuse other host names, but for health: a supervisor asks by address."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_health = scope["type"] == "http" and get_route_path(scope) in HEALTH_PATHS
        await (self.app if is_health else super().__call__)(scope, receive, send)


class ProblemDocuments:
    """Make a problem document of what no handler sees.

    That is an error that nobody expected, and the plain text by which Starlette's own layers
    refuse a body or a host.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_read = False
        is_started = False
        is_replaced = False

        async def receive_and_watch() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = not message.get("more_body", False)
            return message

        async def drain() -> None:
            size = 0
            while not is_read and size < MAX_DRAINED_BYTES:
                size += len((await receive_and_watch()).get("body", b""))

        async def answer(problem: Problem) -> None:
            await problem_response(problem, scope)(scope, receive, send)

        async def refuse(start: Message) -> None:
            nonlocal is_replaced
            if start["status"] == ContentTooLarge.status and "Expect" not in Headers(scope=scope):
                await drain()
            is_replaced = is_plain_text(start)
            if is_replaced:
                await answer(PROBLEMS_BY_STATUS[start["status"]]())
            else:
                await send(start)

        async def drop() -> None:
            """The text of an answer that was replaced."""

        def send_problem_for_text(message: Message) -> Awaitable[None]:
            nonlocal is_started
            if message["type"] == "http.response.start":
                is_started = True
                if message["status"] in PROBLEMS_BY_STATUS:
                    return refuse(message)
            return drop() if is_replaced else send(message)

        if len(scope["path"]) > MAX_PATH_LENGTH:
            await answer(UriTooLong())
            return
        try:
            await self.app(scope, receive_and_watch, send_problem_for_text)
        except Exception:
            # The one broad net: whatever nobody expected becomes a problem document too, where
            # FastAPI's own layer around this one would answer in plain text. Nothing is hidden:
            # the log has it all, and what has begun to be answered is raised again.
            log.exception("Unexpected error in request %s", scope["state"]["request_id"])
            if is_started:
                raise
            await answer(InternalServerError())


def is_plain_text(start: Message) -> bool:
    return Headers(raw=start["headers"]).get("Content-Type", "").startswith("text/plain")


class BodyLimits:
    """A body without a token, be it good or bad, is small: no public route takes a long one."""

    def __init__(self, app: ASGIApp, max_body_size: int, max_body_size_without_token: int) -> None:
        self.app = app
        self.with_token = RequestBodyLimitMiddleware(app, max_body_size)
        self.without = RequestBodyLimitMiddleware(app, max_body_size_without_token)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # Without one of these there is no body (RFC 9112, 6.3).
        if scope["type"] != "http" or all(name not in BODY_HEADERS for name, _ in scope["headers"]):
            return self.app(scope, receive, send)
        authorization = Headers(scope=scope).get("Authorization", "")
        has_token = authorization.lower().startswith("bearer ")
        return (self.with_token if has_token else self.without)(scope, receive, send)


class HeadAsGet:
    """Answer HEAD wherever GET is answered, without the body (RFC 9110, 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            return self.app(scope, receive, send)

        def send_without_body(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            return send(message)

        return self.app({**scope, "method": "GET"}, receive, send_without_body)


class PathPrefixes:
    """Let every path stand under `/api/v1` too, and tolerate one slash at its end.

    A redirect would have to name a host. The prefix becomes a part of the `root_path`, with
    which every link begins. So does the path of the public address, whether the proxy in front
    takes it off or not.
    """

    def __init__(self, app: ASGIApp, root: str) -> None:
        self.app = app
        self.root = root

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            root: str = scope.get("root_path", "") or self.root
            path = get_route_path({"path": scope["path"], "root_path": root}) or "/"
            if path == API_PREFIX or path.startswith(f"{API_PREFIX}/"):
                root, path = root + API_PREFIX, path.removeprefix(API_PREFIX) or "/"
            has_slash = path.endswith("/") and not path.endswith("//") and path != "/"
            if has_slash:
                path = path[:-1]
            scope["state"]["slash_at_end"] = has_slash
            # A copy: the log tells the path that was asked for.
            scope = {**scope, "root_path": root, "path": root + path}
        return self.app(scope, receive, send)
