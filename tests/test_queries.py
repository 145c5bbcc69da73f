"""Named queries: what the driver gives is what SQLAlchemy would give."""

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from tests.support.clients import publish
from tests.support.statements import executions

READS = (
    "/posts", "/posts?size=1", "/posts?sort=-updated_at&tag=python", "/posts?author={user_id}",
    "/posts?since=2020-01-01T00:00:00Z", "/posts?page=9", "/posts/{id}", "/posts/slug/{slug}",
    "/users/me", "/users/me/posts", "/users/{user_id}/posts", "/tags", "/posts/{draft}",
)  # fmt: skip


@pytest.mark.parametrize("path", READS)
async def test_an_answer_is_the_same_by_the_driver_and_by_sqlalchemy(
    empty_app: FastAPI, ann: AsyncClient, path: str
):
    post = await publish(ann, title="Grüße, мир", tags=["Python", "Ünïcode"])
    draft = (
        await ann.post("/posts", json={"title": "D", "content": "D", "published_at": None})
    ).json()
    path = path.format(**post, draft=draft["id"])

    by_driver = await ann.get(path)
    with executions(empty_app) as executed:
        by_sqlalchemy = await ann.get(path)

    assert executed
    assert by_driver.status_code == by_sqlalchemy.status_code
    assert by_driver.json() == by_sqlalchemy.json()
    assert by_driver.headers.get("ETag") == by_sqlalchemy.headers.get("ETag")


async def test_the_driver_is_given_what_is_read_most(
    empty_app: FastAPI, ann: AsyncClient, anonymous: AsyncClient
):
    post = await publish(ann)
    with executions(empty_app) as executed:
        empty_app.state.database.uses_driver_queries = True
        for path in ("/posts", f"/posts/{post['id']}", "/tags"):
            assert (await anonymous.get(path)).status_code == 200
        assert (await ann.get("/users/me")).status_code == 200

    assert executed == []
