"""`Idempotency-Key`: a post or a comment is created once, and its response is replayed."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import insert
from sqlmodel import col, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts import idempotency
from blog_api.accounts.models import IdempotencyKey
from blog_api.core.errors import Conflict
from blog_api.core.fields import utc_now
from blog_api.core.security import hash_token
from blog_api.db.session import connection_released
from blog_api.posts.service import insert_post
from tests.support.clients import (
    CHEAP_HASHING,
    PASSWORD,
    assert_problem,
    bearer,
    client_of,
    id_of,
    log_in,
    make_settings,
    publish,
    running,
)
from tests.support.databases import TEST_DATABASE_URL
from tests.support.statements import executions

POST = {"title": "Hello", "content": "World"}
COMMENT = {"content": "Hi"}
# Bodies of the routes that take a key; `{post}` is the id of a post.
CREATING = {"/posts": POST, "/posts/{post}/comments": COMMENT}
REJECTING: dict[str, dict[str, Any]] = {
    "/sign-up": {"json": {"email": "bob@example.com", "name": "Bob", "password": PASSWORD}},
    "/users": {"json": {"email": "bob@example.com", "password": PASSWORD}},
    "/auth": {"data": {"username": "ann@example.com", "password": PASSWORD}},
    "/token": {
        "data": {"username": "ann@example.com", "password": PASSWORD, "grant_type": "password"}
    },
    "/users/me/tokens": {"json": {"name": "Script"}},
}


async def create(client: AsyncClient, key: str, path: str = "/posts", **values: object) -> Response:
    """Send a post or a comment with a key."""
    body = (COMMENT if "comments" in path else POST) | values
    return await client.post(path, json=body, headers={"Idempotency-Key": key})


def assert_replayed(replayed: Response, first: Response) -> None:
    assert replayed.status_code == first.status_code == 201, (first.text, replayed.text)
    assert replayed.content == first.content
    for name in ("ETag", "Content-Type", "Cache-Control", "Location", "Content-Length"):
        assert replayed.headers.get(name) == first.headers.get(name), name
    assert "Idempotency-Replayed" not in first.headers
    assert replayed.headers["Idempotency-Replayed"] == "true"


async def count_posts(client: AsyncClient) -> int:
    count: int = (await client.get("/users/me/posts")).json()["total_count"]
    return count


async def read_keys(app: FastAPI) -> list[IdempotencyKey]:
    async with app.state.database.session(writes=False) as session:
        return list(await session.exec(select(IdempotencyKey)))


@pytest.mark.parametrize("path", CREATING)
async def test_a_retry_gets_the_response_of_the_first_request(ann: AsyncClient, path: str):
    post = await publish(ann)
    path = path.format(post=post["id"])
    without_key = await ann.post(path, json=COMMENT if "comments" in path else POST)

    first = await create(ann, "a", path)
    replays = [await create(ann, "a", path) for _ in range(2)]

    assert first.headers.keys() == without_key.headers.keys()
    assert first.headers["Content-Type"] == "application/json"
    for replayed in replays:
        assert_replayed(replayed, first)
    assert first.headers["ETag"] != without_key.headers["ETag"]
    number = 2 if "comments" in path else 3
    shown = await ann.get("/users/me/posts" if path == "/posts" else path)
    assert shown.json()["total_count"] == number


async def test_the_etag_of_a_replay_can_be_sent_as_if_match(ann: AsyncClient):
    await create(ann, "a")

    replayed = await create(ann, "a")
    path = f"/posts/{replayed.json()['id']}"
    headers = {"If-Match": replayed.headers["ETag"]}
    changed = await ann.patch(path, json={"content": "New"}, headers=headers)
    stale = await ann.patch(path, json={"content": "Newer"}, headers=headers)

    assert (changed.status_code, stale.status_code) == (200, 412)


async def test_without_a_key_each_request_creates(ann: AsyncClient, empty_app: FastAPI):
    responses = [await ann.post("/posts", json=POST) for _ in range(2)]

    assert responses[0].json()["id"] != responses[1].json()["id"]
    assert "Idempotency-Replayed" not in responses[1].headers
    assert await read_keys(empty_app) == []


@pytest.mark.parametrize("path", CREATING)
async def test_a_key_with_another_body_or_query_is_rejected(ann: AsyncClient, path: str):
    path = path.format(post=(await publish(ann))["id"])
    first = await create(ann, "a", path)

    rejected = [
        await create(ann, "a", path, content="Other"),
        await create(ann, "a", f"{path}?x=1"),
    ]
    replayed = await create(ann, "a", path)

    for response in rejected:
        assert_problem(response, 422)
        problem = response.json()
        assert problem["type"] == "urn:blog-api:idempotency-key-reused"
        assert problem["errors"][0]["loc"] == ["header", "Idempotency-Key"]
    assert_replayed(replayed, first)


async def test_each_user_has_keys_of_their_own(ann: AsyncClient, bob: AsyncClient):
    of_ann, of_bob = await create(ann, "a"), await create(bob, "a")

    assert of_ann.status_code == of_bob.status_code == 201
    assert "Idempotency-Replayed" not in of_bob.headers
    assert of_bob.json()["user_name"] == "Bob"
    assert (await create(bob, "a", content="Other")).status_code == 422


async def test_each_path_has_keys_of_its_own(ann: AsyncClient):
    posts = [(await create(ann, "a")).json()["id"], (await publish(ann))["id"]]

    comments = [await create(ann, "a", f"/posts/{post}/comments") for post in posts]

    assert [one.json()["post_id"] for one in comments] == posts
    assert all("Idempotency-Replayed" not in one.headers for one in comments)


@pytest.mark.parametrize("path", CREATING)
async def test_a_path_below_the_prefix_or_with_a_slash_is_the_same(ann: AsyncClient, path: str):
    path = path.format(post=(await publish(ann))["id"])
    first = await create(ann, "a", path)

    assert_replayed(await create(ann, "a", f"/api/v1{path}"), first)
    assert_replayed(await create(ann, "a", f"{path}/"), first)


async def test_another_token_of_the_user_may_send_the_retry(ann: AsyncClient, empty_app: FastAPI):
    first = await create(ann, "a")

    async with client_of(empty_app) as phone:
        await log_in(phone, "ann@example.com", "posts:write")
        assert_replayed(await create(phone, "a"), first)


async def test_a_replay_is_the_stored_response_even_if_the_post_is_gone(
    ann: AsyncClient, bob: AsyncClient
):
    post = await create(ann, "a")
    path = f"/posts/{post.json()['id']}"
    comment = await create(bob, "a", f"{path}/comments")

    await ann.patch(path, json={"content": "Changed"})
    assert_replayed(await create(ann, "a"), post)
    await ann.delete(path)

    assert_replayed(await create(ann, "a"), post)
    assert_replayed(await create(bob, "a", f"{path}/comments"), comment)
    assert (await ann.get(path)).status_code == 404


async def test_a_rejected_request_leaves_no_key(
    ann: AsyncClient, bob: AsyncClient, empty_app: FastAPI
):
    draft = await publish(bob, published_at=None)
    post = await publish(ann)
    comments = f"/posts/{post['id']}/comments"

    rejected = [
        await create(ann, "a", title=""),
        await create(ann, "a", unknown=1),
        await ann.post("/posts", content=b"{", headers={"Idempotency-Key": "a"}),
        await create(ann, "a", "/posts/2147483647/comments"),
        await create(ann, "a", f"/posts/{'9' * 300}/comments"),
        await create(ann, "a", f"/posts/{draft['id']}/comments"),
        await create(ann, "a", comments, content=""),
        await create(ann, "a", comments, parent_id=1_000_000),
    ]
    keys = await read_keys(empty_app)
    created = [await create(ann, "a"), await create(ann, "a", comments)]

    assert [one.status_code for one in rejected] == [422, 422, 422, 404, 422, 404, 422, 404]
    assert keys == []
    assert [one.status_code for one in created] == [201, 201]
    assert all("Idempotency-Replayed" not in one.headers for one in created)


async def test_a_rollback_leaves_no_key(
    ann: AsyncClient, empty_app: FastAPI, monkeypatch: pytest.MonkeyPatch
):
    async def insert_and_fail(*values: Any) -> None:
        await insert_post(*values)
        raise Conflict

    with monkeypatch.context() as patch:
        patch.setattr("blog_api.posts.routes.insert_post", insert_and_fail)
        failed = await create(ann, "a")
    keys = await read_keys(empty_app)
    created = await create(ann, "a")

    assert (failed.status_code, failed.json()["type"]) == (409, "urn:blog-api:conflict")
    assert keys == []
    assert created.status_code == 201
    assert await count_posts(ann) == 1


@pytest.mark.parametrize("path", CREATING)
async def test_concurrent_requests_with_one_key_create_once(ann: AsyncClient, path: str):
    post = await publish(ann)
    path = path.format(post=post["id"])

    responses = await asyncio.gather(*(create(ann, "a", path) for _ in range(10)))

    (first,) = (one for one in responses if "Idempotency-Replayed" not in one.headers)
    for response in responses:
        if response is not first:
            assert_replayed(response, first)
    assert await count_posts(ann) == (2 if path == "/posts" else 1)


async def test_concurrent_requests_with_one_key_and_other_bodies_create_once(ann: AsyncClient):
    responses = await asyncio.gather(
        *(create(ann, "a", content=f"World {number}") for number in range(5))
    )

    assert sorted(one.status_code for one in responses) == [201, 422, 422, 422, 422]
    assert await count_posts(ann) == 1


async def hold_key(session: Any, user_id: int, route: str = "/posts") -> None:
    """Insert the key `a` in a transaction that goes on."""
    values = {
        "user_id": user_id,
        "route": route,
        "digest": hash_token("a"),
        "fingerprint": "0" * 64,
        "expires_at": utc_now() + timedelta(hours=1),
    }
    await session.exec(insert(IdempotencyKey).values(values))


@pytest.mark.parametrize("path", CREATING)
async def test_a_request_that_meets_the_first_still_under_way_is_rejected_after_seconds(
    ann: AsyncClient, empty_app: FastAPI, monkeypatch: pytest.MonkeyPatch, path: str
):
    """On SQLite, all writers wait for the first: 503."""
    path = path.format(post=(await publish(ann))["id"])
    user_id = await id_of(ann)
    monkeypatch.setattr(idempotency, "MAX_WAIT_SECONDS", 0.2)
    monkeypatch.setattr(empty_app.state.database, "_write_timeout_seconds", 0.2)

    with suppress(Conflict):
        async with empty_app.state.database.session(writes=True) as session:
            await hold_key(session, user_id, path)
            rejected = await create(ann, "a", path)
            other = await create(ann, "b", path)
            raise Conflict
    created = await create(ann, "a", path)

    if TEST_DATABASE_URL is None:
        assert_problem(rejected, 503)
        assert_problem(other, 503)
    else:
        assert_problem(rejected, 409)
        assert rejected.json()["type"] == "urn:blog-api:idempotency-key-in-use"
        assert other.status_code == 201
    assert rejected.headers["Retry-After"] == "1"
    assert created.status_code == 201


async def test_a_request_waits_for_the_first_and_creates_if_that_is_rolled_back(
    ann: AsyncClient, empty_app: FastAPI
):
    user_id = await id_of(ann)

    with suppress(Conflict):
        async with empty_app.state.database.session(writes=True) as session:
            await hold_key(session, user_id)
            waiting = asyncio.create_task(create(ann, "a"))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            raise Conflict
    created = await waiting

    assert created.status_code == 201
    assert "Idempotency-Replayed" not in created.headers


async def test_a_key_expires_after_a_day(ann: AsyncClient, empty_app: FastAPI):
    first = await create(ann, "a")

    with time_machine.travel(utc_now() + timedelta(hours=23, minutes=59)):
        assert_replayed(await create(ann, "a"), first)
    with time_machine.travel(utc_now() + timedelta(hours=24, minutes=1)):
        second = await create(ann, "a", content="Other")
        assert_replayed(await create(ann, "a", content="Other"), second)

    assert second.json()["id"] != first.json()["id"]
    assert len(await read_keys(empty_app)) == 1


async def test_each_request_with_a_key_deletes_a_few_expired_ones(
    ann: AsyncClient, bob: AsyncClient, empty_app: FastAPI
):
    for number in range(12):
        await create(ann, f"old-{number}")
    await create(bob, "current")
    ann_id = await id_of(ann)
    async with empty_app.state.database.session(writes=True) as session:
        is_old = col(IdempotencyKey.user_id) == ann_id
        expired = utc_now() - timedelta(seconds=1)
        await session.exec(update(IdempotencyKey).where(is_old).values(expires_at=expired))

    counts = []
    for number in range(3):
        await create(bob, f"new-{number}")
        counts.append(len(await read_keys(empty_app)))

    assert counts == [12 + 1 + 1 - idempotency.SWEEP_SIZE, 3, 4]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("abc", '"abc"'),
        ('a"b\\c', r'"a\"b\\c"'),
        ("a" * 255, f'"{"a" * 255}"'),
        ("a" + '"' * 254, '"a' + r"\"" * 254 + '"'),
    ],
)
async def test_quoted_and_bare_keys_are_equal(ann: AsyncClient, one: str, other: str):
    first = await create(ann, one)

    assert_replayed(await create(ann, other), first)
    assert (await create(ann, "other")).json()["id"] != first.json()["id"]


@pytest.mark.parametrize(
    "key",
    [
        b"", b'""', b'"', b'"a', b'"a"b', b'"a" "b"', b'"a", "b"', b'"a";x=1', b"a b", b'"a b"',
        b'"a\\b"', b"a\tb", b"\xc3\xa9", b'"\xc3\xa9"', b"a" * 256, b'"' + b"a" * 256 + b'"',
        b"a" * 10_000,
    ],
)  # fmt: skip
async def test_a_malformed_key_is_rejected(ann: AsyncClient, empty_app: FastAPI, key: bytes):
    rejected = await ann.post("/posts", json=POST, headers=[(b"Idempotency-Key", key)])

    assert_problem(rejected, 400)
    assert rejected.json()["type"] == "urn:blog-api:invalid-idempotency-key"
    assert "255 visible ASCII" in rejected.json()["detail"]
    assert await read_keys(empty_app) == []
    assert await count_posts(ann) == 0


@pytest.mark.parametrize("path", CREATING)
async def test_two_keys_are_rejected(ann: AsyncClient, path: str):
    path = path.format(post=(await publish(ann))["id"])
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "a")]

    rejected = await ann.post(path, json=POST, headers=headers)

    assert_problem(rejected, 400)
    assert rejected.json()["type"] == "urn:blog-api:invalid-idempotency-key"


@pytest.mark.parametrize("path", REJECTING)
async def test_a_call_that_takes_no_key_says_so(ann: AsyncClient, path: str):
    rejected = await ann.post(path, headers={"Idempotency-Key": "a"}, **REJECTING[path])
    users = (await ann.get("/users")).json()
    accepted = await ann.post(path, **REJECTING[path])

    assert_problem(rejected, 400)
    assert rejected.json()["type"] == "urn:blog-api:idempotency-key-not-supported"
    assert len(users) == 1
    assert accepted.status_code in (200, 201)


async def test_the_token_is_checked_before_the_key(
    ann: AsyncClient, anonymous: AsyncClient, empty_app: FastAPI
):
    await create(ann, "a")
    async with client_of(empty_app) as reader:
        await log_in(reader, "ann@example.com", "posts:read users:write")
        without_scope = [await create(reader, "a"), await create(reader, "not valid")]
    without_token = [await create(anonymous, "a"), await create(anonymous, "not valid")]
    anonymous.headers.update(bearer("unknown"))
    with_bad_token = await create(anonymous, "a")

    for response in without_scope:
        assert response.json()["type"] == "urn:blog-api:insufficient-scope"
    for response in without_token:
        assert response.json()["type"] == "urn:blog-api:not-authenticated"
    assert with_bad_token.json()["type"] == "urn:blog-api:invalid-token"


async def test_other_methods_ignore_the_header(ann: AsyncClient):
    post = await publish(ann)
    headers = {"Idempotency-Key": "not valid"}
    path = f"/posts/{post['id']}"

    assert (await ann.get(path, headers=headers)).status_code == 200
    assert (await ann.patch(path, json={"content": "a"}, headers=headers)).status_code == 200
    assert (await ann.delete(path, headers=headers)).status_code == 204


async def test_only_digests_of_keys_are_stored(ann: AsyncClient, empty_app: FastAPI):
    await create(ann, "hunter2")

    (key,) = await read_keys(empty_app)

    assert (key.route, key.digest, key.status) == ("/posts", hash_token("hunter2"), 201)
    assert key.headers is not None
    assert key.headers.keys() == {"Cache-Control", "Content-Type", "ETag"}
    assert "hunter2" not in str(key.model_dump())


async def test_releasing_the_connection_after_the_claim_is_an_error(
    ann: AsyncClient, empty_app: FastAPI, monkeypatch: pytest.MonkeyPatch
):
    """The key would be committed without what the request creates."""

    async def release(session: AsyncSession, *_: object) -> None:
        async with connection_released(session):
            pass

    monkeypatch.setattr("blog_api.posts.routes.insert_post", release)

    failed = await create(ann, "a")

    assert_problem(failed, 500)
    assert await read_keys(empty_app) == []


async def test_keys_are_deleted_with_the_account(
    ann: AsyncClient, bob: AsyncClient, empty_app: FastAPI
):
    await create(ann, "a")
    await create(bob, "a")

    body = {"current_password": PASSWORD}
    deleted = await ann.request("DELETE", "/users/me", json=body)

    assert deleted.status_code == 204
    bob_id = await id_of(bob)
    assert [key.user_id for key in await read_keys(empty_app)] == [bob_id]


async def test_a_long_text_is_not_rendered_for_a_replay(
    ann: AsyncClient, empty_app: FastAPI, monkeypatch: pytest.MonkeyPatch
):
    first = await create(ann, "a", content="*Hi* " * 5_000)

    async def render(*_: object, **__: object) -> str:
        raise AssertionError

    monkeypatch.setattr(empty_app.state.renderer, "render", render)

    assert_replayed(await create(ann, "a", content="*Hi* " * 5_000), first)


async def test_a_replay_takes_two_statements(ann: AsyncClient, empty_app: FastAPI):
    await create(ann, "a")

    with executions(empty_app) as executed:
        await create(ann, "a")
    with executions(empty_app) as without_key:
        await ann.post("/posts", json=POST)

    statements = [one.statement for one in executed if one.statement[:5] not in ("BEGIN", "COMMI")]
    assert len(statements) == 2
    assert not any("idempotency" in one.statement for one in without_key)


async def test_a_page_of_another_origin_may_send_a_key_and_read_the_header():
    origin = "https://example.com"
    settings = make_settings(database_url="sqlite://", cors_origins=[origin], **CHEAP_HASHING)
    preflight = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, idempotency-key",
    }

    async with running(settings) as app, client_of(app) as client:
        allowed = await client.options("/posts", headers=preflight)
        shown = await client.get("/posts", headers={"Origin": origin})

    assert allowed.status_code == 200
    assert "idempotency-key" in allowed.headers["Access-Control-Allow-Headers"].lower()
    assert "Idempotency-Replayed" in shown.headers["Access-Control-Expose-Headers"]
