"""Query plans: the database finds the rows of a list by a range of an index."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import text

from tests.support.clients import publish
from tests.support.statements import Execution, executions

# The index that serves a filter and an order.
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


# Columns that a cursor is compared with, together with a time.
KEYS = (("posts", "id"), ("post_tags", "post_id"))


def iterate_nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a plan of Postgres, from the top down."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from iterate_nodes(part)


async def plan_on_postgres(app: FastAPI, execution: Execution, index: str) -> list[str]:
    """Return the nodes that find the rows of the page, one per line."""
    async with app.state.database.engine.connect() as connection:
        # With few posts the planner may choose any index. Nothing of this is committed.
        for other in set(INDEXES.values()) - {index}:
            await connection.execute(text(f"DROP INDEX {other}"))
        # With few rows the planner prefers to read them all.
        for setting in ("enable_seqscan", "enable_sort", "enable_bitmapscan"):
            await connection.execute(text(f"SET LOCAL {setting} = off"))
        statement = f"EXPLAIN (FORMAT JSON) {execution.statement}"
        explained = await connection.exec_driver_sql(statement, execution.values)
        plan = explained.scalar_one()
    plan = json.loads(plan) if isinstance(plan, str) else plan
    limits = [node for node in iterate_nodes(plan[0]["Plan"]) if node["Node Type"] == "Limit"]
    return [
        " ".join(str(node.get(key, "")) for key in ("Node Type", "Index Name", "Index Cond"))
        for node in iterate_nodes(limits[0])
    ]


async def plan_on_sqlite(app: FastAPI, execution: Execution, _index: str) -> list[str]:
    """Return the steps that find the rows of the page."""
    async with app.state.database.engine.connect() as connection:
        statement = f"EXPLAIN QUERY PLAN {execution.statement}"
        explained = await connection.exec_driver_sql(statement, execution.values)
        rows = explained.all()
    (found,) = [row.id for row in rows if row.detail in ("CO-ROUTINE found", "MATERIALIZE found")]
    within = {found}
    for row in rows:
        if row.parent in within:
            within.add(row.id)
    return [row.detail for row in rows if row.id in within]


# The number of three posts on a page of the default size or of another.
@pytest.mark.parametrize(
    ("place", "expected"),
    [("page=1", 3), ("size=1&page=3", 1), ("cursor={cursor}", 2), ("size=1&cursor={cursor}", 1)],
)
@pytest.mark.parametrize("query", INDEXES)
async def test_a_page_is_found_by_a_range_of_an_index(
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
    (execution,) = executed
    assert execution.is_by_driver
    # Postgres may plan a prepared statement once. Literals tell it the number of rows of a page of
    # the default size, and that few posts are scheduled; it must not depend on the offset.
    assert ("LIMIT 11" in execution.statement) == ("size" not in place)
    assert ("OFFSET (SELECT" in execution.statement) == ("page" in place)
    has_counter = "since" not in query and "until" not in query
    assert ("published_at > '2" in execution.statement) == has_counter
    if "cursor" in place:
        # SQLite starts at the first of several bounds; its plan does not show which.
        _, _, found = execution.statement.partition("total_count")
        bounds = [found.find(f", {table}.{name})") for table, name in KEYS]
        assert 0 < max(bounds) < found.find(" <= "), found
    explain = plan_on_sqlite if is_sqlite else plan_on_postgres
    plan = await explain(empty_app, execution, index)
    text_of_plan = "\n".join(plan)
    (scan,) = [line for line in plan if index in line]
    assert "SEARCH" in scan if is_sqlite else "Index" in scan, text_of_plan
    assert any(sign in scan for sign in "<>"), text_of_plan
    for word in ("B-TREE", "Sort", "Seq Scan", "SCAN p"):
        assert word not in text_of_plan


async def test_accounts_without_a_mailbox_key_are_found_by_an_index(
    empty_app: FastAPI, anonymous: AsyncClient
):
    """Imported authors have no address, and may be many."""
    with executions(empty_app) as executed:
        await anonymous.post("/auth", data={"username": "ann@example.com", "password": "x"})

    (found,) = (
        one for one in executed if "mailbox_key IS NULL" in one.statement.partition(" OR ")[0]
    )
    explain = "EXPLAIN QUERY PLAN" if empty_app.state.settings.is_sqlite else "EXPLAIN"
    async with empty_app.state.database.engine.connect() as connection:
        if not empty_app.state.settings.is_sqlite:
            await connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = await connection.exec_driver_sql(f"{explain} {found.statement}", found.values)
        assert "ix_users_id_without_mailbox_key" in str(plan.all())


async def explain(app: FastAPI, execution: Execution) -> str:
    """Return the plan without reading whole tables and without sorting, where that is possible."""
    is_sqlite = app.state.settings.is_sqlite
    async with app.state.database.engine.connect() as connection:
        if not is_sqlite:
            for setting in ("enable_seqscan", "enable_sort", "enable_bitmapscan"):
                await connection.execute(text(f"SET LOCAL {setting} = off"))
        prefix = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN"
        statement = f"{prefix} {execution.statement}"
        explained = await connection.exec_driver_sql(statement, execution.values)
        return "\n".join(str(row[-1]) for row in explained)


async def test_users_are_searched_by_a_range_of_an_index(
    empty_app: FastAPI, ann: AsyncClient, anonymous: AsyncClient
):
    with executions(empty_app) as executed:
        response = await anonymous.get("/users?q=ann&skip=0&limit=10")

    assert len(response.json()) == 1
    (execution,) = [one for one in executed if "name_keys" in one.statement]
    plan = await explain(empty_app, execution)
    (scan,) = [line for line in plan.splitlines() if "ix_name_keys" in line]
    is_sqlite = empty_app.state.settings.is_sqlite
    assert "key>? AND key<?" in scan if is_sqlite else "Index Only Scan" in scan, plan
    assert is_sqlite or "Index Cond: ((key >= 'ann'::text) AND (key < " in plan, plan
    assert "Seq Scan" not in plan
    assert "SCAN users" not in plan
    if is_sqlite:
        # The second order is of the rows of one page.
        assert plan.count("B-TREE") <= 1, plan


async def test_tags_are_read_and_counted_by_a_range_of_an_index(
    empty_app: FastAPI, ann: AsyncClient, anonymous: AsyncClient
):
    await publish(ann, tags=["Python", "Web"])

    with executions(empty_app) as executed:
        response = await anonymous.get("/tags?page=1")

    assert len(response.json()["results"]) == 2
    (execution,) = executed
    assert execution.is_by_driver
    plan = await explain(empty_app, execution)
    scans = [line for line in plan.splitlines() if "ix_post_counts_rank" in line]
    assert len(scans) == 2, plan
    for scan in scans:
        assert "(delta>?)" in scan or "Index" in scan, plan
    for word in ("Seq Scan", "SCAN post_", "SCAN tags", "SCAN posts"):
        assert word not in plan


async def test_the_search_reads_no_whole_table(
    empty_app: FastAPI, ann: AsyncClient, anonymous: AsyncClient
):
    await publish(ann, title="Moon")

    with executions(empty_app) as executed:
        found = (await anonymous.get("/posts?q=moon")).json()

    assert found["total_count"] == 1
    (execution,) = [one for one in executed if "post_words" in one.statement]
    plan = await explain(empty_app, execution)
    assert "SCAN posts" not in plan, plan
    assert "Seq Scan on posts" not in plan, plan
