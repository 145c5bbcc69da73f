"""Public profiles: biography, picture, number of posts; the author of posts and comments."""

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from tests.support.clients import add_comment, assert_problem, id_of, publish

PICTURE = "https://example.com/ann.jpg"


async def test_a_profile_shows_biography_and_picture(ann: AsyncClient, anonymous: AsyncClient):
    body = {"bio": "Writes about\n*Python*.", "avatar_url": PICTURE}
    changed = (await ann.patch("/users/me", json=body)).json()
    profile = (await anonymous.get(f"/users/{changed['id']}")).json()

    assert body.items() <= changed.items()
    assert body.items() <= profile.items()
    assert (await ann.get("/users/me")).json() == changed
    assert (await anonymous.get("/users/username/ann")).json() == profile

    await ann.patch("/users/me", json={"bio": None, "avatar_url": None})
    profile = (await anonymous.get(f"/users/{changed['id']}")).json()
    assert profile["bio"] is profile["avatar_url"] is None


@pytest.mark.parametrize(
    "body",
    [
        {"bio": ""},
        {"bio": " \u200b "},
        {"bio": "a" * 1001},
        {"bio": "\x00"},
        {"bio": 1},
        {"avatar_url": "/media/ann.jpg"},
        {"avatar_url": "//example.com/ann.jpg"},
        {"avatar_url": "javascript:alert(1)"},
        {"avatar_url": "data:image/png;base64,AAAA"},
        {"avatar_url": "ftp://example.com/ann.jpg"},
        {"avatar_url": "https://ann:hunter2@example.com/ann.jpg"},
        {"avatar_url": "https://"},
        {"avatar_url": "https://example.com/a b"},
        {"avatar_url": 'https://example.com/"onerror=alert(1)'},
        {"avatar_url": "https://example.com/" + "a" * 2048},
        {"avatar_url": "https://example.com\n/ann.jpg"},
        {"avatar_url": ""},
    ],
)
async def test_an_invalid_profile_changes_nothing(ann: AsyncClient, body: dict[str, object]):
    before = (await ann.get("/users/me")).json()

    response = await ann.patch("/users/me", json=body)

    assert_problem(response, 422)
    assert (await ann.get("/users/me")).json() == before


async def test_a_profile_counts_the_published_posts(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient
):
    async def count() -> list[int]:
        ids = f"{await id_of(ann)},{await id_of(bob)}"
        profiles = (await bob.get(f"/users?ids={ids}")).json()
        one = (await bob.get(f"/users/{await id_of(ann)}")).json()
        assert profiles[0] == one
        return [profile["post_count"] for profile in profiles]

    assert await count() == [0, 0]
    post = await publish(ann)
    assert await count() == [1, 0]
    await publish(ann, published_at=None)
    await publish(ann, published_at="2999-01-01T00:00:00Z")
    await publish(bob)
    assert await count() == [1, 1]
    await admin.put(f"/admin/posts/{post['id']}/takedown")
    assert await count() == [0, 1]
    await admin.delete(f"/admin/posts/{post['id']}/takedown")
    assert await count() == [1, 1]
    await ann.delete(f"/posts/{post['id']}")
    assert await count() == [0, 1]


async def test_posts_and_comments_show_their_author(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient
):
    post = await publish(ann)
    comment = await add_comment(bob, post)
    await bob.put(f"/users/me/bookmarks/{post['id']}")
    await bob.put(f"/users/me/following/{await id_of(ann)}")
    author = {"id": await id_of(ann), "username": "ann", "name": "Ann", "avatar_url": None}
    assert post["author"] == author

    for values in ({}, {"avatar_url": PICTURE}, {"username": "anna"}, {"name": "Anna"}):
        if values:
            await ann.patch("/users/me", json=values)
        author |= values
        path = f"/posts/{post['id']}"
        assert (await anonymous.get(path)).json()["author"] == author
        assert (await anonymous.get(f"/posts/slug/{post['slug']}")).json()["author"] == author
        changed = await ann.patch(path, json={"title": f"Hello {len(values)}"})
        assert changed.json()["author"] == author
        post["slug"] = changed.json()["slug"]
        for lists in ("/posts", "/posts?q=hello", "/users/me/bookmarks", "/users/me/feed"):
            (shown,) = (await bob.get(lists)).json()["results"]
            assert shown["author"] == author, lists
        (shown,) = (await ann.get("/users/me/posts")).json()["results"]
        assert shown["author"] == author

    of_bob = {"id": await id_of(bob), "username": "bob", "name": "Bob", "avatar_url": None}
    assert comment["author"] == of_bob
    (thread,) = (await anonymous.get(f"{path}/comments")).json()["results"]
    assert thread["author"] == of_bob


