"""Moderation of comments by administrators: the list, approval and the audit log."""

import pytest
from httpx import AsyncClient

from tests.support.clients import ChangeSettings, add_comment, id_of, publish


async def read(admin: AsyncClient, query: str = "") -> list[str]:
    response = await admin.get(f"/admin/comments{query}")
    assert response.status_code == 200, response.text
    page = response.json()
    assert page["total_count"] == len(page["results"])
    return [one["content"] for one in page["results"]]


async def test_administrators_list_comments_by_state_user_and_words(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient, change_settings: ChangeSettings
):
    post, hidden = await publish(ann), await publish(ann)
    await add_comment(ann, post, "Buy a 100% Boat")
    gone = await add_comment(bob, post, "Gone")
    await add_comment(bob, hidden, "СПАМ и boats", None)
    change_settings(comments="approved")
    await add_comment(bob, post, "Лодки boat", gone)
    await bob.delete(f"/comments/{gone['id']}")
    await ann.patch(f"/posts/{hidden['id']}", json={"published_at": None})
    bob_id = await id_of(bob)

    newest = ["Лодки boat", "СПАМ и boats", "Buy a 100% Boat"]
    assert await read(admin) == newest
    assert await read(admin, "?state=waiting") == newest[:1]
    assert await read(admin, "?state=approved") == newest[1:]
    assert await read(admin, f"?user={bob_id}") == newest[:2]
    for q, found in (
        ("boat", newest), ("BOAT uy", newest[2:]), ("спам", newest[1:2]),
        ("лодки boat", newest[:1]), ("100%", newest[2:]), ("_", []), ("boat ship", []), ("\\", []),
    ):  # fmt: skip
        shown = (await admin.get("/admin/comments", params={"q": q})).json()
        assert [one["content"] for one in shown["results"]] == found, q
    assert await read(admin, f"?q=boat&user={bob_id}&state=approved") == newest[1:2]
    for query in ("?state=spam", "?user=0", "?q=", "?unknown=1", f"?q={'a' * 101}"):
        assert (await admin.get(f"/admin/comments{query}")).status_code == 422, query


async def test_pages_of_all_comments_are_linked(ann: AsyncClient, admin: AsyncClient):
    post = await publish(ann)
    for number in range(3):
        await add_comment(ann, post, f"word {number}")

    first = (await admin.get("/admin/comments?size=2&q=word")).json()
    cursor = first["next_cursor"]
    second = (await admin.get(f"/admin/comments?size=2&q=word&cursor={cursor}")).json()

    pages = [[one["content"] for one in page["results"]] for page in (first, second)]
    assert pages == [["word 2", "word 1"], ["word 0"]]
    assert (first["total_count"], second["next_cursor"]) == (3, None)


@pytest.mark.parametrize("scope", ["administrator", "author"])
async def test_approvals_of_administrators_are_audited(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient, change_settings: ChangeSettings,
    scope: str,
):  # fmt: skip
    change_settings(comments="approved")
    post = await publish(ann)
    comment = await add_comment(bob, post)
    path = f"/comments/{comment['id']}/approval"
    moderator = admin if scope == "administrator" else ann

    # Repeated requests change nothing.
    for method in ("PUT", "PUT", "DELETE", "DELETE", "PUT"):
        assert (await moderator.request(method, path)).status_code == 200
    missing = await moderator.put(path, headers={"If-Match": '"stale"'})

    assert missing.status_code == 412
    entries = (await admin.get("/admin/audit")).json()["results"]
    actions = ["approve-comment", "withdraw-approval", "approve-comment"]
    assert [one["action"] for one in entries] == (actions if moderator is admin else [])
    for entry in entries:
        assert entry["admin_id"] == await id_of(admin)
        assert entry["user_id"] == comment["user_id"]
        assert (entry["post_id"], entry["comment_id"]) == (post["id"], comment["id"])
