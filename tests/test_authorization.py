"""Who may do what: every route, asked by everybody."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from httpx import AsyncClient

from blog_api.accounts.scopes import Scope
from tests.support.clients import ChangeUser, client_of, log_in, sign_up

WRONG = "wrong horse"
HELLO = {"title": "Hello", "content": "World"}
FORM = {"grant_type": "password", "username": "nobody@example.com", "password": WRONG}

# Who asks. The last has a token of its own account, with every scope but the one needed.
WHO = ("anonymous", "user", "owner", "other", "admin", "deactivated", "lacking")


class Case(NamedTuple):
    """What a route is asked, and the status that each gets, in the order of `WHO`."""

    statuses: tuple[int, ...]
    scope: str | None = None
    json: dict[str, object] | None = None
    form: dict[str, str] | None = None


def anybody(status: int = 200, **values: Any) -> Case:
    """For which a log-in makes no difference, but that a deactivated one is told so."""
    return Case((status, status, status, status, status, 400, status), **values)


def nobody_asked(status: int, **values: Any) -> Case:
    """Which looks at no token at all."""
    return Case((status,) * 7, **values)


def logged_in(status: int, scope: str | None, **values: Any) -> Case:
    """For everybody who is logged in, about their own account."""
    lacking = status if scope is None else 403
    return Case((401, status, status, status, status, 400, lacking), scope, **values)


def shown(status: int = 200) -> Case:
    """Of a draft, which nobody finds but its author, where their token is good for that."""
    return Case((404, 404, status, 404, 404, 400, 404), "posts:read")


def owned(status: int, scope: str = "posts:write", **values: Any) -> Case:
    """For the post's author alone; here it is a draft, which nobody else finds."""
    return Case((401, 404, status, 404, 404, 400, 403), scope, **values)


def administrators(status: int, **values: Any) -> Case:
    return Case((401, 403, 403, 403, status, 400, 403), "admin", **values)


# The post is a draft of the owner's; the user, the token and the comment are the owner's too.
MATRIX = {
    "GET /": nobody_asked(200),
    "GET /health/live": nobody_asked(200),
    "GET /health/ready": nobody_asked(200),
    "GET /docs": nobody_asked(200),
    "GET /redoc": nobody_asked(200),
    "POST /users": nobody_asked(422, json={"email": "carl@example.com", "password": "short"}),
    "POST /sign-up": nobody_asked(422, json={"email": "carl@example.com", "password": "short"}),
    "POST /auth": nobody_asked(400, form=FORM),
    "POST /token": nobody_asked(401, form=FORM),
    "DELETE /auth": logged_in(204, None),
    "GET /users": anybody(),
    "GET /users/{user_id}": anybody(),
    "GET /users/{user_id}/posts": anybody(),
    "GET /posts": anybody(),
    "GET /posts/{post_id}": shown(),
    "GET /posts/slug/{slug}": shown(),
    "GET /tags": anybody(),
    "GET /feed.json": anybody(),
    "GET /feed.atom": anybody(),
    "GET /feed.rss": anybody(),
    "GET /users/me": logged_in(200, "users:read"),
    "PATCH /users/me": logged_in(200, "users:write", json={"name": "Anna"}),
    "PUT /users/me/password": logged_in(
        400, "users:write", json={"current_password": WRONG, "new_password": "battery staple"}
    ),
    "DELETE /users/me": logged_in(400, "users:write", json={"current_password": WRONG}),
    "GET /users/me/tokens": logged_in(200, "users:read"),
    "POST /users/me/tokens": logged_in(201, "users:write", json={"name": "Script"}),
    "DELETE /users/me/tokens": logged_in(204, "users:write"),
    "DELETE /users/me/tokens/{token_id}": owned(204, "users:write"),
    "GET /users/me/export": logged_in(200, "users:read"),
    "GET /users/me/following": logged_in(200, "users:read"),
    # Nobody follows themselves.
    "PUT /users/me/following/{user_id}": Case((401, 204, 400, 204, 204, 400, 403), "users:write"),
    "DELETE /users/me/following/{user_id}": logged_in(204, "users:write"),
    "GET /users/me/bookmarks": logged_in(200, "users:read"),
    "PUT /users/me/bookmarks/{post_id}": owned(204, "users:write"),
    # Whoever has none has none: it does not tell whether there is such a post.
    "DELETE /users/me/bookmarks/{post_id}": logged_in(204, "users:write"),
    "GET /users/me/feed": logged_in(200, "posts:read"),
    "GET /users/me/posts": logged_in(200, "posts:read"),
    "POST /posts": logged_in(201, "posts:write", json=HELLO),
    "PUT /posts/{post_id}": owned(200, json=HELLO),
    "PATCH /posts/{post_id}": owned(200, json={"title": "Bye"}),
    "DELETE /posts/{post_id}": owned(204),
    "GET /posts/{post_id}/comments": shown(),
    "POST /posts/{post_id}/comments": owned(201, json={"content": "Hi"}),
    "GET /comments/{comment_id}": shown(),
    "GET /comments/{comment_id}/answers": shown(),
    "PATCH /comments/{comment_id}": owned(200, json={"content": "Hi"}),
    "DELETE /comments/{comment_id}": owned(204),
    "GET /admin/users": administrators(200),
    "GET /admin/users/{user_id}": administrators(200),
    "PATCH /admin/users/{user_id}": administrators(200, json={"is_active": True}),
    "GET /admin/posts": administrators(200),
    "GET /admin/posts/{post_id}": administrators(200),
    "DELETE /admin/posts/{post_id}": administrators(204),
    "PUT /admin/posts/{post_id}/takedown": administrators(200),
    "DELETE /admin/posts/{post_id}/takedown": administrators(200),
    "GET /admin/comments/{comment_id}": administrators(200),
    "DELETE /admin/comments/{comment_id}": administrators(204),
    "GET /admin/stats": administrators(200),
    "GET /admin/audit": administrators(200),
}


