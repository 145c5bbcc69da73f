"""Pagination by page number and by cursor, and `Link` headers."""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from httpx import AsyncClient, Response

from tests.support.clients import (
    CHEAP_HASHING,
    add_comment,
    client_of,
    make_settings,
    publish,
    running,
    sign_up,
)

SORTS = ("-published_at", "published_at", "-updated_at", "updated_at")
# The days of January on which the posts of `make_posts()` are published.
DAYS = (7, 5, 5, 5, 3, 2, 2)
# More pages than any list here has.
MAX_PAGES = 25

Step = Callable[[int], Awaitable[object]]


def links_of(response: Response) -> dict[str, str]:
    """Return the addresses in the `Link` header by their relation."""
    return {
        rel: address
        for address, rel in re.findall(r'<([^>]*)>; rel="(\w+)"', response.headers["Link"])
    }


def ids_of(response: Response) -> list[int]:
    assert response.status_code == 200, response.text
    return [row["id"] for row in response.json()["results"]]


async def follow_links(
    client: AsyncClient, address: str, rel: str, between_pages: Step | None = None
) -> list[int]:
    """Return the ids on all pages from an address on, in list order."""
    ids: list[int] = []
    for number in range(MAX_PAGES):
        response = await client.get(address)
        page = ids_of(response)
        ids = ids + page if rel == "next" else page + ids
        if rel not in links_of(response):
            return ids
        address = links_of(response)[rel]
        if between_pages is not None:
            await between_pages(number)
    raise AssertionError("The list has no last page")


async def follow_cursors(client: AsyncClient, path: str, **query: str) -> list[int]:
    """Return the ids on all pages, read by `next_cursor`."""
    ids: list[int] = []
    for _ in range(MAX_PAGES):
        response = await client.get(path, params=query)
        ids += ids_of(response)
        if response.json()["next_cursor"] is None:
            return ids
        query["cursor"] = response.json()["next_cursor"]
    raise AssertionError("The list has no last page")


def encode(value: object) -> str:
    """Encode any value as if it were a cursor."""
    text = value if isinstance(value, str) else json.dumps(value)
    return urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode().rstrip("=")


def decode(cursor: str) -> list[Any]:
    value: list[Any] = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    return value


async def make_posts(ann: AsyncClient) -> list[int]:
    """Create posts in reverse order of publication, some with the same time; return their ids."""
    return [
        (await publish(ann, title=f"Day {day}", published_at=f"2020-01-0{day}T00:00:00Z"))["id"]
        for day in DAYS
    ]


def sort_ids(created: list[int], sort: str) -> list[int]:
    """Return the ids from `make_posts()` in a sort order."""
    days = dict(zip(created, DAYS, strict=True))
    if "published" in sort:
        created = sorted(created, key=lambda id: (days[id], id))
    return created[::-1] if sort.startswith("-") else created


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("size", [1, 3, 7])
async def test_posts_can_be_paged_in_both_directions_in_every_order(
    ann: AsyncClient, sort: str, size: int
):
    created = await make_posts(ann)
    expected = sort_ids(created, sort)
    start = f"/posts?size={size}&sort={sort}"

    first = await ann.get(start)
    # Without a cursor, the links have page numbers.
    assert await follow_links(ann, start, "next") == expected
    assert await follow_cursors(ann, "/posts", size=str(size), sort=sort) == expected
    if first.json()["next_cursor"] is None:
        return
    # With a cursor, they have cursors, to the last page and back.
    second = f"{start}&cursor={first.json()['next_cursor']}"
    assert ids_of(first) + await follow_links(ann, second, "next") == expected
    last = second
    while "next" in links_of(await ann.get(last)):
        last = links_of(await ann.get(last))["next"]
    assert await follow_links(ann, last, "prev") == expected


