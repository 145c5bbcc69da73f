"""Personal tokens: scopes, expiry, listing and revocation."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from httpx import AsyncClient

from tests.support.clients import PASSWORD, ChangeUser, bearer

DEFAULT_SCOPES = ["posts:read", "posts:write", "users:read", "users:write"]


def time_in(**time: int) -> str:
    return (datetime.now(UTC) + timedelta(**time)).isoformat()


async def create_token(client: AsyncClient, **body: object) -> dict[str, Any]:
    response = await client.post("/users/me/tokens", json={"name": "Script", **body})
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


async def list_tokens(client: AsyncClient) -> list[dict[str, Any]]:
    page = (await client.get("/users/me/tokens")).json()
    assert page["total_count"] == len(page["results"])
    tokens: list[dict[str, Any]] = page["results"]
    return tokens


async def test_a_personal_token_is_returned_only_when_created(ann: AsyncClient):
    response = await ann.post("/users/me/tokens", json={"name": "Backup"})

    assert response.status_code == 201
    assert response.headers["Cache-Control"] == "no-store"
    token = response.json()
    assert token["name"] == "Backup"
    assert token["scopes"] == DEFAULT_SCOPES
    assert token["token_type"] == "bearer"
    (shown,) = await list_tokens(ann)
    names = ("id", "name", "scopes", "created_at", "expires_at", "last_used_at")
    assert shown == {name: token[name] for name in names}


async def test_a_personal_token_is_limited_to_its_scopes(ann: AsyncClient):
    token = await create_token(ann, scopes=["posts:write", "posts:write"])

    written = await ann.post(
        "/posts", json={"title": "Hello", "content": "World"}, headers=bearer(token["access_token"])
    )
    read = await ann.get("/users/me", headers=bearer(token["access_token"]))

    assert token["scopes"] == ["posts:write"]
    assert written.status_code == 201
    assert read.status_code == 403
    assert read.json()["type"] == "urn:blog-api:insufficient-scope"
    assert read.headers["WWW-Authenticate"] == (
        'Bearer error="insufficient_scope", scope="users:read"'
    )


async def test_reading_a_draft_requires_the_posts_read_scope(ann: AsyncClient):
    draft = {"title": "Hello", "content": "World", "published_at": None}
    post = (await ann.post("/posts", json=draft)).json()
    writer, reader = (
        await create_token(ann, scopes=["posts:write"]),
        await create_token(ann, scopes=["posts:read"]),
    )

    for path in (f"/posts/{post['id']}", "/posts/slug/hello"):
        assert (await ann.get(path, headers=bearer(writer["access_token"]))).status_code == 404
        assert (await ann.get(path, headers=bearer(reader["access_token"]))).status_code == 200


async def test_a_personal_token_expires_at_its_expires_at(ann: AsyncClient):
    token = await create_token(ann, expires_at=time_in(hours=1))

    with time_machine.travel(datetime.now(UTC) + timedelta(hours=1, seconds=1), tick=False):
        response = await ann.get("/users/me", headers=bearer(token["access_token"]))
        listed = await list_tokens(ann)

    assert response.status_code == 401
    assert listed == []


async def test_without_the_password_a_token_expires_with_the_current_token(
    ann: AsyncClient,
):
    short = await create_token(ann, scopes=["users:write"], expires_at=time_in(hours=1))

    body = {"name": "Longer", "scopes": ["users:write"], "expires_at": time_in(hours=2)}
    longer = await ann.post("/users/me/tokens", json=body, headers=bearer(short["access_token"]))
    same = await ann.post(
        "/users/me/tokens", json={"name": "Same"}, headers=bearer(short["access_token"])
    )

    assert longer.status_code == 422
    assert longer.json()["errors"][0]["loc"] == ["body", "expires_at"]
    assert same.status_code == 201
    assert same.json()["expires_at"] == short["expires_at"]
    assert same.json()["scopes"] == ["users:write"]


async def test_without_the_password_a_token_gets_no_more_scopes(
    ann: AsyncClient,
):
    narrow = await create_token(ann, scopes=["users:write"])

    body = {"name": "Wider", "scopes": ["users:write", "posts:write"]}
    response = await ann.post("/users/me/tokens", json=body, headers=bearer(narrow["access_token"]))

    assert response.status_code == 403
    assert 'scope="posts:write"' in response.headers["WWW-Authenticate"]
    assert len(await list_tokens(ann)) == 1


async def test_a_token_created_with_a_jwt_does_not_outlive_it(ann: AsyncClient):
    form = {"grant_type": "password", "username": "ann@example.com", "password": PASSWORD}
    headers = bearer((await ann.post("/token", data=form)).json()["access_token"])

    hour = {"name": "Script", "expires_at": time_in(hours=1)}
    longer = await ann.post("/users/me/tokens", json=hour, headers=headers)
    same = await ann.post("/users/me/tokens", json={"name": "Script"}, headers=headers)

    assert longer.status_code == 422
    assert datetime.fromisoformat(same.json()["expires_at"]) <= datetime.now(UTC) + timedelta(
        minutes=30
    )


async def test_with_the_password_a_token_may_last_up_to_a_year(ann: AsyncClient):
    long = await create_token(ann, expires_at=time_in(days=365), current_password=PASSWORD)

    too_long = await ann.post(
        "/users/me/tokens",
        json={"name": "Script", "expires_at": time_in(days=367), "current_password": PASSWORD},
    )
    with time_machine.travel(datetime.now(UTC) + timedelta(days=364), tick=False):
        later = await ann.get("/users/me", headers=bearer(long["access_token"]))

    assert too_long.status_code == 422
    assert later.status_code == 200


async def test_with_the_password_a_token_lasts_ninety_days_by_default(ann: AsyncClient):
    token = await create_token(ann, current_password=PASSWORD)

    life = datetime.fromisoformat(token["expires_at"]) - datetime.now(UTC)

    assert timedelta(days=89) < life <= timedelta(days=90)


async def test_with_the_password_a_token_may_have_any_scope_of_its_user(ann: AsyncClient):
    narrow = await create_token(ann, scopes=["users:write"])

    def body(scope: str) -> dict[str, object]:
        return {"name": "Script", "scopes": [scope], "current_password": PASSWORD}

    wider = await ann.post(
        "/users/me/tokens", json=body("posts:write"), headers=bearer(narrow["access_token"])
    )
    admin = await ann.post(
        "/users/me/tokens", json=body("admin"), headers=bearer(narrow["access_token"])
    )

    assert wider.json()["scopes"] == ["posts:write"]
    assert admin.status_code == 403


async def test_a_wrong_password_creates_no_token(ann: AsyncClient):
    body = {"name": "Script", "current_password": "wrong horse"}

    response = await ann.post("/users/me/tokens", json=body)

    assert response.status_code == 400
    assert response.json()["detail"] == "Incorrect password"
    assert await list_tokens(ann) == []


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["everything"]},
        {"name": "x", "scopes": "posts:read"},
        {"name": "x", "scopes": ["posts:read"] * 6},
        {"name": "x", "expires_at": "2020-01-01T00:00:00Z"},
        {"name": ""},
        {"scopes": ["posts:read"]},
    ],
)
async def test_invalid_token_fields_are_rejected(ann: AsyncClient, body: dict[str, object]):
    response = await ann.post("/users/me/tokens", json=body)

    assert response.status_code == 422
    assert await list_tokens(ann) == []


async def test_a_personal_token_can_be_revoked(ann: AsyncClient):
    revoked, other = await create_token(ann), await create_token(ann)

    response = await ann.delete(f"/users/me/tokens/{revoked['id']}")
    repeated = await ann.delete(f"/users/me/tokens/{revoked['id']}")

    assert response.status_code == 204
    assert repeated.status_code == 404
    assert repeated.json()["detail"] == "Token not found"
    assert (await ann.get("/users/me", headers=bearer(revoked["access_token"]))).status_code == 401
    assert (await ann.get("/users/me", headers=bearer(other["access_token"]))).status_code == 200


async def test_all_other_tokens_can_be_revoked(ann: AsyncClient):
    other, current = await create_token(ann), await create_token(ann)

    response = await ann.delete("/users/me/tokens", headers=bearer(current["access_token"]))

    assert response.status_code == 204
    assert (await ann.get("/users/me", headers=bearer(current["access_token"]))).status_code == 200
    assert (await ann.get("/users/me", headers=bearer(other["access_token"]))).status_code == 401
    assert (await ann.get("/users/me")).status_code == 401


async def test_a_delete_request_with_a_missing_id_revokes_nothing(ann: AsyncClient):
    token = await create_token(ann)

    for path in ("/users/me/tokens/", "/users/me/tokens%2F", "/api/v1/users/me/tokens/?x=1"):
        assert (await ann.delete(path)).status_code == 404

    assert (await ann.get("/users/me", headers=bearer(token["access_token"]))).status_code == 200


async def test_other_users_cannot_list_or_revoke_a_token(ann: AsyncClient, bob: AsyncClient):
    token = await create_token(ann)

    response = await bob.delete(f"/users/me/tokens/{token['id']}")
    await bob.delete("/users/me/tokens")

    assert response.status_code == 404
    assert await list_tokens(bob) == []
    assert await list_tokens(ann) != []


async def test_a_session_cannot_be_revoked_as_a_personal_token(ann: AsyncClient):
    token = await create_token(ann)

    # Sessions are rows of the same table.
    responses = [await ann.delete(f"/users/me/tokens/{token['id'] - n}") for n in (1, 2)]

    assert {response.status_code for response in responses} == {404}
    assert len(await list_tokens(ann)) == 1


async def test_a_new_password_revokes_personal_tokens(ann: AsyncClient):
    token = await create_token(ann)

    body = {"current_password": PASSWORD, "new_password": "battery staple"}
    await ann.put("/users/me/password", json=body)

    assert (await ann.get("/users/me", headers=bearer(token["access_token"]))).status_code == 401


async def test_a_personal_token_of_an_inactive_user_is_rejected(
    ann: AsyncClient, change_user: ChangeUser
):
    token = await create_token(ann)
    await change_user("ann@example.com", is_active=False)

    response = await ann.get("/users/me", headers=bearer(token["access_token"]))

    assert response.json()["detail"] == "Inactive user"


async def test_personal_tokens_are_paginated(ann: AsyncClient):
    for n in range(3):
        await create_token(ann, name=f"Script {n}")

    page = (await ann.get("/users/me/tokens?page=2&size=2")).json()

    assert page["total_count"] == 3
    assert [token["name"] for token in page["results"]] == ["Script 0"]


async def test_a_user_has_at_most_a_hundred_personal_tokens(ann: AsyncClient, bob: AsyncClient):
    soon = time_in(hours=1)
    first = await create_token(ann, expires_at=soon)
    for _ in range(99):
        await create_token(ann, expires_at=soon)

    response = await ann.post("/users/me/tokens", json={"name": "Script"})

    assert response.status_code == 409
    assert response.json()["type"] == "urn:blog-api:too-many-tokens"
    assert response.json()["detail"] == (
        "You have 100 personal tokens; revoke one to create another"
    )
    assert (await bob.post("/users/me/tokens", json={"name": "Script"})).status_code == 201
    await ann.delete(f"/users/me/tokens/{first['id']}")
    await create_token(ann, expires_at=soon)
    assert (await ann.post("/users/me/tokens", json={"name": "Script"})).status_code == 409
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=2)):
        await create_token(ann)
