"""Comments and threads."""

from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import delete
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.models import User
from blog_api.comments import service
from blog_api.posts.counters import CountedPost, lock_post_for_counters
from blog_api.posts.models import Post
from tests.support.clients import PASSWORD, add_comment, id_of, publish, sign_up

MAX_DEPTH = 8
SHOWN_ANSWERS = 20
INVALID_TEXTS: tuple[object, ...] = (
    "", " ", "\n\t", "a" * 10_001, "\u0000", "a\u0000b", "\u0001", "\u000b", "\u001b[31m",
    "\ufffe", "\uffff", None, 5, [], ["a"], {},
)  # fmt: skip


async def read_count(client: AsyncClient, post: dict[str, Any]) -> int:
    count: int = (await client.get(f"/posts/{post['id']}")).json()["comment_count"]
    return count


async def read_thread(client: AsyncClient, post: dict[str, Any]) -> list[tuple[int, str | None]]:
    """Return depth and content of all comments on a post, in thread order."""
    page = (await client.get(f"/posts/{post['id']}/comments")).json()
    assert page["total_count"] == len(page["results"])
    return [
        (comment["depth"], comment["content"])
        for top in page["results"]
        for comment in (top, *top["answers"])
    ]


async def test_any_user_can_comment_on_a_post(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient
):
    post = await publish(ann)

    response = await bob.post(f"/posts/{post['id']}/comments", json={"content": "Well *said*."})

    assert response.status_code == 201
    comment = response.json()
    bob_id = await id_of(bob)
    assert comment == {
        "id": comment["id"],
        "created_at": comment["updated_at"],
        "updated_at": comment["created_at"],
        "post_id": post["id"],
        "parent_id": None,
        "depth": 0,
        "user_id": bob_id,
        "user_name": "Bob",
        "author": {"id": bob_id, "username": "bob", "name": "Bob", "avatar_url": None},
        "content": "Well *said*.",
        "is_deleted": False,
        "is_approved": True,
        "answer_count": 0,
    }
    assert (await anonymous.get(f"/comments/{comment['id']}")).json() == comment
    assert (await anonymous.get(f"/posts/{post['id']}/comments")).json() == {
        "total_count": 1,
        "results": [comment | {"answers": []}],
        "next_cursor": None,
    }


async def test_a_comment_increases_the_count_and_does_not_update_the_post(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient
):
    post = await publish(ann)
    await add_comment(bob, post, to=await add_comment(bob, post))

    counted = {"comment_count": 2}
    assert (await anonymous.get("/posts")).json()["results"] == [post | counted]
    assert (await anonymous.get(f"/posts/{post['id']}")).json().items() >= (post | counted).items()
    (own,) = (await ann.get("/users/me/posts")).json()["results"]
    assert own.items() >= (post | counted).items()


async def test_comments_are_listed_with_their_answers_in_thread_order(
    ann: AsyncClient, bob: AsyncClient
):
    post = await publish(ann)
    one = await add_comment(bob, post, "1")
    two = await add_comment(bob, post, "2")
    one_answer = await add_comment(ann, post, "1.1", one)
    await add_comment(ann, post, "2.1", two)
    await add_comment(bob, post, "1.2", one)
    await add_comment(bob, post, "1.1.1", one_answer)

    assert await read_thread(ann, post) == [
        (0, "1"), (1, "1.1"), (2, "1.1.1"), (1, "1.2"), (0, "2"), (1, "2.1"),
    ]  # fmt: skip
    for comment, answers, direct in ((one, ["1.1", "1.1.1", "1.2"], 2), (one_answer, ["1.1.1"], 1)):
        page = (await ann.get(f"/comments/{comment['id']}/answers")).json()
        assert [answer["content"] for answer in page["results"]] == answers
        assert page["total_count"] == len(answers)
        assert (await ann.get(f"/comments/{comment['id']}")).json()["answer_count"] == direct


async def test_a_comment_list_has_the_first_answers_and_the_answer_list_has_all(
    ann: AsyncClient, bob: AsyncClient
):
    post = await publish(ann)
    busy, quiet = await add_comment(bob, post, "busy"), await add_comment(bob, post, "quiet")
    for number in range(SHOWN_ANSWERS + 1):
        await add_comment(bob, post, str(number), busy)
    await add_comment(bob, post, "one", quiet)

    shown = (await ann.get(f"/posts/{post['id']}/comments")).json()["results"]
    all_answers = (await ann.get(f"/comments/{busy['id']}/answers?size=100")).json()

    numbers = [str(number) for number in range(SHOWN_ANSWERS + 1)]
    assert [answer["content"] for answer in shown[0]["answers"]] == numbers[:SHOWN_ANSWERS]
    assert [answer["content"] for answer in shown[1]["answers"]] == ["one"]
    assert shown[0]["answer_count"] == all_answers["total_count"] == SHOWN_ANSWERS + 1
    assert [answer["content"] for answer in all_answers["results"]] == numbers