async def test_page_numbers_have_first_prev_next_and_last_links(ann: AsyncClient):
    await make_posts(ann)

    links = [links_of(await ann.get(f"/posts?size=3&page={page}")) for page in (1, 2, 3, 4, 9)]
    of_single_page = links_of(await ann.get("/posts"))

    first, second, third = (f"/posts?size=3&page={page}" for page in (1, 2, 3))
    assert links == [
        {"first": first, "next": second, "last": third},
        {"first": first, "prev": first, "next": third, "last": third},
        {"first": first, "prev": second, "last": third},
        {"first": first, "prev": third, "last": third},
        {"first": first, "prev": third, "last": third},
    ]
    assert of_single_page == {"first": "/posts?page=1", "last": "/posts?page=1"}


async def test_an_empty_list_has_first_and_last_links(anonymous: AsyncClient):
    response = await anonymous.get("/posts")

    assert response.json() == {"total_count": 0, "results": [], "next_cursor": None}
    assert links_of(response) == {"first": "/posts?page=1", "last": "/posts?page=1"}


async def test_cursor_pages_have_first_prev_and_next_links(ann: AsyncClient):
    await make_posts(ann)
    first = await ann.get("/posts?size=3")

    second = await ann.get(f"/posts?size=3&cursor={first.json()['next_cursor']}")
    third = await ann.get(links_of(second)["next"])
    back = await ann.get(links_of(second)["prev"])

    assert links_of(second).keys() == {"first", "prev", "next"}
    assert links_of(second)["first"] == "/posts?size=3"
    assert second.json()["next_cursor"] in links_of(second)["next"]
    assert links_of(third).keys() == {"first", "prev"}
    assert third.json()["next_cursor"] is None
    assert ids_of(back) == ids_of(first)
    assert links_of(back).keys() == {"first", "next"}
    assert ids_of(await ann.get(links_of(back)["next"])) == ids_of(second)
    assert ids_of(await ann.get(links_of(third)["prev"])) == ids_of(second)
    assert {response.json()["total_count"] for response in (first, second, third, back)} == {7}


async def test_links_contain_the_query_parameters(ann: AsyncClient):
    post, other = [await publish(ann, title="a&b", tags=["c++ & c#"]) for _ in range(2)]
    query = {
        "tag": "C++ & C#",
        "q": '"a b" é',
        "author": str(post["user_id"]),
        "since": "2020-01-01T00:00:00+03:00",
        "sort": "-updated_at",
        "size": "1",
    }

    response = await ann.get("/posts", params=query | {"q": '"a b"'})
    following = await ann.get(links_of(response)["next"])

    assert ids_of(response) + ids_of(following) == [other["id"], post["id"]]
    assert (await ann.get("/posts", params=query)).headers["Link"].isascii()


async def test_links_keep_the_prefix_of_the_request(ann: AsyncClient):
    await make_posts(ann)

    versioned = links_of(await ann.get("/api/v1/posts/?size=3"))

    assert versioned["next"] == "/api/v1/posts?size=3&page=2"
    assert len(ids_of(await ann.get(versioned["next"]))) == 3


async def test_pagination_links_start_with_the_public_url():
    settings = make_settings(
        database_url="sqlite://", public_url="https://example.com/blog", **CHEAP_HASHING
    )
    async with running(settings) as app, client_of(app) as client:
        await sign_up(client, "Ann")
        for _ in range(2):
            await publish(client)
        response = await client.get("/posts?size=1", headers={"Host": "evil.example"})

    assert links_of(response)["next"] == "https://example.com/blog/posts?size=1&page=2"
    assert "evil" not in str(response.headers)


async def test_head_returns_link_headers(ann: AsyncClient):
    await make_posts(ann)

    head, get = await ann.head("/posts?size=3"), await ann.get("/posts?size=3")

    assert head.headers["Link"] == get.headers["Link"]
    assert head.content == b""


