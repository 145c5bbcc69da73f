"""Counters of posts, which triggers update, are equal to a count of the posts."""

from datetime import UTC, datetime, timedelta

import time_machine
from fastapi import FastAPI
from httpx import AsyncClient
from sqlmodel import col, func, select, update

from blog_api.posts.models import PostCount, PostTag, Tag
from tests.support.clients import PASSWORD, publish
from tests.support.statements import executions

# With a filter by time, even one that excludes nothing, the posts themselves are counted.
EVER = "since=1970-01-01T00:00:00Z"


async def get_total(client: AsyncClient, query: str) -> int:
    response = await client.get(f"/posts?{query}")
    assert response.status_code == 200, response.text
    count: int = response.json()["total_count"]
    return count


async def check_totals(client: AsyncClient, *queries: str) -> list[int]:
    """Return the totals of all posts and of these queries; each must be equal to a count."""
    totals = [await get_total(client, query) for query in ("", *queries)]
    counted = [await get_total(client, f"{query}&{EVER}") for query in ("", *queries)]
    assert totals == counted
    return totals


async def test_every_change_of_a_post_updates_the_counters(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient, anonymous: AsyncClient
):
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    me = (await ann.get("/users/me")).json()["id"]
    queries = (f"author={me}", "tag=python", "tag=go")
    post = await publish(ann, tags=["Python", "Go"])
    path = f"/posts/{post['id']}"
    await publish(bob, tags=["python"])
    totals = [await check_totals(anonymous, *queries)]

    for change in (
        {"published_at": None},
        {"tags": ["Go", "Rust"]},
        {"published_at": tomorrow},
        {"published_at": "2020-01-01T00:00:00Z"},
        {"title": "Another", "tags": ["Python"]},
    ):
        assert (await ann.patch(path, json=change)).status_code == 200
        totals.append(await check_totals(anonymous, *queries))
    for method in ("PUT", "DELETE"):
        assert (await admin.request(method, f"/admin{path}/takedown")).status_code == 200
        totals.append(await check_totals(anonymous, *queries))
    await ann.delete(path)
    totals.append(await check_totals(anonymous, *queries))

    assert totals == [
        [2, 1, 2, 1],
        [1, 0, 1, 0],
        [1, 0, 1, 0],
        [1, 0, 1, 0],
        [2, 1, 1, 1],
        [2, 1, 2, 0],
        [1, 0, 1, 0],
        [2, 1, 2, 0],
        [1, 0, 1, 0],
    ]


async def test_a_scheduled_post_counts_from_its_publication(
    ann: AsyncClient, anonymous: AsyncClient
):
    me = (await ann.get("/users/me")).json()["id"]
    soon = datetime.now(UTC) + timedelta(hours=1)
    await publish(ann, published_at=soon.isoformat(), tags=["Python"])
    before = await check_totals(anonymous, f"author={me}", "tag=python")
    tags_before = (await anonymous.get("/tags")).json()

    with time_machine.travel(soon + timedelta(seconds=1)):
        after = await check_totals(anonymous, f"author={me}", "tag=python")
        tags_after = (await anonymous.get("/tags")).json()

    assert (before, after) == ([0, 0, 0], [1, 1, 1])
    assert (tags_before["results"], tags_before["total_count"]) == ([], 0)
    assert tags_after["results"] == [{"name": "Python", "post_count": 1}]


async def test_deleting_an_account_subtracts_its_posts(ann: AsyncClient, anonymous: AsyncClient):
    for _ in range(3):
        await publish(ann, tags=["Python"])

    await ann.request("DELETE", "/users/me", json={"current_password": PASSWORD})

    assert await check_totals(anonymous, "tag=python") == [0, 0]
    assert (await anonymous.get("/tags")).json()["total_count"] == 0


async def test_the_rows_of_a_counter_are_merged(
    empty_app: FastAPI, ann: AsyncClient, anonymous: AsyncClient
):
    post = await publish(ann, tags=["Python"])
    for _ in range(100):
        for time in (None, "2020-01-01T00:00:00Z"):
            await ann.patch(f"/posts/{post['id']}", json={"published_at": time})

    async with empty_app.state.database.session(writes=False) as session:
        rows = (await session.exec(select(func.count()).select_from(PostCount))).one()

    assert await check_totals(anonymous, "tag=python") == [1, 1]
    # On average after 64 inserts.
    assert rows < 400


async def test_totals_without_a_filter_by_time_come_from_the_counters(
    empty_app: FastAPI, ann: AsyncClient, anonymous: AsyncClient
):
    await publish(ann, tags=["Python"])
    me = (await ann.get("/users/me")).json()["id"]

    for query in ("", f"author={me}", "tag=python"):
        with executions(empty_app) as executed:
            await anonymous.get(f"/posts?{query}")
        ((statement, _, _),) = executed
        counted = statement.partition("total_count")[0].count("count(*)")
        # Of the scheduled posts.
        assert counted == 1, statement
        assert "post_counts" in statement


async def test_moving_posts_to_another_tag_by_sql_moves_their_count(
    empty_app: FastAPI, ann: AsyncClient, anonymous: AsyncClient
):
    for tag in ("Python", "Python", "Snake"):
        await publish(ann, tags=[tag])
    async with empty_app.state.database.session(writes=True) as session:
        ids = dict((await session.exec(select(Tag.key, Tag.id))).all())
        moved = update(PostTag).where(col(PostTag.tag_id) == ids["python"])
        await session.exec(moved.values(tag_id=ids["snake"]))

    assert await check_totals(anonymous, "tag=python", "tag=snake") == [3, 0, 3]