async def test_answers_can_be_nested_eight_levels_deep(ann: AsyncClient):
    post = await publish(ann)
    comment = await add_comment(ann, post)
    for depth in range(1, MAX_DEPTH + 1):
        comment = await add_comment(ann, post, to=comment)
        assert comment["depth"] == depth

    body = {"content": "Hi", "parent_id": comment["id"]}
    response = await ann.post(f"/posts/{post['id']}/comments", json=body)

    assert response.status_code == 400
    assert response.json()["type"] == "urn:blog-api:thread-too-deep"
    assert response.json()["detail"] == "Answers go 8 deep at most"
    assert await read_count(ann, post) == MAX_DEPTH + 1
    assert (await ann.get(f"/comments/{comment['id']}")).json() == comment


async def test_an_answer_must_refer_to_a_comment_on_the_same_post(ann: AsyncClient):
    post, other = await publish(ann), await publish(ann)
    elsewhere = await add_comment(ann, other)
    deleted = await add_comment(ann, post)
    await ann.delete(f"/comments/{deleted['id']}")

    for parent_id in (elsewhere["id"], deleted["id"], 2**31 - 1):
        body = {"content": "Hi", "parent_id": parent_id}
        response = await ann.post(f"/posts/{post['id']}/comments", json=body)
        assert response.status_code == 404
        assert response.json()["detail"] == "Comment not found"
    for parent_id in (0, -1, 2**31, 2**63, "x", 1.5, True, [], {}):
        body = {"content": "Hi", "parent_id": parent_id}
        response = await ann.post(f"/posts/{post['id']}/comments", json=body)
        assert response.status_code == 422, parent_id
    assert await read_count(ann, post) == 0
    assert await read_count(ann, other) == 1


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_invalid_comments_are_rejected(ann: AsyncClient, method: str):
    post = await publish(ann)
    comment = await add_comment(ann, post)
    path = f"/posts/{post['id']}/comments" if method == "POST" else f"/comments/{comment['id']}"

    for content in INVALID_TEXTS:
        response = await ann.request(method, path, json={"content": content})
        assert response.status_code == 422, ascii(content)
        assert response.json()["errors"][0]["loc"] == ["body", "content"], ascii(content)
    for body in ({}, {"content": "a", "user_id": 1}, {"content": "a", "is_deleted": True}):
        assert (await ann.request(method, path, json=body)).status_code == 422
    assert await read_thread(ann, post) == [(0, "Hi")]
    assert (await ann.get(f"/comments/{comment['id']}")).json() == comment


async def test_any_valid_text_is_accepted_as_a_comment(ann: AsyncClient):
    post = await publish(ann)

    for content in (
        "a" * 10_000,
        "🎉" * 10_000,
        "two\r\n\tlines",
        "<script>",
        "'; DROP",
        "\u2028a",
    ):
        comment = await add_comment(ann, post, content)
        assert (await ann.get(f"/comments/{comment['id']}")).json()["content"] == content


async def test_only_its_author_may_change_a_comment(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient, anonymous: AsyncClient
):
    post = await publish(ann)
    comment = await add_comment(bob, post)
    path = f"/comments/{comment['id']}"

    for other in (ann, admin):
        response = await other.patch(path, json={"content": "Mine"})
        assert response.status_code == 403
        assert response.json()["detail"] == "You don't have access to modify this comment"
    assert (await anonymous.patch(path, json={"content": "Mine"})).status_code == 401
    same = await bob.patch(path, json={"content": "Hi"})
    changed = await bob.patch(path, json={"content": "Bye"})

    assert same.json() == comment
    assert changed.status_code == 200
    new = {"content": "Bye", "updated_at": changed.json()["updated_at"]}
    assert changed.json() == comment | new
    assert changed.json()["updated_at"] > comment["updated_at"]
    assert (await anonymous.get(path)).json() == changed.json()


async def test_an_answer_does_not_update_its_parent(ann: AsyncClient):
    post = await publish(ann)
    comment = await add_comment(ann, post)

    answer = await add_comment(ann, post, to=comment)
    await ann.delete(f"/comments/{answer['id']}")
    await add_comment(ann, post, to=comment)

    shown = (await ann.get(f"/comments/{comment['id']}")).json()
    assert shown == comment | {"answer_count": 1}


