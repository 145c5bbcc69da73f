"""OAuth2: the password grant, JWT, refresh tokens and third-party clients."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
import time_machine
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from fastapi import FastAPI
from httpx import AsyncClient, Response
from oauthlib.oauth2 import LegacyApplicationClient
from requests_oauthlib import OAuth2Session
from sqlmodel import col, update

from blog_api.accounts.models import Token
from blog_api.core.security import hash_token
from tests.support.clients import (
    CHEAP_HASHING,
    MINIMUM_HASHING,
    PASSWORD,
    SECRET_KEY,
    ChangeUser,
    bearer,
    client_of,
    id_of,
    make_settings,
    running,
    sign_up,
)
from tests.support.processes import Server

FORM = {"grant_type": "password", "username": "ann@example.com", "password": PASSWORD}
DEFAULT_SCOPE = "posts:read posts:write users:read users:write"
NEW_PASSWORD = "battery staple"
GRACE = timedelta(seconds=10)
# The hash of "secret" in FastAPI's tutorial.
BCRYPT_HASH = "$2b$12$EixZaYVK1fsbw1ZfbX3OXePaWxn96p36WQoeG6Lruj3vjPGga31lW"


async def grant(client: AsyncClient, **form: str) -> dict[str, str]:
    """Log in by the password grant."""
    response = await client.post("/token", data=FORM | form)
    assert response.status_code == 200, response.text
    granted: dict[str, str] = response.json()
    return granted


async def refresh(client: AsyncClient, token: str, **form: str) -> Response:
    return await client.post(
        "/token", data={"grant_type": "refresh_token", "refresh_token": token, **form}
    )


async def status_of(client: AsyncClient, token: str) -> int:
    """Return the status of a request with this access token."""
    return (await client.get("/users/me", headers=bearer(token))).status_code


def assert_oauth2_error(response: Response, status: int, error: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["error"] == error


async def test_the_password_grant_returns_a_jwt_and_a_refresh_token(ann: AsyncClient):
    response = await ann.post("/token", data=FORM)

    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    granted = response.json()
    assert granted.keys() == {
        "access_token", "token_type", "expires_in", "refresh_token", "scope",
    }  # fmt: skip
    assert granted["token_type"] == "bearer"
    assert granted["expires_in"] == 1800
    assert granted["scope"] == DEFAULT_SCOPE
    assert await status_of(ann, granted["access_token"]) == 200


async def test_a_jwt_has_the_documented_header_and_claims(ann: AsyncClient):
    token = (await grant(ann, scope="posts:read"))["access_token"]

    claims = jwt.decode(token, SECRET_KEY, algorithms=["HS256"], audience="blog-api")

    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "at+jwt"}
    assert claims["iss"] == claims["aud"] == "blog-api"
    assert claims["sub"] == f"user:{await id_of(ann)}"
    assert claims["exp"] - claims["iat"] in (1799, 1800)
    assert claims["scope"] == "posts:read"
    assert claims["jti"]


async def test_every_jwt_has_its_own_jti(ann: AsyncClient):
    tokens = [await grant(ann) for _ in range(2)]

    first, second = (
        jwt.decode(t["access_token"], options={"verify_signature": False}) for t in tokens
    )
    assert first["jti"] != second["jti"]


@pytest.mark.parametrize(
    "form",
    [{"password": "wrong horse"}, {"username": "unknown@example.com"}, {"username": "no one"}],
)
async def test_wrong_credentials_are_an_invalid_grant(ann: AsyncClient, form: dict[str, str]):
    response = await ann.post("/token", data=FORM | form)

    assert_oauth2_error(response, 401, "invalid_grant")
    assert response.json()["detail"] == "Incorrect username or password"
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"username": "ann@example.com", "password": PASSWORD}, "invalid_request"),
        ({"grant_type": "password"}, "invalid_request"),
        ({"grant_type": "password", "username": "ann@example.com"}, "invalid_request"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "nonsense"}, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "a.b"}, "invalid_grant"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"grant_type": "authorization_code", "code": "x"}, "unsupported_grant_type"),
        (FORM | {"grant_type": "PASSWORD"}, "unsupported_grant_type"),
        (FORM | {"scope": "everything"}, "invalid_scope"),
        (FORM | {"scope": "admin"}, "invalid_scope"),
        (FORM | {"scope": "\u2003"}, "invalid_scope"),
        (FORM | {"scope": "posts:read\u00a0posts:write"}, "invalid_scope"),
        (FORM | {"scope": "users:read admin"}, "invalid_scope"),
    ],
)
async def test_an_invalid_token_request_returns_an_oauth2_error(
    ann: AsyncClient, form: dict[str, str], error: str
):
    response = await ann.post("/token", data=form)

    assert_oauth2_error(response, 400, error)


async def test_an_inactive_user_cannot_get_or_use_a_jwt(ann: AsyncClient, change_user: ChangeUser):
    granted = await grant(ann)
    await change_user("ann@example.com", is_active=False)

    for response in (
        await ann.post("/token", data=FORM),
        await refresh(ann, granted["refresh_token"]),
    ):
        assert_oauth2_error(response, 400, "invalid_grant")
        assert response.json()["detail"] == "Inactive user"
    me = await ann.get("/users/me", headers=bearer(granted["access_token"]))
    assert me.status_code == 400
    assert me.json()["detail"] == "Inactive user"


async def test_client_ids_and_unknown_fields_are_ignored(ann: AsyncClient):
    basic = {"Authorization": "Basic YTpi"}

    response = await ann.post("/token", data=FORM | {"client_id": "x", "a": "b"}, headers=basic)

    assert response.status_code == 200


async def test_a_refresh_token_returns_a_new_jwt(ann: AsyncClient):
    first = await grant(ann)

    second = (await refresh(ann, first["refresh_token"])).json()
    third = await refresh(ann, second["refresh_token"])

    assert third.status_code == 200
    assert third.headers["Cache-Control"] == "no-store"
    for granted in (first, second, third.json()):
        assert await status_of(ann, granted["access_token"]) == 200


async def test_reusing_a_refresh_token_later_revokes_its_session(ann: AsyncClient):
    first = await grant(ann)
    other = await grant(ann)
    second = (await refresh(ann, first["refresh_token"])).json()

    with time_machine.travel(datetime.now(UTC) + GRACE):
        reused = await refresh(ann, first["refresh_token"])

    assert_oauth2_error(reused, 400, "invalid_grant")
    assert reused.json()["detail"] == "Invalid refresh token"
    assert_oauth2_error(await refresh(ann, second["refresh_token"]), 400, "invalid_grant")
    assert await status_of(ann, first["access_token"]) == 401
    assert await status_of(ann, second["access_token"]) == 401
    assert await status_of(ann, other["access_token"]) == 200
    assert (await ann.get("/users/me")).status_code == 200


async def test_the_last_refresh_token_gives_its_successor_again_for_a_moment(ann: AsyncClient):
    first = await grant(ann)
    second = (await refresh(ann, first["refresh_token"])).json()

    with time_machine.travel(datetime.now(UTC) + GRACE - timedelta(seconds=1)):
        again = (await refresh(ann, first["refresh_token"])).json()

    assert again["refresh_token"] == second["refresh_token"] != first["refresh_token"]
    assert again["access_token"] != second["access_token"]
    for one in (second, again):
        assert await status_of(ann, one["access_token"]) == 200
    assert (await refresh(ann, second["refresh_token"])).status_code == 200


async def test_a_refresh_token_before_the_last_one_revokes_its_session(ann: AsyncClient):
    first = await grant(ann)
    second = (await refresh(ann, first["refresh_token"])).json()
    third = (await refresh(ann, second["refresh_token"])).json()

    assert_oauth2_error(await refresh(ann, first["refresh_token"]), 400, "invalid_grant")
    assert_oauth2_error(await refresh(ann, third["refresh_token"]), 400, "invalid_grant")


@pytest.mark.parametrize("made_up", ["{}", "{}.", "{}.x", "{}.é", "{}.{}"])
async def test_a_made_up_refresh_token_revokes_the_session_of_its_handle(
    ann: AsyncClient, made_up: str
):
    first = await grant(ann)
    second = (await refresh(ann, first["refresh_token"])).json()
    handle = first["refresh_token"].partition(".")[0]

    response = await refresh(ann, made_up.format(handle, handle))

    assert_oauth2_error(response, 400, "invalid_grant")
    assert_oauth2_error(await refresh(ann, second["refresh_token"]), 400, "invalid_grant")


async def test_without_a_grace_every_second_use_revokes_the_session():
    settings = make_settings(database_url="sqlite://", refresh_grace_seconds=0, **CHEAP_HASHING)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        first = await grant(ann)
        with time_machine.travel(datetime.now(UTC), tick=False):
            second = (await refresh(ann, first["refresh_token"])).json()
            assert_oauth2_error(await refresh(ann, first["refresh_token"]), 400, "invalid_grant")

        assert_oauth2_error(await refresh(ann, second["refresh_token"]), 400, "invalid_grant")


async def test_a_refresh_token_of_the_version_before_works_once_more(
    empty_app: FastAPI, ann: AsyncClient
):
    first = await grant(ann)
    handle = first["refresh_token"].partition(".")[0]
    # A version without numbers makes random tokens.
    old = f"{handle}.{'r' * 43}"
    async with empty_app.state.database.session(writes=True) as session:
        of_session = update(Token).where(col(Token.digest) == hash_token(handle))
        await session.exec(of_session.values(refresh_digest=hash_token(old), refresh_number=None))

    second = await refresh(ann, old)

    assert second.status_code == 200
    assert (await refresh(ann, second.json()["refresh_token"])).status_code == 200


async def test_a_new_secret_key_logs_nobody_out(tmp_path: Path):
    """Tokens of the previous key are accepted, even in the middle of a repeated refresh."""
    file = {"database_url": f"sqlite:///{tmp_path / 'blog.db'}", **MINIMUM_HASHING}
    async with running(make_settings(**file)) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        first = await grant(ann)
        second = (await refresh(ann, first["refresh_token"])).json()
    other_key = SECRET_KEY[::-1]
    rotated = make_settings(**file, secret_key=other_key, secret_key_previous=SECRET_KEY)
    async with running(rotated) as app, client_of(app) as ann:
        assert await status_of(ann, second["access_token"]) == 200
        repeated = (await refresh(ann, first["refresh_token"])).json()
        assert repeated["refresh_token"] == second["refresh_token"]
        third = (await refresh(ann, second["refresh_token"])).json()
        again = (await refresh(ann, second["refresh_token"])).json()
        assert again["refresh_token"] == third["refresh_token"]
    async with running(make_settings(**file, secret_key=other_key)) as app, client_of(app) as ann:
        # Signed by the previous key.
        assert await status_of(ann, second["access_token"]) == 401
        assert await status_of(ann, third["access_token"]) == 200
        assert (await refresh(ann, third["refresh_token"])).status_code == 200


async def test_the_current_refresh_token_needs_no_known_key(tmp_path: Path):
    file = {"database_url": f"sqlite:///{tmp_path / 'blog.db'}", **MINIMUM_HASHING}
    async with running(make_settings(**file)) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        first = await grant(ann)
    replaced = make_settings(**file, secret_key=SECRET_KEY[::-1])
    async with running(replaced) as app, client_of(app) as ann:
        assert (await refresh(ann, first["refresh_token"])).status_code == 200


async def test_a_refresh_can_narrow_scopes_but_not_widen_them(ann: AsyncClient):
    granted = await grant(ann, scope="posts:read users:read")

    wider = await refresh(ann, granted["refresh_token"], scope="posts:read posts:write")
    narrower = await refresh(ann, granted["refresh_token"], scope="posts:read")
    same = await refresh(ann, narrower.json()["refresh_token"])

    assert_oauth2_error(wider, 400, "invalid_scope")
    assert narrower.json()["scope"] == "posts:read"
    assert await status_of(ann, narrower.json()["access_token"]) == 403
    assert same.json()["scope"] == "posts:read users:read"


async def test_a_refresh_token_and_its_handle_are_rejected_as_access_tokens(ann: AsyncClient):
    granted = await grant(ann)
    handle = granted["refresh_token"].partition(".")[0]
    sid = jwt.decode(granted["access_token"], options={"verify_signature": False})["sid"]

    for secret in (granted["refresh_token"], handle, sid):
        assert await status_of(ann, secret) == 401


async def test_a_refresh_token_cannot_be_forged_from_the_claims_of_a_jwt(ann: AsyncClient):
    granted = await grant(ann)
    sid = jwt.decode(granted["access_token"], options={"verify_signature": False})["sid"]

    response = await refresh(ann, f"{sid}.nonsense")

    assert_oauth2_error(response, 400, "invalid_grant")
    assert await status_of(ann, granted["access_token"]) == 200


async def test_an_opaque_token_is_rejected_as_a_refresh_token(ann: AsyncClient):
    secret = ann.headers["Authorization"].removeprefix("Bearer ")

    response = await refresh(ann, secret)

    assert_oauth2_error(response, 400, "invalid_grant")
    assert (await ann.get("/users/me")).status_code == 200


async def test_a_jwt_expires_after_30_minutes_and_its_session_after_two_weeks(ann: AsyncClient):
    granted = await grant(ann)
    start = datetime.now(UTC)

    def travel(**time: int) -> time_machine.travel:
        return time_machine.travel(start + timedelta(**time), tick=False)

    with travel(minutes=29):
        assert await status_of(ann, granted["access_token"]) == 200
    with travel(minutes=31):
        assert await status_of(ann, granted["access_token"]) == 401
    with travel(days=13, hours=23, minutes=50):
        late = (await refresh(ann, granted["refresh_token"])).json()
        assert late["expires_in"] <= 600
    with travel(days=14, seconds=1):
        assert await status_of(ann, late["access_token"]) == 401
        assert_oauth2_error(await refresh(ann, late["refresh_token"]), 400, "invalid_grant")


async def test_logging_out_with_a_jwt_revokes_its_session(ann: AsyncClient):
    granted = await grant(ann)

    response = await ann.delete("/auth", headers=bearer(granted["access_token"]))

    assert response.status_code == 204
    assert await status_of(ann, granted["access_token"]) == 401
    assert_oauth2_error(await refresh(ann, granted["refresh_token"]), 400, "invalid_grant")
    assert (await ann.get("/users/me")).status_code == 200


async def test_a_new_password_revokes_all_sessions_but_the_current_one(ann: AsyncClient):
    current, other = await grant(ann), await grant(ann)

    response = await ann.put(
        "/users/me/password",
        json={"current_password": PASSWORD, "new_password": NEW_PASSWORD},
        headers=bearer(current["access_token"]),
    )

    assert response.status_code == 204
    assert await status_of(ann, current["access_token"]) == 200
    assert (await refresh(ann, current["refresh_token"])).status_code == 200
    assert await status_of(ann, other["access_token"]) == 401
    assert (await ann.get("/users/me")).status_code == 401


async def test_deleting_an_account_revokes_its_jwts(ann: AsyncClient):
    granted = await grant(ann)

    await ann.request("DELETE", "/users/me", json={"current_password": PASSWORD})

    assert await status_of(ann, granted["access_token"]) == 401
    assert_oauth2_error(await refresh(ann, granted["refresh_token"]), 400, "invalid_grant")


async def test_a_bcrypt_hash_is_accepted_by_the_password_grant(
    ann: AsyncClient, change_user: ChangeUser
):
    await change_user("ann@example.com", password_hash=BCRYPT_HASH)

    assert await status_of(ann, (await grant(ann, password="secret"))["access_token"]) == 200


async def test_auth_accepts_a_scope(ann: AsyncClient):
    login = {"username": "ann@example.com", "password": PASSWORD}

    narrow = await ann.post("/auth", data=login | {"scope": "posts:write"})
    rejected = await ann.post("/auth", data=login | {"scope": "admin"})

    assert await status_of(ann, narrow.json()["access_token"]) == 403
    assert_oauth2_error(rejected, 400, "invalid_scope")


@pytest.mark.processes
async def test_fifty_concurrent_refreshes_return_one_refresh_token(server: Server):
    async with server.client() as client:
        await sign_up(client, "Refreshing")
        granted = await grant(client, username="refreshing@example.com")
        responses = await asyncio.gather(
            *(refresh(client, granted["refresh_token"]) for _ in range(50))
        )
        statuses = [response.status_code for response in responses]
        assert statuses == [200] * 50
        (successor,) = {response.json()["refresh_token"] for response in responses}
        again = await refresh(client, successor)
        spent = await refresh(client, granted["refresh_token"])

    assert again.status_code == 200
    assert_oauth2_error(spent, 400, "invalid_grant")


@pytest.mark.processes
@pytest.mark.parametrize("library", ["authlib", "requests-oauthlib"])
async def test_third_party_oauth2_clients_can_log_in_refresh_and_call(
    server: Server, monkeypatch: pytest.MonkeyPatch, library: str
):
    email = f"{library}@example.com"
    # Both clients require TLS otherwise.
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")

    def make_session() -> Any:
        if library == "authlib":
            return AuthlibSession(scope="users:read")
        return OAuth2Session(client=LegacyApplicationClient(client_id="any"))

    def log_in_and_refresh(address: str) -> tuple[list[str], set[str]]:
        with make_session() as oauth:
            oauth.trust_env = False
            login = {"username": email, "password": PASSWORD}
            first = oauth.fetch_token(f"{address}/token", **login)
            before = oauth.get(f"{address}/users/me").json()
            second = oauth.refresh_token(f"{address}/token")
            after = oauth.get(f"{address}/users/me").json()
        return [before["email"], after["email"]], {first["access_token"], second["access_token"]}

    async with server.client() as client:
        await sign_up(client, library)
    emails, tokens = await asyncio.to_thread(log_in_and_refresh, server.address)

    assert emails == [email, email]
    assert len(tokens) == 2


async def test_openapi_lists_the_scopes_of_the_password_flow(app: FastAPI):
    async with client_of(app) as client:
        response = await client.get("/openapi.json")

    flows = response.json()["components"]["securitySchemes"]["OAuth2"]["flows"]
    assert flows["password"]["tokenUrl"] == flows["password"]["refreshUrl"] == "token"
    assert set(flows["password"]["scopes"]) == {*DEFAULT_SCOPE.split(), "admin"}
