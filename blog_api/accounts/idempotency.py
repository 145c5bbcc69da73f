"""Create once: the `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header-07).

The key is a row of the same transaction as what the request creates, together with the response.
Example: a client sends `POST /posts` with the key `a`, the post and the row are committed, and the
response is lost. The client sends the request again: the row is found, and its response is sent
with `Idempotency-Replayed: true`. If the first request is still under way, inserting the row waits
for it: on Postgres at the primary key, on SQLite for the write lock. What fails is rolled back with
its row, so that the key can be sent again.

A router whose route creates something has `route_class=IdempotentRoute`. The route depends on
`CREATE_ONCE`, before the dependencies that lock rows:

    @router.post("/comments", dependencies=[Depends(limit_comments), CREATE_ONCE], …)

A route that releases its connection takes `CreationDep` instead, since the row must stand in the
transaction that creates: `replay()` first, and `claim()` after the connection was released. For a
route of administrators it is `AdminCreationDep`.
"""

import re
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from hashlib import sha256
from types import MappingProxyType
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response
from fastapi.routing import APIRoute
from pydantic import WithJsonSchema
from sqlalchemy import Insert, Integer, String, bindparam, delete, func, tuple_, update
from sqlalchemy import select as select_columns
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.auth import AdminAuth, CanWrite, SecretKeysDep
from blog_api.accounts.models import MAX_ROUTE_LENGTH, IdempotencyKey
from blog_api.core.errors import BadRequest, Conflict, FieldError, ValidationFailed
from blog_api.core.fields import utc_now
from blog_api.core.security import SecretKeys, hash_token
from blog_api.db.base import NOW
from blog_api.db.engine import STATEMENT_TIMEOUT_SECONDS
from blog_api.db.errors import LOCK_TIMEOUT, get_error_code
from blog_api.db.queries import NamedQuery, execute_query, execute_write, insert_into
from blog_api.db.session import SessionDep, forbid_release
from blog_api.web.conditional import set_etag_headers

HEADER = "Idempotency-Key"
KEY_LIFETIME = timedelta(hours=24)
MAX_KEY_LENGTH = 255
# Expired rows that one request deletes.
SWEEP_SIZE = 10
# Less than the timeout of a statement, which would be 503.
MAX_WAIT_SECONDS = 0.9 * STATEMENT_TIMEOUT_SECONDS
# The row may expire or be deleted between two statements.
MAX_ATTEMPTS = 3
# Its stored responses show the accounts of other users.
ACCOUNTS_ROUTE = "/admin/users"
STORED_HEADERS = ("Cache-Control", "Content-Type", "ETag", "Location")

# A string of structured fields (RFC 8941, 3.3.3), and a character escaped in it.
QUOTED_KEY = re.compile(r'"((?:[\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"', re.ASCII)
BARE_KEY = re.compile(r"[\x21\x23-\x7e][\x21-\x7e]*", re.ASCII)
ESCAPED = re.compile(r'\\(["\\])')


class InvalidIdempotencyKey(BadRequest):
    detail = f"Send one Idempotency-Key of 1 to {MAX_KEY_LENGTH} visible ASCII characters"


class IdempotencyKeyNotSupported(BadRequest):
    """The call takes no `Idempotency-Key`: its response is not stored."""

    detail = (
        "This call takes no Idempotency-Key: its response holds a secret, it needs no token, or it "
        "creates nothing"
    )


class IdempotencyKeyInUse(Conflict):
    """The first request with this `Idempotency-Key` is still under way; retry."""

    detail = "The first request with this Idempotency-Key is still under way"
    headers = MappingProxyType({"Retry-After": "1"})
    documented_headers = ("Retry-After",)


class IdempotencyKeyReused(ValidationFailed):
    """The `Idempotency-Key` was sent with another body or query before; send a new one."""

    detail = "This Idempotency-Key was sent with another request before"

    def __init__(self) -> None:
        error = FieldError(loc=["header", HEADER], type="idempotency_key_reused", msg=self.detail)
        super().__init__([error])


IDEMPOTENCY_PROBLEMS = (InvalidIdempotencyKey, IdempotencyKeyInUse, IdempotencyKeyReused)


class ResponseReplayed(Exception):
    """The response of the first request; `IdempotentRoute` returns it."""

    def __init__(self, response: Response) -> None:
        self.response = response


