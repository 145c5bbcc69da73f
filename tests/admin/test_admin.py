"""Administration: accounts, moderation and the audit log."""

import asyncio

import pytest
from httpx import AsyncClient, Response
from sqlalchemy import URL
from sqlmodel import col, update

from blog_api.accounts.models import User
from blog_api.db.session import Database
from tests.support.clients import (
    PASSWORD,
    ChangeUser,
    bearer,
    id_of,
    log_in,
    make_settings,
    sign_up,
)
from tests.support.processes import Server

HELLO = {"title": "Hello", "content": "World"}
WORLD = {"content_html": "<p>World</p>\n"}
LOG_IN = {"username": "ann@example.com", "password": PASSWORD}


async def read_audit_log(admin: AsyncClient) -> list[tuple[object, ...]]:
    """Return the audit entries, the oldest first."""
    page = (await admin.get("/admin/audit")).json()
    assert page["total_count"] == len(page["results"])
    return [
        tuple(entry[key] for key in ("action", "admin_id", "user_id", "post_id", "comment_id"))
        for entry in reversed(page["results"])
    ]


async def test_the_admin_scope_must_be_requested(ann: AsyncClient, change_user: ChangeUser):
    await change_user("ann@example.com", is_admin=True)

    without_scope = await ann.post("/auth", data=LOG_IN)
    with_scope = await ann.post("/auth", data=LOG_IN | {"scope": "admin"})

    for response, status in ((without_scope, 403), (with_scope, 200)):
        headers = bearer(response.json()["access_token"])
        assert (await ann.get("/admin/stats", headers=headers)).status_code == status


async def test_a_demoted_administrator_loses_access_with_the_next_request(
    admin: AsyncClient, change_user: ChangeUser
):
    before = await admin.get("/admin/stats")
    await change_user("admin@example.com", is_admin=False)
    after = await admin.get("/admin/stats")

    assert before.status_code == 200
    assert after.status_code == 403
    assert after.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope", scope="admin"'


async def test_an_administrator_can_list_and_search_accounts(
    admin: AsyncClient, ann: AsyncClient, bob: AsyncClient
):
    async def list_names(**query: str) -> list[str]:
        page = (await admin.get("/admin/users", params=query)).json()
        return [account["name"] for account in page["results"]]

    assert await list_names() == ["Admin", "Ann", "Bob"]
    assert await list_names(q="ANN@") == ["Ann"]
    assert await list_names(q="bo") == ["Bob"]
    assert await list_names(q="%") == []
    assert await list_names(size="1", page="2") == ["Ann"]
    await ann.patch("/users/me", json={"name": "Анна Ёлкина"})
    assert await list_names(q="анна") == await list_names(q="ЁЛК") == ["Анна Ёлкина"]


async def test_an_administrator_sees_the_email_of_an_account(admin: AsyncClient, ann: AsyncClient):
    account = (await ann.get("/users/me")).json()

    response = await admin.get(f"/admin/users/{account['id']}")

    assert response.json() == account


async def test_a_deactivation_revokes_all_tokens_for_good(admin: AsyncClient, ann: AsyncClient):
    path = f"/admin/users/{await id_of(ann)}"

    deactivated = await admin.patch(path, json={"is_active": False})
    while_inactive = await ann.get("/users/me")
    reactivated = await admin.patch(path, json={"is_active": True})
    while_active = await ann.get("/users/me")
    await log_in(ann, "ann@example.com", scope="users:read")
    after_log_in = await ann.get("/users/me")
    await admin.patch(path, json={"is_active": True})
    after_no_change = await ann.get("/users/me")

    assert deactivated.status_code == reactivated.status_code == 200
    assert deactivated.json()["is_active"] is False
    assert while_inactive.status_code == 400
    assert while_inactive.json()["detail"] == "Inactive user"
    assert while_active.status_code == 401
    assert [after_log_in.status_code, after_no_change.status_code] == [200, 200]


