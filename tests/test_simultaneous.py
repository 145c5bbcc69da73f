"""What many do at once, with two workers at one database: nothing is lost or counted twice."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from httpx import AsyncClient, Response

from tests.support.clients import PASSWORD, request_with_retry
from tests.support.processes import Server

MANY = 20
ROUNDS = 5


@pytest.fixture(scope="module")
async def people(server: Server) -> AsyncGenerator[list[AsyncClient]]:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(server.client()) for _ in range(MANY)]
        for number, client in enumerate(clients):
            await sign_up(client, f"User{number}")
        yield clients


async def make(client: AsyncClient, path: str, **values: object) -> dict[str, Any]:
    """What there is now that was not there before."""
    response = await request_with_retry(client, "POST", path, json=values)
    assert response.status_code in (200, 201), response.text
    made: dict[str, Any] = response.json()
    return made


async def sign_up(client: AsyncClient, name: str) -> None:
    account = await make(
        client, "/sign-up", email=f"{name}@example.com", name=name, password=PASSWORD
    )
    client.headers["Authorization"] = f"Bearer {account['token']['access_token']}"


async def publish(client: AsyncClient, title: str = "Hello") -> dict[str, Any]:
    return await make(client, "/posts", title=title, content="World")


async def remark(
    client: AsyncClient, post: dict[str, Any], to: dict[str, Any] | None = None
) -> dict[str, Any]:
    parent_id = to and to["id"]
    return await make(client, f"/posts/{post['id']}/comments", content="Hi", parent_id=parent_id)


async def all_at_once(
    clients: Iterable[AsyncClient], method: str, path: str, **values: Any
) -> list[Response]:
    return await asyncio.gather(
        *(request_with_retry(client, method, path, **values) for client in clients)
    )


def statuses(responses: Iterable[Response]) -> list[int]:
    return sorted(response.status_code for response in responses)


async def read(client: AsyncClient, path: str) -> dict[str, Any]:
    response = await request_with_retry(client, "GET", path)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def comments_of(client: AsyncClient, post: dict[str, Any]) -> list[dict[str, Any]]:
    """All comments on a post, those that keep their places too; their number is checked."""
    page = await read(client, f"/posts/{post['id']}/comments?size=100")
    assert page["total_count"] == len(page["results"])
    found = [comment for top in page["results"] for comment in (top, *top["answers"])]
    for comment in found:
        answers = [one for one in found if one["parent_id"] == comment["id"]]
        assert comment["answer_count"] == len(answers)
        assert answers or not comment["is_deleted"]
    alive = [comment for comment in found if not comment["is_deleted"]]
    assert (await read(client, f"/posts/{post['id']}"))["comment_count"] == len(alive)
    return found


async def bookmarks_of(client: AsyncClient, post: dict[str, Any]) -> int:
    """How often somebody has bookmarked a post. Other tests leave them other posts."""
    page = await read(client, "/users/me/bookmarks?size=100")
    assert page["total_count"] == len(page["results"])
    return [one["id"] for one in page["results"]].count(post["id"])


async def test_concurrent_bookmarks_are_counted_once_per_user(people: list[AsyncClient]):
    post = await publish(people[0])
    path = f"/users/me/bookmarks/{post['id']}"

    # Each of them twice.
    put = await all_at_once([*people, *people], "PUT", path)
    marked = await read(people[0], f"/posts/{post['id']}")
    found = [await bookmarks_of(client, post) for client in people]
    deleted = await all_at_once([*people, *people], "DELETE", path)
    unmarked = await read(people[0], f"/posts/{post['id']}")

    assert set(statuses(put)) == set(statuses(deleted)) == {204}
    assert (marked["bookmark_count"], unmarked["bookmark_count"]) == (MANY, 0)
    assert set(found) == {1}


async def test_bookmarks_added_and_removed_concurrently_are_counted_correctly(
    people: list[AsyncClient],
):
    post = await publish(people[0])
    path = f"/users/me/bookmarks/{post['id']}"

    for _ in range(2):
        both = await asyncio.gather(
            all_at_once(people, "PUT", path), all_at_once(people, "DELETE", path)
        )
        assert {status for responses in both for status in statuses(responses)} == {204}

    marked = sum([await bookmarks_of(client, post) for client in people])
    assert (await read(people[0], f"/posts/{post['id']}"))["bookmark_count"] == marked


async def test_concurrent_comments_and_answers_are_all_counted(people: list[AsyncClient]):
    post = await publish(people[0])
    path = f"/posts/{post['id']}/comments"

    commented = await all_at_once(people, "POST", path, json={"content": "Hi"})
    parent = commented[0].json()["id"]
    answered = await all_at_once(people, "POST", path, json={"content": "Hi", "parent_id": parent})

    assert set(statuses([*commented, *answered])) == {201}
    assert len(await comments_of(people[0], post)) == 2 * MANY
    assert (await read(people[0], f"/comments/{parent}"))["answer_count"] == MANY
    answers = await read(people[0], f"/comments/{parent}/answers?size=100")
    assert answers["total_count"] == len({one["id"] for one in answers["results"]}) == MANY


async def test_concurrent_follows_are_stored_once(people: list[AsyncClient]):
    ids = [(await read(client, "/users/me"))["id"] for client in people]
    one, *others = people

    by_all = await all_at_once([*others, *others], "PUT", f"/users/me/following/{ids[0]}")
    of_all = await asyncio.gather(
        *(request_with_retry(one, "PUT", f"/users/me/following/{id}") for id in ids[1:] * 2)
    )

    assert set(statuses([*by_all, *of_all])) == {204}
    assert (await read(one, "/users/me/following"))["total_count"] == MANY - 1
    for other in others:
        followed = (await read(other, "/users/me/following"))["results"]
        assert [profile["id"] for profile in followed] == [ids[0]]


async def test_a_tag_created_concurrently_is_stored_once(people: list[AsyncClient]):
    for number in range(ROUNDS):
        tags = [f"one {number}", f"other {number}"]
        body = {"title": "Hello", "content": "World"}
        created = await asyncio.gather(
            request_with_retry(people[0], "POST", "/posts", json=body | {"tags": tags}),
            request_with_retry(people[1], "POST", "/posts", json=body | {"tags": tags[::-1]}),
        )

        assert statuses(created) == [201, 201]
        for tag in tags:
            assert (await read(people[0], f"/posts?tag={tag}"))["total_count"] == 2
    names = [tag["name"] for tag in (await read(people[0], "/tags?size=100"))["results"]]
    assert len(names) == len(set(names)) >= 2 * ROUNDS


async def test_two_posts_renamed_to_one_title_concurrently_get_two_slugs(people: list[AsyncClient]):
    for number in range(ROUNDS):
        title = f"Same {number}"
        posts = [await publish(client, title=f"Other {number}") for client in people[:2]]
        renamed = await asyncio.gather(
            *(
                request_with_retry(client, "PATCH", f"/posts/{post['id']}", json={"title": title})
                for client, post in zip(people, posts, strict=False)
            )
        )

        assert statuses(renamed) == [200, 200]
        slugs = sorted((response.json()["slug"] for response in renamed), key=len)
        assert slugs[0] == f"same-{number}"
        assert slugs[1].startswith(f"same-{number}-")
        for response in renamed:
            shown = await read(people[0], f"/posts/slug/{response.json()['slug']}")
            assert shown["id"] == response.json()["id"]


async def test_a_comment_can_be_deleted_while_it_is_answered(people: list[AsyncClient]):
    one, other = people[:2]
    post = await publish(other)

    for _ in range(ROUNDS):
        comment = await remark(one, post)
        body = {"content": "Why?", "parent_id": comment["id"]}
        deleted, answered = await asyncio.gather(
            request_with_retry(one, "DELETE", f"/comments/{comment['id']}"),
            request_with_retry(other, "POST", f"/posts/{post['id']}/comments", json=body),
        )

        assert deleted.status_code == 204
        assert answered.status_code in (201, 404)
        found = await comments_of(one, post)
        if answered.status_code == 404:
            assert found == []
            continue
        assert [row["id"] for row in found] == [comment["id"], answered.json()["id"]]
        assert found[0]["is_deleted"]
        await request_with_retry(other, "DELETE", f"/comments/{answered.json()['id']}")
        assert await comments_of(one, post) == []


async def test_a_thread_deleted_concurrently_leaves_no_placeholders(people: list[AsyncClient]):
    """Whatever goes first, the last one takes along what kept its place for it."""
    post = await publish(people[0])
    for _ in range(ROUNDS):
        comments = [await remark(people[0], post)]
        for client in people[1:5]:
            comments.append(await remark(client, post, to=comments[-1]))
        comments.append(await remark(people[5], post, to=comments[0]))

        deleted = await asyncio.gather(
            *(
                request_with_retry(client, "DELETE", f"/comments/{comment['id']}")
                for client, comment in zip(people, comments, strict=False)
            )
        )

        assert set(statuses(deleted)) == {204}
        assert await comments_of(people[0], post) == []


async def test_a_post_can_be_deleted_while_others_comment_and_bookmark(people: list[AsyncClient]):
    for _ in range(ROUNDS):
        post = await publish(people[0])
        path = f"/posts/{post['id']}"
        deleted, commented, marked = await asyncio.gather(
            request_with_retry(people[0], "DELETE", path),
            all_at_once(people[1:6], "POST", f"{path}/comments", json={"content": "Hi"}),
            all_at_once(people[6:11], "PUT", f"/users/me/bookmarks/{post['id']}"),
        )

        assert deleted.status_code == 204
        assert set(statuses(commented)) <= {201, 404}
        assert set(statuses(marked)) <= {204, 404}
        assert (await request_with_retry(people[0], "GET", path)).status_code == 404
        for client in people[6:11]:
            assert await bookmarks_of(client, post) == 0


async def test_an_account_can_be_deleted_while_it_comments_and_bookmarks(
    server: Server, people: list[AsyncClient]
):
    post = await publish(people[0])
    path = f"/posts/{post['id']}"

    for number in range(3):
        async with server.client() as client:
            await sign_up(client, f"Leaving{number}")
            await remark(client, post)
            left, *others = await asyncio.gather(
                request_with_retry(
                    client, "DELETE", "/users/me", json={"current_password": PASSWORD}
                ),
                *(
                    request_with_retry(client, "POST", f"{path}/comments", json={"content": "Bye"})
                    for _ in range(5)
                ),
                *(
                    request_with_retry(client, "PUT", f"/users/me/bookmarks/{post['id']}")
                    for _ in range(5)
                ),
            )

        assert left.status_code == 204
        assert set(statuses(others)) <= {201, 204, 401, 409}
        comments = (await read(people[0], f"{path}/comments?size=100"))["results"]
        assert {(one["content"], one["user_name"]) for one in comments} == {(None, None)}
        shown = await read(people[0], path)
        assert (shown["comment_count"], shown["bookmark_count"]) == (0, 0)


async def test_one_of_several_concurrent_edits_of_a_version_succeeds(people: list[AsyncClient]):
    post = await publish(people[0])
    path = f"/posts/{post['id']}"

    for number in range(ROUNDS):
        headers = {"If-Match": (await request_with_retry(people[0], "GET", path)).headers["ETag"]}
        bodies = [{"title": "Hello", "content": f"{number}.{one}"} for one in range(4)]
        changed = await asyncio.gather(
            *(
                request_with_retry(people[0], "PUT", path, json=body, headers=headers)
                for body in bodies
            )
        )

        assert statuses(changed) == [200, 412, 412, 412]
        (winner,) = (response for response in changed if response.status_code == 200)
        shown = await read(people[0], path)
        assert shown["content"] == winner.json()["content"]
        assert shown["content_html"] == f"<p>{shown['content']}</p>\n"
