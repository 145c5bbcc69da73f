"""Summary, reading time, cover, canonical address and chosen slug of a post."""

import asyncio
import json
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import text

from blog_api.core.urls import is_media_path
from blog_api.db.base import Invalidates
from blog_api.db.session import Database
from blog_api.media.pictures import SUFFIXES
from tests.support.clients import (
    CHEAP_HASHING,
    assert_problem,
    client_of,
    make_settings,
    publish,
    running,
    sign_up,
)
from tests.support.pictures import make_picture, upload
from tests.support.rebuilds import count_wrong

LONG = "word " * 300
MADE = "word " * 59 + "word…"
COVER = "https://example.com/river.jpg"
CANONICAL = "https://пример.example/Первый?a=b#c"
DIGEST = "0123456789abcdef" * 4
GIVEN = {
    "summary": "By hand",
    "cover_url": COVER,
    "cover_alt": "A river",
    "canonical_url": CANONICAL,
    "slug": "by-hand",
}


async def change(client: AsyncClient, post: dict[str, Any], **values: object) -> dict[str, Any]:
    response = await client.patch(f"/posts/{post['id']}", json=values)
    assert response.status_code == 200, response.text
    changed: dict[str, Any] = response.json()
    return changed


async def execute(app: FastAPI, statement: str, **values: object) -> None:
    database: Database = app.state.database
    async with database.session(writes=True) as session:
        await (await session.connection()).execute(text(statement), values)