async def test_a_deactivation_revokes_sessions_with_jwt_and_personal_tokens(
    admin: AsyncClient, ann: AsyncClient
):
    path = f"/admin/users/{await id_of(ann)}"
    personal = (await ann.post("/users/me/tokens", json={"name": "CI"})).json()
    grant = (await ann.post("/token", data=LOG_IN | {"grant_type": "password"})).json()

    await admin.patch(path, json={"is_active": False})
    await admin.patch(path, json={"is_active": True})

    for token in (personal["access_token"], grant["access_token"]):
        assert (await ann.get("/users/me", headers=bearer(token))).status_code == 401
    refresh = {"grant_type": "refresh_token", "refresh_token": grant["refresh_token"]}
    assert (await ann.post("/token", data=refresh)).status_code == 400


async def test_dismissing_an_administrator_revokes_the_tokens_with_the_scope_admin(
    admin: AsyncClient, ann: AsyncClient, change_user: ChangeUser
):
    path = f"/admin/users/{await id_of(ann)}"
    await change_user("ann@example.com", is_admin=True)
    form = LOG_IN | {"scope": "admin users:read"}
    token = (await ann.post("/auth", data=form)).json()["access_token"]

    await admin.patch(path, json={"is_admin": False})
    dismissed = await ann.get("/users/me", headers=bearer(token))
    await admin.patch(path, json={"is_admin": True})
    promoted = await ann.get("/admin/stats", headers=bearer(token))

    assert [dismissed.status_code, promoted.status_code] == [401, 401]
    assert (await ann.get("/users/me")).status_code == 200


async def test_a_promotion_does_not_bring_back_the_rights_of_an_old_token(
    admin: AsyncClient, ann: AsyncClient, change_user: ChangeUser
):
    path = f"/admin/users/{await id_of(ann)}"
    await change_user("ann@example.com", is_admin=True)
    await log_in(ann, "ann@example.com")
    await change_user("ann@example.com", is_admin=False)

    await admin.patch(path, json={"is_admin": True})

    assert (await ann.get("/admin/stats")).status_code == 401


@pytest.mark.parametrize(
    "body",
    [{"is_admin": "yes"}, {"is_admin": 1}, {"is_active": None}, {"name": "x"}, {"password": "x"}],
)
async def test_an_administrator_cannot_change_other_fields_of_an_account(
    admin: AsyncClient, ann: AsyncClient, body: dict[str, object]
):
    before = (await ann.get("/users/me")).json()

    response = await admin.patch(f"/admin/users/{before['id']}", json=body)

    assert response.status_code == 422
    assert (await ann.get("/users/me")).json() == before
    assert await read_audit_log(admin) == []


async def test_an_administrator_can_promote_and_demote_a_user(admin: AsyncClient, ann: AsyncClient):
    path = f"/admin/users/{await id_of(ann)}"

    promoted = await admin.patch(path, json={"is_admin": True})
    token = (await ann.post("/auth", data=LOG_IN | {"scope": "admin"})).json()["access_token"]
    as_admin = await ann.get("/admin/stats", headers=bearer(token))
    demoted = await admin.patch(path, json={"is_admin": False})
    as_user = await ann.get("/admin/stats", headers=bearer(token))

    assert promoted.json()["is_admin"] is True
    assert demoted.json()["is_admin"] is False
    assert [as_admin.status_code, as_user.status_code] == [200, 401]


async def test_the_last_active_administrator_cannot_be_removed(
    admin: AsyncClient, ann: AsyncClient, change_user: ChangeUser
):
    # An inactive administrator does not count.
    await change_user("ann@example.com", is_admin=True, is_active=False)
    path = f"/admin/users/{await id_of(admin)}"

    responses = [
        await admin.patch(path, json={"is_admin": False}),
        await admin.patch(path, json={"is_active": False}),
        await admin.request("DELETE", "/users/me", json={"current_password": PASSWORD}),
    ]

    for response in responses:
        assert response.status_code == 409
        assert response.json()["detail"] == "The last active administrator stays one"
    assert (await admin.get("/admin/stats")).json()["users"]["admins"] == 1
    assert await read_audit_log(admin) == []


async def test_one_of_two_administrators_can_delete_their_account(
    admin: AsyncClient, ann: AsyncClient, change_user: ChangeUser
):
    await change_user("ann@example.com", is_admin=True)

    response = await admin.request("DELETE", "/users/me", json={"current_password": PASSWORD})

    assert response.status_code == 204


