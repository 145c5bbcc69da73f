"""Lists execute a fixed number of SQL statements, however many rows they show."""

from fastapi import FastAPI
from httpx import AsyncClient

from tests.support.clients import PASSWORD, add_comment, publish
from tests.support.statements import executions

LISTS = (
    "/posts", "/posts?q=hello", "/posts?q=hello&sort=published_at", "/posts?tag=python",
    "/users/{user_id}/posts", "/users/me/feed", "/users/me/posts", "/users/me/bookmarks",
    "/users/me/following", "/users/me/tokens", "/posts/{id}/comments",
    "/comments/{comment_id}/answers", "/tags", "/users", "/feed.json", "/feed.atom", "/feed.rss",
    "/admin/users", "/admin/posts", "/admin/audit",
)  # fmt: skip


async def add_rows(admin: AsyncClient, ann: AsyncClient, number: int) -> dict[str, int]:
    """Add a row to every list that the administrator reads; return the ids in their paths."""
    hello = await publish(ann, tags=["Python", f"tag {number}"])
    own = await publish(admin, tags=["Python"])
    body = {"email": f"{number}@example.com", "name": f"User {number}", "password": PASSWORD}
    user = (await admin.post("/users", json=body)).json()
    await admin.put(f"/users/me/following/{hello['user_id']}")
    await admin.put(f"/users/me/following/{user['id']}")
    await admin.put(f"/users/me/bookmarks/{hello['id']}")
    await admin.post("/users/me/tokens", json={"name": "Script"})
    await admin.put(f"/admin/posts/{own['id']}/takedown")
    comment = await add_comment(ann, hello)
    return {"user_id": hello["user_id"], "id": hello["id"], "comment_id": comment["id"]}


async def count_statements(app: FastAPI, admin: AsyncClient, ids: dict[str, int]) -> dict[str, int]:
    counts = {}
    for path in LISTS:
        name = "limit" if path == "/users" else "size"
        address = f"{path}{'&' if '?' in path else '?'}{name}=100".format(**ids)
        with executions(app) as executed:
            response = await admin.get(address)
        assert response.status_code == 200, path
        counts[path] = len(executed)
    return counts


async def test_a_long_list_executes_no_more_statements_than_a_short_one(
    empty_app: FastAPI, admin: AsyncClient, ann: AsyncClient
):
    ids = await add_rows(admin, ann, 0)
    first = {"id": ids["comment_id"]}
    await add_comment(admin, ids, to=first)
    few = await count_statements(empty_app, admin, ids)

    for number in range(1, 12):
        await add_rows(admin, ann, number)
        author = ann if number % 2 else admin
        comment = await add_comment(author, ids)
        await add_comment(author, ids, to=comment)
        await add_comment(author, ids, to=first)
    many = await count_statements(empty_app, admin, ids)

    assert many == few
    # The user, the total and the rows; no list needs many more.
    assert max(few.values()) <= 8, few
    for path in LISTS:
        if "feed." not in path:
            page = (await admin.get(path.format(**ids))).json()
            assert (len(page) if path == "/users" else page["total_count"]) >= 12, path


# SQLite's are executed by the driver alone.
TRANSACTION_COMMANDS = ("BEGIN IMMEDIATE", "COMMIT")


async def test_writes_take_few_round_trips(app: FastAPI, ann: AsyncClient, bob: AsyncClient):
    post = await publish(ann, tags=["Python"])
    # The token, the lock, the row and the counter, between BEGIN and COMMIT; and the token, the
    # post, its slug, its words and its tags. On Postgres a comment is counted and a post indexed at
    # once.
    of_comment, of_post = (4, 5) if app.state.settings.is_sqlite else (3, 3)
    writes = [
        ("POST", f"/posts/{post['id']}/comments", {"content": "Hi"}, of_comment),
        ("PUT", f"/users/me/bookmarks/{post['id']}", None, 4),
        ("POST", "/posts", {"title": "New", "content": "World", "tags": ["Python"]}, of_post),
    ]
    for method, path, body, number in writes:
        with executions(app) as executed:
            response = await bob.request(method, path, json=body)
        assert response.is_success

        sent = [one.statement for one in executed]
        statements = [one for one in sent if one not in TRANSACTION_COMMANDS]
        assert len(statements) == number, [one[:60] for one in statements]
