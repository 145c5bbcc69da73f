"""Comments that wait for approval: who sees them, who approves them, and who is trusted."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from tests.support.clients import (
    PASSWORD,
    ChangeSettings,
    ChangeUser,
    add_comment,
    bearer,
    client_of,
    id_of,
    log_in,
    publish,
    sign_up,
)

Comment = dict[str, Any]


@pytest.fixture
async def carl(empty_app: FastAPI) -> AsyncGenerator[AsyncClient]:
    async with client_of(empty_app) as client:
        await sign_up(client, "Carl")
        yield client


@pytest.fixture
def approved(change_settings: ChangeSettings) -> None:
    change_settings(comments="approved")


def approval_of(comment: Comment) -> str:
    return f"/comments/{comment['id']}/approval"


async def approve(client: AsyncClient, comment: Comment) -> Comment:
    response = await client.put(approval_of(comment))
    assert response.status_code == 200, response.text
    approved: Comment = response.json()
    assert approved["is_approved"]
    return approved


async def read_thread(client: AsyncClient, post: Comment) -> list[str | None]:
    """Return the contents of all comments that a client sees; check the counts of the list."""
    page = (await client.get(f"/posts/{post['id']}/comments")).json()
    assert page["total_count"] == len(page["results"])
    return [one["content"] for top in page["results"] for one in (top, *top["answers"])]


async def read_count(client: AsyncClient, post: Comment) -> int:
    count: int = (await client.get(f"/posts/{post['id']}")).json()["comment_count"]
    assert (await client.get("/posts")).json()["results"][0]["comment_count"] == count
    return count


@pytest.mark.usefixtures("approved")
async def test_a_waiting_comment_is_seen_by_those_involved_only(
    ann: AsyncClient,
    bob: AsyncClient,
    carl: AsyncClient,
    admin: AsyncClient,
    anonymous: AsyncClient,
):
    post = await publish(ann)
    public = await add_comment(ann, post, "public")
    waiting = await add_comment(bob, post, "waiting")
    answer = await add_comment(bob, post, "answer", public)

    assert not waiting["is_approved"] and not answer["is_approved"]
    for client in (ann, bob):
        for comment in (waiting, answer):
            assert (await client.get(f"/comments/{comment['id']}")).json() == comment
        assert await read_thread(client, post) == ["public", "answer", "waiting"]
        answers = (await client.get(f"/comments/{public['id']}/answers")).json()
        assert answers["results"] == [answer]
    for client in (carl, anonymous, admin):
        for comment in (waiting, answer):
            for path in (f"/comments/{comment['id']}", f"/comments/{comment['id']}/answers"):
                assert (await client.get(path)).status_code == 404
        assert await read_thread(client, post) == ["public"]
        answers = (await client.get(f"/comments/{public['id']}/answers")).json()
        assert (answers["total_count"], answers["results"]) == (0, [])
    # Counts are the same for all.
    for client in (ann, bob, carl, anonymous):
        assert await read_count(client, post) == 1
        assert (await client.get(f"/comments/{public['id']}")).json()["answer_count"] == 0
    assert (await admin.get(f"/admin/comments/{waiting['id']}")).json() == waiting
    exports = [(await client.get("/users/me/export")).text for client in (ann, bob, carl)]
    assert ['"waiting"' in text for text in exports] == [False, True, False]


@pytest.mark.usefixtures("approved")
async def test_others_can_do_nothing_to_a_waiting_comment(
    ann: AsyncClient,
    bob: AsyncClient,
    carl: AsyncClient,
    admin: AsyncClient,
    anonymous: AsyncClient,
):
    post = await publish(ann)
    waiting = await add_comment(bob, post)
    path = f"/comments/{waiting['id']}"
    requests: tuple[tuple[str, str, object], ...] = (
        ("PATCH", path, {"content": "Mine"}),
        ("DELETE", path, None),
        ("POST", f"/posts/{post['id']}/comments", {"content": "Hi", "parent_id": waiting["id"]}),
    )

    await publish(carl)
    await log_in(admin, "admin@example.com", "")
    for method, url, body in requests:
        for client in (carl, admin):
            assert (await client.request(method, url, json=body)).status_code == 404
        assert (await anonymous.request(method, url, json=body)).status_code == 401
    for method in ("PUT", "DELETE"):
        for client in (carl, admin):
            assert (await client.request(method, approval_of(waiting))).status_code == 404
        own = await bob.request(method, approval_of(waiting))
        assert (own.status_code, own.json()["type"]) == (403, "urn:blog-api:not-your-comment")
        assert (await anonymous.request(method, approval_of(waiting))).status_code == 401

    assert (await bob.get(path)).json() == waiting
    answer = await add_comment(ann, post, "Hm", waiting)
    assert answer["is_approved"]


@pytest.mark.usefixtures("approved")
async def test_an_author_trusts_on_own_posts_and_an_administrator_everywhere(
    ann: AsyncClient,
    bob: AsyncClient,
    carl: AsyncClient,
    admin: AsyncClient,
    anonymous: AsyncClient,
):
    post, other = await publish(ann), await publish(ann)
    of_carl = await publish(carl)
    first = await add_comment(bob, post)

    shown = await approve(ann, first)

    assert shown == first | {"is_approved": True}
    assert await read_thread(anonymous, post) == ["Hi"]
    assert (await add_comment(bob, other))["is_approved"]
    waiting = await add_comment(bob, of_carl)
    assert not waiting["is_approved"]
    # Approving what was public trusts no less.
    await approve(admin, await add_comment(bob, post))
    assert (await add_comment(bob, of_carl))["is_approved"]
    assert not (await bob.get(f"/comments/{waiting['id']}")).json()["is_approved"]


@pytest.mark.usefixtures("approved")
async def test_the_author_of_the_post_and_administrators_need_no_approval(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient
):
    post = await publish(ann)

    for client, is_approved in ((ann, True), (admin, True), (bob, False)):
        assert (await add_comment(client, post))["is_approved"] is is_approved


@pytest.mark.usefixtures("approved")
@pytest.mark.parametrize("who", ["author", "administrator"])
async def test_trust_ends_with_the_last_approved_comment(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient, who: str
):
    moderator = ann if who == "author" else admin
    post = await publish(ann)
    one, two = await add_comment(bob, post, "1"), await add_comment(bob, post, "2")
    for comment in (one, two):
        await approve(moderator, comment)
    public = await add_comment(bob, post, "3")

    withdrawn = await moderator.delete(approval_of(one))
    after_one = await add_comment(bob, post, "4")
    await bob.delete(f"/comments/{two['id']}")
    after_both = await add_comment(bob, post, "5")

    assert withdrawn.json() == one
    assert [one["is_approved"] for one in (public, after_one, after_both)] == [True, True, False]
    # What is public stays so.
    assert (await bob.get(f"/comments/{public['id']}")).json()["is_approved"]


@pytest.mark.usefixtures("approved")
async def test_an_author_does_not_weaken_the_approval_of_an_administrator(
    ann: AsyncClient, bob: AsyncClient, carl: AsyncClient, admin: AsyncClient
):
    post, of_carl = await publish(ann), await publish(carl)
    comment = await add_comment(bob, post)

    await approve(admin, comment)
    await approve(ann, comment)

    assert (await add_comment(bob, of_carl))["is_approved"]


async def test_an_edit_by_somebody_who_is_not_trusted_waits(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient, change_settings: ChangeSettings
):
    post = await publish(ann)
    comment = await add_comment(bob, post)
    path = f"/comments/{comment['id']}"
    change_settings(comments="approved")

    same = await bob.patch(path, json={"content": "Hi"})
    edited = await bob.patch(path, json={"content": "Spam"})
    hidden = await anonymous.get(path)
    count = await read_count(anonymous, post)
    await approve(ann, comment)
    trusted = await bob.patch(path, json={"content": "Bye"})

    assert same.json()["is_approved"]
    assert (edited.json()["content"], edited.json()["is_approved"]) == ("Spam", False)
    assert (hidden.status_code, count) == (404, 0)
    assert trusted.json()["is_approved"]
    assert (await anonymous.get(path)).json()["content"] == "Bye"


async def test_what_waits_goes_on_waiting_when_the_setting_changes(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient, change_settings: ChangeSettings
):
    post = await publish(ann)
    change_settings(comments="approved")
    waiting = await add_comment(bob, post, "waiting")
    change_settings(comments="open")

    edited = await bob.patch(f"/comments/{waiting['id']}", json={"content": "edited"})
    public = await add_comment(bob, post, "public")

    assert (edited.json()["is_approved"], public["is_approved"]) == (False, True)
    assert await read_thread(anonymous, post) == ["public"]
    change_settings(comments="closed")
    await approve(ann, waiting)
    assert await read_thread(anonymous, post) == ["edited", "public"]


async def test_a_trusted_edit_of_a_withdrawn_comment_does_not_show_it(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient, approved: None
):
    post = await publish(ann)
    one, two = await add_comment(bob, post, "1"), await add_comment(bob, post, "2")
    for comment in (one, two):
        await approve(ann, comment)
    await ann.delete(approval_of(one))

    edited = await bob.patch(f"/comments/{one['id']}", json={"content": "3"})

    assert not edited.json()["is_approved"]
    assert await read_thread(anonymous, post) == ["2"]


@pytest.mark.parametrize("by", ["setting", "post"])
async def test_closed_comments_are_read_and_deleted_only(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient, anonymous: AsyncClient,
    change_settings: ChangeSettings, by: str,
):  # fmt: skip
    post, hidden = await publish(ann), await publish(ann, published_at=None)
    comment = await add_comment(bob, post)
    if by == "setting":
        change_settings(comments="closed")
    else:
        for one in (post, hidden):
            await ann.patch(f"/posts/{one['id']}", json={"comments_open": False})
    path = f"/posts/{post['id']}/comments"

    for client in (ann, bob, admin):
        created = await client.post(path, json={"content": "Hi"})
        assert (created.status_code, created.json()["type"]) == (
            403,
            "urn:blog-api:comments-closed",
        )
    edited = await bob.patch(f"/comments/{comment['id']}", json={"content": "More"})
    assert (edited.status_code, edited.json()["type"]) == (403, "urn:blog-api:comments-closed")
    # A hidden post is still missing for others, and the comments of others cannot be edited.
    missing = await bob.post(f"/posts/{hidden['id']}/comments", json={"content": "Hi"})
    assert missing.status_code == 404
    others = await ann.patch(f"/comments/{comment['id']}", json={"content": "Mine"})
    assert others.json()["type"] == "urn:blog-api:not-your-comment"
    assert (await anonymous.post(path, json={"content": "Hi"})).status_code == 401
    assert await read_thread(anonymous, post) == ["Hi"]
    assert (await bob.delete(f"/comments/{comment['id']}")).status_code == 204
    assert await read_thread(anonymous, post) == []


@pytest.mark.usefixtures("approved")
@pytest.mark.parametrize("how", ["withdrawn", "edited"])
async def test_a_waiting_comment_with_public_answers_looks_like_a_deleted_one(
    ann: AsyncClient, bob: AsyncClient, carl: AsyncClient, anonymous: AsyncClient,
    change_settings: ChangeSettings, how: str,
):  # fmt: skip
    post = await publish(ann)
    change_settings(comments="open")
    top = await add_comment(bob, post, "top")
    below = await add_comment(bob, post, "below", top)
    answer = await add_comment(ann, post, "answer", below)
    change_settings(comments="approved")
    for comment in (top, below):
        if how == "withdrawn":
            await ann.delete(approval_of(comment))
        else:
            await bob.patch(
                f"/comments/{comment['id']}", json={"content": comment["content"] + "!"}
            )
    suffix = "" if how == "withdrawn" else "!"

    for client in (anonymous, carl):
        assert await read_thread(client, post) == [None, None, "answer"]
        shown = (await client.get(f"/comments/{below['id']}")).json()
        assert shown == below | {
            "content": None, "user_id": None, "user_name": None, "author": None,
            "is_deleted": True, "answer_count": 1,
        }  # fmt: skip
        answers = (await client.get(f"/comments/{top['id']}/answers")).json()["results"]
        assert [one["content"] for one in answers] == [None, "answer"]
        assert "below" not in str(answers) and "Bob" not in str(answers)
    for client in (ann, bob):
        contents = [f"top{suffix}", f"below{suffix}", "answer"]
        assert await read_thread(client, post) == contents
    assert await read_count(anonymous, post) == 1

    # Without the answer, others see no trace of it.
    await ann.delete(f"/comments/{answer['id']}")
    assert await read_thread(anonymous, post) == []
    assert (await anonymous.get(f"/comments/{top['id']}")).status_code == 404
    await approve(ann, below)
    assert await read_thread(anonymous, post) == [None, f"below{suffix}"]
    await approve(ann, top)
    assert await read_thread(anonymous, post) == [f"top{suffix}", f"below{suffix}"]
    assert (await anonymous.get(f"/comments/{top['id']}")).json()["answer_count"] == 1
    assert await read_count(anonymous, post) == 2


@pytest.mark.usefixtures("approved")
async def test_a_placeholder_with_waiting_answers_only_is_hidden(
    ann: AsyncClient, bob: AsyncClient, carl: AsyncClient, anonymous: AsyncClient
):
    post = await publish(ann)
    top = await add_comment(ann, post, "top")
    waiting = await add_comment(bob, post, "waiting", top)
    await ann.delete(f"/comments/{top['id']}")

    assert await read_thread(anonymous, post) == await read_thread(carl, post) == []
    assert (await anonymous.get(f"/comments/{top['id']}")).status_code == 404
    assert await read_thread(ann, post) == await read_thread(bob, post) == [None, "waiting"]
    await approve(ann, waiting)
    assert await read_thread(anonymous, post) == [None, "waiting"]
    await bob.delete(f"/comments/{waiting['id']}")
    assert await read_thread(ann, post) == []
    assert await read_count(ann, post) == 0


@pytest.mark.usefixtures("approved")
async def test_a_deleted_account_takes_its_waiting_comments_along(
    ann: AsyncClient, bob: AsyncClient, carl: AsyncClient, anonymous: AsyncClient
):
    post = await publish(ann)
    chain = [await add_comment(ann, post, "top")]
    for client, content in ((bob, "1"), (bob, "2"), (ann, "answer"), (carl, "3"), (bob, "4")):
        if content == "4":
            # Bob sees the comment to answer.
            await approve(ann, chain[-1])
        chain.append(await add_comment(client, post, content, chain[-1]))
    await ann.delete(approval_of(chain[4]))
    await add_comment(bob, post, "alone", chain[0])
    await add_comment(bob, post, "alone")
    assert await read_thread(anonymous, post) == ["top", None, None, "answer"]

    await bob.request("DELETE", "/users/me", json={"current_password": PASSWORD})

    assert await read_thread(anonymous, post) == ["top", None, None, "answer"]
    assert await read_thread(ann, post) == ["top", None, None, "answer", "3"]
    assert await read_count(ann, post) == 2
    counts = [(await ann.get(f"/comments/{one['id']}")).json()["answer_count"] for one in chain[:5]]
    assert counts == [1, 1, 1, 0, 0]
    await approve(ann, chain[4])
    await ann.delete(f"/comments/{chain[3]['id']}")
    assert await read_thread(anonymous, post) == ["top", None, None, None, "3"]
    await ann.delete(f"/comments/{chain[4]['id']}")
    assert await read_thread(ann, post) == ["top"]


async def test_approval_is_idempotent_and_leaves_version_and_times(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient, approved: None
):
    post = await publish(ann)
    comment = await add_comment(bob, post)
    path = approval_of(comment)
    before = (await bob.get(f"/comments/{comment['id']}")).headers["ETag"]

    for method, is_approved in (("PUT", True), ("PUT", True), ("DELETE", False), ("DELETE", False)):
        response = await ann.request(method, path)
        assert response.json() == comment | {"is_approved": is_approved}
        assert response.headers["ETag"].partition("-")[0] == before.partition("-")[0]
        assert await read_count(anonymous, post) == is_approved


async def test_an_approval_can_name_the_version_that_was_read(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient, approved: None
):
    comment = await add_comment(bob, await publish(ann))
    path = f"/comments/{comment['id']}"
    read = {"If-Match": (await ann.get(path)).headers["ETag"]}
    await bob.patch(path, json={"content": "Spam"})

    stale = await ann.put(approval_of(comment), headers=read)

    assert stale.status_code == 412
    assert (await anonymous.get(path)).status_code == 404
    fresh = {"If-Match": (await ann.get(path)).headers["ETag"]}
    assert (await ann.put(approval_of(comment), headers=fresh)).status_code == 200


@pytest.mark.usefixtures("approved")
async def test_the_scopes_of_a_token_decide_who_approves(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient, change_user: ChangeUser
):
    comment = await add_comment(bob, await publish(ann))
    path = approval_of(comment)

    for email, scope, status in (
        ("ann@example.com", "posts:read users:write", 403),
        ("admin@example.com", "posts:read", 403),
        ("admin@example.com", "posts:read posts:write", 404),
        ("ann@example.com", "posts:write", 200),
        ("admin@example.com", "admin", 200),
    ):
        form = {"username": email, "password": PASSWORD, "scope": scope}
        token = (await bob.post("/auth", data=form)).json()["access_token"]
        response = await bob.put(path, headers=bearer(token))
        assert response.status_code == status, (email, scope, response.text)
        if status == 403:
            assert response.json()["type"] == "urn:blog-api:insufficient-scope"
    # Without `posts:read` authors do not see what waits on their posts.
    await ann.delete(path)
    await log_in(ann, "ann@example.com", "posts:write")
    assert (await ann.get(f"/comments/{comment['id']}")).status_code == 404
    await change_user("ann@example.com", is_active=False)
    assert (await ann.put(path)).status_code == 400


@pytest.mark.usefixtures("approved")
async def test_the_waiting_comment_of_a_deactivated_user_can_be_approved(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient, change_user: ChangeUser
):
    post = await publish(ann)
    comment = await add_comment(bob, post)
    await change_user("bob@example.com", is_active=False)

    assert (await bob.get(f"/comments/{comment['id']}")).status_code == 400
    await approve(ann, comment)
    assert await read_thread(anonymous, post) == ["Hi"]


@pytest.mark.usefixtures("approved")
async def test_authors_find_what_waits_on_their_posts(
    ann: AsyncClient, bob: AsyncClient, carl: AsyncClient, anonymous: AsyncClient
):
    posts = [await publish(ann), await publish(ann)]
    of_carl = await publish(carl)
    comments = [await add_comment(bob, post, str(n)) for n, post in enumerate([*posts, of_carl])]
    answered = await add_comment(ann, posts[0], "mine", comments[0])
    placeholder = await add_comment(ann, posts[1], "gone")
    await add_comment(bob, posts[1], "below", placeholder)
    await ann.delete(f"/comments/{placeholder['id']}")

    async def read(client: AsyncClient, query: str = "") -> list[str]:
        page = (await client.get(f"/users/me/posts/comments{query}")).json()
        assert page["total_count"] == len(page["results"])
        return [one["content"] for one in page["results"]]

    assert await read(ann, "?state=waiting") == ["below", "1", "0"]
    assert await read(ann, "?state=approved") == [answered["content"]]
    assert await read(ann) == ["below", "mine", "1", "0"]
    assert await read(carl, "?state=waiting") == ["2"]
    assert await read(bob) == []
    first = (await ann.get("/users/me/posts/comments?state=waiting&size=2")).json()
    rest = await read_page(ann, first["next_cursor"])
    assert [one["content"] for one in rest["results"]] == ["0"]
    assert (await anonymous.get("/users/me/posts/comments")).status_code == 401
    assert (await ann.get("/users/me/posts/comments?state=spam")).status_code == 422


async def read_page(client: AsyncClient, cursor: str) -> dict[str, Any]:
    path = f"/users/me/posts/comments?state=waiting&size=2&cursor={cursor}"
    page: dict[str, Any] = (await client.get(path)).json()
    return page


@pytest.mark.usefixtures("approved")
async def test_a_replayed_comment_is_the_same_and_waits(
    ann: AsyncClient, bob: AsyncClient, carl: AsyncClient, anonymous: AsyncClient
):
    post = await publish(ann)
    path, key = f"/posts/{post['id']}/comments", {"Idempotency-Key": "a"}

    first, second = [await bob.post(path, json={"content": "Hi"}, headers=key) for _ in range(2)]
    of_carl = await carl.post(path, json={"content": "Hi"}, headers=key)

    assert first.json() == second.json() and not first.json()["is_approved"]
    assert of_carl.json()["id"] != first.json()["id"]
    assert await read_thread(anonymous, post) == []
    assert (await ann.get("/users/me/posts/comments?state=waiting")).json()["total_count"] == 2


@pytest.mark.usefixtures("approved")
async def test_no_cached_or_conditional_response_shows_a_waiting_comment(
    app: FastAPI, ann: AsyncClient, bob: AsyncClient, carl: AsyncClient, anonymous: AsyncClient
):
    post = await publish(ann)
    comment = await approve(ann, await add_comment(bob, post))
    paths = (f"/comments/{comment['id']}", f"/posts/{post['id']}/comments", f"/posts/{post['id']}")
    public = [await anonymous.get(path) for path in paths]
    own = [await bob.get(path) for path in paths]

    await ann.delete(approval_of(comment))

    for path, before, involved in zip(paths, public, own, strict=True):
        for client in (anonymous, carl):
            after = await client.get(path)
            etag = {"If-None-Match": f"{before.headers['ETag']}, {involved.headers['ETag']}"}
            conditional = await client.get(path, headers=etag)
            assert after.status_code == conditional.status_code in (200, 404), path
            assert "Hi" not in after.text.replace("This", "")
        # Involved users get the state that changed, and never a cached response.
        shown = await bob.get(path, headers={"If-None-Match": involved.headers["ETag"]})
        assert (shown.status_code, shown.headers["Cache-Control"]) == (200, "no-cache")
    await approve(ann, comment)
    assert [(await anonymous.get(path)).json() for path in paths] == [one.json() for one in public]


async def test_comments_on_a_hidden_post_can_be_approved_by_its_author_and_administrators(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient, anonymous: AsyncClient, approved: None
):
    post = await publish(ann)
    one, two = await add_comment(bob, post, "1"), await add_comment(bob, post, "2")
    await ann.patch(f"/posts/{post['id']}", json={"published_at": None})

    await approve(ann, one)
    await approve(admin, two)

    assert (await anonymous.get(f"/comments/{one['id']}")).status_code == 404
    assert (await ann.get(f"/posts/{post['id']}")).json()["comment_count"] == 2
    for comment_id in ("2147483647", "0", "x"):
        response = await ann.put(f"/comments/{comment_id}/approval")
        assert response.status_code in (404, 422)


async def test_a_deleted_comment_cannot_be_approved(ann: AsyncClient, admin: AsyncClient):
    post = await publish(ann)
    comment = await add_comment(ann, post)
    await add_comment(ann, post, to=comment)
    await ann.delete(f"/comments/{comment['id']}")

    for client in (ann, admin):
        for method in ("PUT", "DELETE"):
            assert (await client.request(method, approval_of(comment))).status_code == 404
    assert await id_of(ann) == post["user_id"]
