"""How the database finds the posts of a list: along an index, however many there are."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import text

from tests.support.clients import publish
from tests.support.statements import executions

# The index for each filter and order.
INDEXES = {
    "": "ix_posts_published_at_id",
    "sort=published_at": "ix_posts_published_at_id",
    "since=2020-01-01T00:00:00Z&until=2030-01-01T00:00:00Z": "ix_posts_published_at_id",
    "sort=-updated_at": "ix_posts_updated_at_id",
    "sort=updated_at": "ix_posts_updated_at_id",
    "author={author}": "ix_posts_user_id_published_at_id",
    "author={author}&since=2020-01-01T00:00:00Z": "ix_posts_user_id_published_at_id",
    "author={author}&sort=updated_at": "ix_posts_user_id_updated_at_id",
    "tag=python": "ix_post_tags_tag_id_published_at_post_id",
    "tag=python&until=2030-01-01T00:00:00Z": "ix_post_tags_tag_id_published_at_post_id",
    "tag=python&sort=-updated_at": "ix_post_tags_tag_id_updated_at_post_id",
}


# With which a cursor is compared, together with a time.
KEYS = (("posts", "id"), ("post_tags", "post_id"))


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All nodes of a plan of Postgres, from the top down."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes_of(part)


async def plan_on_postgres(app: FastAPI, statement: str, values: Any, index: str) -> list[str]:
    """What is done to find the rows of the page, a line a node."""
    async with app.state.database.engine.connect() as connection:
        # Of so few posts any order is as good; nothing of this is committed.
        for other in set(INDEXES.values()) - {index}:
            await connection.execute(text(f"DROP INDEX {other}"))
        # With so few rows it would rather read all of them.
        for setting in ("enable_seqscan", "enable_sort", "enable_bitmapscan"):
            await connection.execute(text(f"SET LOCAL {setting} = off"))
        explained = await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", values)
        plan = explained.scalar_one()
    plan = json.loads(plan) if isinstance(plan, str) else plan
    limits = [node for node in nodes_of(plan[0]["Plan"]) if node["Node Type"] == "Limit"]
    return [
        " ".join(str(node.get(key, "")) for key in ("Node Type", "Index Name", "Index Cond"))
        for node in nodes_of(limits[0])
    ]


async def plan_on_sqlite(app: FastAPI, statement: str, values: Any, _index: str) -> list[str]:
    async with app.state.database.engine.connect() as connection:
        explained = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        rows = explained.all()
    (found,) = [row.id for row in rows if row.detail in ("CO-ROUTINE found", "MATERIALIZE found")]
    within = {found}
    for row in rows:
        if row.parent in within:
            within.add(row.id)
    return [row.detail for row in rows if row.id in within]


# How many of three posts are on a page: of the usual size, and of another.
@pytest.mark.parametrize(
    ("place", "expected"),
    [("page=1", 3), ("size=1&page=3", 1), ("cursor={cursor}", 2), ("size=1&cursor={cursor}", 1)],
)
@pytest.mark.parametrize("query", INDEXES)
async def test_a_page_is_a_range_of_an_index(
    empty_app: FastAPI,
    ann: AsyncClient,
    anonymous: AsyncClient,
    query: str,
    place: str,
    expected: int,
):
    for _ in range(3):
        post = await publish(ann, tags=["Python"])
    query = query.format(author=post["user_id"])
    first = (await anonymous.get(f"/posts?{query}&size=1")).json()
    place = place.format(cursor=first["next_cursor"])

    with executions(empty_app) as executed:
        response = await anonymous.get(f"/posts?{query}&{place}")

    assert len(response.json()["results"]) == expected
    index = INDEXES[query.replace(f"author={post['user_id']}", "author={author}")]
    is_sqlite = empty_app.state.settings.is_sqlite
    (explained,) = executed
    # What Postgres has to know to plan a usual page once: how many rows it is about, and how few
    # posts are later than a day that is written out; but not how far down they are.
    assert ("LIMIT 11" in explained[0]) == ("size" not in place)
    assert ("OFFSET (SELECT" in explained[0]) == ("page" in place)
    has_counter = "since" not in query and "until" not in query
    assert ("published_at > '2" in explained[0]) == has_counter
    if "cursor" in place:
        # SQLite does not tell which of several bounds it begins at: it is the first.
        _, _, found = explained[0].partition("total_count")
        bounds = [found.find(f", {table}.{name})") for table, name in KEYS]
        assert 0 < max(bounds) < found.find(" <= "), found
    explain = plan_on_sqlite if is_sqlite else plan_on_postgres
    plan = await explain(empty_app, *explained, index)
    told = "\n".join(plan)
    (scan,) = [line for line in plan if index in line]
    # A range of it, from one place to another.
    assert "SEARCH" in scan if is_sqlite else "Index" in scan, told
    assert any(sign in scan for sign in "<>"), told
    assert not any(word in told for word in ("B-TREE", "Sort", "Seq Scan", "SCAN p")), told
