"""Only authors and administrators can write posts."""

import asyncio
from typing import Any, NamedTuple

import pytest
from httpx import AsyncClient, Response

from tests.support.clients import (
    ChangeSettings,
    ChangeUser,
    add_comment,
    assert_problem,
    bearer,
    id_of,
    log_in,
    publish,
    sign_up,
)
from tests.support.renderers import PausingRenderer

ANN = "ann@example.com"
TEXT = {"title": "Hello", "content": "World"}
KEY = {"Idempotency-Key": "a"}


class Request(NamedTuple):
    method: str
    path: str
    body: dict[str, Any] | None = None


# `{own}` is a post of the user, `{other}` one of somebody else.
WRITES = (
    Request("POST", "/posts", TEXT),
    Request("POST", "/posts", TEXT | {"published_at": None}),
    Request("PUT", "/posts/{own}", TEXT),
    Request("PATCH", "/posts/{own}", {"title": "Changed"}),
    Request("PATCH", "/posts/{own}", {}),
    Request("PATCH", "/posts/{other}", {"title": "Changed"}),
    Request("PATCH", "/posts/999999", {"title": "Changed"}),
    Request("POST", "/preview", {"content": "Hello"}),
    # Neither does it matter whether the body is valid.
    Request("POST", "/posts", {}),
)
OTHERS = (
    Request("POST", "/posts/{other}/comments", {"content": "Hi"}),
    Request("PUT", "/users/me/bookmarks/{other}"),
    Request("PUT", "/users/me/following/{author}"),
    Request("PATCH", "/users/me", {"bio": "Reads."}),
    Request("GET", "/users/me/posts"),
    Request("DELETE", "/posts/{own}"),
)


def assert_no_author(response: Response) -> None:
    assert_problem(response, 403)
    assert response.json()["type"] == "urn:blog-api:not-an-author"


@pytest.fixture
async def ids(ann: AsyncClient, bob: AsyncClient) -> dict[str, int]:
    own, other = await publish(ann), await publish(bob)
    return {"own": own["id"], "other": other["id"], "author": await id_of(bob)}


async def send(client: AsyncClient, request: Request, ids: dict[str, int]) -> Response:
    return await client.request(request.method, request.path.format(**ids), json=request.body)


async def test_a_user_who_is_no_author_writes_no_posts(
    ann: AsyncClient, change_user: ChangeUser, ids: dict[str, int]
):
    before = (await ann.get("/users/me/posts")).json()
    await change_user(ANN, is_author=False)

    for request in WRITES:
        assert_no_author(await send(ann, request, ids))

    assert (await ann.get("/users/me/posts")).json() == before
    assert (await ann.get("/users/me")).json()["is_author"] is False


@pytest.mark.parametrize("request_", OTHERS, ids=lambda one: f"{one.method} {one.path}")
async def test_a_user_who_is_no_author_may_do_everything_else(
    ann: AsyncClient, change_user: ChangeUser, ids: dict[str, int], request_: Request
):
    await change_user(ANN, is_author=False)

    assert (await send(ann, request_, ids)).is_success


async def test_a_user_who_is_no_author_changes_and_deletes_own_comments(
    ann: AsyncClient, bob: AsyncClient, change_user: ChangeUser
):
    post = await publish(bob)
    comment = await add_comment(ann, post)
    path = f"/comments/{comment['id']}"
    await change_user(ANN, is_author=False)

    assert (await ann.patch(path, json={"content": "Hello"})).status_code == 200
    assert (await ann.delete(path)).status_code == 204


async def test_a_former_author_deletes_own_posts_alone(
    ann: AsyncClient, change_user: ChangeUser, ids: dict[str, int]
):
    await change_user(ANN, is_author=False)

    refused = await ann.delete(f"/posts/{ids['other']}")
    stale = await ann.delete(f"/posts/{ids['own']}", headers={"If-Match": '"x"'})
    deleted = await ann.delete(f"/posts/{ids['own']}")

    assert refused.json()["type"] == "urn:blog-api:not-your-post"
    assert (stale.status_code, deleted.status_code) == (412, 204)
    assert (await ann.get(f"/posts/{ids['own']}")).status_code == 404


async def test_an_administrator_who_is_no_author_writes_posts(
    admin: AsyncClient, change_user: ChangeUser
):
    await change_user("admin@example.com", is_author=False)

    assert await publish(admin)


async def test_the_scope_and_the_address_are_checked_first(
    ann: AsyncClient, change_user: ChangeUser, change_settings: ChangeSettings
):
    await change_user(ANN, is_author=False)
    change_settings(require_verified_email=True)

    unverified = await ann.post("/posts", json=TEXT)
    await log_in(ann, ANN, "users:read")
    unscoped = await ann.post("/posts", json=TEXT)

    assert unverified.json()["type"] == "urn:blog-api:email-not-verified"
    assert unscoped.json()["type"] == "urn:blog-api:insufficient-scope"