@pytest.mark.parametrize("sort", SORTS)
async def test_filters_can_be_combined_with_cursors(ann: AsyncClient, bob: AsyncClient, sort: str):
    posts = []
    for number, (author, tag) in enumerate(((ann, "x"), (bob, "x"), (ann, "y")) * 3, start=1):
        at = f"2020-01-{number:02}T00:00:00Z"
        posts.append(await publish(author, title=str(number), tags=[tag], published_at=at))

    async def list_numbers(**query: str) -> list[int]:
        ids = await follow_cursors(ann, "/posts", sort=sort, size="1", **query)
        by_id = {post["id"]: int(post["title"]) for post in posts}
        return sorted(by_id[id] for id in ids)

    ann_id = str(posts[0]["user_id"])
    assert await list_numbers(tag="x") == [1, 2, 4, 5, 7, 8]
    assert await list_numbers(author=ann_id) == [1, 3, 4, 6, 7, 9]
    assert await list_numbers(tag="x", author=ann_id) == [1, 4, 7]
    numbers = await list_numbers(since="2020-01-04T00:00:00Z", until="2020-01-08T00:00:00Z")
    assert numbers == [4, 5, 6, 7]
    assert await list_numbers(tag="y", since="2020-01-04T00:00:00Z") == [6, 9]


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("rel", ["next", "prev"])
async def test_cursor_pages_have_no_gaps_or_duplicates_during_concurrent_writes(
    ann: AsyncClient, bob: AsyncClient, sort: str, rel: str
):
    created = await make_posts(ann)
    expected = sort_ids(created, sort)
    start = f"/posts?size=2&sort={sort}"
    cursor = decode((await ann.get(start)).json()["next_cursor"])
    others = await publish(bob, published_at="2030-01-01T00:00:00Z"), await publish(bob)
    # Start before the first post, or backwards after the last one.
    starts_late = sort.startswith("-") == (rel == "next")
    time = "2999-01-01T00:00:00Z" if starts_late else "1999-01-01T00:00:00Z"
    cursor[1:] = [rel == "prev", time, 1]

    async def write(number: int) -> None:
        """Publish posts on both sides of the cursor, and delete one."""
        if number < 3:
            for day in (1, 4, 9):
                await publish(bob, published_at=f"2020-01-0{day}T12:00:00Z")
        if number < len(others):
            await bob.delete(f"/posts/{others[number]['id']}")

    ids = await follow_links(ann, f"{start}&cursor={encode(cursor)}", rel, write)

    assert [id for id in ids if id in created] == expected
    assert len(ids) == len(set(ids))


async def test_a_cursor_works_after_its_row_is_deleted(ann: AsyncClient):
    created = await make_posts(ann)
    first = await ann.get("/posts?size=3")

    for id in ids_of(first):
        await ann.delete(f"/posts/{id}")
    second = await ann.get(f"/posts?size=3&cursor={first.json()['next_cursor']}")
    previous = await ann.get(links_of(second)["prev"])

    assert ids_of(second) == sort_ids(created, "-published_at")[3:6]
    assert ids_of(previous) == []
    # A page without rows has no cursors.
    assert links_of(previous).keys() == {"first"}


async def test_a_cursor_past_the_last_row_returns_an_empty_page(ann: AsyncClient):
    ids = sort_ids(await make_posts(ann), "-published_at")
    first = await ann.get("/posts?size=6")
    cursor = first.json()["next_cursor"]
    await ann.delete(f"/posts/{ids[-1]}")

    beyond = await ann.get(f"/posts?size=6&cursor={cursor}")

    assert ids_of(beyond) == []
    assert beyond.json()["next_cursor"] is None
    assert beyond.json()["total_count"] == 6


