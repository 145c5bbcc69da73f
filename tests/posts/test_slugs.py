"""Slugs: derived from titles, redirected after a change, and never reused."""

import re
from datetime import UTC, datetime

import pytest
from httpx import AsyncClient

from tests.support.clients import (
    CHEAP_HASHING,
    PASSWORD,
    client_of,
    make_settings,
    publish,
    running,
    sign_up,
)


async def rename(client: AsyncClient, post: dict[str, object], title: str) -> str:
    """Change the title of a post; return its slug."""
    response = await client.patch(f"/posts/{post['id']}", json={"title": title})
    assert response.status_code == 200, response.text
    slug: str = response.json()["slug"]
    return slug


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_new_title_changes_the_slug_and_redirects_the_former_one(
    ann: AsyncClient, anonymous: AsyncClient, method: str
):
    post = await publish(ann)

    body = {"title": "Bye, Moon", "content": "World"}
    changed = (await ann.request(method, f"/posts/{post['id']}", json=body)).json()

    shown = await anonymous.get("/posts/slug/bye-moon")
    redirect = await anonymous.get("/posts/slug/hello")
    assert changed["slug"] == shown.json()["slug"] == "bye-moon"
    assert shown.json()["id"] == post["id"]
    assert redirect.status_code == 308
    assert redirect.headers["Location"] == "/posts/slug/bye-moon"
    # The post can get the slug back, so the redirect is revalidated.
    assert redirect.headers["Cache-Control"] == "no-cache"
    assert (await anonymous.get(redirect.headers["Location"])).json() == shown.json()


async def test_every_former_slug_redirects_to_the_current_one(
    ann: AsyncClient, anonymous: AsyncClient
):
    post = await publish(ann, title="One")
    for title in ("Two", "Three", "Four"):
        await rename(ann, post, title)

    for slug in ("one", "two", "three"):
        for method in ("GET", "HEAD"):
            response = await anonymous.request(method, f"/posts/slug/{slug}")
            assert response.status_code == 308
            assert response.headers["Location"] == "/posts/slug/four"


async def test_a_new_post_gets_no_former_slug_and_is_indexed_once(
    ann: AsyncClient, anonymous: AsyncClient
):
    await rename(ann, await publish(ann, tags=["Python"]), "Bye")

    post = await publish(ann, tags=["Python", "New"])

    tags = (await anonymous.get("/tags")).json()["results"]
    found = (await anonymous.get("/posts", params={"q": "hello"})).json()
    assert re.fullmatch("hello-[0-9a-f]{8}", post["slug"])
    assert (await anonymous.get(f"/posts/slug/{post['slug']}")).json()["id"] == post["id"]
    assert {tag["name"]: tag["post_count"] for tag in tags} == {"Python": 2, "New": 1}
    assert [one["id"] for one in found["results"]] == [post["id"]]
    assert (await anonymous.get("/posts")).json()["total_count"] == 2


async def test_a_redirect_keeps_the_prefix_and_the_query(ann: AsyncClient):
    await rename(ann, await publish(ann), "Bye")

    response = await ann.get("/api/v1/posts/slug/hello?a=b%20c&d")

    assert response.status_code == 308
    assert response.headers["Location"] == "/api/v1/posts/slug/bye?a=b%20c&d"


async def test_a_redirect_uses_the_public_url_and_not_the_host_header():
    settings = make_settings(
        database_url="sqlite://", public_url="https://example.com/blog", **CHEAP_HASHING
    )
    async with running(settings) as app, client_of(app) as client:
        await sign_up(client, "Ann")
        await rename(client, await publish(client), "Bye")
        response = await client.get("/posts/slug/hello", headers={"Host": "evil.example"})

    assert response.headers["Location"] == "https://example.com/blog/posts/slug/bye"