async def test_an_administrator_can_list_posts_in_every_state(admin: AsyncClient, ann: AsyncClient):
    times = {
        "published": "2020-01-01T00:00:00Z",
        "draft": None,
        "scheduled": "2999-01-01T00:00:00Z",
    }
    for title, published_at in times.items():
        await ann.post("/posts", json=HELLO | {"title": title, "published_at": published_at})
    down = (await ann.post("/posts", json=HELLO | {"title": "taken-down"})).json()
    await admin.put(f"/admin/posts/{down['id']}/takedown")

    page = (await admin.get("/admin/posts")).json()
    assert [post["title"] for post in page["results"]] == [
        "taken-down", "scheduled", "draft", "published",
    ]  # fmt: skip
    for state in ("published", "draft", "scheduled", "taken-down"):
        page = (await admin.get(f"/admin/posts?state={state}")).json()
        assert [post["title"] for post in page["results"]] == [state]
        shown = await admin.get(f"/admin/posts/{page['results'][0]['id']}")
        assert shown.json().items() >= page["results"][0].items()
    assert (await admin.get("/admin/posts?state=nonsense")).status_code == 422


async def test_a_post_that_was_taken_down_is_visible_to_its_author_only(
    admin: AsyncClient, ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient
):
    post = (await ann.post("/posts", json=HELLO)).json()

    takedown = await admin.put(f"/admin/posts/{post['id']}/takedown")

    assert takedown.status_code == 200
    assert takedown.json()["taken_down_at"] is not None
    for path in (f"/posts/{post['id']}", "/posts/slug/hello"):
        assert (await ann.get(path)).json() == post | WORLD
        for other in (bob, anonymous, admin):
            assert (await other.get(path)).status_code == 404
    assert (await anonymous.get("/posts")).json()["total_count"] == 0
    assert (await anonymous.get(f"/users/{post['user_id']}/posts")).json()["total_count"] == 0
    (own,) = (await ann.get("/users/me/posts")).json()["results"]
    assert own == takedown.json()


async def test_an_author_cannot_undo_a_takedown(
    admin: AsyncClient, ann: AsyncClient, anonymous: AsyncClient
):
    post = (await ann.post("/posts", json=HELLO)).json()
    path = f"/posts/{post['id']}"
    await admin.put(f"/admin{path}/takedown")

    responses: list[Response] = [
        await ann.patch(path, json={"published_at": None}),
        await ann.patch(path, json={"published_at": "2020-01-01T00:00:00Z"}),
        await ann.put(path, json=HELLO),
        await ann.patch(path, json={"taken_down_at": None}),
        await ann.delete(f"/admin{path}/takedown"),
    ]

    assert [response.status_code for response in responses] == [200, 200, 200, 422, 403]
    assert (await anonymous.get(path)).status_code == 404


async def test_an_administrator_can_undo_a_takedown(
    admin: AsyncClient, ann: AsyncClient, anonymous: AsyncClient
):
    post = (await ann.post("/posts", json=HELLO)).json()
    path = f"/admin/posts/{post['id']}/takedown"

    await admin.put(path)
    restored = await admin.delete(path)

    assert restored.json()["taken_down_at"] is None
    assert restored.json()["updated_at"] == post["updated_at"]
    assert (await anonymous.get(f"/posts/{post['id']}")).json() == post | WORLD


async def test_an_administrator_can_delete_any_post(admin: AsyncClient, ann: AsyncClient):
    post = (await ann.post("/posts", json=HELLO)).json()

    response = await admin.delete(f"/admin/posts/{post['id']}")

    assert response.status_code == 204
    assert (await ann.get(f"/posts/{post['id']}")).status_code == 404
    for method, path in (
        ("GET", ""), ("DELETE", ""), ("PUT", "/takedown"), ("DELETE", "/takedown"),
    ):  # fmt: skip
        missing = await admin.request(method, f"/admin/posts/{post['id']}{path}")
        assert missing.status_code == 404
        assert missing.json()["detail"] == "Post not found"


