"""A small blog, a request that succeeds for each route that writes, and some that read."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from httpx import AsyncClient, Response
from sqlalchemy import make_url
from sqlmodel import col, update

from blog_api.accounts.models import User
from blog_api.db.session import SAFE_METHODS, Database
from tests.support.clients import (
    PASSWORD,
    add_comment,
    client_of,
    id_of,
    log_in,
    publish,
    sign_up,
)
from tests.support.mailbox import Mailbox, find_code
from tests.support.pictures import make_picture, upload

ANN, BOB, CARL, DORA, EVE = (
    f"{name}@example.com" for name in ("ann", "bob", "carl", "dora", "eve")
)
NEW = {"email": "new@example.com", "name": "New", "password": PASSWORD}
NEW_PASSWORD = "battery staple"
HELLO = {"title": "Hello again", "content": "*World*", "tags": ["New", "Python"]}
CURRENT_PASSWORD = {"current_password": PASSWORD}


class Sample(NamedTuple):
    """A request by `user`; `{names}` in it are those of `Blog.names`."""

    user: str = "ann"
    json: Mapping[str, object] | None = None
    form: Mapping[str, str] | None = None
    file: bool = False
    headers: Mapping[str, str] = MappingProxyType({})


ADMIN = Sample("admin")
SAMPLES = {
    "POST /users": Sample("anonymous", NEW),
    "POST /sign-up": Sample("anonymous", NEW),
    "POST /auth": Sample("anonymous", form={"username": ANN, "password": PASSWORD}),
    "POST /token": Sample(
        "anonymous", form={"grant_type": "refresh_token", "refresh_token": "{refresh_token}"}
    ),
    "DELETE /auth": Sample(),
    "PATCH /users/me": Sample(json={"name": "Anna"}),
    "PUT /users/me/password": Sample(json={**CURRENT_PASSWORD, "new_password": NEW_PASSWORD}),
    "DELETE /users/me": Sample(json=CURRENT_PASSWORD),
    "POST /password-resets": Sample("anonymous", {"email": BOB}),
    "POST /password-resets/confirm": Sample(
        "anonymous", {"token": "{reset_code}", "new_password": NEW_PASSWORD}
    ),
    "POST /email-verifications": Sample("ann", {}),
    "POST /email-verifications/confirm": Sample("anonymous", {"token": "{verification_code}"}),
    "POST /email-verifications/undo": Sample("anonymous", {"token": "{undo_code}"}),
    "DELETE /users/me/sessions": Sample(),
    "DELETE /users/me/sessions/{session_id}": Sample(),
    "POST /revoke": Sample("anonymous", form={"token": "{refresh_token}"}),
    "POST /users/me/tokens": Sample(json={"name": "New script"}),
    "DELETE /users/me/tokens": Sample(),
    "DELETE /users/me/tokens/{token_id}": Sample(),
    "PUT /users/me/following/{user_id}": Sample("bob"),
    "DELETE /users/me/following/{user_id}": Sample("admin"),
    "PUT /users/me/bookmarks/{post_id}": Sample("bob"),
    "DELETE /users/me/bookmarks/{post_id}": Sample("admin"),
    "POST /preview": Sample(json={"content": "*Hello*"}),
    "POST /posts": Sample(json=HELLO, headers={"Idempotency-Key": "new"}),
    "POST /media": Sample(file=True),
    "PATCH /media/{media_id}": Sample(json={"alt": "A square"}),
    "DELETE /media/{media_id}": Sample(),
    "PUT /posts/{post_id}": Sample(json=HELLO),
    "PATCH /posts/{post_id}": Sample(json=HELLO),
    "DELETE /posts/{post_id}": Sample(),
    "POST /posts/{post_id}/comments": Sample("bob", {"content": "Hi"}),
    "PATCH /comments/{comment_id}": Sample(json={"content": "Hi again"}),
    "DELETE /comments/{comment_id}": Sample(),
    "PUT /comments/{comment_id}/approval": Sample(),
    "DELETE /comments/{comment_id}/approval": Sample(),
    "POST /admin/users": Sample("admin", {"email": NEW["email"], "name": "New"}),
    "PATCH /admin/users/{user_id}": Sample("admin", {"is_active": False}),
    "DELETE /admin/users/{user_id}": ADMIN,
    "DELETE /admin/bans": Sample("admin", {"email": EVE}),
    "DELETE /admin/posts/{post_id}": ADMIN,
    "PUT /admin/posts/{post_id}/takedown": ADMIN,
    "DELETE /admin/posts/{post_id}/takedown": ADMIN,
    "DELETE /admin/comments/{comment_id}": ADMIN,
    "DELETE /admin/media/{media_id}": ADMIN,
}
# Requests that read in the ways that there are: by a token, by the ORM, in several queries, by the
# search, and as a probe.
READS = {
    "GET /posts": Sample("anonymous"),
    "GET /posts?q=Hello": Sample(),
    "GET /posts/{post_id}": Sample(),
    "GET /posts/{post_id}/comments": Sample("bob"),
    "GET /feed.atom": Sample("anonymous"),
    "GET /users/me": Sample(),
    "GET /users/me/bookmarks": ADMIN,
    "GET /admin/stats": ADMIN,
    "GET /health/ready": Sample("anonymous"),
}
# Of another post than the others, which is taken down.
TAKEN_DOWN = "DELETE /admin/posts/{post_id}/takedown"


def find_write_routes(app: FastAPI) -> Iterator[str]:
    for route in iter_route_contexts(app.routes):
        if isinstance(route.original_route, APIRoute):
            for method in (route.methods or set()) - SAFE_METHODS:
                yield f"{method} {route.path_format}"


def fill(values: Mapping[str, Any] | None, names: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the values with the names in them replaced."""
    if values is None:
        return None
    return {
        key: value.format(**names) if isinstance(value, str) else value
        for key, value in values.items()
    }


