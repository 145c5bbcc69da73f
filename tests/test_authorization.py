"""Authorization: every route, requested by every kind of user."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import randbytes
from typing import Any, NamedTuple

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from httpx import AsyncClient

from blog_api.accounts.scopes import Scope
from tests.support.clients import PASSWORD, ChangeUser, client_of, id_of, log_in, sign_up
from tests.support.pictures import make_picture, upload

WRONG = "wrong horse"
HELLO = {"title": "Hello", "content": "World"}
FORM = {"grant_type": "password", "username": "unknown@example.com", "password": WRONG}

# "other" has a post too; "unscoped" is the owner, with every scope but the required one.
KINDS = ("anonymous", "user", "owner", "other", "admin", "deactivated", "unscoped")


class Case(NamedTuple):
    """A request to a route, and the status for each kind of user, in the order of `KINDS`."""

    statuses: tuple[int, ...]
    scope: str | None = None
    json: dict[str, object] | None = None
    form: dict[str, str] | None = None
    # Whether the body is a form with a picture.
    file: bool = False


def optional_login(status: int = 200, **values: Any) -> Case:
    """A public route; only the token of a deactivated user is rejected."""
    return Case((status, status, status, status, status, 400, status), **values)


def ignores_token(status: int, **values: Any) -> Case:
    return Case((status,) * 7, **values)


def logged_in(status: int, scope: str | None, **values: Any) -> Case:
    """A route about the user's own account."""
    unscoped = status if scope is None else 403
    return Case((401, status, status, status, status, 400, unscoped), scope, **values)


def reads_draft(status: int = 200) -> Case:
    """A route that shows the draft; without `posts:read`, its author gets 404 too."""
    return Case((404, 404, status, 404, 404, 400, 404), "posts:read")


def owner_only(status: int, scope: str = "posts:write", **values: Any) -> Case:
    """A route that changes the draft or what belongs to it; it is hidden from other users."""
    return Case((401, 404, status, 404, 404, 400, 403), scope, **values)


def admin_only(status: int, **values: Any) -> Case:
    return Case((401, 403, 403, 403, status, 400, 403), "admin", **values)


