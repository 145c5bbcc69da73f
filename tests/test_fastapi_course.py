"""A FastAPI course, chapter by chapter, from the first request to an application under test.

Read the tests in order; each comment opens a chapter. The course's items are posts here. Every
test starts with empty tables and the people named in its arguments: `anonymous` sends no token,
`ann` and `admin` have signed up and send theirs.
"""

from datetime import UTC, datetime, timedelta

import jwt
import time_machine
from fastapi import FastAPI
from httpx import AsyncClient
from pwdlib import PasswordHash
from sqlalchemy import text

from tests.support.clients import (
    CHEAP_HASHING,
    PASSWORD,
    SECRET_KEY,
    bearer,
    client_of,
    id_of,
    make_settings,
    publish,
    running,
)

FORM = {"grant_type": "password", "username": "ann@example.com", "password": PASSWORD}
CARL = {"email": "carl@example.com", "name": "Carl", "password": PASSWORD}


# First steps, and handling errors.


async def test_the_root_links_to_the_documentation(anonymous: AsyncClient):
    links = (await anonymous.get("/")).json()["links"]

    assert (links["docs"], links["openapi"]) == ("/docs", "/openapi.json")
    assert (await anonymous.get(links["docs"])).headers["Content-Type"].startswith("text/html")


async def test_an_error_is_a_problem_document(anonymous: AsyncClient):
    response = await anonymous.get("/posts/1")

    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json() == {
        "type": "urn:blog-api:post-not-found",
        "title": "Post not found",
        "status": 404,
        "detail": "Post not found",
        "instance": f"urn:uuid:{response.headers['X-Request-ID']}",
    }


# Security: the OAuth2 password flow, JWT and scopes.


async def test_openapi_declares_the_password_flow(anonymous: AsyncClient):
    openapi = (await anonymous.get("/openapi.json")).json()

    flow = openapi["components"]["securitySchemes"]["OAuth2"]["flows"]["password"]
    assert flow["tokenUrl"] == flow["refreshUrl"] == "token"
    scopes = {"users:read", "users:write", "posts:read", "posts:write", "admin"}
    assert flow["scopes"].keys() == scopes
    assert {"OAuth2": ["users:read"]} in openapi["paths"]["/users/me"]["get"]["security"]


async def test_a_username_and_a_password_get_a_jwt(ann: AsyncClient):
    response = await ann.post("/token", data=FORM)

    granted = response.json()
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert granted == {
        "access_token": granted["access_token"],
        "token_type": "bearer",
        "expires_in": 1800,
        "refresh_token": granted["refresh_token"],
        "scope": "posts:read posts:write users:read users:write",
    }
    me = await ann.get("/users/me", headers=bearer(granted["access_token"]))
    assert me.json()["email"] == "ann@example.com"


async def test_a_jwt_is_signed_and_claims_its_user_scopes_and_expiry(ann: AsyncClient):
    granted = (await ann.post("/token", data=FORM | {"scope": "users:read"})).json()

    token = granted["access_token"]
    claims = jwt.decode(token, SECRET_KEY, algorithms=["HS256"], audience="blog-api")
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "at+jwt"}
    assert (claims["iss"], claims["sub"]) == ("blog-api", f"user:{await id_of(ann)}")
    assert claims["scope"] == "users:read"
    assert 1799 <= claims["exp"] - claims["iat"] <= 1800


async def test_a_wrong_password_is_rejected_with_an_oauth2_error(ann: AsyncClient):
    response = await ann.post("/token", data=FORM | {"password": "wrong horse"})

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert response.json()["error"] == "invalid_grant"
    assert response.json()["detail"] == "Incorrect username or password"


async def test_a_refresh_token_gets_the_next_jwt_and_works_only_once(ann: AsyncClient):
    granted = (await ann.post("/token", data=FORM)).json()
    refresh = {"grant_type": "refresh_token", "refresh_token": granted["refresh_token"]}

    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=31), tick=False):
        expired = await ann.get("/users/me", headers=bearer(granted["access_token"]))
        refreshed = await ann.post("/token", data=refresh)
        me = await ann.get("/users/me", headers=bearer(refreshed.json()["access_token"]))
    # Not at once: another tab of the browser may send it at the same moment.
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=32), tick=False):
        reused = await ann.post("/token", data=refresh)

    assert (expired.status_code, refreshed.status_code, me.status_code) == (401, 200, 200)
    assert (reused.status_code, reused.json()["error"]) == (400, "invalid_grant")


async def test_a_missing_scope_is_named_in_the_challenge(ann: AsyncClient):
    granted = (await ann.post("/token", data=FORM | {"scope": "posts:read"})).json()
    headers = bearer(granted["access_token"])

    accepted = await ann.get("/users/me/posts", headers=headers)
    rejected = await ann.get("/users/me", headers=headers)

    challenge = 'Bearer error="insufficient_scope", scope="users:read"'
    assert (accepted.status_code, rejected.status_code) == (200, 403)
    assert rejected.headers["WWW-Authenticate"] == challenge


