"""Sign-up, log-in, log-out and opaque tokens."""

import asyncio
from datetime import UTC, datetime, timedelta
from unicodedata import normalize

import pytest
import time_machine
from fastapi import FastAPI
from httpx import AsyncClient
from pwdlib import PasswordHash
from sqlmodel import delete, select

from blog_api.accounts.models import Token, User
from tests.support.clients import CHEAP_HASHING, PASSWORD, ChangeUser, bearer

SIGN_UP = {"email": "carl@example.com", "name": "Carl", "password": PASSWORD}
LOG_IN = {"username": "ann@example.com", "password": PASSWORD}
TWO_WEEKS = timedelta(weeks=2)
# The hash of "secret" in FastAPI's tutorial.
BCRYPT_HASH = "$2b$12$EixZaYVK1fsbw1ZfbX3OXePaWxn96p36WQoeG6Lruj3vjPGga31lW"


async def test_sign_up_creates_an_account_and_logs_in(anonymous: AsyncClient):
    response = await anonymous.post("/sign-up", json=SIGN_UP)

    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    account = response.json()
    assert account["email"] == "carl@example.com"
    assert account["name"] == "Carl"
    assert account["is_active"] is True
    assert account["is_admin"] is False
    assert account["token"]["token_type"] == "bearer"
    lifetime = datetime.fromisoformat(account["token"]["expires"]) - datetime.now(UTC)
    assert timedelta(seconds=-60) < lifetime - TWO_WEEKS <= timedelta()


async def test_the_token_of_a_sign_up_is_valid(anonymous: AsyncClient):
    token = (await anonymous.post("/sign-up", json=SIGN_UP)).json()["token"]["access_token"]

    response = await anonymous.get("/users/me", headers=bearer(token))

    assert response.status_code == 200
    assert response.json()["email"] == "carl@example.com"


@pytest.mark.parametrize(
    "email",
    ["carl@example.com", "CARL@Example.COM", "\uff43arl@example.com", "carl@EXAMPLE.com"],
    ids=["same", "capitals", "full-width", "domain"],
)
@pytest.mark.parametrize("path", ["/sign-up", "/users"])
async def test_an_email_can_sign_up_once_in_any_spelling(
    anonymous: AsyncClient, path: str, email: str
):
    await anonymous.post("/sign-up", json=SIGN_UP)

    response = await anonymous.post(path, json=SIGN_UP | {"email": email})

    assert response.status_code == 400
    assert response.json()["detail"] == "Email already registered"
    assert len((await anonymous.get("/users")).json()) == 1


async def test_an_email_keeps_its_spelling(anonymous: AsyncClient):
    response = await anonymous.post("/sign-up", json=SIGN_UP | {"email": "Carl@Example.COM"})

    assert response.json()["email"] == "Carl@Example.COM"


async def test_logging_in_returns_a_token(ann: AsyncClient):
    response = await ann.post("/auth", data=LOG_IN)

    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json().keys() == {"access_token", "expires", "token_type"}
    token = response.json()["access_token"]
    me = await ann.get("/users/me", headers=bearer(token))
    assert me.json()["name"] == "Ann"


async def test_logging_in_ignores_the_case_of_the_email(ann: AsyncClient):
    response = await ann.post("/auth", data=LOG_IN | {"username": "ANN@example.com"})

    assert response.status_code == 200


async def test_auth_ignores_other_oauth2_form_fields(ann: AsyncClient):
    form = LOG_IN | {"grant_type": "password", "scope": "", "client_id": "x", "hello": "world"}

    response = await ann.post("/auth", data=form)

    assert response.status_code == 200


@pytest.mark.parametrize(
    "form",
    [
        LOG_IN | {"password": "wrong horse"},
        LOG_IN | {"username": "unknown@example.com"},
        LOG_IN | {"username": "no address at all"},
    ],
)
async def test_wrong_credentials_are_rejected(ann: AsyncClient, form: dict[str, str]):
    response = await ann.post("/auth", data=form)

    assert response.status_code == 400
    assert response.json()["detail"] == "Incorrect email or password"


