"""The user's own account: reading, changing and deleting it."""

import pytest
from httpx import AsyncClient

from tests.support.clients import PASSWORD, ChangeUser, bearer, log_in, sign_up

NEW_PASSWORD = "battery staple"
LOG_IN = {"username": "ann@example.com", "password": PASSWORD}


async def test_users_me_returns_the_account_of_the_token(ann: AsyncClient):
    response = await ann.get("/users/me")

    assert response.status_code == 200
    account = response.json()
    assert account["email"] == "ann@example.com"
    assert account["name"] == "Ann"
    assert not [field for field in account if "password" in field]


async def test_the_name_can_be_changed(ann: AsyncClient):
    post = (await ann.post("/posts", json={"title": "Hello", "content": "World"})).json()

    response = await ann.patch("/users/me", json={"name": "Anna"})

    assert response.status_code == 200
    assert response.json()["name"] == "Anna"
    assert response.json()["updated_at"] > response.json()["created_at"]
    assert (await ann.get(f"/posts/{post['id']}")).json()["user_name"] == "Anna"


async def test_an_empty_update_changes_nothing(ann: AsyncClient):
    before = (await ann.get("/users/me")).json()

    response = await ann.patch("/users/me", json={})

    assert response.status_code == 200
    assert response.json() == before


async def test_the_email_can_be_changed_with_the_current_password(ann: AsyncClient):
    body = {"email": "Anna@example.com", "current_password": PASSWORD}

    response = await ann.patch("/users/me", json=body)

    assert response.status_code == 200
    assert response.json()["email"] == "Anna@example.com"
    login = await ann.post("/auth", data=LOG_IN | {"username": "anna@example.com"})
    assert login.status_code == 200
    assert (await ann.post("/auth", data=LOG_IN)).status_code == 400


async def test_the_email_cannot_be_changed_without_the_current_password(ann: AsyncClient):
    missing = await ann.patch("/users/me", json={"email": "anna@example.com"})
    wrong = await ann.patch(
        "/users/me", json={"email": "anna@example.com", "current_password": NEW_PASSWORD}
    )

    assert missing.status_code == 422
    assert missing.json()["errors"][0]["loc"] == ["body", "current_password"]
    assert wrong.status_code == 400
    assert wrong.json()["detail"] == "Incorrect password"
    assert (await ann.get("/users/me")).json()["email"] == "ann@example.com"


async def test_the_email_of_another_account_cannot_be_used(ann: AsyncClient, bob: AsyncClient):
    body = {"email": "ANN@example.com", "name": "Robert", "current_password": PASSWORD}

    response = await bob.patch("/users/me", json=body)

    assert response.status_code == 400
    assert response.json()["detail"] == "Email already registered"
    assert (await bob.get("/users/me")).json()["name"] == "Bob"


@pytest.mark.parametrize(
    "body", [{"name": None}, {"email": None}, {"is_admin": True}, {"id": 7}, {"is_active": False}]
)
async def test_other_fields_of_an_account_cannot_be_changed(
    ann: AsyncClient, body: dict[str, object]
):
    before = (await ann.get("/users/me")).json()

    response = await ann.patch("/users/me", json=body)

    assert response.status_code == 422
    assert (await ann.get("/users/me")).json() == before


async def test_a_new_password_replaces_the_old_one(ann: AsyncClient):
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}

    response = await ann.put("/users/me/password", json=body)

    assert response.status_code == 204
    assert response.content == b""
    assert (await ann.post("/auth", data=LOG_IN)).status_code == 400
    new_login = await ann.post("/auth", data=LOG_IN | {"password": NEW_PASSWORD})
    assert new_login.status_code == 200


async def test_a_new_password_revokes_all_tokens_but_the_current_one(ann: AsyncClient):
    other = (await ann.post("/auth", data=LOG_IN)).json()["access_token"]
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}

    await ann.put("/users/me/password", json=body)

    assert (await ann.get("/users/me")).status_code == 200
    response = await ann.get("/users/me", headers=bearer(other))
    assert response.status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"current_password": NEW_PASSWORD, "new_password": NEW_PASSWORD}, 400),
        ({"current_password": PASSWORD, "new_password": "short"}, 422),
        ({"current_password": PASSWORD}, 422),
    ],
)
async def test_a_rejected_password_changes_nothing(
    ann: AsyncClient, body: dict[str, str], status: int
):
    response = await ann.put("/users/me/password", json=body)

    assert response.status_code == status
    assert (await ann.post("/auth", data=LOG_IN)).status_code == 200


async def test_deleting_an_account_deletes_its_posts(ann: AsyncClient, anonymous: AsyncClient):
    post = (await ann.post("/posts", json={"title": "Hello", "content": "World"})).json()

    response = await ann.request("DELETE", "/users/me", json={"current_password": PASSWORD})

    assert response.status_code == 204
    assert (await ann.get("/users/me")).status_code == 401
    assert (await anonymous.get(f"/posts/{post['id']}")).status_code == 404
    assert (await anonymous.get("/users")).json() == []
    assert (await anonymous.post("/auth", data=LOG_IN)).status_code == 400


async def test_an_account_cannot_be_deleted_with_a_wrong_password(ann: AsyncClient):
    response = await ann.request("DELETE", "/users/me", json={"current_password": "wrong"})

    assert response.status_code == 400
    assert (await ann.get("/users/me")).status_code == 200


async def test_an_email_can_sign_up_again_after_its_account_is_deleted(
    ann: AsyncClient, anonymous: AsyncClient
):
    await ann.request("DELETE", "/users/me", json={"current_password": PASSWORD})

    await sign_up(anonymous, "Ann")

    assert (await anonymous.get("/users/me")).json()["name"] == "Ann"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/users/me", None),
        ("PATCH", "/users/me", {"name": "Anna"}),
        ("PUT", "/users/me/password", {"current_password": "x", "new_password": NEW_PASSWORD}),
        ("DELETE", "/users/me", {"current_password": PASSWORD}),
        ("GET", "/users/me/posts", None),
        ("DELETE", "/auth", None),
    ],
)
async def test_account_routes_require_a_token_of_an_active_user(
    ann: AsyncClient,
    anonymous: AsyncClient,
    change_user: ChangeUser,
    method: str,
    path: str,
    body: dict[str, str] | None,
):
    await change_user("ann@example.com", is_active=False)

    assert (await anonymous.request(method, path, json=body)).status_code == 401
    assert (await ann.request(method, path, json=body)).json()["detail"] == "Inactive user"


@pytest.mark.parametrize(("scope", "status"), [("users:read", 403), ("users:read posts:read", 200)])
async def test_an_export_requires_the_scope_of_drafts(ann: AsyncClient, scope: str, status: int):
    await log_in(ann, "ann@example.com", scope=scope)

    assert (await ann.get("/users/me/export")).status_code == status