# Middleware and CORS.


async def test_every_response_has_a_process_time_in_seconds(anonymous: AsyncClient):
    for path in ("/", "/posts", "/users/me", "/nowhere"):
        response = await anonymous.get(path)

        assert 0 < float(response.headers["X-Process-Time"]) < 60


async def test_only_pages_of_a_configured_origin_may_call_the_api():
    settings = make_settings(
        database_url="sqlite://", cors_origins=["https://a.example"], **CHEAP_HASHING
    )
    preflight = {"Access-Control-Request-Method": "POST"}

    async with running(settings) as app, client_of(app) as client:
        allowed = await client.options(
            "/posts", headers={"Origin": "https://a.example"} | preflight
        )
        other = await client.options("/posts", headers={"Origin": "https://b.example"} | preflight)
        error = await client.get("/posts/1", headers={"Origin": "https://a.example"})

    assert (allowed.status_code, other.status_code, error.status_code) == (200, 400, 404)
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert error.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert "Access-Control-Allow-Origin" not in other.headers


# SQL databases: users and their posts.


async def test_creating_a_user_stores_a_hash_and_returns_no_password(
    anonymous: AsyncClient, empty_app: FastAPI
):
    response = await anonymous.post("/users/", json=CARL)
    async with empty_app.state.database.session(writes=False) as session:
        stored = (await session.exec(text("SELECT password_hash FROM users"))).scalar_one()

    assert response.status_code == 201
    assert (response.json()["email"], response.json()["is_active"]) == ("carl@example.com", True)
    assert not [field for field in response.json() if "password" in field]
    assert PasswordHash.recommended().verify(PASSWORD, stored)


async def test_users_are_listed_with_skip_and_limit(anonymous: AsyncClient):
    for name in ("Carl", "Dora", "Emil"):
        await anonymous.post("/users/", json=CARL | {"name": name, "email": f"{name}@example.com"})

    (dora,) = (await anonymous.get("/users/?skip=1&limit=1")).json()
    shown = (await anonymous.get(f"/users/{dora['id']}")).json()
    missing = await anonymous.get("/users/999999")

    assert shown == dora
    assert dora == {
        "id": dora["id"],
        "username": "dora",
        "name": "Dora",
        "avatar_url": None,
        "bio": None,
        "post_count": 0,
        "created_at": dora["created_at"],
    }
    assert (missing.status_code, missing.json()["detail"]) == (404, "User not found")


async def test_a_user_has_posts(ann: AsyncClient, admin: AsyncClient):
    post = await publish(ann, title="An item")
    await publish(admin)

    response = await ann.get(f"/users/{post['user_id']}/posts")

    assert response.json() == {"total_count": 1, "results": [post], "next_cursor": None}


async def test_head_returns_the_headers_of_get(ann: AsyncClient):
    get, head = await ann.get("/users/me"), await ann.head("/users/me")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == get.headers["Content-Length"] != "0"


# Bigger applications: an admin router, and a prefix for the version.


async def test_the_admin_router_requires_an_administrator(ann: AsyncClient, admin: AsyncClient):
    response = await ann.get("/admin/stats")

    assert response.status_code == 403
    assert 'scope="admin"' in response.headers["WWW-Authenticate"]
    assert (await admin.get("/admin/stats")).status_code == 200


async def test_an_administrator_can_deactivate_a_user(ann: AsyncClient, admin: AsyncClient):
    user_id = await id_of(ann)

    await admin.patch(f"/admin/users/{user_id}", json={"is_active": False})

    for response in (await ann.get("/users/me"), await ann.post("/token", data=FORM)):
        assert (response.status_code, response.json()["detail"]) == (400, "Inactive user")
    (entry,) = (await admin.get("/admin/audit")).json()["results"]
    assert (entry["action"], entry["user_id"]) == ("deactivate-user", user_id)


async def test_every_route_is_also_available_under_a_version_prefix(ann: AsyncClient):
    path = f"/posts/{(await publish(ann))['id']}"

    assert (await ann.get(f"/api/v1{path}")).json() == (await ann.get(path)).json()


# Static files, and testing.


async def test_static_files_are_served_with_an_etag(anonymous: AsyncClient):
    path = "/static/favicon.svg"

    icon = await anonymous.get(path)
    cached = await anonymous.get(path, headers={"If-None-Match": icon.headers["ETag"]})

    assert (icon.status_code, icon.headers["Content-Type"]) == (200, "image/svg+xml")
    assert (cached.status_code, cached.content) == (304, b"")


async def test_each_application_has_settings_and_a_database_of_its_own(anonymous: AsyncClient):
    settings = make_settings(database_url="sqlite://", title="My blog", **CHEAP_HASHING)

    async with running(settings) as app, client_of(app) as client:
        await client.post("/users/", json=CARL)
        title = (await client.get("/")).json()["name"]
        users = (await client.get("/users/")).json()

    assert (title, len(users)) == ("My blog", 1)
    assert (await anonymous.get("/users/")).json() == []
