"""Reasons of takedowns, and the filters of the audit log."""

from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from tests.db.test_plans import explain
from tests.support.clients import assert_problem, id_of, log_in, publish
from tests.support.statements import executions

REASON = "Advertising for a casino."


async def take_down(admin: AsyncClient, post: dict[str, Any], **values: Any) -> dict[str, Any]:
    response = await admin.put(f"/admin/posts/{post['id']}/takedown", **values)
    assert response.status_code == 200, response.text
    taken_down: dict[str, Any] = response.json()
    return taken_down


async def read_reasons(admin: AsyncClient) -> list[tuple[object, ...]]:
    """Return the audit entries, the oldest first."""
    entries = (await admin.get("/admin/audit")).json()["results"]
    return [(one["action"], one["reason"]) for one in reversed(entries)]


async def read_own(ann: AsyncClient) -> object:
    (own,) = (await ann.get("/users/me/posts")).json()["results"]
    return own["takedown_reason"]


async def test_a_takedown_has_a_reason_for_the_author_and_administrators_alone(
    admin: AsyncClient, ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient
):
    post = await publish(ann)
    await bob.put(f"/users/me/bookmarks/{post['id']}")
    path = f"/admin/posts/{post['id']}"
    assert await read_own(ann) is None

    taken_down = await take_down(admin, post, json={"reason": f" {REASON} "})

    assert taken_down["takedown_reason"] == REASON
    assert taken_down["updated_at"] == post["updated_at"]
    assert await read_own(ann) == REASON
    assert (await admin.get(path)).json()["takedown_reason"] == REASON
    (listed,) = (await admin.get("/admin/posts")).json()["results"]
    assert listed["takedown_reason"] == REASON
    assert REASON in (await ann.get("/users/me/export")).text
    public = [
        (client, address)
        for client in (bob, anonymous)
        for address in (f"/posts/{post['id']}", "/posts", "/feed.json", "/feed.atom", "/feed.rss")
    ]
    for client, address in (
        *public, (bob, "/users/me/export"), (bob, "/users/me/bookmarks"), (admin, "/posts"),
        (admin, "/users/me/export"),
    ):  # fmt: skip
        shown = (await client.get(address)).text
        assert "takedown_reason" not in shown and REASON not in shown, address

    restored = await admin.delete(f"{path}/takedown")
    for address in (f"/posts/{post['id']}", "/posts"):
        assert "takedown_reason" not in (await bob.get(address)).text
    again = await take_down(admin, post)

    assert restored.json()["takedown_reason"] is None
    assert again["takedown_reason"] is None
    assert await read_own(ann) is None
    assert await read_reasons(admin) == [
        ("take-down-post", REASON), ("restore-post", None), ("take-down-post", None),
    ]  # fmt: skip


async def test_a_reason_is_added_changed_and_removed_later(admin: AsyncClient, ann: AsyncClient):
    post = await publish(ann)
    first = await take_down(admin, post)

    bodies: list[dict[str, Any]] = [
        {"json": {"reason": "One"}}, {}, {"json": {}}, {"json": {"reason": "One"}},
        {"json": {"reason": "Two"}}, {"json": {"reason": None}},
    ]  # fmt: skip
    reasons = []
    for body in bodies:
        shown = await take_down(admin, post, **body)
        reasons.append(shown["takedown_reason"])
        assert shown["taken_down_at"] == first["taken_down_at"]

    assert reasons == ["One", "One", "One", "One", "Two", None]
    # Those that change nothing add no entry.
    assert [reason for _, reason in await read_reasons(admin)] == [None, "One", "Two", None]


@pytest.mark.parametrize(
    "reason", ["", " ", "\u200b", "two\nlines", "a" * 301, 1, ["a"], "a\u0000", "a\u2028b"]
)
async def test_a_reason_is_a_short_line(admin: AsyncClient, ann: AsyncClient, reason: object):
    post = await publish(ann)

    response = await admin.put(f"/admin/posts/{post['id']}/takedown", json={"reason": reason})

    assert_problem(response, 422)
    assert (await ann.get(f"/posts/{post['id']}")).status_code == 200
    assert (await admin.get(f"/admin/posts/{post['id']}")).json()["taken_down_at"] is None
    assert await read_reasons(admin) == []
    assert (await take_down(admin, post, json={"reason": "a" * 300}))[
        "takedown_reason"
    ] == "a" * 300


