"""Posts: creating, reading, changing, hiding and listing."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from httpx import AsyncClient

HELLO = {"title": "Hello", "content": "World"}
# An additional field in the author's own list.
OWN = {"taken_down_at": None, "takedown_reason": None}
# An additional field of a post that is read by id or slug.
WORLD = {"content_html": "<p>World</p>\n"}
LONG_AGO = "2015-05-15T12:00:00Z"


def in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


async def test_a_new_post_is_published_immediately_by_default(ann: AsyncClient):
    response = await ann.post("/posts", json=HELLO)

    assert response.status_code == 201
    post = response.json()
    assert post.keys() == {
        "id", "slug", "title", "content", "created_at", "updated_at", "published_at", "user_id",
        "user_name", "author", "tags", "comment_count", "bookmark_count", "summary",
        "reading_minutes", "cover_url", "cover_alt", "canonical_url", "content_type",
        "comments_open",
    }  # fmt: skip
    assert (post["tags"], post["comment_count"], post["bookmark_count"]) == ([], 0, 0)
    assert (post["title"], post["content"], post["slug"]) == ("Hello", "World", "hello")
    assert post["user_name"] == "Ann"
    assert post["user_id"] == (await ann.get("/users/me")).json()["id"]
    assert post["created_at"] == post["updated_at"]
    assert post["published_at"].endswith("Z")
    assert datetime.now(UTC) - datetime.fromisoformat(post["published_at"]) < timedelta(minutes=1)


async def test_a_published_post_is_public(ann: AsyncClient, anonymous: AsyncClient):
    post = (await ann.post("/posts", json=HELLO)).json()

    by_id = await anonymous.get(f"/posts/{post['id']}")
    by_slug = await anonymous.get("/posts/slug/hello")
    listed = await anonymous.get("/posts")

    assert by_id.json() == by_slug.json() == post | WORLD
    assert listed.json() == {"total_count": 1, "results": [post], "next_cursor": None}


async def test_publication_times_are_returned_in_utc(ann: AsyncClient):
    body = HELLO | {"published_at": "2020-02-29T23:30:00.123456-01:00"}

    post = (await ann.post("/posts", json=body)).json()

    assert post["published_at"] == "2020-03-01T00:30:00.123456Z"
    assert (await ann.get(f"/posts/{post['id']}")).json() == post | WORLD


@pytest.mark.parametrize(
    "published_at",
    [
        "2020-01-01", "2020-01-01T00:00:00", "1577836800", 1577836800, 0, "", "now", True,
        "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2020-02-30T00:00:00Z",
        "\uff12\uff10\uff12\uff10-01-01T00:00:00Z",
    ],
)  # fmt: skip
async def test_an_invalid_publication_time_is_rejected(ann: AsyncClient, published_at: object):
    response = await ann.post("/posts", json=HELLO | {"published_at": published_at})

    assert response.status_code == 422
    assert response.json()["errors"][0]["loc"] == ["body", "published_at"]
    assert (await ann.get("/users/me/posts")).json()["total_count"] == 0


@pytest.mark.parametrize("published_at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
async def test_the_earliest_and_latest_times_are_accepted(ann: AsyncClient, published_at: str):
    response = await ann.post("/posts", json=HELLO | {"published_at": published_at})

    assert response.status_code == 201
    assert response.json()["published_at"] == published_at


async def test_a_draft_is_hidden_from_other_users(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient
):
    draft = (await ann.post("/posts", json=HELLO | {"published_at": None})).json()

    for path in (f"/posts/{draft['id']}", f"/posts/slug/{draft['slug']}"):
        assert (await ann.get(path)).json() == draft | WORLD
        for other in (bob, anonymous):
            response = await other.get(path)
            assert response.status_code == 404
            assert response.json()["detail"] == "Post not found"
    for path in ("/posts", f"/users/{draft['user_id']}/posts"):
        assert (await ann.get(path)).json()["total_count"] == 0
    assert (await ann.get("/users/me/posts")).json()["results"] == [draft | OWN]


async def test_a_hidden_post_is_404_for_others_on_every_method(ann: AsyncClient, bob: AsyncClient):
    draft = (await ann.post("/posts", json=HELLO | {"published_at": None})).json()

    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE"):
        body = None if method in ("GET", "HEAD", "DELETE") else HELLO
        response = await bob.request(method, f"/posts/{draft['id']}", json=body)
        assert response.status_code == 404, method


async def test_a_scheduled_post_becomes_public_at_its_publication_time(
    ann: AsyncClient, anonymous: AsyncClient
):
    post = (await ann.post("/posts", json=HELLO | {"published_at": in_an_hour()})).json()

    before = (await anonymous.get(f"/posts/{post['id']}")).status_code
    listed_before = (await anonymous.get("/posts")).json()["total_count"]
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=1, seconds=1), tick=False):
        after = (await anonymous.get(f"/posts/{post['id']}")).status_code
        listed_after = (await anonymous.get("/posts")).json()["total_count"]

    assert (before, listed_before) == (404, 0)
    assert (after, listed_after) == (200, 1)


async def test_put_replaces_a_post_and_keeps_an_omitted_publication_time(ann: AsyncClient):
    post = (await ann.post("/posts", json=HELLO | {"published_at": LONG_AGO})).json()

    response = await ann.put(f"/posts/{post['id']}", json={"title": "Bye", "content": "Moon"})

    assert response.status_code == 200
    assert response.json() == post | {
        "title": "Bye",
        "slug": "bye",
        "content": "Moon",
        "summary": "Moon",
        "updated_at": response.json()["updated_at"],
    }
    assert response.json()["updated_at"] > post["updated_at"]
    shown = (await ann.get(f"/posts/{post['id']}")).json()
    assert shown == response.json() | {"content_html": "<p>Moon</p>\n"}


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_post_can_be_unpublished_and_published_again(
    ann: AsyncClient, anonymous: AsyncClient, method: str
):
    path = f"/posts/{(await ann.post('/posts', json=HELLO)).json()['id']}"

    await ann.request(method, path, json=HELLO | {"published_at": None})
    hidden = await anonymous.get(path)
    await ann.request(method, path, json=HELLO | {"published_at": LONG_AGO})
    shown = await anonymous.get(path)

    assert hidden.status_code == 404
    assert shown.json()["published_at"] == LONG_AGO


async def test_patch_changes_only_the_fields_that_are_sent(ann: AsyncClient):
    post = (await ann.post("/posts", json=HELLO)).json()

    response = await ann.patch(f"/posts/{post['id']}", json={"content": "Moon"})

    changed = {"content": "Moon", "summary": "Moon"}
    assert response.json() == post | changed | {"updated_at": response.json()["updated_at"]}


async def test_an_empty_patch_changes_nothing(ann: AsyncClient):
    post = (await ann.post("/posts", json=HELLO)).json()

    response = await ann.patch(f"/posts/{post['id']}", json={})

    assert response.json() == post


async def test_a_post_can_be_deleted(ann: AsyncClient):
    path = f"/posts/{(await ann.post('/posts', json=HELLO)).json()['id']}"

    response = await ann.delete(path)

    assert response.status_code == 204
    assert (await ann.get(path)).status_code == 404
    assert (await ann.delete(path)).status_code == 404


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_only_its_author_may_change_a_post(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient, method: str
):
    post = (await ann.post("/posts", json=HELLO)).json()
    body = None if method == "DELETE" else {"title": "Mine", "content": "now"}

    by_bob = await bob.request(method, f"/posts/{post['id']}", json=body)
    by_anonymous = await anonymous.request(method, f"/posts/{post['id']}", json=body)
    missing = await ann.request(method, f"/posts/{post['id'] + 1}", json=body)
    missing_for_anonymous = await anonymous.request(method, f"/posts/{post['id'] + 1}", json=body)

    assert by_bob.status_code == 403
    assert by_bob.json()["detail"] == "You don't have access to modify this post"
    assert by_anonymous.status_code == missing_for_anonymous.status_code == 401
    assert missing.status_code == 404
    assert missing.json()["detail"] == "Post not found"
    assert (await anonymous.get(f"/posts/{post['id']}")).json() == post | WORLD


async def test_creating_a_post_requires_a_token(anonymous: AsyncClient):
    response = await anonymous.post("/posts", json=HELLO)

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "change",
    [
        {"title": ""}, {"title": " "}, {"title": "a" * 256}, {"title": None}, {"title": 5},
        {"title": "two\nlines"}, {"title": "\u0000"}, {"title": "\u001b[31m"}, {"title": "\u0085"},
        {"content": ""}, {"content": "a" * 500_001},
        {"content": "\u0000"}, {"content": "\u000b"}, {"content": "\ufffe"}, {"content": None},
        {"id": 1}, {"user_id": 1}, {"slug": "Mine"}, {"created_at": LONG_AGO}, {"hello": "world"},
        {"content_html": "<script>"}, {"comment_count": 1}, {"bookmark_count": 1}, {"version": 9},
    ],
    ids=lambda change: "-".join(f"{key}:{str(value)[:9]!r}" for key, value in change.items()),
)  # fmt: skip
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_an_invalid_post_is_rejected_and_changes_nothing(
    ann: AsyncClient, method: str, change: dict[str, object]
):
    post = (await ann.post("/posts", json=HELLO)).json()
    path = "/posts" if method == "POST" else f"/posts/{post['id']}"
    body = change if method == "PATCH" else HELLO | change

    response = await ann.request(method, path, json=body)

    assert response.status_code == 422
    assert (await ann.get("/posts")).json()["results"] == [post]


async def test_the_longest_allowed_texts_are_accepted(ann: AsyncClient):
    body = {"title": "🎉" * 255, "content": "Ж" * 499_998 + "\r\n"}

    response = await ann.post("/posts", json=body)

    assert response.status_code == 201
    post = (await ann.get(f"/posts/{response.json()['id']}")).json()
    assert post["title"] == body["title"]
    assert post["content"] == body["content"]


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Hello, World!", "hello-world"),
        ("Привет, мир", "privet-mir"),
        ("!!!", "post"),
        ("🎉", "post"),
        ("日本", "ri-ben"),
        ("word " * 51, "-".join(["word"] * 18)),
        ("a" * 255, "a" * 91),
    ],
)
async def test_the_slug_is_derived_from_the_title(ann: AsyncClient, title: str, slug: str):
    response = await ann.post("/posts", json=HELLO | {"title": title})

    assert response.json()["slug"] == slug
    assert (await ann.get(f"/posts/slug/{slug}")).status_code == 200


async def test_a_slug_that_is_taken_gets_a_random_suffix(ann: AsyncClient, bob: AsyncClient):
    first = (await ann.post("/posts", json=HELLO)).json()
    second = (await bob.post("/posts", json=HELLO)).json()

    assert first["slug"] == "hello"
    assert second["slug"].startswith("hello-")
    for post in (first, second):
        assert (await ann.get(f"/posts/slug/{post['slug']}")).json() == post | WORLD


async def test_the_slug_of_a_deleted_post_is_not_reused(ann: AsyncClient):
    first = (await ann.post("/posts", json=HELLO)).json()
    await ann.delete(f"/posts/{first['id']}")

    second = (await ann.post("/posts", json=HELLO)).json()

    assert second["slug"] != first["slug"]
    assert (await ann.get("/posts/slug/hello")).status_code == 410


@pytest.mark.parametrize("slug", ["nothing", "a" * 101, "%00", "%ff", "a%0ab", "' OR 1=1"])
async def test_an_unknown_or_invalid_slug_is_not_found(anonymous: AsyncClient, slug: str):
    response = await anonymous.get(f"/posts/slug/{slug}")

    assert response.status_code in (404, 422)


@pytest.mark.parametrize(
    "number", ["0", "-1", "abc", "1.5", "1e3", "٣", str(2**31), str(2**63), "1" + "0" * 30]
)
async def test_an_invalid_post_or_user_id_is_rejected(ann: AsyncClient, number: str):
    for method, path in (
        ("GET", f"/posts/{number}"),
        ("PUT", f"/posts/{number}"),
        ("PATCH", f"/posts/{number}"),
        ("DELETE", f"/posts/{number}"),
        ("GET", f"/users/{number}"),
        ("GET", f"/users/{number}/posts"),
    ):
        body = HELLO if method in ("PUT", "PATCH") else None
        response = await ann.request(method, path, json=body)
        assert response.status_code in (404, 422), (method, path)


async def test_pages_list_the_newest_posts_first(ann: AsyncClient):
    days = [3, 1, 2, 2, 5]
    for day in days:
        at = f"2020-01-0{day}T00:00:00Z"
        await ann.post("/posts", json={"title": f"Day {day}", "content": "x", "published_at": at})

    pages = [(await ann.get(f"/posts?page={page}&size=2")).json() for page in (1, 2, 3, 4)]

    assert [page["total_count"] for page in pages] == [5, 5, 5, 5]
    shown = [post["title"] for page in pages for post in page["results"]]
    assert shown == ["Day 5", "Day 3", "Day 2", "Day 2", "Day 1"]
    same_day = [post["id"] for post in pages[1]["results"]]
    assert same_day == sorted(same_day, reverse=True)


async def test_a_page_has_ten_posts_by_default(ann: AsyncClient):
    for number in range(11):
        await ann.post("/posts", json=HELLO | {"title": f"Post {number}"})

    response = await ann.get("/posts")

    assert response.json()["total_count"] == 11
    assert len(response.json()["results"]) == 10


@pytest.mark.parametrize(
    "query",
    ["page=0", "page=-1", f"page={10**18}", "page=abc", "page=1001", "page=1.5", "size=0",
     "size=101", f"size={2**63}", "page=103&size=99", "page=" + "9" * 5000],
)  # fmt: skip
async def test_an_invalid_page_or_size_is_rejected(ann: AsyncClient, query: str):
    for path in ("/posts", "/users/me/posts", "/users/1/posts"):
        response = await ann.get(f"{path}?{query}")

        assert response.status_code in (404, 422)
    assert (await ann.get(f"/posts?{query}")).status_code == 422


async def test_pages_can_reach_ten_thousand_posts(anonymous: AsyncClient):
    for query in ("page=1000", "page=100&size=100", "page=10000&size=1"):
        response = await anonymous.get(f"/posts?{query}")

        assert response.json() == {"total_count": 0, "results": [], "next_cursor": None}


async def test_the_posts_of_a_user_are_listed_separately(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient
):
    by_ann = (await ann.post("/posts", json=HELLO)).json()
    by_bob = (await bob.post("/posts", json=HELLO)).json()

    listed = (await anonymous.get(f"/users/{by_ann['user_id']}/posts")).json()

    assert listed == {"total_count": 1, "results": [by_ann], "next_cursor": None}
    assert (await bob.get("/users/me/posts")).json() == {
        "total_count": 1,
        "results": [by_bob | OWN],
        "next_cursor": None,
    }


async def test_an_overlong_accept_header_has_no_preference(ann: AsyncClient):
    path = f"/posts/{(await ann.post('/posts', json=HELLO)).json()['id']}"

    for accept, media_type in (
        ("text/markdown", "text/markdown"),
        ("text/markdown," + "a," * 500, "application/json"),
    ):
        response = await ann.get(path, headers={"Accept": accept})
        assert response.headers["Content-Type"].partition(";")[0] == media_type
