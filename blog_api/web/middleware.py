"""ASGI middleware around the routes; `middleware_stack.py` has their order."""

import logging
import time
from asyncio import CancelledError
from collections.abc import Awaitable
from contextlib import suppress
from itertools import count
from secrets import randbits
from uuid import UUID, uuid4

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blog_api.core.errors import (
    BadRequest,
    ContentTooLarge,
    CrossOriginRefused,
    InternalServerError,
    Problem,
    ServiceUnavailable,
    UntrustedHost,
    UriTooLong,
    problem_response,
)
from blog_api.core.logs import REQUEST_ID
from blog_api.web.access_log import MAX_PATH_LENGTH, AccessLogWriter
from blog_api.web.links import HEALTH_PATHS, get_route_path

log = logging.getLogger(__name__)

# A new request id is the UUID of this process with a counter in its last 12 digits: `uuid4()`
# would take a tenth of the time of a cache hit.
PROCESS_UUID = str(uuid4())[:-12]
REQUEST_NUMBERS = count(randbits(40))

# A body over its limit is read up to this size, so that a client that is still sending it
# receives the response.
MAX_DRAINED_BYTES = 32 * 1024 * 1024

API_PREFIX = "/api/v1"

# Problems in place of the plain-text responses of Starlette's middleware.
PLAIN_TEXT_PROBLEMS: dict[int, type[Problem]] = {
    UntrustedHost.status: UntrustedHost,
    ContentTooLarge.status: ContentTooLarge,
}

SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
# HTML pages set their own policy.
POLICY = b"content-security-policy"
STRICT_SECURITY_HEADERS = [
    *SECURITY_HEADERS,
    (POLICY, b"default-src 'none'; frame-ancestors 'none'"),
]


def get_request_id(scope: Scope) -> str:
    """Return the UUID in `X-Request-ID`, or a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            with suppress(ValueError):
                return str(UUID(value.decode("latin-1")))
    return f"{PROCESS_UUID}{next(REQUEST_NUMBERS):012x}"


class AccessLog:
    """Give each request an id, a line in the access log, and `X-Process-Time` in seconds."""

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
        REQUEST_ID.set(request_id)

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
            self.log.append(client, scope["method"], scope["path"], status, seconds, request_id)


class SecurityHeaders:
    """Add headers that restrict browsers: no sniffing, no frames, no referrer, no scripts."""

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
    """ASGI application that responds with 503."""
    await problem_response(ServiceUnavailable(), scope)(scope, receive, send)


class CORS(CORSMiddleware):
    """Send CORS headers; a rejected preflight request gets a problem document."""

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
    """Reject other host names, except for health checks, which use the IP address."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_health = scope["type"] == "http" and get_route_path(scope) in HEALTH_PATHS
        await (self.app if is_health else super().__call__)(scope, receive, send)


class ProblemDocuments:
    """Respond with a problem document to exceptions, overlong paths and not exactly one `Host`.

    The plain-text responses of Starlette's body limit and trusted hosts are replaced too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if len(scope["path"]) > MAX_PATH_LENGTH:
            await problem_response(UriTooLong(), scope)(scope, receive, send)
            return
        hosts = sum(name == b"host" for name, _ in scope["headers"])
        if hosts > 1 or (hosts == 0 and scope["http_version"] == "1.1"):
            # RFC 9112, 3.2: of several, a proxy may have used another.
            await problem_response(BadRequest(), scope)(scope, receive, send)
            return
        channel = ProblemChannel(scope, receive, send)
        try:
            await self.app(scope, channel.receive, channel.send)
        except CancelledError:
            # The server stops. uvicorn 0.54 responds with 500 if nothing was sent.
            if not channel.is_started:
                await send_unavailable(scope, receive, send)
            raise
        except Exception:
            # Broad: FastAPI's own handler outside of this would respond in plain text. The
            # traceback is logged, and after the start of a response the exception is raised again.
            log.exception("Unexpected error")
            if channel.is_started:
                raise
            await problem_response(InternalServerError(), scope)(scope, receive, send)


class ProblemChannel:
    """`receive` and `send` of one request, for `ProblemDocuments`."""

    __slots__ = ("_receive", "_scope", "_send", "is_body_read", "is_replaced", "is_started")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self.is_body_read = self.is_started = self.is_replaced = False

    async def receive(self) -> Message:
        message = await self._receive()
        self.is_body_read = not message.get("more_body", False)
        return message

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            if message["status"] in PLAIN_TEXT_PROBLEMS:
                return self._send_rejection(message)
            self.is_started = True
        return self._discard() if self.is_replaced else self._send(message)

    async def _send_rejection(self, start: Message) -> None:
        problem = PLAIN_TEXT_PROBLEMS[start["status"]]
        # A client that sends `Expect: 100-continue` has not started to send its body.
        if problem is ContentTooLarge and "Expect" not in Headers(scope=self._scope):
            await self._drain_body()
        self.is_started = True
        content_type = Headers(raw=start["headers"]).get("Content-Type", "")
        self.is_replaced = content_type.startswith("text/plain")
        if self.is_replaced:
            response = problem_response(problem(), self._scope)
            await response(self._scope, self._receive, self._send)
        else:
            await self._send(start)

    async def _drain_body(self) -> None:
        size = 0
        while not self.is_body_read and size < MAX_DRAINED_BYTES:
            size += len((await self.receive()).get("body", b""))

    async def _discard(self) -> None:
        """Discard the body of a replaced response."""


class HeadAsGet:
    """Handle HEAD as GET, without the body (RFC 9110, 9.3.2)."""

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
    """Accept every path under `/api/v1` and under the public path, and with one trailing slash.

    Redirects would have to name a host. The prefixes move to `root_path`, with which every link
    begins. The proxy may remove the public path or pass it on.
    """

    def __init__(self, app: ASGIApp, root: str) -> None:
        self.app = app
        self.root = root

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            root: str = scope.get("root_path", "") or self.root
            path = remove_prefix(scope["path"], root)
            if has_prefix(path, API_PREFIX):
                root, path = root + API_PREFIX, remove_prefix(path, API_PREFIX)
            has_slash = path.endswith("/") and not path.endswith("//") and path != "/"
            if has_slash:
                path = path[:-1]
            scope["state"]["slash_at_end"] = has_slash
            # A copy: the access log shows the path of the request.
            scope = {**scope, "root_path": root, "path": root + path}
        return self.app(scope, receive, send)


def has_prefix(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


def remove_prefix(path: str, prefix: str) -> str:
    return (path.removeprefix(prefix) if has_prefix(path, prefix) else path) or "/"
