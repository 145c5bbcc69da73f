"""Deletion of accounts by administrators: `DELETE /admin/users/{user_id}`."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import text
from sqlmodel import select

from blog_api import personal_data
from blog_api.accounts.models import IdempotencyKey
from blog_api.comments import service as comments
from blog_api.core.errors import ServiceUnavailable
from blog_api.db.session import Database
from blog_api.models import metadata
from blog_api.posts import bookmarks
from tests.support.clients import (
    ChangeUser,
    add_comment,
    assert_problem,
    client_of,
    id_of,
    log_in,
    publish,
    sign_up,
)
from tests.support.pictures import make_picture, upload
from tests.support.renderers import PausingRenderer

# Each with the column that names a user.
OWN_TABLES = {
    "posts": "user_id",
    "comments": "user_id",
    "bookmarks": "user_id",
    "follows": "user_id",
    "media_files": "user_id",
    "mails": "user_id",
    "tokens": "user_id",
    "idempotency_keys": "user_id",
    "name_keys": "user_id",
    "usernames": "user_id",
    "users": "id",
}


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make accounts with two posts, comments, bookmarks or pictures large ones."""
    for module in (comments, bookmarks, personal_data):
        monkeypatch.setattr(module, "BATCH_SIZE", 2)


async def delete_account(admin: AsyncClient, user_id: int) -> Response:
    return await admin.delete(f"/admin/users/{user_id}")


async def count_rows(app: FastAPI, user_id: int) -> dict[str, int]:
    """Return the tables that have rows of a user, with their numbers."""
    database: Database = app.state.database
    found = {}
    async with database.session(writes=False) as session:
        connection = session.info["connection"]
        for table, column in OWN_TABLES.items():
            query = f"SELECT count(*) FROM {table} WHERE {column} = {user_id}"
            found[table] = await connection.scalar(text(query))
    return {table: number for table, number in found.items() if number}


async def read_removals(admin: AsyncClient) -> list[tuple[object, ...]]:
    entries = (await admin.get("/admin/audit?action=delete-user")).json()["results"]
    return [(one["admin_id"], one["user_id"]) for one in entries]


async def write_everything(ann: AsyncClient, bob: AsyncClient) -> dict[str, Any]:
    """Let Ann write of everything five times, and Bob answer; return his post and his answer."""
    of_bob = await publish(bob, title="Of Bob", tags=["Python"])
    await bob.put(f"/users/me/following/{await id_of(ann)}")
    await ann.put(f"/users/me/following/{await id_of(bob)}")
    for n in range(5):
        post = await publish(ann, title=f"Of Ann {n}", tags=["Python", f"Ann {n}"])
        await add_comment(bob, post)
        await bob.put(f"/users/me/bookmarks/{post['id']}")
        other = await publish(bob, title=f"Bookmarked {n}", published_at="2020-01-01T00:00:00Z")
        await ann.put(f"/users/me/bookmarks/{other['id']}")
        comment = await add_comment(ann, of_bob, f"Unanswered {n}")
        await add_comment(ann, of_bob, "An answer to oneself", comment)
        if n == 0:
            await add_comment(ann, of_bob, "A second one", comment)
        await upload(ann, make_picture(color=(n, 0, 0)))
    answered = await add_comment(ann, of_bob, "Answered")
    answer = await add_comment(bob, of_bob, "Answer", answered)
    return {"post": of_bob, "answered": answered, "answer": answer}


