"""Answers that are kept in memory: what is public is computed once for everybody."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl

import anyio
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel
from starlette import status as codes
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blog_api.core.errors import ServiceUnavailable
from blog_api.db.session import Generation
from blog_api.web.conditional import (
    MAY_BE_KEPT,
    VERSION_IN_ETAG,
    RawHeaders,
    is_known,
    without_body,
)

# Nothing that is shown is older, so that scheduled posts come out and a lost notice heals.
MAX_AGE_SECONDS = 1.0


# What an answer takes beside its bytes, as objects; and the largest that is kept, as a part of
# all.
OVERHEAD_BYTES = 3_000


LARGEST_PART = 8


# What is asked for at greater length is not kept: it would take more memory than its answer.
MAX_LENGTH = 1_000


Key = tuple[str, str, tuple[tuple[str, str], ...], bytes, bytes]


KEPT_METHODS = {"GET", "HEAD"}


# Who is asking, or what comes with the question, makes an answer one for nobody else.
NOT_PUBLIC = {b"authorization", b"content-length", b"transfer-encoding"}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer with status 200."""

    headers: RawHeaders
    body: bytes
    etag: bytes
    made_at: float
    # Since when it holds: those of all rows, or of the one row that it shows.
    generation: int
    is_of_row: bool

    def is_good(self, generation: Generation) -> bool:
        """Whether nothing was committed since that it might show, and it is not too old."""
        return (
            self.generation == (generation.of_rows if self.is_of_row else generation.of_lists)
            and 0 <= time.time() - self.made_at < MAX_AGE_SECONDS
        )

    @property
    def size(self) -> int:
        lines = sum(len(name) + len(value) for name, value in self.headers)
        return OVERHEAD_BYTES + lines + len(self.body)