async def test_a_post_can_get_its_former_slug_back(ann: AsyncClient, anonymous: AsyncClient):
    post = await publish(ann)

    await rename(ann, post, "Bye")
    slug = await rename(ann, post, "Hello")

    assert slug == "hello"
    assert (await anonymous.get("/posts/slug/hello")).json()["id"] == post["id"]
    assert (await anonymous.get("/posts/slug/bye")).headers["Location"] == "/posts/slug/hello"


@pytest.mark.parametrize("title", ["Hello", "hello", "HELLO!", "Héllo", "Hello 🎉"])
async def test_a_title_with_the_same_slug_form_keeps_the_slug(ann: AsyncClient, title: str):
    first = await publish(ann)
    second = await publish(ann)

    assert await rename(ann, first, title) == first["slug"]
    assert await rename(ann, second, title) == second["slug"]


async def test_changes_of_other_fields_keep_the_slug(ann: AsyncClient):
    post = await publish(ann, title="!!!")

    response = await ann.patch(
        f"/posts/{post['id']}", json={"content": "Moon", "tags": ["a"], "published_at": None}
    )

    assert response.json()["slug"] == post["slug"] == "post"


async def test_a_former_slug_is_not_given_to_another_post(ann: AsyncClient, bob: AsyncClient):
    post = await publish(ann)
    await rename(ann, post, "Bye")

    created = await publish(bob)
    renamed = await rename(bob, await publish(bob, title="Moon"), "Hello")
    taken = await rename(ann, await publish(ann, title="Sun"), "Bye")

    for slug, name in ((created["slug"], "hello"), (renamed, "hello"), (taken, "bye")):
        assert re.fullmatch(f"{name}-[0-9a-f]{{8}}", slug)
    assert (await ann.get("/posts/slug/hello")).headers["Location"] == "/posts/slug/bye"
    assert (await ann.get("/posts/slug/bye")).json()["id"] == post["id"]


async def test_two_posts_with_one_title_have_two_stable_slugs(ann: AsyncClient):
    first, second = await publish(ann, title="One"), await publish(ann, title="Two")

    slugs = [await rename(ann, post, "Same") for post in (first, second)]
    back = [await rename(ann, post, "Other") for post in (first, second)]
    again = [await rename(ann, post, "Same") for post in (second, first)]

    assert slugs[0] == "same"
    assert slugs[1].startswith("same-")
    assert len({*slugs, *back}) == 4
    assert again == slugs[::-1]


@pytest.mark.parametrize("way", ["by its author", "by an administrator", "with its author"])
async def test_every_slug_of_a_deleted_post_returns_410(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient, admin: AsyncClient, way: str
):
    post = await publish(ann)
    await rename(ann, post, "Bye")
    if way == "by its author":
        await ann.delete(f"/posts/{post['id']}")
    elif way == "by an administrator":
        await admin.delete(f"/admin/posts/{post['id']}")
    else:
        await ann.request("DELETE", "/users/me", json={"current_password": PASSWORD})

    others = [await publish(bob, title=title) for title in ("Hello", "Bye")]

    for slug in ("hello", "bye"):
        response = await anonymous.get(f"/posts/slug/{slug}")
        assert response.status_code == 410
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.json()["type"] == "urn:blog-api:post-gone"
        assert response.json()["detail"] == "This post was deleted"
        assert (await anonymous.head(f"/posts/slug/{slug}")).status_code == 410
    assert [len(post["slug"]) for post in others] == [len("hello-12345678"), len("bye-12345678")]
    assert (await anonymous.get(f"/posts/{post['id']}")).status_code == 404


async def test_a_slug_does_not_reveal_a_hidden_post(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient
):
    draft = await publish(ann, title="Secret", published_at=None)
    await rename(ann, draft, "Very secret")

    for slug in ("secret", "very-secret"):
        for other in (bob, anonymous):
            response = await other.get(f"/posts/slug/{slug}")
            assert response.status_code == 404
            assert "very" not in response.text
    assert (await ann.get("/posts/slug/secret")).status_code == 308
    assert (await ann.get("/posts/slug/very-secret")).json()["id"] == draft["id"]