@pytest.mark.usefixtures("mailbox")
@pytest.mark.parametrize("is_large", [True, False])
async def test_an_administrator_deletes_an_account_and_all_that_its_user_wrote(
    empty_app: FastAPI,
    admin: AsyncClient,
    ann: AsyncClient,
    bob: AsyncClient,
    anonymous: AsyncClient,
    request: pytest.FixtureRequest,
    is_large: bool,
):
    if is_large:
        request.getfixturevalue("small_batches")
    ann_id = await id_of(ann)
    written = await write_everything(ann, bob)
    shared = await upload(bob, make_picture(color=(0, 0, 0)))
    only_ann = (await ann.get("/users/me/media")).json()["results"][0]
    post, answered = written["post"], written["answered"]
    lists = ("/posts", "/posts?q=Ann", "/tags", "/feed.json", f"/users/{ann_id}", "/users")
    # All of these are cached now.
    before = [(await anonymous.get(path)).json() for path in lists]

    response = await delete_account(admin, ann_id)

    assert (response.status_code, response.content) == (204, b"")
    assert await count_rows(empty_app, ann_id) == {}
    found, searched, tags, feed, profile, users = [
        (await anonymous.get(path)).json() for path in lists
    ]
    assert (before[0]["total_count"], found["total_count"]) == (11, 6)
    assert {one["user_name"] for one in found["results"]} == {"Bob"}
    assert (before[1]["total_count"], searched["total_count"]) == (5, 0)
    assert tags["results"] == [{"name": "Python", "post_count": 1}]
    assert len(feed["items"]) == 6
    assert profile["detail"] == "User not found"
    assert [user["name"] for user in users] == ["Admin", "Bob"]
    threads = (await anonymous.get(f"/posts/{post['id']}/comments")).json()["results"]
    (thread,) = threads
    assert (thread["id"], thread["content"], thread["is_deleted"]) == (answered["id"], None, True)
    assert [one["id"] for one in thread["answers"]] == [written["answer"]["id"]]
    assert (await anonymous.get(f"/posts/{post['id']}")).json()["comment_count"] == 1
    assert {one["bookmark_count"] for one in found["results"]} == {0}
    assert (await bob.get("/users/me/following")).json()["total_count"] == 0
    assert (await bob.get("/users/me/bookmarks")).json()["total_count"] == 0
    assert (await anonymous.get(shared["url"])).status_code == 200
    assert (await anonymous.get(only_ann["url"])).status_code == 404
    assert (await ann.get("/users/me")).status_code == 401
    assert await read_removals(admin) == [(await id_of(admin), ann_id)]
    assert_problem(await delete_account(admin, ann_id), 404)
    assert len(await read_removals(admin)) == 1
    # The address is free again; the username is not.
    await sign_up(ann, "Ann")
    assert (await ann.get("/users/me")).json()["username"] != "ann"


async def test_an_own_deletion_of_a_large_account_deletes_the_same(
    empty_app: FastAPI, ann: AsyncClient, bob: AsyncClient, small_batches: None
):
    ann_id = await id_of(ann)
    post = (await write_everything(ann, bob))["post"]

    body = {"current_password": "correct horse"}
    response = await ann.request("DELETE", "/users/me", json=body)

    assert response.status_code == 204
    assert await count_rows(empty_app, ann_id) == {}
    assert (await bob.get(f"/posts/{post['id']}")).json()["comment_count"] == 1


async def test_administrators_delete_neither_themselves_nor_without_their_role(
    admin: AsyncClient, ann: AsyncClient, bob: AsyncClient, change_user: ChangeUser
):
    own = await delete_account(admin, await id_of(admin))
    await change_user("ann@example.com", is_admin=True)
    await log_in(ann, "ann@example.com")
    other = await delete_account(admin, await id_of(ann))
    stale = await admin.delete(
        f"/admin/users/{await id_of(bob)}", headers={"If-Match": '"1-000000000000-0"'}
    )

    assert_problem(own, 409)
    assert own.json()["type"] == "urn:blog-api:cannot-delete-self"
    assert other.status_code == 204
    assert_problem(stale, 412)
    assert (await admin.get("/admin/stats")).json()["users"] == {
        "total": 2, "active": 2, "admins": 1,
    }  # fmt: skip
    for bad in (0, 2**31):
        assert_problem(await delete_account(admin, bad), 404, 422)


async def test_an_imported_and_a_deactivated_account_can_be_deleted(
    empty_app: FastAPI,
    admin: AsyncClient,
    ann: AsyncClient,
    bob: AsyncClient,
    change_user: ChangeUser,
):
    ids = [await id_of(ann), await id_of(bob)]
    without = {"email": None, "email_key": None, "mailbox_key": None, "password_hash": None}
    await publish(ann)
    await change_user("ann@example.com", **without)
    await change_user("bob@example.com", is_active=False)

    for user_id in ids:
        assert (await delete_account(admin, user_id)).status_code == 204
        assert await count_rows(empty_app, user_id) == {}

    assert (await admin.get("/admin/stats")).json()["posts"]["published"] == 0