class Flight:
    """An answer that is being computed, for which others wait."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self.is_over = anyio.Event()
        self.status = 0
        # None: it is for nobody else.
        self.answer: Answer | None = None


class AnswerCache:
    """Keeps what routes say may be kept, until anything is committed that it might show.

    An answer is one for a path with its prefix, the parameters that are known, `Accept`, and the
    host where not all are trusted. It has passed the layers below; those around it give each its
    request id and what depends on the origin. It holds `max_bytes`; what was not asked for the
    longest goes first. `generation` tells of commits, and is None while one might be missed;
    `unavailable` tells those who wait for a database that does not answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        generation: Callable[[], Generation | None],
        max_bytes: int,
        parameters: Callable[[], frozenset[str]],
        by_host: bool,
        unavailable: ASGIApp,
    ) -> None:
        self.app = app
        self.generation = generation
        self.max_bytes = max_bytes
        self.by_host = by_host
        self.unavailable = unavailable
        self._parameters = parameters()
        self._known_parameters = lru_cache(maxsize=1_000)(self.known_parameters)
        self._answers: OrderedDict[Key, Answer] = OrderedDict()
        self._size = 0
        self._flights: dict[Key, Flight] = {}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        key = generation = None
        if scope["type"] == "http" and scope["method"] in KEPT_METHODS:
            key, generation = self.key_of(scope), self.generation()
        if key is None or generation is None:
            return self.app(scope, receive, send)
        answer = self._answers.get(key)
        if answer is not None and answer.is_good(generation):
            self._answers.move_to_end(key)
            return serve(answer, scope, send)
        if scope["method"] != "GET":
            return self.app(scope, receive, send)
        flight = self._flights.get(key)
        if flight is None or flight.generation != generation:
            return self.compute(key, Flight(generation), scope, receive, send)
        return self.wait(flight, scope, receive, send)

    def key_of(self, scope: Scope) -> Key | None:
        """What is asked for; None where the answer might be for nobody else."""
        accept = host = b""
        for name, value in scope["headers"]:
            if name == b"accept":
                accept += value + b","
            elif name == b"host" and self.by_host:
                # Of several, some may be none of ours.
                host += value + b","
            elif name in NOT_PUBLIC:
                return None
        query: bytes = scope["query_string"]
        if len(query) + len(accept) + len(host) > MAX_LENGTH:
            return None
        known = self._known_parameters(query) if query else ()
        return scope.get("root_path", ""), scope["path"], known, accept, host

    def known_parameters(self, query: bytes) -> tuple[tuple[str, str], ...]:
        """Those that make a difference, in one order; of one that is repeated, all in theirs."""
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        return tuple(
            sorted(
                (pair for pair in pairs if pair[0] in self._parameters), key=lambda pair: pair[0]
            )
        )

    async def compute(
        self, key: Key, flight: Flight, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Let the application answer, and keep what may be kept. What is committed meanwhile has
        made it bad already."""
        made_at = time.time()
        start: Message | None = None

        async def send_or_keep(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                flight.status = message["status"]
                if may_be_kept(message):
                    start = message
                    return
            elif start is not None and not message.get("more_body", False):
                body = message.get("body", b"")
                answer = make_answer(start["headers"], body, made_at, flight.generation)
                flight.answer = answer
                if self._flights.get(key) is flight:
                    # Nobody who came later was faster.
                    self.keep(key, answer)
                self.land(key, flight)
                await serve(answer, scope, send)
                return
            elif start is not None:
                await send(start)
                start = None
            # Nobody waits for a client that reads slowly.
            self.land(key, flight)
            await send(message)

        self._flights[key] = flight
        try:
            scope["state"]["is_kept"] = True
            await self.app(scope, receive, send_or_keep)
        finally:
            self.land(key, flight)

    async def wait(self, flight: Flight, scope: Scope, receive: Receive, send: Send) -> None:
        """Give a client the answer that is being computed, if it is one for everybody."""
        await flight.is_over.wait()
        if flight.answer is not None:
            await serve(flight.answer, scope, send)
        elif flight.status == ServiceUnavailable.status:
            # Who comes next would wait as long again.
            await self.unavailable(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def land(self, key: Key, flight: Flight) -> None:
        """Let those go on who wait for an answer."""
        flight.is_over.set()
        if self._flights.get(key) is flight:
            del self._flights[key]

    def keep(self, key: Key, answer: Answer) -> None:
        if answer.size * LARGEST_PART > self.max_bytes:
            return
        old = self._answers.pop(key, None)
        self._answers[key] = answer
        self._size += answer.size - (old.size if old else 0)
        while self._size > self.max_bytes:
            _, oldest = self._answers.popitem(last=False)
            self._size -= oldest.size


def may_be_kept(start: Message) -> bool:
    """Whether a route says so, of an answer by whose ETag a client knows it again."""
    headers = dict(start["headers"])
    is_public = headers.get(b"cache-control") == MAY_BE_KEPT and b"etag" in headers
    return is_public and start["status"] == codes.HTTP_200_OK


def make_answer(headers: RawHeaders, body: bytes, made_at: float, generation: Generation) -> Answer:
    etag = dict(headers)[b"etag"]
    is_of_row = VERSION_IN_ETAG.fullmatch(etag.decode()) is not None
    since = generation.of_rows if is_of_row else generation.of_lists
    return Answer([*headers], body, etag, made_at, since, is_of_row)


async def serve(answer: Answer, scope: Scope, send: Send) -> None:
    """Send a copy of an answer, or 304 to a client that knows it."""
    status, headers, body = codes.HTTP_200_OK, answer.headers, answer.body
    if is_known(scope, answer.etag):
        status, headers, body = codes.HTTP_304_NOT_MODIFIED, without_body(headers), b""
    elif scope["method"] == "HEAD":
        body = b""
    await send({"type": "http.response.start", "status": status, "headers": [*headers]})
    await send({"type": "http.response.body", "body": body})


def query_parameters(routes: Sequence[BaseRoute]) -> frozenset[str]:
    """Return the names of all query parameters of the GET routes."""
    names: set[str] = set()
    for route in iter_route_contexts(routes):
        if isinstance(route.original_route, APIRoute) and "GET" in (route.methods or ()):
            names |= parameter_names(route.dependant)
    return frozenset(names)


def parameter_names(dependant: Dependant) -> set[str]:
    """Return the names of the query parameters of a route or dependency, and of those below it."""
    names = set().union(*(parameter_names(one) for one in dependant.dependencies))
    for field in dependant.query_params:
        model = field.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            names |= model.model_fields.keys()
        else:
            names.add(field.alias)
    return names