@pytest.mark.parametrize(
    "header",
    [
        "Bearer nonsense",
        "Bearer ",
        "bearer \xff\xfe",
        "Bearer " + "a" * 10_000,
        "Bearer a b",
    ],
)
async def test_an_invalid_token_is_rejected_on_public_routes_too(
    anonymous: AsyncClient, header: str
):
    headers = {b"Authorization": header.encode("latin-1")}

    for path in ("/users/me", "/posts", "/posts/1", "/posts/slug/x", "/users", "/users/1/posts"):
        response = await anonymous.get(path, headers=headers)

        assert response.status_code == 401, path
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.json()["detail"] == "Invalid authentication credentials"


async def test_a_missing_token_is_rejected_on_private_routes(anonymous: AsyncClient):
    response = await anonymous.get("/users/me")

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert response.json()["detail"] == "Not authenticated"


async def test_basic_authentication_is_ignored_on_public_routes(anonymous: AsyncClient):
    response = await anonymous.get("/posts", headers={"Authorization": "Basic YTpi"})

    assert response.status_code == 200


async def test_an_expired_token_is_rejected(ann: AsyncClient):
    start = datetime.now(UTC)

    with time_machine.travel(start + TWO_WEEKS - timedelta(minutes=1), tick=False):
        before = await ann.get("/users/me")
    with time_machine.travel(start + TWO_WEEKS + timedelta(seconds=1), tick=False):
        after = await ann.get("/users/me")

    assert before.status_code == 200
    assert after.status_code == 401


async def test_logging_in_deletes_the_expired_tokens_of_the_user(ann: AsyncClient):
    with time_machine.travel(datetime.now(UTC) + TWO_WEEKS + timedelta(seconds=1), tick=False):
        await ann.post("/auth", data=LOG_IN)

    response = await ann.get("/users/me")

    assert response.status_code == 401


async def test_logging_out_revokes_only_the_current_token(ann: AsyncClient):
    other = (await ann.post("/auth", data=LOG_IN)).json()["access_token"]

    response = await ann.delete("/auth")

    assert response.status_code == 204
    assert (await ann.get("/users/me")).status_code == 401
    assert (await ann.get("/users/me", headers=bearer(other))).status_code == 200


async def test_an_inactive_user_is_rejected_everywhere(ann: AsyncClient, change_user: ChangeUser):
    await change_user("ann@example.com", is_active=False)

    for response in (
        await ann.get("/users/me"),
        await ann.get("/posts"),
        await ann.post("/posts", json={"title": "Hello", "content": "World"}),
        await ann.delete("/auth"),
        await ann.post("/auth", data=LOG_IN),
    ):
        assert response.status_code == 400
        assert response.json()["detail"] == "Inactive user"


async def test_inactivity_is_not_revealed_to_a_wrong_password(
    ann: AsyncClient, change_user: ChangeUser
):
    await change_user("ann@example.com", is_active=False)

    response = await ann.post("/auth", data=LOG_IN | {"password": "wrong horse"})

    assert response.json()["detail"] == "Incorrect email or password"


async def test_a_bcrypt_hash_is_accepted_and_upgraded_to_argon2(
    ann: AsyncClient, change_user: ChangeUser, empty_app: FastAPI
):
    await change_user("ann@example.com", password_hash=BCRYPT_HASH)

    responses = [
        await ann.post("/auth", data=LOG_IN | {"password": password})
        for password in ("secret", "secret", PASSWORD, "s" * 73)
    ]

    async with empty_app.state.database.session(writes=False) as session:
        (user,) = (await session.exec(select(User))).all()
    assert [response.status_code for response in responses] == [200, 200, 400, 400]
    assert user.password_hash.startswith("$argon2id$")


async def test_concurrent_logins_with_an_outdated_hash_all_succeed(
    ann: AsyncClient, change_user: ChangeUser
):
    await change_user("ann@example.com", password_hash=BCRYPT_HASH)

    responses = await asyncio.gather(
        *(ann.post("/auth", data=LOG_IN | {"password": "secret"}) for _ in range(4)),
        ann.post("/users/me/tokens", json={"name": "Script"}),
    )

    assert [response.status_code for response in responses] == [200] * 4 + [201]