@pytest.mark.parametrize("who", ["its author", "the author of the post", "an administrator"])
async def test_a_comment_without_answers_is_deleted_completely(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient, who: str
):
    post = await publish(ann)
    comment = await add_comment(bob, post)
    path = f"/comments/{comment['id']}"

    if who == "an administrator":
        response = await admin.delete(f"/admin{path}")
    else:
        response = await (bob if who == "its author" else ann).delete(path)

    assert response.status_code == 204
    assert await read_thread(ann, post) == []
    assert await read_count(ann, post) == 0
    for method in ("GET", "PATCH", "DELETE"):
        body = {"content": "Hi"} if method == "PATCH" else None
        missing = await bob.request(method, path, json=body)
        assert missing.status_code == 404
        assert missing.json()["detail"] == "Comment not found"
    assert (await bob.get(f"{path}/answers")).status_code == 404


async def test_other_users_cannot_delete_a_comment(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient, anonymous: AsyncClient
):
    post = await publish(ann)
    comment = await add_comment(ann, post)
    path = f"/comments/{comment['id']}"
    # A post or an answer of their own gives other users no permission.
    await publish(bob)
    answer = await add_comment(bob, post, to=comment)

    for other in (bob, admin):
        assert (await other.delete(path)).status_code == 403
    assert (await anonymous.delete(path)).status_code == 401
    assert (await bob.delete(f"/admin{path}")).status_code == 403
    assert (await ann.get(path)).json() == comment | {"answer_count": 1}
    assert (await ann.get(f"/comments/{answer['id']}")).status_code == 200


async def test_a_deleted_comment_with_answers_stays_as_a_placeholder(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient
):
    post = await publish(ann)
    comment = await add_comment(bob, post, "Oops")
    answer = await add_comment(ann, post, "Why?", comment)
    path = f"/comments/{comment['id']}"

    assert (await bob.delete(path)).status_code == 204

    shown = (await ann.get(path)).json()
    assert shown == comment | {
        "content": None,
        "user_id": None,
        "user_name": None,
        "author": None,
        "is_deleted": True,
        "answer_count": 1,
        "updated_at": shown["updated_at"],
    }
    assert await read_thread(ann, post) == [(0, None), (1, "Why?")]
    assert await read_count(ann, post) == 1
    assert (await ann.get(f"/comments/{answer['id']}")).json() == answer
    for client in (ann, bob):
        assert (await client.delete(path)).status_code == 404
        assert (await client.patch(path, json={"content": "Hi"})).status_code == 404
    assert (await admin.delete(f"/admin{path}")).status_code == 404
    body = {"content": "Hi", "parent_id": comment["id"]}
    assert (await ann.post(f"/posts/{post['id']}/comments", json=body)).status_code == 404
    assert await read_count(ann, post) == 1


async def test_a_placeholder_is_removed_with_its_last_answer(ann: AsyncClient):
    post = await publish(ann)
    comments = [await add_comment(ann, post, "0")]
    for depth in (1, 2, 3):
        comments.append(await add_comment(ann, post, str(depth), comments[-1]))
    aside = await add_comment(ann, post, "aside", comments[0])

    for comment in comments[:3]:
        await ann.delete(f"/comments/{comment['id']}")
    assert await read_thread(ann, post) == [(0, None), (1, None), (2, None), (3, "3"), (1, "aside")]
    assert await read_count(ann, post) == 2

    await ann.delete(f"/comments/{comments[3]['id']}")
    assert await read_thread(ann, post) == [(0, None), (1, "aside")]
    assert await read_count(ann, post) == 1

    await ann.delete(f"/comments/{aside['id']}")
    assert await read_thread(ann, post) == []
    assert await read_count(ann, post) == 0


async def test_deleting_an_answer_leaves_its_parent_unchanged(ann: AsyncClient):
    post = await publish(ann)
    comment = await add_comment(ann, post)
    answer = await add_comment(ann, post, to=comment)

    await ann.delete(f"/comments/{answer['id']}")

    assert (await ann.get(f"/comments/{comment['id']}")).json() == comment