@pytest.fixture
async def ids(admin: AsyncClient, ann: AsyncClient, bob: AsyncClient) -> dict[str, int]:
    """Three entries of two administrators: about Bob, about a post, about its comment."""
    await admin.patch(f"/admin/users/{await id_of(ann)}", json={"is_admin": True})
    await log_in(ann, "ann@example.com")
    post = await publish(bob)
    comment = await bob.post(f"/posts/{post['id']}/comments", json={"content": "Hi"})
    await ann.patch(f"/admin/users/{await id_of(bob)}", json={"is_author": False})
    await take_down(admin, post, json={"reason": REASON})
    await ann.delete(f"/admin/comments/{comment.json()['id']}")
    return {
        "admin": await id_of(admin),
        "ann": await id_of(ann),
        "bob": await id_of(bob),
        "post": post["id"],
        "comment": comment.json()["id"],
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["delete-comment", "take-down-post", "dismiss-author", "make-admin"]),
        ("action=take-down-post", ["take-down-post"]),
        ("admin={ann}", ["delete-comment", "dismiss-author"]),
        ("admin={admin}", ["take-down-post", "make-admin"]),
        ("user={bob}", ["delete-comment", "dismiss-author"]),
        ("post={post}", ["delete-comment", "take-down-post"]),
        ("comment={comment}", ["delete-comment"]),
        ("media=1", []),
        ("user={bob}&action=dismiss-author&admin={ann}", ["dismiss-author"]),
        ("admin={ann}&action=take-down-post", []),
        ("since={third}", ["delete-comment", "take-down-post"]),
        ("until={third}", ["dismiss-author", "make-admin"]),
        ("since={second}&until={third}", ["dismiss-author"]),
        ("since={third}&admin={ann}", ["delete-comment"]),
        ("since=2999-01-01T00:00:00Z", []),
    ],
)
async def test_the_audit_log_is_filtered(
    admin: AsyncClient, ids: dict[str, int], query: str, expected: list[str]
):
    _, second, third, _ = reversed((await admin.get("/admin/audit")).json()["results"])
    query = query.format(**ids, second=second["created_at"], third=third["created_at"])

    page = (await admin.get(f"/admin/audit?{query}")).json()
    one_by_one = []
    cursor: str | None = ""
    for _ in expected:
        part = await admin.get(
            f"/admin/audit?{query}&size=1" + (f"&cursor={cursor}" * bool(cursor))
        )
        one_by_one += part.json()["results"]
        cursor = part.json()["next_cursor"]
        assert part.json()["total_count"] == len(expected)

    assert [one["action"] for one in page["results"]] == expected
    assert page["total_count"] == len(expected)
    assert one_by_one == page["results"]
    assert cursor in ("", None)


@pytest.mark.parametrize(
    "query",
    [
        "action=nonsense", "admin=0", "user=2147483648", "post=a", "comment=-1", "media=1.5",
        "since=yesterday", "until=2026-01-01", "target=post",
    ],
)  # fmt: skip
async def test_a_wrong_filter_is_rejected(admin: AsyncClient, query: str):
    assert_problem(await admin.get(f"/admin/audit?{query}"), 422)


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("action=make-admin", "ix_audit_entries_action_created_at_id"),
        ("admin=1", "ix_audit_entries_admin_id_created_at_id"),
        ("user=1", "ix_audit_entries_user_id_created_at_id"),
        ("post=1", "ix_audit_entries_post_id_created_at_id"),
        ("comment=1", "ix_audit_entries_comment_id_created_at_id"),
        ("media=1", "ix_audit_entries_media_id_created_at_id"),
        ("admin=1&since=2026-01-01T00:00:00Z", "ix_audit_entries_admin_id_created_at_id"),
        ("until=2999-01-01T00:00:00Z", "ix_audit_entries_created_at_id"),
    ],
)
async def test_a_filter_is_a_range_of_an_index(
    empty_app: FastAPI, admin: AsyncClient, query: str, index: str
):
    with executions(empty_app) as executed:
        assert (await admin.get(f"/admin/audit?{query}")).status_code == 200

    (page,) = [one for one in executed if "ORDER BY audit_entries.created_at" in one.statement]
    plan = await explain(empty_app, page)
    assert index in plan
    for word in ("B-TREE", "Sort", "Seq Scan", "SCAN audit_entries\n"):
        assert word not in plan, plan
