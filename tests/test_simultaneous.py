"""Concurrent requests to two workers: nothing is lost or counted twice."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from httpx import AsyncClient, Response

from tests.support.clients import PASSWORD, bearer, request_with_retry
from tests.support.processes import Server

pytestmark = pytest.mark.processes

USERS = 20
ROUNDS = 5


@pytest.fixture(scope="module")
async def users(server: Server) -> AsyncGenerator[list[AsyncClient]]:
    """Clients that are logged in as different users."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(server.client()) for _ in range(USERS)]
        for number, client in enumerate(clients):
            await sign_up(client, f"User{number}")
        yield clients


async def create(client: AsyncClient, path: str, **values: object) -> dict[str, Any]:
    response = await request_with_retry(client, "POST", path, json=values)
    assert response.status_code in (200, 201), response.text
    created: dict[str, Any] = response.json()
    return created


async def sign_up(client: AsyncClient, name: str) -> None:
    account = await create(
        client, "/sign-up", email=f"{name}@example.com", name=name, password=PASSWORD
    )
    client.headers.update(bearer(account["token"]["access_token"]))


async def publish(client: AsyncClient, title: str = "Hello") -> dict[str, Any]:
    return await create(client, "/posts", title=title, content="World")


async def add_comment(
    client: AsyncClient, post: dict[str, Any], to: dict[str, Any] | None = None
) -> dict[str, Any]:
    parent_id = to and to["id"]
    return await create(client, f"/posts/{post['id']}/comments", content="Hi", parent_id=parent_id)


async def request_concurrently(
    clients: Iterable[AsyncClient], method: str, path: str, **values: Any
) -> list[Response]:
    return await asyncio.gather(
        *(request_with_retry(client, method, path, **values) for client in clients)
    )


def statuses_of(responses: Iterable[Response]) -> list[int]:
    return sorted(response.status_code for response in responses)


async def read(client: AsyncClient, path: str) -> dict[str, Any]:
    response = await request_with_retry(client, "GET", path)
    assert response.status_code == 200, response.text
    shown: dict[str, Any] = response.json()
    return shown