class Blog:
    """Users with a client each, and what the samples name."""

    def __init__(self, app: FastAPI, clients: Mapping[str, AsyncClient]) -> None:
        self.app = app
        self.clients = clients
        self.names: dict[str, Any] = {}

    async def fill_in(self) -> None:
        """Create what the samples name."""
        ann, admin, anonymous = (self.clients[user] for user in ("ann", "admin", "anonymous"))
        mailbox = Mailbox(self.app)
        changes = {"email": "moved@example.com", **CURRENT_PASSWORD}
        await self.clients["dora"].patch("/users/me", json=changes)
        await anonymous.post("/password-resets", json={"email": ANN})
        codes = {
            (one.recipient, subject): find_code(one)
            for one in await mailbox.receive()
            for subject in ("about to change", "confirm", "new password")
            if subject in one.subject.lower()
        }
        eve_id = await id_of(self.clients["eve"])
        await admin.patch(f"/admin/users/{eve_id}", json={"is_active": False})
        await admin.delete(f"/admin/users/{eve_id}")
        form = {"grant_type": "password", "username": ANN, "password": PASSWORD}
        jwt = (await anonymous.post("/token", data=form)).json()
        token = (await ann.post("/users/me/tokens", json={"name": "Script"})).json()
        sessions = (await ann.get("/users/me/sessions")).json()["results"]
        post = await publish(ann, tags=["Python"])
        hidden = await publish(ann, title="Hidden")
        comment = await add_comment(ann, post)
        await add_comment(self.clients["bob"], post, to=comment)
        media = await upload(ann, make_picture())
        self.names = {
            "user_id": await id_of(ann),
            "post_id": post["id"],
            "hidden_id": hidden["id"],
            "comment_id": comment["id"],
            "media_id": media["id"],
            "token_id": token["id"],
            "session_id": next(one["id"] for one in sessions if not one["is_current"]),
            "refresh_token": jwt["refresh_token"],
            "reset_code": codes[ANN, "new password"],
            "verification_code": codes[CARL, "confirm"],
            "undo_code": codes[DORA, "about to change"],
        }
        await admin.put(f"/admin/posts/{hidden['id']}/takedown")
        await admin.put(f"/users/me/following/{self.names['user_id']}")
        await admin.put(f"/users/me/bookmarks/{post['id']}")

    async def send(self, name: str) -> Response:
        """Send the sample request of a route that writes, or one that reads."""
        sample = (SAMPLES | READS)[name]
        method, path = name.split()
        names = self.names | ({"post_id": self.names["hidden_id"]} if name == TAKEN_DOWN else {})

        return await self.clients[sample.user].request(
            method,
            path.format(**names),
            json=fill(sample.json, names),
            data=fill(sample.form, names),
            files={"file": make_picture(color="blue")} if sample.file else None,
            headers=dict(sample.headers),
        )


@asynccontextmanager
async def small_blog(app: FastAPI) -> AsyncIterator[Blog]:
    """Fill an empty database. Mails are stored, and delivered by nothing but this function."""
    app.state.settings = app.state.settings.model_copy(update={"mail_url": make_url("console://")})
    database: Database = app.state.database
    async with AsyncExitStack() as stack:
        users = ("anonymous", "ann", "bob", "carl", "dora", "eve", "admin")
        clients = {user: await stack.enter_async_context(client_of(app)) for user in users}
        admin = clients["admin"]
        for user in users[1:]:
            await sign_up(clients[user], user.capitalize())
        async with database.session(writes=True) as session:
            is_admin = col(User.email) == "admin@example.com"
            await session.exec(update(User).where(is_admin).values(is_admin=True))
        await log_in(admin, "admin@example.com")
        blog = Blog(app, clients)
        await blog.fill_in()
        yield blog