@pytest.mark.parametrize("username", ["ann@example.com", "unknown@example.com", "no address"])
async def test_a_failed_login_verifies_one_hash_for_any_username(
    ann: AsyncClient, empty_app: FastAPI, monkeypatch: pytest.MonkeyPatch, username: str
):
    hashing: PasswordHash = empty_app.state.password_hasher._hashing
    verify = hashing.verify_and_update
    parameters = []

    def record(password: str, password_hash: str) -> tuple[bool, str | None]:
        parameters.append(password_hash.split("$")[:4])
        return verify(password, password_hash)

    monkeypatch.setattr(hashing, "verify_and_update", record)
    await ann.post("/auth", data={"username": username, "password": "wrong horse"})

    memory, passes, lanes = CHEAP_HASHING.values()
    assert parameters == [["", "argon2id", "v=19", f"m={memory},t={passes},p={lanes}"]]


DECOMPOSED = normalize("NFD", "пароль йод")
COMPOSED = normalize("NFC", DECOMPOSED)


async def test_a_password_is_the_same_in_both_normal_forms(anonymous: AsyncClient):
    for name, chosen in (("ann", DECOMPOSED), ("bob", COMPOSED)):
        body = {"email": f"{name}@example.com", "name": name, "password": chosen}
        assert (await anonymous.post("/sign-up", json=body)).status_code == 200
        for sent in (DECOMPOSED, COMPOSED):
            form = {"username": f"{name}@example.com", "password": sent}
            assert (await anonymous.post("/auth", data=form)).status_code == 200


async def test_a_log_in_replaces_a_hash_of_an_unnormalized_password(
    ann: AsyncClient, change_user: ChangeUser, empty_app: FastAPI
):
    hashing: PasswordHash = empty_app.state.password_hasher._hashing
    await change_user("ann@example.com", password_hash=hashing.hash(DECOMPOSED))

    statuses = [
        (await ann.post("/auth", data=LOG_IN | {"password": password})).status_code
        for password in (COMPOSED, DECOMPOSED, COMPOSED)
    ]

    assert statuses == [400, 200, 200]


@pytest.mark.parametrize(("password", "count"), [(DECOMPOSED, 2), (COMPOSED, 1), ("wrong", 1)])
async def test_the_number_of_hashes_depends_on_the_password_alone(
    ann: AsyncClient,
    empty_app: FastAPI,
    change_user: ChangeUser,
    monkeypatch: pytest.MonkeyPatch,
    password: str,
    count: int,
):
    hashing: PasswordHash = empty_app.state.password_hasher._hashing
    await change_user("ann@example.com", password_hash=hashing.hash(COMPOSED))
    verify = hashing.verify_and_update
    hashes: list[str] = []

    def record(password: str, password_hash: str) -> tuple[bool, str | None]:
        hashes.append(password_hash)
        return verify(password, password_hash)

    monkeypatch.setattr(hashing, "verify_and_update", record)
    for username in ("ann@example.com", "unknown@example.com"):
        hashes.clear()
        await ann.post("/auth", data={"username": username, "password": password})
        assert len(hashes) == count


async def test_whitespace_around_an_email_address_is_ignored(ann: AsyncClient):
    body = {"email": " ann@example.com ", "name": "Ann", "password": PASSWORD}
    signed_up = await ann.post("/sign-up", json=body)
    logged_in = await ann.post("/auth", data=LOG_IN | {"username": " ann@example.com "})
    change = {"email": " new@example.com ", "current_password": PASSWORD}
    changed = await ann.patch("/users/me", json=change)

    assert signed_up.json()["detail"] == "Email already registered"
    assert logged_in.status_code == 200
    assert changed.json()["email"] == "new@example.com"


async def test_auth_and_token_delete_the_rows_of_expired_sessions(
    ann: AsyncClient, empty_app: FastAPI
):
    grant = {"grant_type": "password", **LOG_IN}
    for path, form in (("/auth", LOG_IN), ("/token", grant)):
        await ann.post(path, data=form)
        later = datetime.now(UTC) + TWO_WEEKS + timedelta(seconds=1)
        with time_machine.travel(later, tick=False):
            await ann.post(path, data=form)
            async with empty_app.state.database.session(writes=True) as session:
                assert len((await session.exec(select(Token))).all()) == 1
                await session.exec(delete(Token))


@pytest.mark.parametrize("password_hash", ["", "!", "$argon2id$nonsense", "$2b$12$nonsense"])
async def test_a_malformed_password_hash_never_matches(
    ann: AsyncClient, change_user: ChangeUser, password_hash: str
):
    await change_user("ann@example.com", password_hash=password_hash)

    response = await ann.post("/auth", data=LOG_IN)

    assert response.status_code == 400