async def test_an_interrupted_deletion_is_completed_by_another_request(
    empty_app: FastAPI,
    admin: AsyncClient,
    ann: AsyncClient,
    bob: AsyncClient,
    small_batches: None,
    monkeypatch: pytest.MonkeyPatch,
):
    ann_id = await id_of(ann)
    post = (await write_everything(ann, bob))["post"]

    async def fail(*_: object) -> bool:
        raise ServiceUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(personal_data, "ERASE_SOME", (comments.delete_some_posts, fail))
        interrupted = await delete_account(admin, ann_id)
    between = await count_rows(empty_app, ann_id)
    may_write = await ann.get("/users/me")
    completed = await delete_account(admin, ann_id)

    assert_problem(interrupted, 503)
    # The last batch was rolled back.
    assert between["posts"] == 1
    assert between["comments"] == 12
    assert may_write.status_code == 200
    assert completed.status_code == 204
    assert await count_rows(empty_app, ann_id) == {}
    assert (await bob.get(f"/posts/{post['id']}")).json()["comment_count"] == 1
    assert len(await read_removals(admin)) == 2


async def test_a_post_that_is_rendered_during_the_deletion_is_not_created(
    empty_app: FastAPI, admin: AsyncClient, ann: AsyncClient, pausing_renderer: PausingRenderer
):
    ann_id = await id_of(ann)
    body = {"title": "Hello", "content": "*two*"}
    creation = asyncio.ensure_future(ann.post("/posts", json=body))
    await pausing_renderer.has_begun.wait()

    deleted = await delete_account(admin, ann_id)
    pausing_renderer.may_continue.set()

    assert deleted.status_code == 204
    assert_problem(await creation, 401)
    assert await count_rows(empty_app, ann_id) == {}


async def test_requests_during_the_deletion_leave_nothing_behind(
    empty_app: FastAPI, admin: AsyncClient, ann: AsyncClient, bob: AsyncClient, small_batches: None
):
    ann_id, bob_id = await id_of(ann), await id_of(bob)
    written = await write_everything(ann, bob)
    post = written["post"]
    headers = dict(ann.headers)
    statuses: set[int] = set()

    async def write(n: int) -> None:
        async with client_of(empty_app) as client:
            client.headers.update(headers)
            for round_ in range(4):
                requests: list[tuple[str, str, dict[str, Any]]] = [
                    ("POST", "/posts", {"json": {"title": f"New {n}", "content": "Text"}}),
                    ("POST", f"/posts/{post['id']}/comments", {"json": {"content": "New"}}),
                    ("PUT", f"/users/me/bookmarks/{post['id']}", {}),
                    ("PUT", f"/users/me/following/{bob_id}", {}),
                    ("POST", "/media", {"files": {"file": make_picture(color=(0, n, round_))}}),
                    ("POST", "/users/me/tokens", {"json": {"name": "New"}}),
                    ("PATCH", "/users/me", {"json": {"bio": f"{n}"}}),
                ]
                for method, path, values in requests[n:] + requests[:n]:
                    statuses.add((await client.request(method, path, **values)).status_code)

    async def delete() -> int:
        response = await delete_account(admin, ann_id)
        while response.status_code == 503:
            response = await delete_account(admin, ann_id)
        return response.status_code

    deleted, *_ = await asyncio.gather(delete(), *(write(n) for n in range(4)))

    assert deleted == 204
    assert 401 in statuses
    assert statuses <= {200, 201, 204, 401, 404, 409, 503}, statuses
    assert await count_rows(empty_app, ann_id) == {}
    shown = (await bob.get(f"/posts/{post['id']}")).json()
    assert (shown["comment_count"], shown["bookmark_count"]) == (1, 0)
    assert (await bob.get("/posts")).json()["total_count"] == 6