@pytest.mark.parametrize("way", ["unpublished", "taken down"])
async def test_comments_on_a_hidden_post_are_hidden_from_others(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient, admin: AsyncClient, way: str
):
    post = await publish(ann)
    comment = await add_comment(bob, post)
    path = f"/comments/{comment['id']}"
    if way == "unpublished":
        await ann.patch(f"/posts/{post['id']}", json={"published_at": None})
    else:
        await admin.put(f"/admin/posts/{post['id']}/takedown")

    for other in (bob, anonymous, admin):
        for hidden in (f"{path}/answers", f"/posts/{post['id']}/comments"):
            assert (await other.get(hidden)).status_code == 404, hidden
    for other in (anonymous, admin):
        assert (await other.get(path)).status_code == 404
    assert (await admin.patch(path, json={"content": "Bye"})).status_code == 404
    assert (await admin.delete(path)).status_code == 404
    for other in (bob, admin):
        commented = await other.post(f"/posts/{post['id']}/comments", json={"content": "Hi"})
        assert commented.status_code == 404
    assert (await admin.get(f"/admin{path}")).json() == comment
    assert (await ann.get(path)).json() == comment
    await add_comment(ann, post, "Me", comment)
    placeholder = await add_comment(ann, post, "Gone")
    await add_comment(ann, post, "Me", placeholder)
    await ann.delete(f"/comments/{placeholder['id']}")
    assert (await anonymous.get(f"/comments/{placeholder['id']}")).status_code == 404
    assert await read_thread(ann, post) == [(0, "Hi"), (1, "Me"), (0, None), (1, "Me")]
    assert (await ann.delete(path)).status_code == 204


@pytest.mark.parametrize("way", ["unpublished", "taken down"])
async def test_the_author_of_a_comment_keeps_access_while_the_post_is_hidden(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient, way: str
):
    post = await publish(ann)
    comment = await add_comment(bob, post)
    path = f"/comments/{comment['id']}"
    if way == "unpublished":
        await ann.patch(f"/posts/{post['id']}", json={"published_at": None})
    else:
        await admin.put(f"/admin/posts/{post['id']}/takedown")

    assert (await bob.get(path)).json() == comment
    changed = await bob.patch(path, json={"content": "Bye"})
    assert changed.json()["content"] == "Bye"
    assert (await bob.delete(path)).status_code == 204
    assert (await bob.get(path)).status_code == 404
    assert (await ann.get(f"/posts/{post['id']}")).json()["comment_count"] == 0


async def test_deleting_a_post_deletes_its_comments(ann: AsyncClient, bob: AsyncClient):
    post = await publish(ann)
    comment = await add_comment(bob, post, to=await add_comment(ann, post))

    assert (await ann.delete(f"/posts/{post['id']}")).status_code == 204

    assert (await bob.get(f"/comments/{comment['id']}")).status_code == 404
    assert (await bob.get(f"/posts/{post['id']}/comments")).status_code == 404
    missing = await bob.post(f"/posts/{post['id']}/comments", json={"content": "Hi"})
    assert missing.status_code == 404
    assert missing.json()["detail"] == "Post not found"


async def test_deleting_an_account_deletes_its_comments_except_those_with_answers(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient
):
    post, other = await publish(ann), await publish(ann)
    unanswered = await add_comment(bob, post, "unanswered")
    nested = await add_comment(bob, post, "nested")
    below = await add_comment(ann, post, "deleted", nested)
    await add_comment(bob, post, "nested", await add_comment(bob, post, "nested", below))
    await ann.delete(f"/comments/{below['id']}")
    answered = await add_comment(bob, post, "answered")
    await add_comment(ann, post, "answer", answered)
    deleted = await add_comment(bob, other)
    await ann.delete(f"/comments/{deleted['id']}")

    response = await bob.request("DELETE", "/users/me", json={"current_password": PASSWORD})

    assert response.status_code == 204
    assert await read_thread(anonymous, post) == [(0, None), (1, "answer")]
    assert [await read_count(anonymous, one) for one in (post, other)] == [1, 0]
    assert (await anonymous.get(f"/comments/{unanswered['id']}")).status_code == 404
    shown = (await anonymous.get(f"/comments/{answered['id']}")).json()
    assert (shown["user_id"], shown["user_name"], shown["is_deleted"]) == (None, None, True)
    assert "Bob" not in str(shown)
    # A new account with the same email has no rights to them.
    await sign_up(anonymous, "Bob")
    assert (await anonymous.delete(f"/comments/{unanswered['id']}")).status_code == 404


@pytest.mark.parametrize("who", ["the author of the post", "an administrator"])
async def test_the_last_answer_takes_the_comment_of_a_deleted_account_along(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient, who: str
):
    remover, prefix = (admin, "/admin") if who == "an administrator" else (ann, "")
    post = await publish(ann)
    top = await add_comment(bob, post, "top")
    nested = await add_comment(bob, post, "nested", top)
    answer = await add_comment(admin, post, "answer", nested)
    await bob.request("DELETE", "/users/me", json={"current_password": PASSWORD})

    # Nothing is left of it to delete, and the answer below it is another user's.
    response = await remover.delete(f"{prefix}/comments/{top['id']}")
    assert response.status_code == 404
    assert await read_thread(ann, post) == [(0, None), (1, None), (2, "answer")]

    response = await remover.delete(f"{prefix}/comments/{answer['id']}")
    assert response.status_code == 204
    assert await read_thread(ann, post) == []
    assert await read_count(ann, post) == 0
    for comment in (top, nested, answer):
        assert (await ann.get(f"/comments/{comment['id']}")).status_code == 404