FUTURE = "2100-01-01T00:00:00Z"


@pytest.mark.parametrize("published_at", [None, FUTURE])
@pytest.mark.parametrize("way", ["by its author", "by an administrator", "with its author"])
async def test_the_slugs_of_a_deleted_post_that_was_never_public_leave_no_trace(
    ann: AsyncClient,
    bob: AsyncClient,
    anonymous: AsyncClient,
    admin: AsyncClient,
    published_at: str | None,
    way: str,
):
    post = await publish(ann, published_at=published_at)
    await rename(ann, post, "Bye")
    if way == "by its author":
        await ann.delete(f"/posts/{post['id']}")
    elif way == "by an administrator":
        await admin.delete(f"/admin/posts/{post['id']}")
    else:
        await ann.request("DELETE", "/users/me", json={"current_password": PASSWORD})

    for slug in ("hello", "bye"):
        assert (await anonymous.get(f"/posts/slug/{slug}")).status_code == 404
    assert (await publish(bob))["slug"] == "hello"


@pytest.mark.parametrize("published_at", [None, FUTURE])
async def test_a_slug_that_a_post_had_while_hidden_redirects_its_author_alone(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient, published_at: str | None
):
    post = await publish(ann, title="Secret", published_at=published_at)
    await rename(ann, post, "Hello")
    now = datetime.now(UTC).isoformat()
    await ann.patch(f"/posts/{post['id']}", json={"published_at": now})
    await rename(ann, post, "Bye")

    for other in (bob, anonymous):
        assert (await other.get("/posts/slug/secret")).status_code == 404
        assert (await other.get("/posts/slug/hello")).status_code == 308
    assert (await ann.get("/posts/slug/secret")).status_code == 308
    assert (await publish(bob, title="Secret"))["slug"] != "secret"
    await ann.delete(f"/posts/{post['id']}")
    statuses = [
        (await anonymous.get(f"/posts/slug/{slug}")).status_code
        for slug in ("secret", "hello", "bye")
    ]
    assert statuses == [404, 410, 410]


@pytest.mark.parametrize("way", ["as a draft", "as scheduled", "taken down"])
async def test_a_slug_that_was_public_redirects_again_after_the_post_was_hidden(
    ann: AsyncClient, anonymous: AsyncClient, admin: AsyncClient, way: str
):
    post = await publish(ann)
    path = f"/posts/{post['id']}"
    if way == "taken down":
        await admin.put(f"/admin{path}/takedown")
    else:
        at = FUTURE if way == "as scheduled" else None
        await ann.patch(path, json={"published_at": at})
    await rename(ann, post, "Hidden")
    await rename(ann, post, "Bye")
    hidden = (await anonymous.get("/posts/slug/hello")).status_code
    if way == "taken down":
        await admin.delete(f"/admin{path}/takedown")
    else:
        await ann.patch(path, json={"published_at": "2020-01-01T00:00:00Z"})

    statuses = [
        (await anonymous.get(f"/posts/slug/{slug}")).status_code
        for slug in ("hello", "hidden", "bye")
    ]
    assert (hidden, statuses) == (404, [308, 404, 200])


async def test_a_numeric_title_suffix_is_not_taken_for_a_random_one(ann: AsyncClient):
    post = await publish(ann, title="News 20261124")

    assert await rename(ann, post, "News") == "news"


async def test_the_slug_of_the_longest_title_has_room_for_a_suffix(ann: AsyncClient):
    slugs = [(await publish(ann, title="a" * 255))["slug"] for _ in range(2)]

    assert slugs[0] == "a" * 91
    assert re.fullmatch("a{91}-[0-9a-f]{8}", slugs[1])
    for slug in slugs:
        assert (await ann.get(f"/posts/slug/{slug}")).status_code == 200