IDENTITY = (col(IdempotencyKey.user_id), col(IdempotencyKey.route), col(IdempotencyKey.digest))
IS_SAME_KEY = [
    col(IdempotencyKey.user_id) == bindparam("user", type_=Integer),
    col(IdempotencyKey.route) == bindparam("path", type_=String),
    col(IdempotencyKey.digest) == bindparam("key_digest", type_=String),
]
STORED_RESPONSE = NamedQuery(
    select_columns(
        col(IdempotencyKey.fingerprint),
        col(IdempotencyKey.status),
        col(IdempotencyKey.headers),
        col(IdempotencyKey.body),
    ).where(*IS_SAME_KEY, col(IdempotencyKey.expires_at) > NOW)
)
STORE_RESPONSE = (
    update(IdempotencyKey)
    .where(*IS_SAME_KEY)
    .values(status=bindparam("status"), headers=bindparam("headers"), body=bindparam("body"))
)
SOME_EXPIRED = (
    select_columns(*IDENTITY)
    .where(col(IdempotencyKey.expires_at) <= NOW)
    .order_by(col(IdempotencyKey.expires_at))
    .limit(SWEEP_SIZE)
    .with_for_update(skip_locked=True)
)
DELETE_SOME_EXPIRED = delete(IdempotencyKey).where(tuple_(*IDENTITY).in_(SOME_EXPIRED))


@cache
def claim_statement(dialect: str) -> Insert:
    """Insert a key or take over an expired one; return no row if the key is in use."""
    statement: Any = insert_into(IdempotencyKey, dialect)
    changed = {name: statement.excluded[name] for name in ("fingerprint", "expires_at")}
    claimed: Insert = statement.on_conflict_do_update(
        index_elements=["user_id", "route", "digest"],
        set_=changed | {"status": None, "headers": None, "body": None},
        where=col(IdempotencyKey.expires_at) <= NOW,
    ).returning(col(IdempotencyKey.user_id))
    return claimed


def parse_key(lines: list[str]) -> str:
    """Return the key of the header, quoted or bare. Raises InvalidIdempotencyKey."""
    if len(lines) != 1:
        raise InvalidIdempotencyKey
    line = lines[0].strip(" \t")
    quoted = QUOTED_KEY.fullmatch(line)
    key = ESCAPED.sub(r"\1", quoted[1]) if quoted else line
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not (quoted or BARE_KEY.fullmatch(key)):
        raise InvalidIdempotencyKey
    return key


def get_route_path(request: Request) -> str:
    """Return the path with its ids as numbers, without `/api/v1` and the public path."""
    route: APIRoute = request.scope["route"]
    path = route.path_format.format_map(request.scope["path_params"])
    # What such a path names does not exist, and it may not fit in the column.
    is_storable = len(path) <= MAX_ROUTE_LENGTH and path.isprintable()
    return path if is_storable else hash_token(path)


@dataclass(frozen=True)
class Creation:
    """A request that creates something, once for each key. Does nothing without a key."""

    session: AsyncSession
    request: Request
    user_id: int
    key: str | None
    # If the body may hold a password.
    keys: SecretKeys | None = None

    async def replay(self) -> None:
        """Raise ResponseReplayed if the response is stored.

        Raises IdempotencyKeyReused if it is that of another body or query.
        """
        if self.key is None:
            return
        found = await execute_query(self.session, STORED_RESPONSE, self._identity)
        if not found:
            return
        stored = found[0]
        if stored["fingerprint"] not in await self._make_fingerprints():
            raise IdempotencyKeyReused
        response = Response(stored["body"], stored["status"], stored["headers"])
        response.headers["Idempotency-Replayed"] = "true"
        raise ResponseReplayed(response)

    async def claim(self) -> None:
        """Insert the key before anything else is written; wait for a request that has it.

        Releasing the connection afterwards is an error: it would commit the key alone. Raises as
        `replay()` does, and IdempotencyKeyInUse.
        """
        if self.key is None:
            return
        identity = self._identity
        values = {
            "user_id": identity["user"],
            "route": identity["path"],
            "digest": identity["key_digest"],
            "fingerprint": (await self._make_fingerprints())[0],
            "expires_at": utc_now() + KEY_LIFETIME,
        }
        for _ in range(MAX_ATTEMPTS):
            if await self._insert(values):
                forbid_release(self.session)
                self.request.state.creation = self
                return
            await self.replay()
        raise IdempotencyKeyInUse

    async def _insert(self, values: dict[str, Any]) -> bool:
        connection: AsyncConnection = self.session.info["connection"]
        dialect = connection.dialect.name
        if dialect == "postgresql":
            limit = f"{MAX_WAIT_SECONDS * 1_000:.0f}ms"
            # Until the end of the transaction.
            await connection.execute(select_columns(func.set_config("lock_timeout", limit, True)))
        try:
            return await connection.scalar(claim_statement(dialect), values) is not None
        except DBAPIError as error:
            if get_error_code(error) == LOCK_TIMEOUT:
                raise IdempotencyKeyInUse from error
            raise

    async def store(self, response: Response) -> None:
        """Store the response with the key, and delete some expired keys.

        Last in the transaction: expired keys may belong to other users, and a lock that is taken
        after theirs could lead to a deadlock with the deletion of an account.
        """
        await self.session.flush()
        set_etag_headers(self.request, response)
        headers = {name: response.headers.get(name) for name in STORED_HEADERS}
        values = {
            "status": response.status_code,
            "headers": {name: value for name, value in headers.items() if value is not None},
            "body": bytes(response.body),
        }
        await execute_write(self.session, STORE_RESPONSE, self._identity | values)
        await execute_write(self.session, DELETE_SOME_EXPIRED, {})

    @property
    def _identity(self) -> dict[str, Any]:
        assert self.key is not None
        return {
            "user": self.user_id,
            "path": get_route_path(self.request),
            "key_digest": hash_token(self.key),
        }

    async def _make_fingerprints(self) -> Sequence[str]:
        """Return the digest of the query and of the body, which FastAPI has read.

        A route that receives a file sets `body_digest` instead of it. A password could be guessed
        by the digest: with `keys` there is an HMAC of it under each secret key.
        """
        digest = sha256(self.request.url.query.encode() + b"\n")
        received: str | None = getattr(self.request.state, "body_digest", None)
        digest.update(await self.request.body() if received is None else received.encode())
        text = digest.hexdigest()
        return [text] if self.keys is None else self.keys.make_digests("fingerprint", text)