@pytest.mark.parametrize("who", ["the author of the post", "an administrator"])
async def test_comments_whose_user_was_deleted_from_the_database_can_be_deleted(
    app: FastAPI, ann: AsyncClient, bob: AsyncClient, admin: AsyncClient,
    anonymous: AsyncClient, who: str,
):  # fmt: skip
    remover, prefix = (admin, "/admin") if who == "an administrator" else (ann, "")
    post = await publish(ann)
    answered, alone = await add_comment(bob, post, "1"), await add_comment(bob, post, "2")
    answer = await add_comment(admin, post, "3", answered)
    async with app.state.database.session(writes=True) as session:
        await session.exec(delete(User).where(col(User.id) == answered["user_id"]))
    paths = [f"/comments/{comment['id']}" for comment in (answered, alone)]

    assert await read_thread(anonymous, post) == [(0, "1"), (1, "3"), (0, "2")]
    for path in paths:
        assert (await anonymous.delete(path)).status_code == 401
        assert (await admin.delete(path)).status_code == 403
        assert (await admin.patch(path, json={"content": "Mine"})).status_code == 403
        assert (await remover.delete(f"{prefix}{path}")).status_code == 204

    assert await read_thread(anonymous, post) == [(0, None), (1, "3")]
    assert await read_count(anonymous, post) == 1
    assert (await anonymous.get(f"/comments/{answer['id']}")).json() == answer


async def test_the_comments_of_a_deleted_account_on_a_hidden_post_are_found_by_its_author_only(
    app: FastAPI, ann: AsyncClient, bob: AsyncClient, admin: AsyncClient, anonymous: AsyncClient
):
    post = await publish(ann)
    comment = await add_comment(bob, post)
    await ann.patch(f"/posts/{post['id']}", json={"published_at": None})
    async with app.state.database.session(writes=True) as session:
        await session.exec(delete(User).where(col(User.id) == comment["user_id"]))
    path = f"/comments/{comment['id']}"

    for other in (anonymous, admin):
        assert (await other.get(path)).status_code == 404
    assert (await admin.delete(path)).status_code == 404
    assert (await ann.delete(path)).status_code == 204
    assert await read_count(ann, post) == 0


async def test_a_comment_shows_the_current_name_of_its_author(ann: AsyncClient, bob: AsyncClient):
    comment = await add_comment(bob, await publish(ann))

    await bob.patch("/users/me", json={"name": "Robert"})

    shown = (await ann.get(f"/comments/{comment['id']}")).json()
    author = comment["author"] | {"name": "Robert"}
    assert shown == comment | {"user_name": "Robert", "author": author}


@pytest.mark.parametrize("path", ["/comments", "/admin/comments"])
async def test_a_comment_whose_post_is_deleted_meanwhile_is_not_found(
    admin: AsyncClient, monkeypatch: pytest.MonkeyPatch, path: str
):
    post = await publish(admin)
    comment = await add_comment(admin, post)

    async def delete_and_lock_post(session: AsyncSession, post_id: int) -> CountedPost:
        await session.exec(delete(Post).where(col(Post.id) == post_id))
        return await lock_post_for_counters(session, post_id)

    monkeypatch.setattr(service, "lock_post_for_counters", delete_and_lock_post)
    response = await admin.delete(f"{path}/{comment['id']}")

    assert response.status_code == 404
    assert response.json()["type"] == "urn:blog-api:comment-not-found"


async def test_an_invalid_comment_id_is_rejected(ann: AsyncClient):
    for number in ("0", "-1", "abc", "1.5", "٣", str(2**31), str(2**63), "1" + "0" * 30):
        for method, path in (
            ("GET", f"/comments/{number}"),
            ("PATCH", f"/comments/{number}"),
            ("DELETE", f"/comments/{number}"),
            ("GET", f"/comments/{number}/answers"),
            ("GET", f"/posts/{number}/comments"),
            ("POST", f"/posts/{number}/comments"),
        ):
            body = {"content": "Hi"} if method in ("PATCH", "POST") else None
            response = await ann.request(method, path, json=body)
            assert response.status_code in (404, 422), (method, path)