async def read_comments(client: AsyncClient, post: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all comments on a post with placeholders; check all counts."""
    page = await read(client, f"/posts/{post['id']}/comments?size=100")
    assert page["total_count"] == len(page["results"])
    comments = [comment for top in page["results"] for comment in (top, *top["answers"])]
    for comment in comments:
        answers = [one for one in comments if one["parent_id"] == comment["id"]]
        assert comment["answer_count"] == len(answers)
        assert answers or not comment["is_deleted"]
    current = [comment for comment in comments if not comment["is_deleted"]]
    assert (await read(client, f"/posts/{post['id']}"))["comment_count"] == len(current)
    return comments


async def count_bookmarks(client: AsyncClient, post: dict[str, Any]) -> int:
    """Return how often a post is in the user's bookmarks, which have posts of other tests too."""
    page = await read(client, "/users/me/bookmarks?size=100")
    assert page["total_count"] == len(page["results"])
    return [one["id"] for one in page["results"]].count(post["id"])


async def test_concurrent_bookmarks_are_counted_once_per_user(users: list[AsyncClient]):
    post = await publish(users[0])
    path = f"/users/me/bookmarks/{post['id']}"

    # Each user sends the request twice.
    put = await request_concurrently([*users, *users], "PUT", path)
    bookmarked = await read(users[0], f"/posts/{post['id']}")
    counts = [await count_bookmarks(client, post) for client in users]
    deleted = await request_concurrently([*users, *users], "DELETE", path)
    not_bookmarked = await read(users[0], f"/posts/{post['id']}")

    assert set(statuses_of(put)) == set(statuses_of(deleted)) == {204}
    assert (bookmarked["bookmark_count"], not_bookmarked["bookmark_count"]) == (USERS, 0)
    assert set(counts) == {1}


async def test_bookmarks_added_and_removed_concurrently_are_counted_correctly(
    users: list[AsyncClient],
):
    post = await publish(users[0])
    path = f"/users/me/bookmarks/{post['id']}"

    for _ in range(2):
        both = await asyncio.gather(
            request_concurrently(users, "PUT", path), request_concurrently(users, "DELETE", path)
        )
        assert {status for responses in both for status in statuses_of(responses)} == {204}

    count = sum([await count_bookmarks(client, post) for client in users])
    assert (await read(users[0], f"/posts/{post['id']}"))["bookmark_count"] == count


async def test_concurrent_comments_and_answers_are_all_counted(users: list[AsyncClient]):
    post = await publish(users[0])
    path = f"/posts/{post['id']}/comments"

    commented = await request_concurrently(users, "POST", path, json={"content": "Hi"})
    parent = commented[0].json()["id"]
    answered = await request_concurrently(
        users, "POST", path, json={"content": "Hi", "parent_id": parent}
    )

    assert set(statuses_of([*commented, *answered])) == {201}
    assert len(await read_comments(users[0], post)) == 2 * USERS
    assert (await read(users[0], f"/comments/{parent}"))["answer_count"] == USERS
    answers = await read(users[0], f"/comments/{parent}/answers?size=100")
    assert answers["total_count"] == len({one["id"] for one in answers["results"]}) == USERS


async def test_concurrent_follows_are_stored_once(users: list[AsyncClient]):
    ids = [(await read(client, "/users/me"))["id"] for client in users]
    one, *others = users

    of_one = await request_concurrently([*others, *others], "PUT", f"/users/me/following/{ids[0]}")
    of_others = await asyncio.gather(
        *(request_with_retry(one, "PUT", f"/users/me/following/{id}") for id in ids[1:] * 2)
    )

    assert set(statuses_of([*of_one, *of_others])) == {204}
    assert (await read(one, "/users/me/following"))["total_count"] == USERS - 1
    for other in others:
        followed = (await read(other, "/users/me/following"))["results"]
        assert [profile["id"] for profile in followed] == [ids[0]]


async def test_a_tag_created_concurrently_is_stored_once(users: list[AsyncClient]):
    for number in range(ROUNDS):
        tags = [f"one {number}", f"other {number}"]
        body = {"title": "Hello", "content": "World"}
        created = await asyncio.gather(
            request_with_retry(users[0], "POST", "/posts", json=body | {"tags": tags}),
            request_with_retry(users[1], "POST", "/posts", json=body | {"tags": tags[::-1]}),
        )

        assert statuses_of(created) == [201, 201]
        for tag in tags:
            assert (await read(users[0], f"/posts?tag={tag}"))["total_count"] == 2
    names = [tag["name"] for tag in (await read(users[0], "/tags?size=100"))["results"]]
    assert len(names) == len(set(names)) >= 2 * ROUNDS


async def test_two_posts_renamed_to_one_title_concurrently_get_two_slugs(users: list[AsyncClient]):
    for number in range(ROUNDS):
        title = f"Same {number}"
        posts = [await publish(client, title=f"Other {number}") for client in users[:2]]
        renamed = await asyncio.gather(
            *(
                request_with_retry(client, "PATCH", f"/posts/{post['id']}", json={"title": title})
                for client, post in zip(users, posts, strict=False)
            )
        )

        assert statuses_of(renamed) == [200, 200]
        slugs = sorted((response.json()["slug"] for response in renamed), key=len)
        assert slugs[0] == f"same-{number}"
        assert slugs[1].startswith(f"same-{number}-")
        for response in renamed:
            shown = await read(users[0], f"/posts/slug/{response.json()['slug']}")
            assert shown["id"] == response.json()["id"]


async def test_one_of_several_concurrent_posts_gets_a_chosen_slug(users: list[AsyncClient]):
    for number in range(ROUNDS):
        slug, former = f"chosen-{number}", f"former-{number}"
        hidden = {"title": "Draft", "content": "x", "published_at": None}
        # Its author takes the slug back while others choose it.
        draft = await create(users[0], "/posts", **hidden, slug=slug)
        path = f"/posts/{draft['id']}"
        await request_with_retry(users[0], "PATCH", path, json={"slug": former})
        posts = [await publish(client, title=f"Mine {number}") for client in users[1:4]]
        body = {"title": "New", "content": "x", "slug": slug}

        responses = await asyncio.gather(
            request_with_retry(users[0], "PATCH", path, json={"slug": slug}),
            *(
                request_with_retry(client, "PATCH", f"/posts/{post['id']}", json={"slug": slug})
                for client, post in zip(users[1:4], posts, strict=True)
            ),
            *(request_with_retry(client, "POST", "/posts", json=body) for client in users[4:7]),
            request_with_retry(users[7], "POST", "/posts", json={"title": slug, "content": "x"}),
        )

        *chosen, generated = responses
        winners = [response.json() for response in responses if response.json().get("slug") == slug]
        assert len(winners) == 1
        assert generated.status_code == 201
        rejected = [response for response in chosen if response.status_code not in (200, 201)]
        assert len(rejected) == (7 if generated.json()["slug"] == slug else 6)
        for response in rejected:
            assert response.json()["type"] == "urn:blog-api:slug-taken"
        shown = await read(users[0], f"/posts/slug/{slug}")
        assert shown["id"] == winners[0]["id"]


async def test_a_comment_can_be_deleted_while_it_is_answered(users: list[AsyncClient]):
    one, other = users[:2]
    post = await publish(other)

    for _ in range(ROUNDS):
        comment = await add_comment(one, post)
        body = {"content": "Why?", "parent_id": comment["id"]}
        deleted, answered = await asyncio.gather(
            request_with_retry(one, "DELETE", f"/comments/{comment['id']}"),
            request_with_retry(other, "POST", f"/posts/{post['id']}/comments", json=body),
        )

        assert deleted.status_code == 204
        assert answered.status_code in (201, 404)
        comments = await read_comments(one, post)
        if answered.status_code == 404:
            assert comments == []
            continue
        assert [row["id"] for row in comments] == [comment["id"], answered.json()["id"]]
        assert comments[0]["is_deleted"]
        await request_with_retry(other, "DELETE", f"/comments/{answered.json()['id']}")
        assert await read_comments(one, post) == []


async def test_a_thread_deleted_concurrently_leaves_no_placeholders(users: list[AsyncClient]):
    """In any order, the last deletion removes the placeholders above it."""
    post = await publish(users[0])
    for _ in range(ROUNDS):
        comments = [await add_comment(users[0], post)]
        for client in users[1:5]:
            comments.append(await add_comment(client, post, to=comments[-1]))
        comments.append(await add_comment(users[5], post, to=comments[0]))

        deleted = await asyncio.gather(
            *(
                request_with_retry(client, "DELETE", f"/comments/{comment['id']}")
                for client, comment in zip(users, comments, strict=False)
            )
        )

        assert set(statuses_of(deleted)) == {204}
        assert await read_comments(users[0], post) == []


async def test_counts_are_right_after_concurrent_approvals_edits_and_deletions(
    server: Server, users: list[AsyncClient]
):
    """Withdrawn comments wait with any setting."""
    author, *others = users[:8]
    for _ in range(ROUNDS):
        post = await publish(author)
        comments = [await add_comment(others[0], post)]
        for client in others[1:]:
            comments.append(await add_comment(client, post, to=comments[-1]))

        requests = []
        for client, comment in zip(others, comments, strict=True):
            path = f"/comments/{comment['id']}"
            approval = f"{path}/approval"
            requests += [(author, "DELETE", approval), (author, "PUT", approval)] * 2
            requests += [(author, "DELETE", approval), (client, "PATCH", path)]
        for client, comment in zip(others[::2], comments[::2], strict=True):
            requests.append((client, "DELETE", f"/comments/{comment['id']}"))
        responses = await asyncio.gather(
            *(
                request_with_retry(
                    client, method, path, json={"content": "Bye"} if method == "PATCH" else None
                )
                for client, method, path in requests
            )
        )

        assert set(statuses_of(responses)) <= {200, 204, 404}
        async with server.client() as anonymous:
            for step in ("as they are", "all waiting", "all approved"):
                method = {"all waiting": "DELETE", "all approved": "PUT"}.get(step)
                for comment in comments if method else ():
                    path = f"/comments/{comment['id']}/approval"
                    assert (await request_with_retry(author, method or "", path)).status_code in (
                        200, 404,
                    )  # fmt: skip
                public = await read_comments(anonymous, post)
                assert all(one["is_approved"] for one in public)
                assert len(public) >= (len(others[1::2]) if step == "all approved" else 0)
                assert step != "all waiting" or public == []
        for client, comment in zip(others, comments, strict=True):
            await request_with_retry(client, "DELETE", f"/comments/{comment['id']}")
        assert await read_comments(author, post) == []


async def test_a_post_can_be_deleted_while_others_comment_and_bookmark(users: list[AsyncClient]):
    for _ in range(ROUNDS):
        post = await publish(users[0])
        path = f"/posts/{post['id']}"
        deleted, commented, bookmarked = await asyncio.gather(
            request_with_retry(users[0], "DELETE", path),
            request_concurrently(users[1:6], "POST", f"{path}/comments", json={"content": "Hi"}),
            request_concurrently(users[6:11], "PUT", f"/users/me/bookmarks/{post['id']}"),
        )

        assert deleted.status_code == 204
        assert set(statuses_of(commented)) <= {201, 404}
        assert set(statuses_of(bookmarked)) <= {204, 404}
        assert (await request_with_retry(users[0], "GET", path)).status_code == 404
        for client in users[6:11]:
            assert await count_bookmarks(client, post) == 0


async def test_an_account_can_be_deleted_while_it_comments_and_bookmarks(
    server: Server, users: list[AsyncClient]
):
    post = await publish(users[0])
    path = f"/posts/{post['id']}"

    for number in range(3):
        async with server.client() as client:
            await sign_up(client, f"Deleted{number}")
            await add_comment(client, post)
            deleted, *others = await asyncio.gather(
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

        assert deleted.status_code == 204
        assert set(statuses_of(others)) <= {201, 204, 401, 409}
        comments = (await read(users[0], f"{path}/comments?size=100"))["results"]
        assert comments == []
        shown = await read(users[0], path)
        assert (shown["comment_count"], shown["bookmark_count"]) == (0, 0)


async def test_one_of_several_concurrent_edits_of_a_version_succeeds(users: list[AsyncClient]):
    post = await publish(users[0])
    path = f"/posts/{post['id']}"

    for number in range(ROUNDS):
        headers = {"If-Match": (await request_with_retry(users[0], "GET", path)).headers["ETag"]}
        bodies = [{"title": "Hello", "content": f"{number}.{one}"} for one in range(4)]
        changed = await asyncio.gather(
            *(
                request_with_retry(users[0], "PUT", path, json=body, headers=headers)
                for body in bodies
            )
        )

        assert statuses_of(changed) == [200, 412, 412, 412]
        (winner,) = (response for response in changed if response.status_code == 200)
        shown = await read(users[0], path)
        assert shown["content"] == winner.json()["content"]
        assert shown["content_html"] == f"<p>{shown['content']}</p>\n"


async def test_a_user_never_gets_more_than_a_hundred_personal_tokens(server: Server):
    async with server.client() as client:
        await sign_up(client, "Collector")
        for _ in range(96):
            await create(client, "/users/me/tokens", name="Script")

        created = await request_concurrently(
            [client] * 20, "POST", "/users/me/tokens", json={"name": "Script"}
        )

        assert statuses_of(created) == [201] * 4 + [409] * 16
        assert (await read(client, "/users/me/tokens"))["total_count"] == 100
