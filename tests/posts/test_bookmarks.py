"""Bookmarks."""

from typing import Any

import pytest
from httpx import AsyncClient

from tests.support.clients import PASSWORD, publish


async def list_titles(client: AsyncClient) -> list[str]:
    """Return the titles of the bookmarked posts."""
    page = (await client.get("/users/me/bookmarks")).json()
    assert page["total_count"] == len(page["results"])
    return [post["title"] for post in page["results"]]


async def read_count(client: AsyncClient, post: dict[str, Any]) -> int:
    count: int = (await client.get(f"/posts/{post['id']}")).json()["bookmark_count"]
    return count


def path_of(post: dict[str, Any]) -> str:
    return f"/users/me/bookmarks/{post['id']}"


async def test_a_post_can_be_bookmarked_and_unbookmarked(ann: AsyncClient, bob: AsyncClient):
    post = await publish(ann)

    # Both are idempotent.
    responses = [await bob.put(path_of(post)) for _ in range(2)]
    listed = (await bob.get("/users/me/bookmarks")).json()
    counts = [await read_count(ann, post)]
    responses += [await bob.delete(path_of(post)) for _ in range(2)]
    counts.append(await read_count(ann, post))

    assert [response.status_code for response in responses] == [204] * 4
    assert {response.content for response in responses} == {b""}
    assert listed == {
        "total_count": 1,
        "results": [post | {"bookmark_count": 1}],
        "next_cursor": None,
    }
    assert counts == [1, 0]
    assert await list_titles(bob) == await list_titles(ann) == []


async def test_a_bookmark_increases_the_count_and_does_not_update_the_post(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient
):
    post = await publish(ann)
    for client in (ann, bob):
        await client.put(path_of(post))

    counted = {"bookmark_count": 2}
    assert (await anonymous.get("/posts")).json()["results"] == [post | counted]
    assert (await anonymous.get(f"/posts/{post['id']}")).json().items() >= (post | counted).items()
    await bob.delete(path_of(post))
    assert (await anonymous.get("/posts")).json()["results"] == [post | {"bookmark_count": 1}]


async def test_bookmarks_are_listed_newest_first(ann: AsyncClient, bob: AsyncClient):
    posts = [await publish(ann, title=f"Post {number}") for number in range(3)]
    for number in (1, 0, 2):
        await bob.put(path_of(posts[number]))

    before = await list_titles(bob)
    await bob.put(path_of(posts[1]))
    same = await list_titles(bob)
    await bob.delete(path_of(posts[1]))
    await bob.put(path_of(posts[1]))

    assert before == same == ["Post 2", "Post 0", "Post 1"]
    assert await list_titles(bob) == ["Post 1", "Post 2", "Post 0"]


async def test_a_hidden_post_can_be_bookmarked_by_its_author_only(
    ann: AsyncClient, bob: AsyncClient
):
    draft = await publish(ann, published_at=None)

    missing = [await bob.put(path_of(draft)), await bob.put(path_of({"id": draft["id"] + 1}))]
    own = await ann.put(path_of(draft))

    for response in missing:
        assert response.status_code == 404
        assert response.json()["detail"] == "Post not found"
    assert own.status_code == 204
    assert await list_titles(ann) == []
    assert await read_count(ann, draft) == 1
    await ann.patch(f"/posts/{draft['id']}", json={"published_at": "2020-01-01T00:00:00Z"})
    assert await list_titles(ann) == ["Hello"]


@pytest.mark.parametrize("way", ["unpublished", "taken down"])
async def test_a_hidden_post_is_missing_from_bookmarks_until_it_is_public_again(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient, way: str
):
    post = await publish(ann)
    for client in (ann, bob, admin):
        await client.put(path_of(post))

    if way == "unpublished":
        await ann.patch(f"/posts/{post['id']}", json={"published_at": None})
    else:
        await admin.put(f"/admin/posts/{post['id']}/takedown")
    hidden = [await list_titles(client) for client in (ann, bob, admin)]
    # A bookmark of a hidden post can be removed.
    await admin.delete(path_of(post))
    if way == "unpublished":
        await ann.patch(f"/posts/{post['id']}", json={"published_at": post["published_at"]})
    else:
        await admin.delete(f"/admin/posts/{post['id']}/takedown")
    shown = [await list_titles(client) for client in (ann, bob, admin)]

    assert hidden == [[], [], []]
    assert shown == [["Hello"], ["Hello"], []]
    assert await read_count(bob, post) == 2


async def test_deleting_a_post_removes_its_bookmarks(ann: AsyncClient, bob: AsyncClient):
    post, other = await publish(ann), await publish(ann, title="Other")
    for one in (post, other):
        await bob.put(path_of(one))

    await ann.delete(f"/posts/{post['id']}")

    assert await list_titles(bob) == ["Other"]
    assert (await bob.put(path_of(post))).status_code == 404
    assert (await bob.delete(path_of(post))).status_code == 204


async def test_deleting_an_account_removes_its_bookmarks_from_the_counts(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient
):
    posts = [await publish(ann), await publish(admin)]
    for post in posts:
        for client in (bob, admin):
            await client.put(path_of(post))

    deleted = await bob.request("DELETE", "/users/me", json={"current_password": PASSWORD})

    assert deleted.status_code == 204
    assert [await read_count(ann, post) for post in posts] == [1, 1]
    assert (await ann.get(f"/posts/{posts[0]['id']}")).json()["updated_at"] == posts[0][
        "updated_at"
    ]


async def test_a_bookmarked_post_has_the_same_fields_as_any_listed_post(
    ann: AsyncClient, bob: AsyncClient
):
    post = await publish(ann)
    await bob.put(path_of(post))

    (shown,) = (await bob.get("/users/me/bookmarks")).json()["results"]

    assert shown.keys() == post.keys()


async def test_bookmarking_an_invalid_id_is_rejected(ann: AsyncClient):
    for number in ("0", "-1", "abc", "1.5", str(2**31), str(2**63), "1" + "0" * 30):
        for method in ("PUT", "DELETE"):
            response = await ann.request(method, f"/users/me/bookmarks/{number}")
            assert response.status_code in (404, 422), (method, number)
