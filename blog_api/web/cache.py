"""In-memory cache of public responses.

A route marks its response public (`Cache-Control: public, no-cache`); the cache stores it under
the path, the known query parameters and `Accept`, and sends it to anonymous clients until a commit
invalidates it. Example: `GET /posts` and `GET /posts/1` are computed once. A comment on post 2 adds
it to `CacheVersion.changed_rows`: the next `GET /posts` is computed again if it shows post 2, and
`GET /posts/1` stays valid. A new post changes `CacheVersion.members`, which all lists depend on.
Concurrent requests for one key wait for the first.

A signed-in client shares the responses that the route has also marked as the same for all readers,
after its token was looked up. Otherwise the application responds.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from sys import getsizeof
from typing import Any
from urllib.parse import parse_qsl

import anyio
from starlette import status as codes
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blog_api.core.errors import Problem, ServiceUnavailable
from blog_api.db.cache_version import CacheVersion
from blog_api.web.cache_metrics import CacheStatistics
from blog_api.web.clients import get_bearer_token
from blog_api.web.conditional import (
    NO_CACHE,
    PUBLIC_NO_CACHE,
    VERSIONED_ETAG,
    RawHeaders,
    matches_if_none_match,
    remove_body_headers,
)
from blog_api.web.large_responses import SLICE_BYTES, LimitSend

# No cached response is older: scheduled posts appear, and a lost notification does no lasting harm.
MAX_AGE_SECONDS = 1.0
# Memory of a cached response beside its body and headers.
OVERHEAD_BYTES = 3_000
# Of the identity of a row that a list shows.
ROW_BYTES = 70
# A response may take 1/MAX_SHARE of the cache.
MAX_SHARE = 8
# Requests with longer keys are not cached.
MAX_KEY_LENGTH = 1_000
# Memory of the parsed queries beside the cache: at most 2 MB.
MAX_PARSED_QUERIES = 500
MAX_PARSED_QUERY_LENGTH = 200

Parameters = tuple[tuple[str, str], ...]
Key = tuple[str, str, Parameters, bytes, bytes]

CACHED_METHODS = {"GET", "HEAD"}
AUTHORIZATION = b"authorization"
CACHE_CONTROL = b"cache-control"
# The response to a request with a body is for that client alone.
BODY_HEADERS = {b"content-length", b"transfer-encoding"}


@dataclass(frozen=True, slots=True)
class CachedResponse:
    """A complete response with status 200, without its `Cache-Control`.

    `key_size` is the memory of its key in bytes. A signed-in client gets it if `is_shared`.
    """

    key_size: int
    headers: RawHeaders
    body: bytes
    etag: bytes
    created_at: float
    version: CacheVersion
    # The identities of the rows whose changes alone invalidate it, and of a list other members.
    rows: tuple[str, ...] | None
    shows_one_row: bool
    is_shared: bool

    def is_fresh(self, current: CacheVersion) -> bool:
        """Return whether no commit invalidated it and it is not too old."""
        version = self.version
        if self.rows is not None:
            is_valid = version.tables == current.tables and (
                self.shows_one_row or version.members == current.members
            )
            if is_valid and version.lists != current.lists:
                last_changes = (current.changed_rows.get(row, 0) for row in self.rows)
                is_valid = max(last_changes, default=0) <= version.lists
        elif self.shows_one_row:
            is_valid = version.rows == current.rows
        else:
            is_valid = version.lists == current.lists
        return is_valid and 0 <= time.time() - self.created_at < MAX_AGE_SECONDS

    @property
    def size(self) -> int:
        """Memory in bytes, with that of the key."""
        lines = sum(len(name) + len(value) for name, value in self.headers)
        rows = ROW_BYTES * len(self.rows or ())
        return OVERHEAD_BYTES + self.key_size + lines + len(self.body) + rows


class PendingResponse:
    """A response that is being computed while other clients wait for it."""

    def __init__(self, version: CacheVersion, *, is_signed_in: bool) -> None:
        self.version = version
        self.is_signed_in = is_signed_in
        self.finished = anyio.Event()
        self.status = 0
        # None if the response must not be shared.
        self.response: CachedResponse | None = None


class ResponseCache:
    """Cache responses marked public until a commit invalidates them.

    Holds at most `max_bytes`; the least recently used response is evicted first. `get_version`
    returns None while commits of other processes may be missed: nothing is cached then.
    `authenticate` returns the user of a token or raises a problem. `parameters` returns the names
    of the query parameters that belong to a key, `by_host` adds the Host header to it.
    `unavailable` responds to clients whose pending response became a 503. `limit_send` wraps the
    `send` of all responses but small hits. A client that waits for a pending response counts as a
    miss in `statistics`.
    """

    def __init__(
        self,
        app: ASGIApp,
        get_version: Callable[[], CacheVersion | None],
        authenticate: Callable[[str], Awaitable[object]],
        max_bytes: int,
        parameters: Callable[[], frozenset[str]],
        by_host: bool,
        unavailable: ASGIApp,
        limit_send: LimitSend,
        statistics: CacheStatistics,
    ) -> None:
        self.app = app
        self.statistics = statistics
        self.limit_send = limit_send
        self.get_version = get_version
        self.authenticate = authenticate
        self.max_bytes = max_bytes
        self.by_host = by_host
        self.unavailable = unavailable
        # By name, so that the keys share one string for each name.
        self._parameters = {name: name for name in parameters()}
        self._parse_short_query = lru_cache(maxsize=MAX_PARSED_QUERIES)(self.parse_query)
        self._responses: OrderedDict[Key, CachedResponse] = OrderedDict()
        self._pending: dict[Key, PendingResponse] = {}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        is_read = scope["type"] == "http" and scope["method"] in CACHED_METHODS
        key = self.make_key(scope) if is_read else None
        if key is None or self.get_version() is None:
            return self.app(scope, receive, self.limit_send(scope, receive, send))
        if any(name == AUTHORIZATION for name, _ in scope["headers"]):
            return self.respond_to_user(key, scope, receive, send)
        return self.respond(key, scope, receive, send)

    async def respond_to_user(self, key: Key, scope: Scope, receive: Receive, send: Send) -> None:
        """Look up the token, so that a revoked one gets no response from the cache."""
        try:
            scope["state"]["auth"] = await self.authenticate(get_bearer_token(scope))
        except Problem:
            # The application raises it again where the client is told.
            await self.app(scope, receive, self.limit_send(scope, receive, send))
        else:
            await self.respond(key, scope, receive, send)

    def respond(self, key: Key, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Send the cached response, or wait for the one that is being computed, or compute it."""
        is_signed_in = "auth" in scope["state"]
        version = self.get_version()
        response = self._responses.get(key)
        # Unknown for a signed-in client until a response was cached, which may be outdated.
        is_for_all = not is_signed_in or (response is not None and response.is_shared)
        is_hit = (
            is_for_all
            and response is not None
            and version is not None
            and response.is_fresh(version)
        )
        if response is None or not is_hit or len(response.body) > SLICE_BYTES:
            # A hit of a small response would take a sixth longer.
            send = self.limit_send(scope, receive, send)
        if response is not None and is_hit:
            self._responses.move_to_end(key)
            self.statistics.hits += 1
            return send_cached(response, scope, send)
        self.statistics.misses += 1
        if scope["method"] != "GET" or version is None:
            return self.app(scope, receive, send)
        pending = self._pending.get(key)
        if is_for_all and pending is not None and pending.version == version:
            return self.wait(key, pending, scope, receive, send)
        pending = PendingResponse(version, is_signed_in=is_signed_in)
        if is_for_all:
            self._pending[key] = pending
        return self.compute(key, pending, scope, receive, send)

    def make_key(self, scope: Scope) -> Key | None:
        """Return the cache key, or None if the response must not be shared."""
        accept = host = b""
        has_token = False
        for name, value in scope["headers"]:
            if name == b"accept":
                accept += value + b","
            elif name == b"host":
                if host:
                    # Rejected by `ProblemDocuments`.
                    return None
                host = value + b","
            elif name == AUTHORIZATION:
                if has_token or not get_bearer_token(scope):
                    return None
                has_token = True
            elif name in BODY_HEADERS:
                return None
        query: bytes = scope["query_string"]
        if not host or len(query) + len(accept) + len(host) > MAX_KEY_LENGTH:
            return None
        is_short = len(query) <= MAX_PARSED_QUERY_LENGTH
        parse = self._parse_short_query if is_short else self.parse_query
        parameters = parse(query) if query else ()
        host = host if self.by_host else b""
        return scope.get("root_path", ""), scope["path"], parameters, accept, host

    def parse_query(self, query: bytes) -> Parameters:
        """Return the known parameters, sorted by name; the last of repeated ones, as in FastAPI.

        All unknown ones are one pair: lists reject them.
        """
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        names = self._parameters
        given = {names.get(name, ""): value if name in names else "" for name, value in pairs}
        return tuple(sorted(given.items()))

    async def compute(
        self, key: Key, pending: PendingResponse, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Call the application and store its response if it is cacheable.

        The stored version is the one from before the call: a commit meanwhile invalidates it.
        """
        created_at = time.time()
        start: Message | None = None

        async def send_or_store(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                pending.status = message["status"]
                if is_cacheable(message, scope["state"]):
                    start = message
                    return
            elif start is not None and not message.get("more_body", False):
                body = message.get("body", b"")
                response = make_cached_response(
                    key, start["headers"], body, created_at, pending.version, scope["state"]
                )
                pending.response = response
                self.store(key, response)
                self.finish(key, pending)
                await send_cached(response, scope, send)
                return
            elif start is not None:
                await send(start)
                start = None
            # Before sending: the waiting clients do not depend on how fast this one reads.
            self.finish(key, pending)
            await send(message)

        try:
            scope["state"]["is_cached"] = True
            await self.app(scope, receive, send_or_store)
        finally:
            self.finish(key, pending)

    async def wait(
        self, key: Key, pending: PendingResponse, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Send the pending response once it is computed, if it may be shared."""
        await pending.finished.wait()
        is_signed_in = "auth" in scope["state"]
        response = pending.response
        if response is not None and (response.is_shared or not is_signed_in):
            await send_cached(response, scope, send)
        elif pending.status == ServiceUnavailable.status:
            # Computing it again would only wait for the database again.
            await self.unavailable(scope, receive, send)
        elif pending.is_signed_in and not is_signed_in:
            # It was for its reader alone; the first of the others computes the public one.
            await self.respond(key, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def finish(self, key: Key, pending: PendingResponse) -> None:
        """Wake the clients that wait for a response."""
        pending.finished.set()
        if self._pending.get(key) is pending:
            del self._pending[key]

    def store(self, key: Key, response: CachedResponse) -> None:
        replaced = self._responses.get(key)
        is_late = replaced is not None and replaced.version.lists > response.version.lists
        if is_late or response.size * MAX_SHARE > self.max_bytes:
            return
        self._responses.pop(key, None)
        self._responses[key] = response
        statistics = self.statistics
        statistics.bytes += response.size - (replaced.size if replaced else 0)
        while statistics.bytes > self.max_bytes:
            _, evicted = self._responses.popitem(last=False)
            statistics.bytes -= evicted.size
            statistics.evictions += 1
        statistics.responses = len(self._responses)


def is_cacheable(start: Message, state: dict[str, Any]) -> bool:
    """Return whether a response may be shared and has an ETag for revalidation."""
    is_signed_in = "auth" in state
    if start["status"] != codes.HTTP_200_OK or (is_signed_in and not state.get("is_shared")):
        return False
    headers = dict(start["headers"])
    cache_control = headers.get(CACHE_CONTROL)
    return cache_control == get_cache_control(state) and b"etag" in headers


def get_cache_control(state: dict[str, Any]) -> bytes:
    """Return the `Cache-Control` of a response that is shared, for this client."""
    return NO_CACHE if "auth" in state else PUBLIC_NO_CACHE


def measure_key(key: Key) -> int:
    """Return the memory of a key in bytes, without that of the names of its parameters."""
    root, path, parameters, accept, host = key
    objects = (key, root, path, accept, host, parameters, *parameters)
    return sum(map(getsizeof, objects)) + sum(getsizeof(value) for _, value in parameters)


def make_cached_response(
    key: Key,
    headers: RawHeaders,
    body: bytes,
    created_at: float,
    version: CacheVersion,
    state: dict[str, Any],
) -> CachedResponse:
    etag = dict(headers)[b"etag"]
    versioned = VERSIONED_ETAG.fullmatch(etag.decode())
    rows: tuple[str, ...] | None = state.get("rows")
    if versioned:
        rows = (versioned["identity"],) if state.get("is_independent", False) else None
    return CachedResponse(
        measure_key(key),
        [line for line in headers if line[0] != CACHE_CONTROL],
        body,
        etag,
        created_at,
        version,
        rows,
        versioned is not None,
        state.get("is_shared", False),
    )


async def send_cached(response: CachedResponse, scope: Scope, send: Send) -> None:
    """Send a cached response, or 304 if `If-None-Match` names its ETag."""
    cache_control = (CACHE_CONTROL, get_cache_control(scope["state"]))
    headers: RawHeaders = [*response.headers, cache_control]
    status, body = codes.HTTP_200_OK, response.body
    if matches_if_none_match(scope, response.etag):
        status, headers, body = codes.HTTP_304_NOT_MODIFIED, remove_body_headers(headers), b""
    elif scope["method"] == "HEAD":
        body = b""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