async def test_users_are_listed_by_their_ids_in_the_given_order(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient
):
    first, second = await id_of(ann), await id_of(bob)

    profiles = (await anonymous.get(f"/users?ids={second},999999,{first},{second}")).json()

    assert [profile["id"] for profile in profiles] == [second, first]
    for query in (f"ids={first}&q=ann", f"ids={first}&skip=0", f"ids={first}&limit=10"):
        assert_problem(await anonymous.get(f"/users?{query}"), 422)


@pytest.mark.parametrize(
    "ids", ["", ",", "1,", ",1", "a", "1;2", "-1", "0", "1.5", "9999999999", "1,2147483648", " 1"]
)
@pytest.mark.parametrize(
    "path", ["/users", "/posts", "/users/me/bookmarks", "/users/me/following", "/users/me/feed"]
)
async def test_invalid_lists_of_ids_are_rejected(ann: AsyncClient, path: str, ids: str):
    assert_problem(await ann.get(path, params={"ids": ids}), 422)


@pytest.mark.parametrize(
    "path", ["/users", "/posts", "/users/me/bookmarks", "/users/me/following", "/users/me/feed"]
)
async def test_at_most_a_hundred_ids_are_accepted(ann: AsyncClient, path: str):
    accepted = await ann.get(path, params={"ids": ",".join(map(str, range(1, 101)))})

    assert accepted.status_code == 200
    too_many = await ann.get(path, params={"ids": ",".join(map(str, range(1, 102)))})
    assert_problem(too_many, 422)


async def test_posts_are_listed_by_their_ids_in_the_given_order(ann: AsyncClient, bob: AsyncClient):
    first, second, third = [(await publish(ann))["id"] for _ in range(3)]
    draft = (await publish(ann, published_at=None))["id"]

    page = (await bob.get(f"/posts?ids={third},{draft},999999,{first}")).json()
    assert [post["id"] for post in page["results"]] == [third, first]
    assert page["total_count"] == 2
    assert page["next_cursor"] is None
    # The author's draft is in no public list either.
    assert (await ann.get(f"/posts?ids={draft}")).json()["results"] == []
    small = (await bob.get(f"/posts?ids={third}&body=none")).json()
    assert small["results"][0]["content"] is None
    for query in ("page=1", "q=hello", "tag=news", "author=1", "sort=published_at", "size=5",
                  "cursor=abc", "since=2020-01-01T00:00:00Z"):  # fmt: skip
        assert_problem(await bob.get(f"/posts?ids={second}&{query}"), 422)


async def test_one_request_tells_which_posts_are_bookmarked(ann: AsyncClient, bob: AsyncClient):
    first, second, third = [(await publish(ann))["id"] for _ in range(3)]
    for post_id in (third, first):
        await bob.put(f"/users/me/bookmarks/{post_id}")
    path = "/users/me/bookmarks"

    page = (await bob.get(f"{path}?ids={first},{second},{third}&body=none")).json()

    assert [post["id"] for post in page["results"]] == [first, third]
    assert {post["content"] for post in page["results"]} == {None}
    statuses = [(await bob.get(f"{path}/{n}")).status_code for n in (first, second, third, 99)]
    assert statuses == [204, 404, 204, 404]
    assert (await ann.get(f"{path}?ids={first}")).json()["total_count"] == 0
    # Of a hidden post nothing is told.
    await ann.patch(f"/posts/{first}", json={"published_at": None})
    assert_problem(await bob.get(f"{path}/{first}"), 404)
    assert (await bob.get(f"{path}?ids={first}")).json()["total_count"] == 0


async def test_one_request_tells_which_authors_are_followed(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient
):
    first, second = await id_of(ann), await id_of(admin)
    path = "/users/me/following"
    await bob.put(f"{path}/{second}")

    page = (await bob.get(f"{path}?ids={first},{second}")).json()

    assert [profile["id"] for profile in page["results"]] == [second]
    assert page["results"] == (await bob.get(path)).json()["results"]
    statuses = [(await bob.get(f"{path}/{n}")).status_code for n in (first, second, 999_999)]
    assert statuses == [404, 204, 404]


async def test_public_responses_are_the_same_for_everybody(
    empty_app: FastAPI, ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient
):
    post = await publish(ann)
    await bob.put(f"/users/me/bookmarks/{post['id']}")
    await bob.put(f"/users/me/following/{await id_of(ann)}")

    for path in ("/posts", f"/posts?ids={post['id']}", "/users", "/users/username/ann"):
        bodies = {(await client.get(path)).text for client in (ann, bob, anonymous)}
        assert len(bodies) == 1, path
