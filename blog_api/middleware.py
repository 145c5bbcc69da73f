"""The layers around the routes: pure ASGI classes, outermost first in `main.py`."""

import logging
import time
from urllib.parse import quote
from uuid import UUID, uuid4

from starlette._utils import get_route_path
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blog_api.errors import (
    ContentTooLarge,
    CrossOriginRefused,
    InternalServerError,
    Problem,
    UntrustedHost,
    UriTooLong,
    problem_response,
)

access_log = logging.getLogger("blog_api.access")
log = logging.getLogger(__name__)

# No address of ours is longer; a path of five thousand digits is not even a number to Python.
MAX_PATH_LENGTH = 1_000

# How much is read of a body that is refused for its size, so that its client, who may be still
# sending, gets to read the answer.
MAX_DRAINED_BYTES = 32 * 1024 * 1024

PREFIX = "/api/v1"
HEALTH_PATHS = ("/health/live", "/health/ready")

# By their status, since these layers refuse in plain text.
REFUSALS: dict[int, type[Problem]] = {
    UntrustedHost.status: UntrustedHost,
    ContentTooLarge.status: ContentTooLarge,
}

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
# The pages of the documentation have a policy of their own.
NOTHING = "default-src 'none'; frame-ancestors 'none'"


class RequestId:
    """Give each request a UUID, or keep the one that it came with, and tell it the client."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            request_id = str(UUID(Headers(scope=scope).get("X-Request-ID", "")))
        except ValueError:
            request_id = str(uuid4())
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        await self.app(scope, receive, send_with_id)


class AccessLog:
    """One line a request, and `X-Process-Time` in seconds.

    The line leaves out the query and the headers, where somebody might have put a secret.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 0

        async def send_with_time(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                seconds = time.perf_counter() - start
                MutableHeaders(scope=message)["X-Process-Time"] = f"{seconds:.6f}"
            await send(message)

        try:
            await self.app(scope, receive, send_with_time)
        finally:
            client = scope.get("client")
            access_log.info(
                "%s %s %s %d %.1fms %s",
                quote(client[0], safe=":.") if client else "-",
                scope["method"],
                quote(scope["path"]),
                status,
                (time.perf_counter() - start) * 1000,
                scope["state"]["request_id"],
            )


class SecurityHeaders:
    """Headers that keep a browser from making more of an answer than it is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                headers.setdefault("Content-Security-Policy", NOTHING)
            await send(message)

        await self.app(scope, receive, send_with_headers)


class CrossOrigin(CORSMiddleware):
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

        async def send_problem_for_text(message: Message) -> None:
            nonlocal is_started, is_replaced
            if message["type"] == "http.response.start":
                is_started = True
                media_type = Headers(raw=message["headers"]).get("Content-Type", "")
                is_too_large = message["status"] == ContentTooLarge.status
                if is_too_large and "Expect" not in Headers(scope=scope):
                    await drain()
                refusal = REFUSALS.get(message["status"])
                if refusal is not None and media_type.startswith("text/plain"):
                    is_replaced = True
                    await answer(refusal())
            if not is_replaced:
                await send(message)

        if len(scope["path"]) > MAX_PATH_LENGTH:
            await answer(UriTooLong())
            return
        try:
            await self.app(scope, receive_and_watch, send_problem_for_text)
        except Exception:  # whatever nobody expected: a broad net is what this layer is for
            # Outside of it there are only CORS and other headers. Without it the server would
            # close the connection without a word to a browser.
            log.exception("Unexpected error in request %s", scope["state"]["request_id"])
            if is_started:
                raise
            await answer(InternalServerError())


class BodyLimits:
    """A body without a token, be it good or bad, is small: no public route takes a long one."""

    def __init__(self, app: ASGIApp, max_body_size: int, max_body_size_without_token: int) -> None:
        self.with_token = RequestBodyLimitMiddleware(app, max_body_size)
        self.without = RequestBodyLimitMiddleware(app, max_body_size_without_token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_token = scope["type"] == "http" and (
            Headers(scope=scope).get("Authorization", "").lower().startswith("bearer ")
        )
        await (self.with_token if has_token else self.without)(scope, receive, send)


class HeadAsGet:
    """Answer HEAD wherever GET is answered, without the body (RFC 9110, 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self.app({**scope, "method": "GET"}, receive, send_without_body)


class Paths:
    """Let every path stand under `/api/v1` too, and tolerate one slash at its end.

    A redirect would have to name a host. The prefix becomes a part of the `root_path`, with
    which every link begins. So does the path of the public address, whether the proxy in front
    takes it off or not.
    """

    def __init__(self, app: ASGIApp, root: str) -> None:
        self.app = app
        self.root = root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            root: str = scope.get("root_path", "") or self.root
            path = get_route_path({**scope, "root_path": root}) or "/"
            if path == PREFIX or path.startswith(f"{PREFIX}/"):
                root, path = root + PREFIX, path.removeprefix(PREFIX) or "/"
            has_slash = path.endswith("/") and not path.endswith("//") and path != "/"
            if has_slash:
                path = path[:-1]
            state = {**scope.get("state", {}), "slash_at_end": has_slash}
            scope = {**scope, "root_path": root, "path": root + path, "state": state}
        await self.app(scope, receive, send)