async def read_everywhere(client: AsyncClient, post: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the post as each route shows it to its author."""
    await client.put(f"/users/me/bookmarks/{post['id']}")
    path = f"/posts/{post['id']}"
    one = [(await client.get(url)).json() for url in (path, f"/posts/slug/{post['slug']}")]
    lists = ["/posts", "/posts?body=none", "/posts?q=word", f"/users/{post['user_id']}/posts"]
    lists += ["/users/me/posts", "/users/me/bookmarks"]
    found = [(await client.get(url)).json()["results"] for url in lists]
    assert all(len(results) == 1 for results in found)
    export = (await client.get("/users/me/export")).text.splitlines()
    lines = [json.loads(line) for line in export]
    exported = [line for line in lines if line["type"] == "post"]
    return [*one, *(results[0] for results in found), *exported]


async def test_a_post_has_a_summary_and_a_reading_time_everywhere(ann: AsyncClient):
    post = await publish(ann, content=LONG)

    shown = [post, *await read_everywhere(ann, post)]

    assert len(shown) == 10
    for one in shown:
        assert (one["summary"], one["reading_minutes"]) == (MADE, 2)
        assert one["cover_url"] is one["cover_alt"] is one["canonical_url"] is None


async def test_given_fields_are_shown_everywhere(ann: AsyncClient, admin: AsyncClient):
    post = await publish(ann, content=LONG, **GIVEN)

    shown = [post, *await read_everywhere(ann, post)]
    shown += (await admin.get("/admin/posts")).json()["results"]
    shown.append((await admin.get(f"/admin/posts/{post['id']}")).json())

    for one in shown:
        assert one.items() >= GIVEN.items()


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_made_summary_follows_the_content(ann: AsyncClient, method: str):
    post = await publish(ann, content="First")
    body = {"title": "Hello", "content": LONG}

    changed = (await ann.request(method, f"/posts/{post['id']}", json=body)).json()

    assert (post["summary"], changed["summary"]) == ("First", MADE)
    assert (post["reading_minutes"], changed["reading_minutes"]) == (1, 2)


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_given_fields_stay_if_omitted_and_go_with_null(ann: AsyncClient, method: str):
    post = await publish(ann, **GIVEN)
    path, body = f"/posts/{post['id']}", {"title": "Hello", "content": LONG}

    stays = (await ann.request(method, path, json=body)).json()
    reset = (await ann.request(method, path, json=body | dict.fromkeys(GIVEN))).json()

    assert stays.items() >= GIVEN.items()
    assert reset["summary"] == MADE
    assert reset["cover_url"] is reset["cover_alt"] is reset["canonical_url"] is None
    assert reset["slug"] == "hello"


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_post_takes_comments_unless_its_author_closes_them(
    ann: AsyncClient, admin: AsyncClient, method: str
):
    post, closed = await publish(ann, content=LONG), await publish(ann, comments_open=False)
    path, body = f"/posts/{post['id']}", {"title": "Hello", "content": LONG}
    await ann.delete(f"/posts/{closed['id']}")
    before = (await ann.get(path)).headers["ETag"]

    close = body | {"comments_open": False}
    stays_open = (await ann.request(method, path, json=body)).json()
    changed = await ann.request(method, path, json=close, headers={"If-Match": before})
    stays = (await ann.request(method, path, json=body)).json()
    shown = [stays, *await read_everywhere(ann, post)]
    shown += (await admin.get("/admin/posts")).json()["results"]
    stale = await ann.request(method, path, json=close, headers={"If-Match": before})
    opened = (await ann.request(method, path, json=body | {"comments_open": True})).json()

    assert [one["comments_open"] for one in (post, closed, stays_open)] == [True, False, True]
    assert (changed.status_code, changed.json()["comments_open"]) == (200, False)
    assert {one["comments_open"] for one in shown} == {False}
    assert stale.status_code == 412
    assert opened["comments_open"]


@pytest.mark.parametrize("field", ["summary", "cover_url", "cover_alt", "canonical_url", "slug"])
async def test_a_changed_field_changes_the_etag(ann: AsyncClient, field: str):
    path = f"/posts/{(await publish(ann))['id']}"
    before = (await ann.get(path)).headers["ETag"]

    changed = await ann.patch(path, json={field: GIVEN[field]}, headers={"If-Match": before})
    stale = await ann.patch(path, json={field: None}, headers={"If-Match": before})
    after = (await ann.get(path)).headers["ETag"]

    assert (changed.status_code, stale.status_code) == (200, 412)
    assert after.split("-")[0] != before.split("-")[0]


INVALID = [
    *({"summary": one} for one in ("", " ", "a\nb", "a" * 301, "a\0", 5, ["a"])),
    *({"cover_alt": one} for one in ("", "\u200b", "a\tb", "a" * 301)),
    *(
        {"cover_url": one}
        for one in (
            "",
            "/river.jpg",
            "//example.com/a",
            "example.com",
            "ftp://example.com/a",
            "javascript:alert(1)",
            "data:text/html,a",
            "https://",
            "https:///a",
            "https://hunter2@example.com/",
            "https://ann:hunter2@example.com/",
            "https://example.com/a b",
            "https://example.com/a\u00a0b",
            "https://example.com/\n",
            "https://example.com/\u202e",
            'https://example.com/"a',
            "https://example.com\\a",
            "https://example.com:99999/",
            "https://[::1/",
            "https://example.com/" + "a" * 2_048,
        )
    ),
    {"canonical_url": "mailto:ann@example.com"},
    *(
        {"slug": one}
        for one in ("", "A", "a_b", "a--b", "-a", "a-", "a/b", "é", "a\n", "a" * 101, 5)
    ),
]


@pytest.mark.parametrize("values", INVALID, ids=lambda values: ascii(values)[:40])
async def test_invalid_values_are_rejected_and_change_nothing(
    ann: AsyncClient, values: dict[str, object]
):
    post = await publish(ann)
    path = f"/posts/{post['id']}"

    created = await ann.post("/posts", json={"title": "A", "content": "A", **values})
    changed = await ann.patch(path, json=values)

    assert (created.status_code, changed.status_code) == (422, 422)
    assert "hunter2" not in created.text + changed.text
    assert (await ann.get("/posts")).json()["results"] == [post]


@pytest.mark.parametrize(
    "url",
    [
        "HTTP://Example.COM",
        "http://127.0.0.1:8000/a?b=c#d",
        "http://[::1]/",
        "https://example.com/@ann",
        "https://example.com/" + "a" * 2_028,
    ],
)
async def test_addresses_stay_as_they_were_sent(ann: AsyncClient, url: str):
    post = await publish(ann, cover_url=url, canonical_url=url)

    shown = (await ann.get(f"/posts/{post['id']}")).json()

    assert shown["cover_url"] == shown["canonical_url"] == url


@pytest.mark.parametrize("suffix", SUFFIXES.values())
async def test_an_uploaded_picture_may_be_cover_and_avatar(
    ann: AsyncClient, anonymous: AsyncClient, suffix: str
):
    url = f"/media/{DIGEST}.{suffix}"
    post = await publish(ann, cover_url=url)

    user = (await ann.patch("/users/me", json={"avatar_url": url})).json()
    shown = (await anonymous.get(f"/posts/{post['id']}")).json()

    assert user["avatar_url"] == url
    assert (shown["cover_url"], shown["author"]["avatar_url"]) == (url, url)


@pytest.mark.parametrize(
    "url",
    [
        f"/media/{DIGEST}",
        f"/media/{DIGEST}.jpeg",
        f"/media/{DIGEST}.svg",
        f"/media/{DIGEST}.PNG",
        f"/media/{DIGEST.upper()}.png",
        f"/media/{DIGEST[1:]}.png",
        f"/media/{DIGEST}0.png",
        f"/media/../{DIGEST}.png",
        f"/media/../media/{DIGEST}.png",
        f"/media//{DIGEST}.png",
        f"//media/{DIGEST}.png",
        f"media/{DIGEST}.png",
        f"/blog/media/{DIGEST}.png",
        f"/api/v1/media/{DIGEST}.png",
        f"/media/{DIGEST}.png?a",
        f"/media/{DIGEST}.png#a",
        f"/media/{DIGEST}.png\n",
        f"/media/{DIGEST}.png ",
        f"\\media\\{DIGEST}.png",
        f"/media/%61{DIGEST[1:]}.png",
        f"/media/\u0661{DIGEST[1:]}.png",
    ],
)
async def test_no_other_relative_address_is_accepted(ann: AsyncClient, url: str):
    post = await publish(ann)

    assert_problem(await ann.patch("/users/me", json={"avatar_url": url}), 422)
    for method in ("PUT", "PATCH"):
        body = {"title": "Hello", "content": "World", "cover_url": url}
        assert_problem(await ann.request(method, f"/posts/{post['id']}", json=body), 422)
    created = await ann.post("/posts", json={"title": "A", "content": "B", "cover_url": url})
    assert_problem(created, 422)


async def test_a_canonical_address_is_never_a_picture(ann: AsyncClient):
    body = {"title": "A", "content": "B", "canonical_url": f"/media/{DIGEST}.png"}

    assert_problem(await ann.post("/posts", json=body), 422)


async def test_below_a_path_the_address_of_a_picture_stays_relative_to_the_service():
    settings = make_settings(
        database_url="sqlite://", public_url="https://example.com/blog", **CHEAP_HASHING
    )
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        url = (await upload(ann, make_picture()))["url"]
        post = await publish(ann, cover_url=url)
        prefixed = await ann.post(
            "/posts", json={"title": "A", "content": "B", "cover_url": f"/blog{url}"}
        )
        files = [await ann.get(path) for path in (url, f"/blog{url}")]
        export = (await ann.get("/users/me/export")).text.splitlines()

    assert url.startswith("/media/")
    assert post["cover_url"] == url
    assert_problem(prefixed, 422)
    assert [file.status_code for file in files] == [200, 200]
    lines = {line["type"]: line for line in map(json.loads, export)}
    assert lines["post"]["cover_url"] == url
    assert lines["media"]["url"] == f"https://example.com/blog{url}"


def test_the_suffixes_of_addresses_are_those_of_stored_files():
    assert {is_media_path(f"/media/{DIGEST}.{suffix}") for suffix in SUFFIXES.values()} == {True}


async def test_texts_are_stripped(ann: AsyncClient):
    post = await publish(ann, summary=" a ", cover_alt="\u2003b ")

    assert (post["summary"], post["cover_alt"]) == ("a", "b")


async def test_a_summary_does_not_reveal_a_hidden_post(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient, admin: AsyncClient
):
    values = {"summary": "Secret", "cover_url": "https://secret.example"}
    draft = await publish(ann, title="Draft", published_at=None, **values)
    taken = await publish(ann, title="Taken", **values)
    await admin.put(f"/admin/posts/{taken['id']}/takedown")

    for client in (bob, anonymous):
        for path in ("/posts", "/posts?q=secret", "/feed.json", "/feed.atom", "/feed.rss"):
            assert "ecret" not in (await client.get(path)).text.replace("q=secret", "")
        for post in (draft, taken):
            assert (await client.get(f"/posts/{post['id']}")).status_code == 404


# The statements of the version before, which does not know the columns.
OLD_UPDATE = (
    "UPDATE posts SET content = :html, content_html = :html, version = version + 1 WHERE id = :id"
)
OLD_RENDER = "UPDATE posts SET content_html = :html WHERE id = :id"


@pytest.mark.parametrize("statement", [OLD_UPDATE, OLD_RENDER])
async def test_a_text_that_the_version_before_changes_has_no_stale_summary(
    ann: AsyncClient, empty_app: FastAPI, statement: str
):
    post = await publish(ann, content="Stale word")
    html = f"<p>{LONG}</p>\n"
    await execute(empty_app, statement, html=html, id=post["id"])
    # The search does not find it until its words are made again.
    await count_wrong(empty_app.state.database, "search", repairs=True)
    empty_app.state.database.invalidate(Invalidates.EVERYTHING)

    shown = await read_everywhere(ann, post)
    feed = (await ann.get("/feed.json")).json()["items"][0]

    for one in shown:
        assert (one["summary"], one["reading_minutes"]) == (MADE, 2)
    assert feed["summary"] == MADE
    assert (await change(ann, post, tags=["a"]))["summary"] == MADE
    assert (await change(ann, post, content="Fresh"))["summary"] == "Fresh"
    async with empty_app.state.database.session(writes=False) as session:
        made = await (await session.connection()).execute(text("SELECT made_from FROM posts"))
        assert len(made.scalar_one()) == 16


async def test_a_given_summary_stays_when_the_version_before_changes_the_text(
    ann: AsyncClient, empty_app: FastAPI
):
    post = await publish(ann, summary="Mine")
    await execute(empty_app, OLD_UPDATE, html=f"<p>{LONG}</p>\n", id=post["id"])
    await count_wrong(empty_app.state.database, "search", repairs=True)
    empty_app.state.database.invalidate(Invalidates.EVERYTHING)

    for one in await read_everywhere(ann, post):
        assert (one["summary"], one["reading_minutes"]) == ("Mine", 2)


async def test_the_reading_time_of_a_very_long_text_of_the_version_before_is_estimated(
    ann: AsyncClient, empty_app: FastAPI
):
    post = await publish(ann)
    html = f"<p>{'word ' * 100_000}</p>\n"
    await execute(empty_app, OLD_RENDER, html=html, id=post["id"])
    empty_app.state.database.invalidate(Invalidates.EVERYTHING)

    (listed,) = (await ann.get("/posts")).json()["results"]
    shown = (await ann.get(f"/posts/{post['id']}")).json()

    assert listed["summary"] == shown["summary"] == MADE
    for post in (listed, shown):
        assert 490 <= post["reading_minutes"] <= 510


async def test_feeds_have_the_fields_that_their_formats_have(
    ann: AsyncClient, anonymous: AsyncClient
):
    await publish(ann, **GIVEN)

    (item,) = (await anonymous.get("/feed.json")).json()["items"]
    atom = (await anonymous.get("/feed.atom")).text
    rss = (await anonymous.get("/feed.rss")).text

    assert item["summary"] == "By hand"
    assert (item["image"], item["external_url"]) == (COVER, CANONICAL)
    assert '<summary type="text">By hand</summary>' in atom
    assert f'<link href="{CANONICAL}" rel="via"/>' in atom
    assert "By hand" not in rss and "via" not in rss


async def test_a_feed_leaves_out_what_a_post_does_not_have(ann: AsyncClient):
    await publish(ann, content="![](a.png)")

    (item,) = (await ann.get("/feed.json")).json()["items"]
    atom = (await ann.get("/feed.atom")).text

    assert item.keys().isdisjoint({"summary", "image", "external_url"})
    assert "<summary" not in atom and "via" not in atom


# Slugs


async def test_a_chosen_slug_stays_when_the_title_changes(ann: AsyncClient):
    post = await publish(ann, slug="mine")
    path = f"/posts/{post['id']}"

    patched = await change(ann, post, title="Another")
    put = (await ann.put(path, json={"title": "Third", "content": "x"})).json()

    assert post["slug"] == patched["slug"] == put["slug"] == "mine"


async def test_choosing_the_generated_slug_pins_it(ann: AsyncClient):
    post = await publish(ann)

    await change(ann, post, slug="hello")

    assert (await change(ann, post, title="Bye"))["slug"] == "hello"
    assert (await change(ann, post, slug=None))["slug"] == "bye"
    assert (await change(ann, post, title="Again"))["slug"] == "again"


async def test_a_new_slug_redirects_the_former_one(ann: AsyncClient, anonymous: AsyncClient):
    post = await publish(ann)

    await change(ann, post, slug="2026")

    assert (await anonymous.get("/posts/slug/2026")).json()["id"] == post["id"]
    redirect = await anonymous.get("/posts/slug/hello")
    assert (redirect.status_code, redirect.headers["Location"]) == (308, "/posts/slug/2026")


@pytest.mark.parametrize("published_at", ["2020-01-01T00:00:00Z", None])
async def test_a_post_takes_its_former_slug_back(ann: AsyncClient, published_at: str | None):
    post = await publish(ann, slug="first", published_at=published_at)

    await change(ann, post, slug="second")

    assert (await change(ann, post, slug="first"))["slug"] == "first"
    assert (await ann.get("/posts/slug/first")).json()["id"] == post["id"]
    assert (await ann.get("/posts/slug/second")).status_code == 308


@pytest.mark.parametrize("state", ["public", "formerly public", "hidden", "deleted", "scheduled"])
async def test_a_taken_slug_is_rejected_with_one_wording(
    ann: AsyncClient, bob: AsyncClient, state: str
):
    at = {"hidden": None, "scheduled": "2100-01-01T00:00:00Z"}.get(state, "2020-01-01T00:00:00Z")
    post = await publish(ann, slug="taken", published_at=at)
    if state == "formerly public":
        await change(ann, post, slug="other")
    elif state == "deleted":
        await ann.delete(f"/posts/{post['id']}")
    other = await publish(bob, title="Other post")

    created = await bob.post("/posts", json={"title": "A", "content": "A", "slug": "taken"})
    changed = await bob.patch(f"/posts/{other['id']}", json={"slug": "taken", "title": "New"})

    for response in (created, changed):
        assert response.status_code == 409
        assert response.json()["type"] == "urn:blog-api:slug-taken"
        assert response.json()["detail"] == "Another post has or had this slug"
    listed = (await bob.get("/users/me/posts")).json()["results"]
    assert [(one["slug"], one["title"]) for one in listed] == [("other-post", "Other post")]


@pytest.mark.parametrize("way", ["POST", "PATCH"])
async def test_a_slug_that_a_post_had_as_a_draft_is_free_when_given_up(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient, way: str
):
    draft = await publish(ann, slug="free", published_at=None)
    await change(ann, draft, slug="kept")

    if way == "POST":
        other = await publish(bob, slug="free")
    else:
        other = await change(bob, await publish(bob), slug="free")
    await change(ann, draft, published_at="2020-01-01T00:00:00Z")

    for client in (ann, bob, anonymous):
        assert (await client.get("/posts/slug/free")).json()["id"] == other["id"]
    back = await ann.patch(f"/posts/{draft['id']}", json={"slug": "free"})
    assert back.status_code == 409


async def test_a_slug_that_is_chosen_while_hiding_the_post_was_not_public(
    ann: AsyncClient, bob: AsyncClient
):
    post = await publish(ann)

    await change(ann, post, slug="secret", published_at=None)
    await change(ann, post, slug="open", published_at="2020-01-01T00:00:00Z")

    assert (await bob.get("/posts/slug/secret")).status_code == 404
    assert (await bob.get("/posts/slug/hello")).status_code == 308
    assert (await publish(bob, slug="secret"))["slug"] == "secret"


async def test_the_slug_of_a_deleted_draft_is_free(ann: AsyncClient, bob: AsyncClient):
    draft = await publish(ann, slug="mine", published_at=None)
    await ann.delete(f"/posts/{draft['id']}")

    assert (await publish(bob, slug="mine"))["slug"] == "mine"


async def test_a_generated_slug_avoids_a_chosen_one(ann: AsyncClient, bob: AsyncClient):
    await publish(ann, title="Else", slug="hello")

    assert (await publish(bob))["slug"].startswith("hello-")


async def test_a_title_that_the_version_before_changes_unpins_the_slug(
    ann: AsyncClient, empty_app: FastAPI
):
    post = await publish(ann, slug="mine")
    await execute(
        empty_app,
        "INSERT INTO slugs (slug, post_id, created_at, updated_at, was_public) "
        "SELECT 'bye', id, created_at, updated_at, was_public FROM "
        "(SELECT p.id, p.created_at, p.updated_at, s.was_public "
        "FROM posts p JOIN slugs s ON s.post_id = p.id) AS own",
    )
    await execute(
        empty_app, "UPDATE posts SET title = 'Bye', slug = 'bye' WHERE id = :id", id=post["id"]
    )

    assert (await change(ann, post, title="Again"))["slug"] == "again"


async def test_one_of_several_posts_gets_a_slug_that_all_choose(ann: AsyncClient):
    posts = [await publish(ann, title=f"Post {number}") for number in range(4)]

    responses = await asyncio.gather(
        *(ann.patch(f"/posts/{post['id']}", json={"slug": "same"}) for post in posts),
        *(
            ann.post("/posts", json={"title": "New", "content": "x", "slug": "same"})
            for _ in range(4)
        ),
    )

    statuses = sorted(response.status_code for response in responses)
    assert statuses in ([200, *[409] * 7], [201, *[409] * 7])
