"""Follows, and the feed of followed authors."""

from datetime import UTC, datetime, timedelta

from httpx import AsyncClient

from tests.support.clients import PASSWORD, ChangeUser, id_of, publish, sign_up


async def list_followed(client: AsyncClient) -> list[str]:
    """Return the names of the followed authors."""
    page = (await client.get("/users/me/following")).json()
    assert page["total_count"] == len(page["results"])
    return [profile["name"] for profile in page["results"]]


async def list_feed(client: AsyncClient, **query: str) -> list[str]:
    """Return the titles of the posts in the feed."""
    page = (await client.get("/users/me/feed", params=query)).json()
    assert page["total_count"] == len(page["results"])
    return [post["title"] for post in page["results"]]


async def test_an_author_can_be_followed_and_unfollowed(ann: AsyncClient, bob: AsyncClient):
    path = f"/users/me/following/{await id_of(ann)}"

    before = await list_followed(bob)
    # Both are idempotent.
    responses = [await bob.put(path) for _ in range(2)]
    following = await list_followed(bob)
    responses += [await bob.delete(path) for _ in range(2)]
    after = await list_followed(bob)

    assert [response.status_code for response in responses] == [204] * 4
    assert {response.content for response in responses} == {b""}
    assert (before, following, after) == ([], ["Ann"], [])
    assert await list_followed(ann) == []


async def test_followed_authors_are_listed_as_public_profiles(ann: AsyncClient, bob: AsyncClient):
    await bob.put(f"/users/me/following/{await id_of(ann)}")

    page = (await bob.get("/users/me/following")).json()

    profile = (await bob.get(f"/users/{await id_of(ann)}")).json()
    assert page == {"total_count": 1, "results": [profile], "next_cursor": None}


async def test_followed_authors_are_listed_in_order_of_id(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient
):
    await sign_up(anonymous, "Carl")
    for author in (anonymous, ann):
        await bob.put(f"/users/me/following/{await id_of(author)}")

    assert await list_followed(bob) == ["Ann", "Carl"]


async def test_users_cannot_follow_themselves(ann: AsyncClient):
    response = await ann.put(f"/users/me/following/{await id_of(ann)}")

    assert response.status_code == 400
    assert response.json()["type"] == "urn:blog-api:cannot-follow-self"
    assert response.json()["detail"] == "You can't follow yourself"
    assert await list_followed(ann) == []


async def test_following_an_unknown_user_is_rejected(ann: AsyncClient):
    missing = await ann.put(f"/users/me/following/{await id_of(ann) + 1}")

    assert missing.status_code == 404
    assert missing.json()["detail"] == "User not found"
    assert (await ann.delete(f"/users/me/following/{await id_of(ann) + 1}")).status_code == 204
    for number in ("0", "-1", "abc", "1.5", str(2**31), str(2**63), "1" + "0" * 30):
        for method in ("PUT", "DELETE"):
            response = await ann.request(method, f"/users/me/following/{number}")
            assert response.status_code in (404, 422), (method, number)


async def test_the_feed_lists_published_posts_of_followed_authors(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient
):
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    first = await publish(ann, title="First", published_at="2020-01-01T00:00:00Z")
    await publish(ann, title="Draft", published_at=None)
    await publish(ann, title="Scheduled", published_at=tomorrow)
    taken_down = await publish(ann, title="Taken down")
    await admin.put(f"/admin/posts/{taken_down['id']}/takedown")
    await publish(admin, title="Not followed")
    await publish(bob, title="Own")

    before = await list_feed(bob)
    await bob.put(f"/users/me/following/{first['user_id']}")
    following = (await bob.get("/users/me/feed")).json()
    second = await publish(ann, title="Second")
    later = await list_feed(bob)
    await bob.delete(f"/users/me/following/{first['user_id']}")
    after = await list_feed(bob)

    assert before == after == []
    assert following["results"] == [first]
    assert later == [second["title"], "First"]


async def test_the_feed_can_be_filtered_sorted_and_searched(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient
):
    await sign_up(anonymous, "Carl")
    for number, (author, tag) in enumerate(((ann, "x"), (anonymous, "x"), (ann, "y")), start=1):
        day = f"2020-01-0{number}T00:00:00Z"
        await publish(author, title=f"Day {number}", tags=[tag], published_at=day)
        await bob.put(f"/users/me/following/{await id_of(author)}")

    assert await list_feed(bob) == ["Day 3", "Day 2", "Day 1"]
    assert await list_feed(bob, sort="published_at") == ["Day 1", "Day 2", "Day 3"]
    assert await list_feed(bob, tag="X") == ["Day 2", "Day 1"]
    assert await list_feed(bob, author=str(await id_of(ann))) == ["Day 3", "Day 1"]
    assert await list_feed(bob, author=str(await id_of(bob))) == []
    assert await list_feed(bob, since="2020-01-02T00:00:00Z") == ["Day 3", "Day 2"]
    assert await list_feed(bob, until="2020-01-02T00:00:00Z") == ["Day 1"]
    assert await list_feed(bob, q="day", tag="y") == ["Day 3"]


async def test_deleting_an_account_removes_its_follows_in_both_directions(
    ann: AsyncClient, bob: AsyncClient
):
    await publish(ann)
    await bob.put(f"/users/me/following/{await id_of(ann)}")
    await ann.put(f"/users/me/following/{await id_of(bob)}")

    deleted = await ann.request("DELETE", "/users/me", json={"current_password": PASSWORD})

    assert deleted.status_code == 204
    assert await list_followed(bob) == []
    assert await list_feed(bob) == []


async def test_a_deactivated_author_can_still_be_followed(
    ann: AsyncClient, bob: AsyncClient, change_user: ChangeUser
):
    await publish(ann, title="Hello")
    path = f"/users/me/following/{await id_of(ann)}"
    await change_user("ann@example.com", is_active=False)

    assert (await bob.put(path)).status_code == 204
    assert await list_followed(bob) == ["Ann"]
    assert await list_feed(bob) == ["Hello"]