# Path parameters name the owner, and a draft, a comment and a token of the owner.
MATRIX = {
    "GET /": ignores_token(200),
    "GET /health/live": ignores_token(200),
    "GET /health/ready": ignores_token(200),
    "GET /openapi.json": ignores_token(200),
    "GET /docs": ignores_token(200),
    "GET /redoc": ignores_token(200),
    "GET /guide": ignores_token(200),
    "GET /guide/{page}": ignores_token(200),
    "POST /users": ignores_token(422, json={"email": "carl@example.com", "password": "short"}),
    "POST /sign-up": ignores_token(422, json={"email": "carl@example.com", "password": "short"}),
    "POST /auth": ignores_token(400, form=FORM),
    "POST /token": ignores_token(401, form=FORM),
    "DELETE /auth": logged_in(204, None),
    "GET /users": optional_login(),
    "GET /users/{user_id}": optional_login(),
    "GET /users/username/{username}": optional_login(),
    "GET /users/{user_id}/posts": optional_login(),
    "GET /posts": optional_login(),
    "GET /posts/{post_id}": reads_draft(),
    "GET /posts/slug/{slug}": reads_draft(),
    "GET /tags": optional_login(),
    "GET /feed.json": optional_login(),
    "GET /feed.atom": optional_login(),
    "GET /feed.rss": optional_login(),
    "GET /users/me": logged_in(200, "users:read"),
    "PATCH /users/me": logged_in(200, "users:write", json={"name": "Anna"}),
    "PUT /users/me/password": logged_in(
        400, "users:write", json={"current_password": WRONG, "new_password": "battery staple"}
    ),
    "DELETE /users/me": logged_in(400, "users:write", json={"current_password": WRONG}),
    "POST /password-resets": ignores_token(202, json={"email": "ann@example.com"}),
    "POST /password-resets/confirm": ignores_token(
        400, json={"token": "1.unknown", "new_password": "battery staple"}
    ),
    "POST /email-verifications": logged_in(202, "users:write", json={}),
    "POST /email-verifications/confirm": ignores_token(400, json={"token": "1.unknown"}),
    "POST /email-verifications/undo": ignores_token(400, json={"token": "1.unknown"}),
    "GET /users/me/sessions": logged_in(200, "users:read"),
    "DELETE /users/me/sessions": logged_in(204, "users:write"),
    "DELETE /users/me/sessions/{session_id}": owner_only(204, "users:write"),
    "POST /revoke": ignores_token(200, form={"token": "unknown"}),
    # Without `BLOG_PUBLIC_URL`.
    "GET /.well-known/oauth-authorization-server": ignores_token(404),
    "GET /users/me/tokens": logged_in(200, "users:read"),
    "POST /users/me/tokens": logged_in(201, "users:write", json={"name": "Script"}),
    "DELETE /users/me/tokens": logged_in(204, "users:write"),
    "DELETE /users/me/tokens/{token_id}": owner_only(204, "users:write"),
    "GET /users/me/export": logged_in(200, "users:read posts:read"),
    "GET /users/me/following": logged_in(200, "users:read"),
    # These users have no follows and no bookmarks.
    "GET /users/me/following/{user_id}": logged_in(404, "users:read"),
    "GET /users/me/bookmarks/{post_id}": logged_in(404, "users:read"),
    # Users cannot follow themselves.
    "PUT /users/me/following/{user_id}": Case((401, 204, 400, 204, 204, 400, 403), "users:write"),
    "DELETE /users/me/following/{user_id}": logged_in(204, "users:write"),
    "GET /users/me/bookmarks": logged_in(200, "users:read"),
    "PUT /users/me/bookmarks/{post_id}": owner_only(204, "users:write"),
    # 204 whether or not there is such a post.
    "DELETE /users/me/bookmarks/{post_id}": logged_in(204, "users:write"),
    "GET /users/me/feed": logged_in(200, "posts:read"),
    "GET /users/me/posts": logged_in(200, "posts:read"),
    "POST /preview": logged_in(200, "posts:write", json={"content": "Hello"}),
    "POST /posts": logged_in(201, "posts:write", json=HELLO),
    "POST /media": logged_in(201, "posts:write", file=True),
    "GET /users/me/media": logged_in(200, "posts:read"),
    "GET /media/{name}": ignores_token(200),
    "PATCH /media/{media_id}": owner_only(200, json={"alt": "A square"}),
    "DELETE /media/{media_id}": owner_only(204),
    "PUT /posts/{post_id}": owner_only(200, json=HELLO),
    "PATCH /posts/{post_id}": owner_only(200, json={"title": "Bye"}),
    "DELETE /posts/{post_id}": owner_only(204),
    "GET /posts/{post_id}/comments": reads_draft(),
    "POST /posts/{post_id}/comments": owner_only(201, json={"content": "Hi"}),
    "GET /comments/{comment_id}": reads_draft(),
    "GET /comments/{comment_id}/answers": reads_draft(),
    "PATCH /comments/{comment_id}": owner_only(200, json={"content": "Hi"}),
    "DELETE /comments/{comment_id}": owner_only(204),
    # The draft is the owner's, and the scope `admin` replaces `posts:write`.
    "PUT /comments/{comment_id}/approval": Case((401, 404, 200, 404, 200, 400, 200)),
    "DELETE /comments/{comment_id}/approval": Case((401, 404, 200, 404, 200, 400, 200)),
    "GET /users/me/posts/comments": logged_in(200, "posts:read"),
    "GET /admin/users": admin_only(200),
    "POST /admin/users": admin_only(201, json={"email": "carl@example.com", "name": "Carl"}),
    "GET /admin/users/{user_id}": admin_only(200),
    "PATCH /admin/users/{user_id}": admin_only(200, json={"is_active": True}),
    "DELETE /admin/users/{user_id}": admin_only(204),
    "DELETE /admin/bans": admin_only(404, json={"email": "carl@example.com"}),
    "GET /admin/posts": admin_only(200),
    "GET /admin/posts/{post_id}": admin_only(200),
    "DELETE /admin/posts/{post_id}": admin_only(204),
    "PUT /admin/posts/{post_id}/takedown": admin_only(200),
    "DELETE /admin/posts/{post_id}/takedown": admin_only(200),
    "GET /admin/comments": admin_only(200),
    "GET /admin/comments/{comment_id}": admin_only(200),
    "DELETE /admin/comments/{comment_id}": admin_only(204),
    "GET /admin/media": admin_only(200),
    "GET /admin/media/{media_id}": admin_only(200),
    "DELETE /admin/media/{media_id}": admin_only(204),
    "GET /admin/stats": admin_only(200),
    "GET /admin/audit": admin_only(200),
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
        # If authentication is optional, so is the scope.
        required = set((case.scope or "").split()) if case.statuses[-1] == 403 else set()

        assert declared == required, name


@asynccontextmanager
async def client_of_kind(
    app: FastAPI, change_user: ChangeUser, kind: str, scope: str | None
) -> AsyncIterator[AsyncClient]:
    async with client_of(app) as client:
        if kind in ("user", "other", "admin", "deactivated"):
            await sign_up(client, kind.capitalize())
        match kind:
            case "other":
                await client.post("/posts", json=HELLO)
            case "admin":
                await change_user("admin@example.com", is_admin=True)
                await log_in(client, "admin@example.com")
            case "deactivated":
                await change_user("deactivated@example.com", is_active=False)
            case "owner":
                await log_in(client, "ann@example.com", "")
            case "unscoped":
                await change_user("ann@example.com", is_admin=True)
                all_but = {one.value for one in Scope} - set((scope or "").split())
                await log_in(client, "ann@example.com", " ".join(sorted(all_but)))
        yield client


async def make_path_parameters(owner: AsyncClient, path: str) -> dict[str, object]:
    """Create what a path names; an earlier request may have deleted the last ones."""
    parameters: dict[str, object] = {
        "user_id": await id_of(owner),
        "username": "ann",
        "page": "deploy",
    }
    if "{token_id}" in path:
        token = await owner.post("/users/me/tokens", json={"name": "Script"})
        parameters["token_id"] = token.json()["id"]
    if "{session_id}" in path:
        await owner.post("/auth", data={"username": "ann@example.com", "password": PASSWORD})
        newest, *_ = (await owner.get("/users/me/sessions")).json()["results"]
        parameters["session_id"] = newest["id"]
    if "/media/" in path:
        # A picture that an administrator deleted cannot be uploaded again.
        media = await upload(owner, make_picture(color=tuple(randbytes(3))))
        parameters |= {"media_id": media["id"], "name": media["url"].removeprefix("/media/")}
    if parameters.keys() & {"media_id", "session_id", "token_id"} or "{user_id}" in path:
        return parameters
    post = (await owner.post("/posts", json=HELLO | {"published_at": None})).json()
    parameters |= {"post_id": post["id"], "slug": post["slug"]}
    if "{comment_id}" in path:
        comment = await owner.post(f"/posts/{post['id']}/comments", json={"content": "Hello"})
        parameters["comment_id"] = comment.json()["id"]
    return parameters


@pytest.mark.usefixtures("mailbox")
@pytest.mark.parametrize("name", MATRIX.keys())
async def test_each_kind_of_user_gets_the_status_in_the_matrix(
    empty_app: FastAPI, ann: AsyncClient, change_user: ChangeUser, name: str
):
    case = MATRIX[name]
    method, path = name.split()

    for kind, status in zip(KINDS, case.statuses, strict=True):
        if name == "DELETE /admin/users/{user_id}" and kind == "deactivated":
            # The administrator before has deleted the account.
            await sign_up(ann, "Ann")
        parameters = await make_path_parameters(ann, path) if "{" in path else {}
        async with client_of_kind(empty_app, change_user, kind, case.scope) as client:
            response = await client.request(
                method,
                path.format(**parameters),
                json=case.json,
                data=case.form,
                files={"file": make_picture()} if case.file else None,
            )

        assert response.status_code == status, f"{kind}: {response.text}"
        # Strangers may get a 403 of another type.
        if response.status_code == 403 and (kind == "unscoped" or case.scope == "admin"):
            assert response.json()["type"] == "urn:blog-api:insufficient-scope", kind
            assert f'scope="{case.scope}"' in response.headers["WWW-Authenticate"], kind
        if response.status_code == 401:
            assert response.headers["WWW-Authenticate"] == "Bearer", kind


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