async def forget_opened_account(session: AsyncSession, user_id: int) -> None:
    """Delete the stored response that shows the address of an account that is erased.

    It belongs to the administrator who opened the account.
    """
    start = f'{{"id":{user_id},'.encode()
    is_shown = func.substr(col(IdempotencyKey.body), 1, len(start)) == start
    await session.exec(
        delete(IdempotencyKey).where(col(IdempotencyKey.route) == ACCOUNTS_ROUTE, is_shown)
    )


KeyHeader = Annotated[
    Annotated[
        str,
        # Validated by `parse_key()`; in quotation marks it is longer.
        WithJsonSchema(
            {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_KEY_LENGTH + 2,
                "examples": ["5f3c2d8e-9d0b-4c53-8a55-0c1c1d8e4a10"],
            }
        ),
    ]
    | None,
    Header(
        alias=HEADER,
        description="Creates once: for 24 hours, the same request with this key gets the stored "
        f"response, with `Idempotency-Replayed: true`. 1 to {MAX_KEY_LENGTH} visible ASCII "
        "characters, such as a UUID, in quotation marks or not.",
    ),
]


def read_key(request: Request) -> str | None:
    """Return the key of a request, if it has one. Raises InvalidIdempotencyKey."""
    lines = request.headers.getlist(HEADER)
    return parse_key(lines) if lines else None


async def get_creation(
    auth: CanWrite, session: SessionDep, request: Request, _: KeyHeader = None
) -> Creation:
    """Read the key after the token was checked. Raises InvalidIdempotencyKey."""
    return Creation(session, request, auth.user.id, read_key(request))


async def get_admin_creation(
    auth: AdminAuth,
    session: SessionDep,
    request: Request,
    keys: SecretKeysDep,
    _: KeyHeader = None,
) -> Creation:
    """Read the key after the token was checked. Raises InvalidIdempotencyKey."""
    return Creation(session, request, auth.user.id, read_key(request), keys)


CreationDep = Annotated[Creation, Depends(get_creation)]
AdminCreationDep = Annotated[Creation, Depends(get_admin_creation)]


async def claim_key(creation: CreationDep) -> None:
    await creation.claim()


async def reject_key(request: Request) -> None:
    """Raise IdempotencyKeyNotSupported if the request has a key."""
    if HEADER in request.headers:
        raise IdempotencyKeyNotSupported


CREATE_ONCE = Depends(claim_key)
# Of every other POST, so that no client relies on a header that is ignored.
NO_KEY = Depends(reject_key)


class IdempotentRoute(APIRoute):
    """A route that stores its response with the key that it claimed, before the commit."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if "POST" not in (self.methods or ()):
            return handle

        async def handle_once(request: Request) -> Response:
            try:
                response = await handle(request)
            except ResponseReplayed as replayed:
                return replayed.response
            creation: Creation | None = getattr(request.state, "creation", None)
            if creation is not None:
                await creation.store(response)
            return response

        return handle_once