async def test_two_administrators_delete_one_account_at_once(
    empty_app: FastAPI,
    admin: AsyncClient,
    ann: AsyncClient,
    bob: AsyncClient,
    change_user: ChangeUser,
    small_batches: None,
):
    ann_id = await id_of(ann)
    post = (await write_everything(ann, bob))["post"]
    async with client_of(empty_app) as carl:
        await sign_up(carl, "Carl")
        await change_user("carl@example.com", is_admin=True)
        await log_in(carl, "carl@example.com")

        responses = await asyncio.gather(*(delete_account(one, ann_id) for one in (admin, carl)))

    assert sorted(one.status_code for one in responses) in ([204, 404], [204, 503])
    shown = (await bob.get(f"/posts/{post['id']}")).json()
    assert (shown["comment_count"], shown["bookmark_count"]) == (1, 0)
    assert await count_rows(empty_app, ann_id) == {}


async def test_other_writers_take_turns_with_a_large_deletion(
    admin: AsyncClient,
    ann: AsyncClient,
    bob: AsyncClient,
    small_batches: None,
    monkeypatch: pytest.MonkeyPatch,
):
    post = (await write_everything(ann, bob))["post"]
    events: list[str] = []
    tasks: list[asyncio.Task[None]] = []

    async def bookmark() -> None:
        assert (await bob.put(f"/users/me/bookmarks/{post['id']}")).status_code == 204
        events.append("bookmark")

    def record(erase_some: Callable[..., Awaitable[bool]]) -> Callable[..., Awaitable[bool]]:
        async def erase_and_record(*args: Any) -> bool:
            if not tasks:
                tasks.append(asyncio.create_task(bookmark()))
            events.append("batch")
            return await erase_some(*args)

        return erase_and_record

    monkeypatch.setattr(
        personal_data, "ERASE_SOME", [record(one) for one in personal_data.ERASE_SOME]
    )
    response = await delete_account(admin, await id_of(ann))

    assert response.status_code == 204
    await tasks[0]
    assert events.count("batch") > 10
    assert "bookmark" in events[:-1]


async def test_the_stored_response_that_shows_the_address_is_deleted_too(
    empty_app: FastAPI, admin: AsyncClient
):
    ids = []
    for name in ("carl", "dora"):
        body = {"email": f"{name}@example.com", "name": name, "password": "battery staple"}
        opened = await admin.post("/admin/users", json=body, headers={"Idempotency-Key": name})
        ids.append(opened.json()["id"])

    assert (await delete_account(admin, ids[0])).status_code == 204

    async with empty_app.state.database.session(writes=False) as session:
        stored = (await session.exec(select(IdempotencyKey.body))).all()
    assert [json.loads(body)["id"] for body in stored if body] == ids[1:]


@pytest.mark.parametrize("limit", ["MAX_DELETED_COMMENTS", "MAX_LISTED_BYTES"])
async def test_a_batch_of_posts_is_bounded_by_what_it_contains(
    empty_app: FastAPI,
    admin: AsyncClient,
    ann: AsyncClient,
    bob: AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
):
    monkeypatch.setattr(comments, limit, 1)
    for n in range(3):
        post = await publish(ann, title=f"{n}")
        for _ in range(2):
            comment = await add_comment(bob, post)
            # Not in `comment_count` any more.
            await ann.delete(f"/comments/{comment['id']}/approval")
    ann_id = await id_of(ann)

    async with empty_app.state.database.session(writes=True) as session:
        more = [await comments.delete_some_posts(session, ann_id) for _ in range(3)]

    assert more == [True, True, False]
    assert await count_rows(empty_app, ann_id) == {
        "tokens": 1,
        "name_keys": 1,
        "usernames": 1,
        "users": 1,
    }


def test_every_table_that_names_a_user_is_counted_here():
    names = {
        table.name
        for table in metadata.sorted_tables
        for key in table.foreign_keys
        if key.column.table.name == "users" and key.parent.name == "user_id"
    }

    assert names | {"users"} == OWN_TABLES.keys()