INVALID_CURSORS = (
    "", "x", "null", "=", "====", "a===", "%", "\x00", "a\x00", "é", "🎉", "ﬀ", " ", "\n", "+/+/",
    "-_-_", "A" * 300, encode("\ud800"), encode("["), encode("[]"), encode("{}"), encode("null"),
    encode("1"), encode('"x"'), encode("NaN"), encode("[" * 200), encode({"a": 1}),
    encode(["-published_at"]), encode(["-published_at", False]),
    encode(["-published_at", False, "2020-01-01T00:00:00Z"]),
    *(
        encode(["-published_at", *rest])
        for rest in (
            [False, None, 1], [False, "2020-01-01T00:00:00Z", None],
            [False, "2020-01-01T00:00:00Z", "x"], [False, "2020-01-01T00:00:00Z", -1],
            [False, "2020-01-01T00:00:00Z", 2**31], [False, "2020-01-01T00:00:00Z", 2**63],
            [False, "2020-01-01T00:00:00Z", 10**40], [False, "2020-01-01T00:00:00Z", 1.5],
            [False, "2020-01-01T00:00:00", 1], [False, "2020-01-01", 1], [False, "x", 1],
            [False, "", 1], [False, [], 1], [False, "9999-12-31T23:59:59-14:00", 1],
            [False, "0001-01-01T00:00:00+14:00", 1], [False, "+272727-01-01T00:00:00Z", 1],
            ["x", "2020-01-01T00:00:00Z", 1], [None, "2020-01-01T00:00:00Z", 1],
            [False, "2020-01-01T00:00:00Z", 1, 1], [False, "2020-01-01T00:00:00Z\x00", 1],
        )
    ),
    encode(["published_at", False, "2020-01-01T00:00:00Z", 1]),
    encode(["-updated_at", False, "2020-01-01T00:00:00Z", 1]),
    encode(["", False, "2020-01-01T00:00:00Z", 1]),
    encode([None, False, "2020-01-01T00:00:00Z", 1]),
    encode(["-id", False, 1]), encode(["path", False, "0000000001"]), encode(["id", False, 1]),
)  # fmt: skip


@pytest.mark.parametrize("query", [{}, {"sort": "-published_at", "q": "hello"}])
async def test_an_invalid_cursor_is_rejected(ann: AsyncClient, query: dict[str, str]):
    await publish(ann)

    for cursor in INVALID_CURSORS:
        response = await ann.get("/posts", params=query | {"cursor": cursor})

        assert response.status_code == 422, (ascii(cursor), response.text)
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.json()["errors"][0]["loc"] == ["query", "cursor"], ascii(cursor)
    too_long = await ann.get("/posts", params=query | {"cursor": "A" * 301})
    assert too_long.status_code == 422


async def test_every_list_rejects_cursors_of_other_lists(admin: AsyncClient):
    post = await publish(admin)
    comment = await add_comment(admin, post)
    paths = (
        "/posts", f"/users/{post['user_id']}/posts", "/users/me/posts", "/users/me/feed",
        "/users/me/bookmarks", "/users/me/following", "/users/me/tokens", "/tags",
        f"/posts/{post['id']}/comments", f"/comments/{comment['id']}/answers", "/admin/users",
        "/admin/posts", "/admin/audit",
    )  # fmt: skip
    cursors = (
        "x", encode(["nonsense", False, 1]), encode(["id", False, -1]),
        encode(["-id", True, 2**31]), encode(["path", False, "'\x00"]),
        encode(["path", True, "1" * 101]), encode(["-created_at", False, "2020-01-01", 1]),
    )  # fmt: skip

    for path in paths:
        for cursor in cursors:
            response = await admin.get(path, params={"cursor": cursor})
            assert response.status_code == 422, (path, cursor, response.text)
            assert response.json()["errors"][0]["loc"] == ["query", "cursor"], path