async def test_each_change_adds_one_audit_entry_and_a_no_op_adds_none(
    admin: AsyncClient, ann: AsyncClient
):
    me, user = await id_of(admin), await id_of(ann)
    post = (await ann.post("/posts", json=HELLO)).json()["id"]
    comment = (await ann.post(f"/posts/{post}/comments", json={"content": "Hi"})).json()["id"]
    account, takedown = f"/admin/users/{user}", f"/admin/posts/{post}/takedown"

    changes: list[dict[str, bool]] = [
        {"is_admin": True},
        {"is_admin": True},
        {},
        {"is_admin": False, "is_active": False},
        {"is_active": True},
    ]
    for body in changes:
        assert (await admin.patch(account, json=body)).status_code == 200
    for method in ("PUT", "PUT", "DELETE", "DELETE"):
        assert (await admin.request(method, takedown)).status_code == 200
    for path in (f"/admin/comments/{comment}", f"/admin/posts/{post}"):
        for status in (204, 404):
            assert (await admin.delete(path)).status_code == status
    await admin.get("/admin/users")

    assert await read_audit_log(admin) == [
        ("make-admin", me, user, None, None),
        ("deactivate-user", me, user, None, None),
        ("dismiss-admin", me, user, None, None),
        ("activate-user", me, user, None, None),
        ("take-down-post", me, None, post, None),
        ("restore-post", me, None, post, None),
        ("delete-comment", me, user, post, comment),
        ("delete-post", me, None, post, None),
    ]


async def test_the_statistics_count_users_and_posts(
    admin: AsyncClient, ann: AsyncClient, bob: AsyncClient, change_user: ChangeUser
):
    await change_user("bob@example.com", is_active=False)
    for published_at in ("2020-01-01T00:00:00Z", None, "2999-01-01T00:00:00Z"):
        await ann.post("/posts", json=HELLO | {"published_at": published_at})

    response = await admin.get("/admin/stats")

    assert response.json() == {
        "users": {"total": 3, "active": 2, "admins": 1},
        "posts": {"draft": 1, "scheduled": 1, "published": 1, "taken_down": 0},
    }


async def make_admins(url: URL, clients: dict[str, AsyncClient]) -> dict[AsyncClient, int]:
    """Sign up the only administrators, log them in with every scope, and return their ids."""
    for name, client in clients.items():
        await sign_up(client, name)
    emails = [f"{name}@example.com" for name in clients]
    database = Database(make_settings(database_url=url))
    async with database.session(writes=True) as session:
        await session.exec(update(User).values(is_admin=col(User.email).in_(emails)))
    await database.close()
    for name, client in clients.items():
        await log_in(client, f"{name}@example.com")
    return {client: await id_of(client) for client in clients.values()}


@pytest.mark.processes
@pytest.mark.parametrize("way", ["demote", "deactivate", "delete"])
async def test_two_administrators_cannot_remove_each_other_concurrently(server: Server, way: str):
    async with server.client() as ann, server.client() as bob:
        ids = await make_admins(server.url, {f"ann.{way}": ann, f"bob.{way}": bob})

        async def remove(client: AsyncClient, other: AsyncClient) -> int:
            if way == "delete":
                body: dict[str, object] = {"current_password": PASSWORD}
                response = await client.request("DELETE", "/users/me", json=body)
            else:
                body = {"is_admin" if way == "demote" else "is_active": False}
                response = await client.patch(f"/admin/users/{ids[other]}", json=body)
            return response.status_code

        statuses = await asyncio.gather(remove(ann, bob), remove(bob, ann))
        stats = [(await client.get("/admin/stats")).status_code for client in (ann, bob)]

    assert stats.count(200) == 1
    assert sorted(statuses)[0] in (200, 204)
    assert sorted(statuses)[1] in (400, 401, 403, 409)


@pytest.mark.processes
async def test_two_of_three_administrators_demote_each_other_and_one_succeeds(
    server: Server,
):
    async with server.client() as ann, server.client() as bob, server.client() as carl:
        ids = await make_admins(server.url, {"ann.3": ann, "bob.3": bob, "carl.3": carl})

        one, other = await asyncio.gather(
            ann.patch(f"/admin/users/{ids[bob]}", json={"is_admin": False}),
            bob.patch(f"/admin/users/{ids[ann]}", json={"is_admin": False}),
        )

    # 401 if the other request is authenticated after its token was revoked.
    assert sorted([one.status_code, other.status_code]) in ([200, 401], [200, 403])
