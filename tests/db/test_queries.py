"""Named queries: the driver alone gives what SQLAlchemy gives."""

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlmodel import col, insert, select

from blog_api.db.queries import NamedQuery, bind_values, execute_query, unique_savepoint
from blog_api.posts.errors import SlugTaken
from blog_api.posts.models import Tag
from tests.support.clients import publish
from tests.support.statements import executions

INSERT_TAG = NamedQuery(bind_values(Tag, insert(Tag), ("name", "key")).returning(col(Tag.id)))
PATHS = (
    "/posts", "/posts?size=1", "/posts?sort=-updated_at&tag=python", "/posts?author={user_id}",
    "/posts?since=2020-01-01T00:00:00Z", "/posts?page=9", "/posts/{id}", "/posts/slug/{slug}",
    "/users/me", "/users/me/posts", "/users/{user_id}/posts", "/tags", "/posts/{draft}",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
async def test_a_response_is_the_same_by_the_driver_and_by_sqlalchemy(
    empty_app: FastAPI, ann: AsyncClient, path: str, monkeypatch: pytest.MonkeyPatch
):
    post = await publish(ann, title="Grüße, мир", tags=["Python", "Ünïcode"])
    draft = (
        await ann.post("/posts", json={"title": "D", "content": "D", "published_at": None})
    ).json()
    path = path.format(**post, draft=draft["id"])

    by_driver = await ann.get(path)
    monkeypatch.setattr(empty_app.state.database, "uses_driver_queries", False)
    with executions(empty_app) as executed:
        by_sqlalchemy = await ann.get(path)

    assert executed and not any(execution.is_by_driver for execution in executed)
    assert by_driver.status_code == by_sqlalchemy.status_code
    assert by_driver.json() == by_sqlalchemy.json()
    assert by_driver.headers.get("ETag") == by_sqlalchemy.headers.get("ETag")


async def test_the_most_frequent_queries_go_to_the_driver_alone(
    empty_app: FastAPI, ann: AsyncClient, anonymous: AsyncClient
):
    post = await publish(ann)

    with executions(empty_app) as executed:
        for path in ("/posts", f"/posts/{post['id']}", "/tags"):
            assert (await anonymous.get(path)).status_code == 200
        assert (await ann.get("/users/me")).status_code == 200

    assert len(executed) >= 4
    assert all(execution.is_by_driver for execution in executed)


async def test_every_statement_is_recorded(
    empty_app: FastAPI, ann: AsyncClient, anonymous: AsyncClient
):
    """The recorder that these tests rely on misses no way to the database."""
    if not empty_app.state.settings.is_sqlite:
        pytest.skip("Only SQLite can trace all statements of a connection")
    post = await publish(ann)
    traced: list[str] = []
    async with empty_app.state.database.engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection

    await driver.set_trace_callback(traced.append)
    with executions(empty_app) as executed:
        for path in ("/posts", f"/posts/{post['id']}", "/tags", "/users", "/health/ready"):
            assert (await anonymous.get(path)).status_code == 200
        assert (await ann.get("/users/me/tokens")).status_code == 200
        assert (await ann.post("/users/me/tokens", json={"name": "Script"})).status_code == 201
    await driver.set_trace_callback(None)

    recorded = [execution.statement for execution in executed]
    # Transactions end without a statement of SQLAlchemy.
    expected = [sql.split()[0] for sql in traced if sql not in ("COMMIT", "ROLLBACK")]
    assert [sql.split()[0] for sql in recorded] == expected
    assert {"BEGIN", "INSERT", "SELECT"} <= set(expected)


async def test_a_savepoint_undoes_what_the_driver_wrote_before_a_unique_violation(
    empty_app: FastAPI,
):
    async with empty_app.state.database.session(writes=True) as session:
        await execute_query(session, INSERT_TAG, {"name": "a", "key": "a"})
        with pytest.raises(SlugTaken):
            async with unique_savepoint(session, or_raise=SlugTaken):
                await execute_query(session, INSERT_TAG, {"name": "b", "key": "b"})
                await execute_query(session, INSERT_TAG, {"name": "A", "key": "a"})
        await execute_query(session, INSERT_TAG, {"name": "c", "key": "c"})

    async with empty_app.state.database.session(writes=False) as session:
        names = (await session.exec(select(Tag.name))).all()
    assert sorted(names) == ["a", "c"]