async def test_the_matrix_covers_every_route(app: FastAPI):
    routes = {
        f"{method} {route.path_format}"
        for route in iter_route_contexts(app.routes)
        if isinstance(route.original_route, APIRoute)
        for method in route.methods or ()
    }

    assert routes == MATRIX.keys()


async def test_openapi_declares_every_required_scope(app: FastAPI):
    for name, case in MATRIX.items():
        method, path = name.split()
        operation = app.openapi()["paths"].get(path, {}).get(method.lower(), {})
        declared = {
            scope for one in operation.get("security", []) for scope in one.get("OAuth2", [])
        }
        # Where a log-in is optional, a scope shows more, and is not needed.
        needed = {case.scope} if case.statuses[-1] == 403 else set()

        assert declared == needed, name


@asynccontextmanager
async def somebody(
    app: FastAPI, change_user: ChangeUser, who: str, scope: str | None
) -> AsyncIterator[AsyncClient]:
    """A client of who asks."""
    async with client_of(app) as client:
        if who in ("user", "other", "admin", "deactivated"):
            await sign_up(client, who.capitalize())
        match who:
            case "other":
                # Somebody who has a post too.
                await client.post("/posts", json=HELLO)
            case "admin":
                await change_user("admin@example.com", is_admin=True)
                await log_in(client, "admin@example.com")
            case "deactivated":
                await change_user("deactivated@example.com", is_active=False)
            case "owner":
                await log_in(client, "ann@example.com", "")
            case "lacking":
                await change_user("ann@example.com", is_admin=True)
                all_but = {one.value for one in Scope} - {scope}
                await log_in(client, "ann@example.com", " ".join(sorted(all_but)))
        yield client


async def make_things(owner: AsyncClient, path: str) -> dict[str, object]:
    """New ones of the owner's for what a path names: whoever asked before may have had the last."""
    things: dict[str, object] = {"user_id": (await owner.get("/users/me")).json()["id"]}
    if "{token_id}" in path:
        token = await owner.post("/users/me/tokens", json={"name": "Script"})
        things["token_id"] = token.json()["id"]
    if "{user_id}" in path or "{token_id}" in path:
        return things
    post = (await owner.post("/posts", json=HELLO | {"published_at": None})).json()
    things |= {"post_id": post["id"], "slug": post["slug"]}
    if "{comment_id}" in path:
        comment = await owner.post(f"/posts/{post['id']}/comments", json={"content": "Hello"})
        things["comment_id"] = comment.json()["id"]
    return things


@pytest.mark.parametrize("name", MATRIX.keys())
async def test_each_kind_of_user_gets_the_status_in_the_matrix(
    empty_app: FastAPI, ann: AsyncClient, change_user: ChangeUser, name: str
):
    case = MATRIX[name]
    method, path = name.split()

    for who, status in zip(WHO, case.statuses, strict=True):
        address = path.format(**await make_things(ann, path)) if "{" in path else path
        async with somebody(empty_app, change_user, who, case.scope) as client:
            response = await client.request(method, address, json=case.json, data=case.form)

        assert response.status_code == status, f"{who}: {response.text}"
        if response.status_code == 403:
            assert response.json()["type"] == "urn:blog-api:insufficient-scope", who
            assert f'scope="{case.scope}"' in response.headers["WWW-Authenticate"], who
        if response.status_code == 401:
            assert response.headers["WWW-Authenticate"] == "Bearer", who


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_only_the_author_may_change_a_published_post(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient, method: str
):
    path = f"/posts/{(await ann.post('/posts', json=HELLO)).json()['id']}"
    body = None if method == "DELETE" else HELLO

    for other in (bob, admin):
        response = await other.request(method, path, json=body)

        assert response.status_code == 403
        assert response.json()["detail"] == "You don't have access to modify this post"
    assert (await ann.request(method, path, json=body)).is_success
