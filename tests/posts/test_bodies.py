"""The parameter `body`, and previews."""

import re
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from blog_api.posts import lists
from tests.support.clients import assert_problem, id_of, publish
from tests.support.statements import executions

SOURCE, HTML = "My *first* post.", "<p>My <em>first</em> post.</p>\n"
TEXTS = {
    "source": (SOURCE, None),
    "html": (None, HTML),
    "both": (SOURCE, HTML),
    "none": (None,) * 2,
}


def texts_of(post: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return both texts; lists and changes leave the HTML out unless it is requested."""
    return post["content"], post.get("content_html")


@pytest.mark.parametrize("body", TEXTS)
async def test_a_single_post_has_the_requested_texts(
    ann: AsyncClient, admin: AsyncClient, body: str
):
    post = await publish(ann, content=SOURCE)

    for client, path in (
        (ann, f"/posts/{post['id']}"), (ann, f"/posts/slug/{post['slug']}"),
        (admin, f"/admin/posts/{post['id']}"),
    ):  # fmt: skip
        whole = (await client.get(path)).json()
        response = await client.get(path, params={"body": body})
        shown = response.json()
        assert texts_of(whole) == TEXTS["both"]
        assert texts_of(shown) == TEXTS[body]
        assert shown.keys() == whole.keys()
        assert whole.items() >= {name: shown[name] for name in shown if shown[name]}.items()
        assert response.headers.get("Vary") == ("Accept" if client is ann else None)
        again = await client.get(path, params={"body": body}, headers={
            "If-None-Match": response.headers["ETag"]
        })  # fmt: skip
        assert again.status_code == 304


@pytest.mark.parametrize("body", TEXTS)
async def test_a_change_returns_the_requested_texts(ann: AsyncClient, body: str):
    new = {"title": "Hello", "content": SOURCE}
    created = await ann.post("/posts", json=new, params={"body": body})
    path = f"/posts/{created.json()['id']}"
    replaced = await ann.put(path, json=new, params={"body": body})
    changed = await ann.patch(path, json={"title": "Hi"}, params={"body": body})

    assert [one.status_code for one in (created, replaced, changed)] == [201, 200, 200]
    for response in (created, replaced, changed):
        assert texts_of(response.json()) == TEXTS[body]
        assert response.json()["author"]["username"] == "ann"
        assert "ETag" in response.headers
    default = await ann.patch(path, json={"title": "Hi"})
    assert texts_of(default.json()) == TEXTS["source"]
    assert "content_html" not in default.json()


@pytest.mark.parametrize("body", TEXTS)
async def test_every_list_has_the_requested_texts(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient, body: str
):
    post = await publish(ann, content=SOURCE)
    await bob.put(f"/users/me/bookmarks/{post['id']}")
    await bob.put(f"/users/me/following/{await id_of(ann)}")

    for client, path in (
        (bob, "/posts"), (bob, "/posts?q=first"), (bob, f"/posts?ids={post['id']}"),
        (bob, "/users/ann/posts"), (bob, "/users/me/bookmarks"), (bob, "/users/me/feed"),
        (ann, "/users/me/posts"), (admin, "/admin/posts"),
    ):  # fmt: skip
        link = f"{path}{'&' if '?' in path else '?'}body={body}"
        (shown,) = (await client.get(link)).json()["results"]
        assert texts_of(shown) == TEXTS[body], link
        assert ("content_html" in shown) == (body in ("html", "both")), link


@pytest.mark.parametrize(("body", "shown"), [("source", 3), ("html", 1), ("both", 1), ("none", 0)])
async def test_the_limit_of_a_list_counts_the_texts_together(
    ann: AsyncClient, monkeypatch: pytest.MonkeyPatch, body: str, shown: int
):
    for number in range(4):
        # In HTML, each `&` takes five characters.
        await publish(ann, title=f"Post {number}", content="&" * 1000)
    monkeypatch.setattr("blog_api.posts.queries.MAX_LISTED_BYTES", 3500)
    # Statements that were built before have the real limit.
    monkeypatch.setattr(lists, "found_posts", lists.found_posts.__wrapped__)

    posts = (await ann.get(f"/posts?body={body}&q=post")).json()["results"]

    texts = [texts_of(post) for post in posts]
    assert [any(one) for one in texts] == [True] * shown + [False] * (4 - shown)
    assert all(None not in one for one in texts[:shown] if body == "both")


async def test_a_list_without_texts_reads_none(empty_app: FastAPI, ann: AsyncClient):
    for number in range(20):
        await publish(ann, title=f"Post {number}", content="a" * 50_000)

    async def reads_contents(body: str) -> bool:
        with executions(empty_app) as executed:
            response = await ann.get(f"/posts?body={body}&size=20")
        assert (len(response.content) < 20 * 1024) == (body == "none")
        # Of posts written by a version before excerpts, the beginning is read.
        excerpts = re.compile(r"CASE WHEN \(posts\.made_from IS NULL\) .*? END")
        text = re.compile(r"posts\.content(_html|_text)?\b")
        return any(text.search(excerpts.sub("", one.statement)) for one in executed)

    assert await reads_contents("source")
    assert not await reads_contents("none")


@pytest.mark.parametrize("body", ["", "all", "Both", "source,html"])
async def test_an_unknown_body_is_rejected_and_changes_nothing(ann: AsyncClient, body: str):
    post = await publish(ann)
    path = f"/posts/{post['id']}"

    responses = [
        await ann.get(path, params={"body": body}),
        await ann.get("/posts", params={"body": body}),
        await ann.patch(path, json={"title": "Changed"}, params={"body": body}),
        await ann.post("/posts", json={"title": "New", "content": "a"}, params={"body": body}),
    ]

    for response in responses:
        assert_problem(response, 422)
    (only,) = (await ann.get("/posts")).json()["results"]
    assert only["title"] == post["title"]


async def test_a_preview_is_rendered_as_it_would_be_published(ann: AsyncClient):
    content = f"# Title\n\n{SOURCE}\n\n<script>alert(1)</script>\n\n| a |\n|---|\n| b |"

    preview = (await ann.post("/preview", json={"content": content})).json()
    assert (await ann.get("/users/me/posts")).json()["total_count"] == 0
    post = (await ann.get(f"/posts/{(await publish(ann, content=content))['id']}")).json()

    assert preview.keys() == {"content_html", "summary", "reading_minutes"}
    assert preview.items() <= post.items()
    assert "<script" not in preview["content_html"]


async def test_a_preview_needs_a_token_that_may_write(ann: AsyncClient, anonymous: AsyncClient):
    assert_problem(await anonymous.post("/preview", json={"content": "a"}), 401)
    for body in ({}, {"content": ""}, {"content": "\x00"}, {"content": "a", "title": "b"}):
        assert_problem(await ann.post("/preview", json=body), 422)
