"""Bounds on what a list of posts contains."""

from typing import Any

from httpx import AsyncClient

from tests.support.clients import ChangeUser, add_comment, id_of, log_in, publish

# Four of these are more than a list holds.
LONG = "п" * 300_000


async def list_contents(client: AsyncClient, path: str, **query: Any) -> list[str | None]:
    response = await client.get(path, params=query)
    assert response.status_code == 200, response.text
    return [post["content"] and post["content"][:5] for post in response.json()["results"]]


async def test_every_list_of_posts_leaves_out_contents_over_the_bound(
    ann: AsyncClient, bob: AsyncClient, change_user: ChangeUser
):
    ann_id = await id_of(ann)
    for number in range(5):
        post = await publish(ann, title=f"Post {number}", content=LONG, tags=["x"])
        await bob.put(f"/users/me/bookmarks/{post['id']}")
    await bob.put(f"/users/me/following/{ann_id}")
    await change_user("ann@example.com", is_admin=True)
    await log_in(ann, "ann@example.com")

    for client, path in (
        (bob, "/posts"),
        (bob, "/posts?q=post"),
        (bob, f"/users/{ann_id}/posts"),
        (bob, "/users/me/feed"),
        (bob, "/users/me/bookmarks"),
        (ann, "/users/me/posts"),
        (ann, "/admin/posts"),
    ):
        path, _, q = path.partition("?q=")
        query = {"q": q} if q else {}
        contents = await list_contents(client, path, **query)
        assert contents == ["ппппп"] * 3 + [None] * 2, path
        assert await list_contents(client, path, body="none", **query) == [None] * 5, path


async def test_contents_after_one_that_does_not_fit_are_left_out(ann: AsyncClient):
    for content in ("small", "п" * 500_000, "п" * 500_000, "first"):
        await publish(ann, content=content)

    assert await list_contents(ann, "/posts") == ["first", "ппппп", None, None]


async def test_a_page_before_a_cursor_counts_its_own_contents_in_list_order(ann: AsyncClient):
    for number in range(6):
        await publish(ann, title=f"Post {number}", content=LONG)
    first = (await ann.get("/posts", params={"size": 5})).json()
    after = await ann.get("/posts", params={"size": 5, "cursor": first["next_cursor"]})
    previous = after.links["prev"]["url"]

    page = (await ann.get(previous)).json()

    assert [post["content"] is None for post in page["results"]] == [False] * 3 + [True] * 2


async def test_a_snippet_is_made_of_the_beginning_of_a_text(ann: AsyncClient):
    await publish(ann, title="Deep", content="word " * 12_000 + "needle")

    (post,) = (await ann.get("/posts?q=needle&body=none")).json()["results"]

    assert post["content"] is None and "needle" not in post["snippet"]
    assert post["snippet"].startswith("word")


async def test_answers_over_the_bound_are_left_out_before_comments(ann: AsyncClient):
    post = await publish(ann)
    text = "🦀" * 10_000
    for _ in range(4):
        comment = await add_comment(ann, post, text)
        for _ in range(13):
            await add_comment(ann, post, text, to=comment)

    page = (await ann.get(f"/posts/{post['id']}/comments")).json()

    assert [comment["content"] == text for comment in page["results"]] == [True] * 4
    assert [len(comment["answers"]) for comment in page["results"]] == [13, 13, 13, 7]