async def test_page_and_cursor_cannot_be_combined(ann: AsyncClient):
    await make_posts(ann)
    cursor = (await ann.get("/posts?size=3")).json()["next_cursor"]

    beside = await ann.get(f"/posts?size=3&page=2&cursor={cursor}")
    # Generated clients send the default.
    with_default = await ann.get(f"/posts?size=3&page=1&cursor={cursor}")
    alone = await ann.get(f"/posts?size=3&cursor={cursor}")

    assert beside.status_code == 422
    assert with_default.json() == alone.json()
    followed = await ann.get(links_of(with_default)["prev"])
    assert followed.status_code == 200


async def test_the_page_size_can_change_between_cursor_pages(ann: AsyncClient):
    expected = sort_ids(await make_posts(ann), "-published_at")
    cursor = (await ann.get("/posts?size=1")).json()["next_cursor"]

    assert ids_of(await ann.get(f"/posts?size=4&cursor={cursor}")) == expected[1:5]


async def test_page_numbers_are_limited_to_ten_thousand_rows(ann: AsyncClient):
    await make_posts(ann)

    deepest = await ann.get("/posts?size=1&page=10000")
    deeper = await ann.get("/posts?size=1&page=10001")

    assert deepest.json()["results"] == []
    assert links_of(deepest) == {
        "first": "/posts?size=1&page=1",
        "prev": "/posts?size=1&page=7",
        "last": "/posts?size=1&page=7",
    }
    assert deeper.status_code == 422


@pytest.mark.parametrize(
    ("path", "is_newest_first"),
    [
        ("/users/{user_id}/posts", True), ("/users/me/posts", True), ("/users/me/feed", True),
        ("/users/me/bookmarks", True), ("/users/me/following", False), ("/users/me/tokens", None),
        ("/posts/{id}/comments", False), ("/comments/{comment_id}/answers", False),
        ("/admin/users", False), ("/admin/posts", True), ("/admin/audit", True),
    ],
)  # fmt: skip
async def test_every_list_can_be_paged_in_both_directions(
    admin: AsyncClient, ann: AsyncClient, path: str, is_newest_first: bool | None
):
    post = await publish(ann)
    comment = await add_comment(admin, post)
    await admin.put(f"/users/me/following/{post['user_id']}")
    for number in range(5):
        other = await publish(ann if "feed" in path or "user_id" in path else admin)
        await admin.put(f"/users/me/bookmarks/{other['id']}")
        await admin.put(f"/admin/posts/{other['id']}/takedown") if "audit" in path else None
        await add_comment(admin, post, to=comment)
        await add_comment(admin, post)
        await admin.post("/users/me/tokens", json={"name": "Script"})
        new = {"email": f"{number}@example.com", "password": "correct horse"}
        user = (await admin.post("/users", json=new)).json()
        await admin.put(f"/users/me/following/{user['id']}")
    path = path.format(**post, comment_id=comment["id"])

    full = await admin.get(f"{path}?size=100")
    expected = ids_of(full)
    assert len(expected) == full.json()["total_count"] >= 5
    assert full.json()["next_cursor"] is None
    if is_newest_first is not None:
        assert expected == sorted(expected, reverse=is_newest_first)

    first = await admin.get(f"{path}?size=2")
    assert await follow_links(admin, f"{path}?size=2", "next") == expected
    assert await follow_cursors(admin, path, size="2") == expected
    last = f"{path}?size=2&cursor={first.json()['next_cursor']}"
    for _ in range(MAX_PAGES):
        links = links_of(await admin.get(last))
        if "next" not in links:
            break
        last = links["next"]
    assert await follow_links(admin, last, "prev") == expected


async def test_a_cursor_of_another_user_reveals_none_of_their_posts(
    ann: AsyncClient, bob: AsyncClient
):
    for _ in range(2):
        await publish(ann, published_at=None)
        await publish(bob)
    cursor = (await ann.get("/users/me/posts?size=1")).json()["next_cursor"]

    response = await bob.get(f"/users/me/posts?cursor={cursor}")

    assert {post["user_name"] for post in response.json()["results"]} <= {"Bob"}
    assert response.json()["total_count"] == 2
