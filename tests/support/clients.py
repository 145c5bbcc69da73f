"""Applications and clients of the tests, and the requests that most tests make."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol
from uuid import UUID

from anyio import sleep
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response

from blog_api.app import create_app
from blog_api.core.settings import Settings

PASSWORD = "correct horse"
ALL_SCOPES = "users:read users:write posts:read posts:write admin"
SECRET_KEY = "for the tests and nothing but the tests"

# The minimum that OWASP recommends, and less, which only an in-memory database allows.
MINIMUM_HASHING = {"argon2_memory_kib": 19_456, "argon2_passes": 2, "argon2_lanes": 1}
CHEAP_HASHING = {"argon2_memory_kib": 8, "argon2_passes": 1, "argon2_lanes": 1}


class ChangeUser(Protocol):
    """The fixture `change_user`."""

    async def __call__(self, email: str, /, **values: object) -> None: ...


def make_settings(**values: object) -> Settings:
    """Return settings that ignore `.env` files."""
    given: dict[str, Any] = {
        "_env_file": None,
        "secret_key": SECRET_KEY,
        # All tests come from one address.
        "rate_limit_enabled": False,
        # The default on SQLite is `console://`.
        "mail_url": None,
        **values,
    }
    return Settings(**given)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[FastAPI]:
    """Yield an application between its startup and its shutdown."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


def client_of(app: FastAPI, address: str = "127.0.0.1") -> AsyncClient:
    transport = ASGITransport(app, client=(address, 1))
    return AsyncClient(transport=transport, base_url="http://test")


def assert_problem(response: Response, *statuses: int) -> None:
    """Check for a problem document that has one of these statuses and echoes no value."""
    assert response.status_code in statuses, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    problem = response.json()
    assert problem.keys() - {"errors"} == {"type", "title", "status", "detail", "instance"}
    assert problem["type"].startswith("urn:blog-api:")
    assert problem["status"] == response.status_code
    assert problem["instance"] == f"urn:uuid:{UUID(response.headers['X-Request-ID'])}"
    assert ("errors" in problem) == (response.status_code == 422)
    assert len(problem.get("errors", [])) <= 20
    assert "hunter2" not in response.text
    assert PASSWORD not in response.text


def bearer(token: str) -> dict[str, str]:
    """Return the headers that present a token."""
    return {"Authorization": f"Bearer {token}"}


async def request_with_retry(
    client: AsyncClient, method: str, path: str, **values: Any
) -> Response:
    """Send a request again until its response is not 503."""
    while True:
        response = await client.request(method, path, **values)
        if response.status_code != 503:
            return response
        await sleep(0.1)


async def sign_up(client: AsyncClient, name: str) -> None:
    """Create an account and log the client in."""
    body = {"email": f"{name.lower()}@example.com", "name": name, "password": PASSWORD}
    response = await client.post("/sign-up", json=body)
    assert response.status_code == 200, response.text
    client.headers.update(bearer(response.json()["token"]["access_token"]))


async def log_in(client: AsyncClient, email: str, scope: str = ALL_SCOPES) -> None:
    """Log the client in to an existing account."""
    form = {"username": email, "password": PASSWORD, "scope": scope}
    response = await client.post("/auth", data=form)
    assert response.status_code == 200, response.text
    client.headers.update(bearer(response.json()["access_token"]))


async def id_of(client: AsyncClient) -> int:
    """Return the id of the account that the client is logged in to."""
    user_id: int = (await client.get("/users/me")).json()["id"]
    return user_id


async def publish(client: AsyncClient, **values: object) -> dict[str, Any]:
    """Create a post with these values."""
    response = await client.post("/posts", json={"title": "Hello", "content": "World"} | values)
    assert response.status_code == 201, response.text
    post: dict[str, Any] = response.json()
    return post


async def add_comment(
    client: AsyncClient, post: dict[str, Any], content: str = "Hi", to: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Comment on a post, or answer another comment on it."""
    body = {"content": content, "parent_id": to and to["id"]}
    response = await client.post(f"/posts/{post['id']}/comments", json=body)
    assert response.status_code == 201, response.text
    comment: dict[str, Any] = response.json()
    return comment
