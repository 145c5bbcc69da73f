"""OAuth2 for libraries: revocation and metadata."""

import asyncio
from pathlib import Path

import pytest
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url
from httpx import AsyncClient
from sqlalchemy import URL

from tests.support.clients import (
    CHEAP_HASHING,
    PASSWORD,
    assert_problem,
    bearer,
    client_of,
    make_settings,
    running,
    sign_up,
)
from tests.support.processes import Server
from tests.support.proxies import find_free_port

FORM = {"grant_type": "password", "username": "ann@example.com", "password": PASSWORD}
METADATA = "/.well-known/oauth-authorization-server"


async def status_of(client: AsyncClient, token: str) -> int:
    return (await client.get("/users/me", headers=bearer(token))).status_code


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_revoking_a_token_of_a_grant_ends_its_session(
    ann: AsyncClient, anonymous: AsyncClient, kind: str
):
    grant = (await ann.post("/token", data=FORM)).json()
    other = (await ann.post("/token", data=FORM)).json()

    response = await anonymous.post("/revoke", data={"token": grant[kind], "client_id": "app"})

    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["Cache-Control"] == "no-store"
    assert await status_of(ann, grant["access_token"]) == 401
    refreshed = await ann.post(
        "/token", data={"grant_type": "refresh_token", "refresh_token": grant["refresh_token"]}
    )
    assert refreshed.json()["error"] == "invalid_grant"
    assert await status_of(ann, other["access_token"]) == 200


async def test_opaque_and_personal_tokens_can_be_revoked(ann: AsyncClient, anonymous: AsyncClient):
    opaque = (await ann.post("/auth", data=FORM)).json()["access_token"]
    personal = (await ann.post("/users/me/tokens", json={"name": "Script"})).json()["access_token"]

    for token in (opaque, personal):
        hint = {"token_type_hint": "refresh_token"}
        assert (await anonymous.post("/revoke", data={"token": token} | hint)).status_code == 200
        assert await status_of(ann, token) == 401
    assert (await ann.get("/users/me")).status_code == 200


@pytest.mark.parametrize("token", ["unknown", "a.b.c", ".", "п" * 100, "a" * 4_000])
async def test_revoking_an_unknown_token_is_no_error(anonymous: AsyncClient, token: str):
    response = await anonymous.post("/revoke", data={"token": token})

    assert (response.status_code, response.content) == (200, b"")


async def test_the_digest_in_a_jwt_revokes_nothing(ann: AsyncClient, anonymous: AsyncClient):
    """The claims of a JWT are readable: only its signature is a permission."""
    grant = (await ann.post("/token", data=FORM)).json()
    header, claims, signature = grant["access_token"].split(".")

    for forged in (f"{header}.{claims}.", f"{header}.{claims}.{signature[::-1]}"):
        await anonymous.post("/revoke", data={"token": forged})

    assert await status_of(ann, grant["access_token"]) == 200


@pytest.mark.parametrize("form", [{}, {"token": ""}, {"token_type_hint": "access_token"}])
async def test_a_revocation_needs_a_token(anonymous: AsyncClient, form: dict[str, str]):
    response = await anonymous.post("/revoke", data=form)

    assert response.status_code == 400
    assert response.json()["error"] == "invalid_request"


async def test_the_metadata_names_the_endpoints():
    public_url = "https://example.com/blog"
    settings = make_settings(database_url="sqlite://", public_url=public_url, **CHEAP_HASHING)
    async with running(settings) as app, client_of(app) as client:
        response = await client.get(METADATA)

    metadata = response.json()
    assert metadata["issuer"] == public_url
    assert metadata["token_endpoint"] == f"{public_url}/token"
    assert metadata["revocation_endpoint"] == f"{public_url}/revoke"
    assert metadata["grant_types_supported"] == ["password", "refresh_token"]
    assert metadata["response_types_supported"] == ["none"]
    assert metadata["token_endpoint_auth_methods_supported"] == ["none"]
    assert "posts:write" in metadata["scopes_supported"]
    assert "public" in response.headers["Cache-Control"]


async def test_there_is_no_metadata_without_a_public_url(anonymous: AsyncClient):
    assert_problem(await anonymous.get(METADATA), 404)


@pytest.mark.processes
async def test_a_library_logs_in_refreshes_and_revokes_by_the_metadata_alone(
    tmp_path: Path, shared_url: URL, monkeypatch: pytest.MonkeyPatch
):
    # authlib requires TLS otherwise.
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    port = find_free_port()
    issuer = f"http://127.0.0.1:{port}"

    def log_in_refresh_and_revoke() -> tuple[list[str], list[int]]:
        with OAuth2Session() as http:
            http.trust_env = False
            address = get_well_known_url(issuer, external=True)
            data = http.get(address, withhold_token=True).json()
        metadata = AuthorizationServerMetadata(data)
        metadata.validate()
        assert metadata["issuer"] == issuer
        [method] = metadata["token_endpoint_auth_methods_supported"]
        with OAuth2Session("app", token_endpoint_auth_method=method, **metadata) as oauth:
            oauth.trust_env = False

            def read_status() -> int:
                status: int = oauth.get(f"{issuer}/users/me").status_code
                return status

            first = oauth.fetch_token(username="ann@example.com", password=PASSWORD)
            statuses = [read_status()]
            second = oauth.refresh_token()
            statuses.append(read_status())
            oauth.revoke_token(metadata["revocation_endpoint"], token_type_hint="refresh_token")
            statuses.append(read_status())
        return [first["refresh_token"], second["refresh_token"]], statuses

    with Server(tmp_path, shared_url, port=port, settings={"PUBLIC_URL": issuer}) as server:
        async with server.client() as client:
            await sign_up(client, "Ann")
        tokens, statuses = await asyncio.to_thread(log_in_refresh_and_revoke)

    assert tokens[0] != tokens[1]
    assert statuses == [200, 200, 401]