async def test_a_former_author_gets_no_replay_of_a_post(ann: AsyncClient, change_user: ChangeUser):
    first = await ann.post("/posts", json=TEXT, headers=KEY)
    await change_user(ANN, is_author=False)
    refused = await ann.post("/posts", json=TEXT, headers=KEY)
    await change_user(ANN, is_author=True)
    replayed = await ann.post("/posts", json=TEXT, headers=KEY)

    assert_no_author(refused)
    assert "Idempotency-Replayed" not in refused.headers
    assert replayed.content == first.content


async def test_a_comment_is_created_once_by_a_user_who_is_no_author(
    ann: AsyncClient, bob: AsyncClient, change_user: ChangeUser
):
    path = f"/posts/{(await publish(bob))['id']}/comments"
    await change_user(ANN, is_author=False)

    first, second = [await ann.post(path, json={"content": "Hi"}, headers=KEY) for _ in range(2)]

    assert first.status_code == 201
    assert second.content == first.content


async def test_a_request_without_permission_does_not_use_up_its_key(
    ann: AsyncClient, change_user: ChangeUser
):
    await change_user(ANN, is_author=False)
    refused = await ann.post("/posts", json=TEXT, headers=KEY)
    await change_user(ANN, is_author=True)
    created = await ann.post("/posts", json=TEXT, headers=KEY)

    assert_no_author(refused)
    assert created.status_code == 201
    assert "Idempotency-Replayed" not in created.headers


@pytest.mark.parametrize(
    "request_",
    [
        Request("POST", "/posts", {"title": "Hello", "content": "*two*"}),
        Request("PUT", "/posts/{own}", {"title": "Hello", "content": "*two*"}),
        Request("PATCH", "/posts/{own}", {"content": "*two*"}),
        Request("POST", "/preview", {"content": "*two*"}),
    ],
    ids=lambda one: f"{one.method} {one.path}",
)
async def test_an_author_who_is_dismissed_while_a_text_is_rendered_writes_nothing(
    ann: AsyncClient,
    admin: AsyncClient,
    ids: dict[str, int],
    pausing_renderer: PausingRenderer,
    request_: Request,
):
    before = (await ann.get("/users/me/posts")).json()
    writing = asyncio.create_task(send(ann, request_, ids))
    await pausing_renderer.has_begun.wait()

    account = f"/admin/users/{await id_of(ann)}"
    dismissed = await admin.patch(account, json={"is_author": False})
    pausing_renderer.may_continue.set()

    assert dismissed.json()["is_author"] is False
    assert_no_author(await writing)
    assert (await ann.get("/users/me/posts")).json() == before


async def test_a_change_takes_effect_with_the_next_request_of_every_token(
    ann: AsyncClient, admin: AsyncClient
):
    account = f"/admin/users/{await id_of(ann)}"
    form = {"username": ANN, "password": "correct horse", "grant_type": "password"}
    jwt = (await ann.post("/token", data=form)).json()["access_token"]
    personal = (await ann.post("/users/me/tokens", json={"name": "Script"})).json()["access_token"]

    for is_author, status in ((False, 403), (True, 201), (True, 201)):
        await admin.patch(account, json={"is_author": is_author})

        for headers in ({}, bearer(jwt), bearer(personal)):
            assert (await ann.post("/posts", json=TEXT, headers=headers)).status_code == status


@pytest.mark.parametrize("path", ["/sign-up", "/users"])
@pytest.mark.parametrize("is_author", [False, True])
async def test_the_setting_says_whether_new_users_are_authors(
    anonymous: AsyncClient, change_settings: ChangeSettings, path: str, is_author: bool
):
    change_settings(new_users_are_authors=is_author)
    body = {"email": "carl@example.com", "name": "Carl", "password": "battery staple"}

    created = await anonymous.post(path, json=body)
    chosen = await anonymous.post(
        path, json=body | {"email": "dora@example.com", "is_author": True}
    )

    assert created.json()["is_author"] is is_author
    assert_problem(chosen, 422)


async def test_the_setting_leaves_existing_users_authors(
    ann: AsyncClient, anonymous: AsyncClient, change_settings: ChangeSettings
):
    change_settings(new_users_are_authors=False)
    await sign_up(anonymous, "Carl")

    assert await publish(ann)
    assert_no_author(await anonymous.post("/posts", json=TEXT))


async def test_users_cannot_make_authors_of_themselves(ann: AsyncClient, change_user: ChangeUser):
    await change_user(ANN, is_author=False)

    assert_problem(await ann.patch("/users/me", json={"is_author": True}), 422)


async def test_the_export_of_an_account_says_whether_it_is_that_of_an_author(
    ann: AsyncClient, change_user: ChangeUser
):
    await change_user(ANN, is_author=False)

    exported = await ann.get("/users/me/export")

    assert '"is_author":false' in exported.text.splitlines()[0]
