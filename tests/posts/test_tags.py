"""Tags: spellings, filters and counts."""

from datetime import UTC, datetime, timedelta

import pytest
from httpx import AsyncClient

from tests.support.clients import PASSWORD, publish


async def list_tags(client: AsyncClient) -> list[tuple[str, int]]:
    """Return the names and counts of all tags."""
    page = (await client.get("/tags")).json()
    assert page["total_count"] == len(page["results"])
    return [(tag["name"], tag["post_count"]) for tag in page["results"]]


async def list_tagged(client: AsyncClient, tag: str, path: str = "/posts") -> list[str]:
    """Return the titles of the posts with a tag."""
    response = await client.get(path, params={"tag": tag})
    assert response.status_code == 200, response.text
    page = response.json()
    assert page["total_count"] == len(page["results"])
    return [post["title"] for post in page["results"]]


async def test_tags_keep_the_spelling_of_their_author(ann: AsyncClient, bob: AsyncClient):
    first = await publish(ann, tags=["Python", "Web"])
    second = await publish(bob, tags=["web", " PYTHON "])

    assert first["tags"] == ["Python", "Web"]
    assert second["tags"] == ["web", "PYTHON"]
    assert (await ann.get(f"/posts/{second['id']}")).json()["tags"] == ["web", "PYTHON"]
    assert (await ann.get("/posts")).json()["results"][0]["tags"] == ["web", "PYTHON"]
    assert await list_tags(ann) == [("Python", 2), ("Web", 2)]


@pytest.mark.parametrize(
    ("given", "merged"),
    [
        (["Python", "python", "PYTHON"], ["Python"]),
        (["b", "a", "B"], ["b", "a"]),
        (["ЁЖ", "ёж"], ["ЁЖ"]),
        (["file", "\ufb01le"], ["file"]),
        (["straße", "STRASSE"], ["straße"]),
        (["a", " a "], ["a"]),
    ],
)
async def test_spellings_of_one_tag_are_merged(
    ann: AsyncClient, given: list[str], merged: list[str]
):
    post = await publish(ann, tags=given)

    assert post["tags"] == merged
    for spelling in given:
        assert await list_tagged(ann, spelling) == ["Hello"]


INVALID_TAGS = (
    [""], [" "], ["a" * 51], ["ß" * 26], ["\ufdfa" * 3], ["a\nb"], ["\u0000"], ["\u0001"],
    ["\u001b[31m"], ["\u0085"], ["\u007f"], ["\ufffd"], ["\uffff"], [5], [None], [["a"]],
    [f"tag {number}" for number in range(11)], None, "python", {"a": 1}, ["good", ""],
)  # fmt: skip


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_invalid_tags_are_rejected(ann: AsyncClient, method: str):
    post = await publish(ann, tags=["Python"])
    path = "/posts" if method == "POST" else f"/posts/{post['id']}"

    for tags in INVALID_TAGS:
        body = {"title": "a", "content": "b", "tags": tags}
        response = await ann.request(method, path, json=body)

        assert response.status_code == 422, ascii(tags)
        assert response.json()["errors"][0]["loc"][:2] == ["body", "tags"], ascii(tags)
    assert await list_tags(ann) == [("Python", 1)]


async def test_any_valid_tag_is_accepted_and_finds_its_post(ann: AsyncClient):
    path = f"/posts/{(await publish(ann))['id']}"
    await publish(ann, title="Other", tags=["other"])

    for tags in (
        [], ["a" * 50], ["🎉" * 50], ["c++"], ["C#"], [".net"], ["a/b?c&d=e%20"], ["'; DROP TABLE"],
        ["'"], ['"'], ["%"], ["_"], ["\\"], ["日本"], [f"tag {number}" for number in range(10)],
    ):  # fmt: skip
        assert (await ann.patch(path, json={"tags": tags})).json()["tags"] == tags
        assert (await ann.get(path)).json()["tags"] == tags
        for tag in tags:
            assert await list_tagged(ann, tag) == ["Hello"], tag


async def test_an_invalid_tag_filter_is_rejected(ann: AsyncClient):
    await publish(ann, tags=["Python"])

    for tag in ("", " ", "a" * 51, "\x00", "a\nb", "\x1b"):
        for path in ("/posts", "/users/me/posts", "/users/me/feed", "/feed.json"):
            assert (await ann.get(path, params={"tag": tag})).status_code == 422, (path, tag)


async def test_omitted_tags_are_unchanged(ann: AsyncClient):
    path = f"/posts/{(await publish(ann, tags=['Python', 'Web']))['id']}"

    put = await ann.put(path, json={"title": "Hello", "content": "Moon"})
    patched = await ann.patch(path, json={"content": "Sun"})

    assert put.json()["tags"] == patched.json()["tags"] == ["Python", "Web"]
    assert await list_tagged(ann, "web") == ["Hello"]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_tags_can_be_replaced_and_removed(ann: AsyncClient, method: str):
    path = f"/posts/{(await publish(ann, tags=['Python', 'Web']))['id']}"
    body = {"title": "Hello", "content": "World"}

    replaced = await ann.request(method, path, json=body | {"tags": ["web", "Rust"]})
    found = [await list_tagged(ann, tag) for tag in ("python", "web", "rust")]
    removed = await ann.request(method, path, json=body | {"tags": []})

    assert replaced.json()["tags"] == ["web", "Rust"]
    assert found == [[], ["Hello"], ["Hello"]]
    assert removed.json()["tags"] == []
    assert await list_tagged(ann, "rust") == []
    assert await list_tags(ann) == []


async def test_a_new_order_or_spelling_of_tags_updates_the_post(ann: AsyncClient):
    post = await publish(ann, tags=["Python", "Web"])
    path = f"/posts/{post['id']}"

    same = await ann.patch(path, json={"tags": ["Python", "Web"]})
    reordered = await ann.patch(path, json={"tags": ["web", "Python"]})

    assert same.json() == post
    assert reordered.json()["tags"] == ["web", "Python"]
    assert reordered.json()["updated_at"] > post["updated_at"]


async def test_the_most_used_tags_are_listed_first(ann: AsyncClient):
    for tags in (["a", "b"], ["b", "c"], ["c", "b"], ["d"]):
        await publish(ann, tags=tags)

    assert await list_tags(ann) == [("b", 3), ("c", 2), ("a", 1), ("d", 1)]


async def test_tags_are_paginated(ann: AsyncClient):
    await publish(ann, tags=[f"tag {number}" for number in range(5)])

    pages = [(await ann.get(f"/tags?size=2&page={page}")).json() for page in (1, 2, 3, 4)]

    names = [tag["name"] for page in pages for tag in page["results"]]
    assert [len(page["results"]) for page in pages] == [2, 2, 1, 0]
    assert sorted(names) == [f"tag {number}" for number in range(5)]
    assert {page["total_count"] for page in pages} == {5}


async def test_hidden_posts_are_not_counted_by_tag(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient
):
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    await publish(ann, title="draft", tags=["a", "secret"], published_at=None)
    await publish(ann, title="scheduled", tags=["a"], published_at=tomorrow)
    down = await publish(ann, title="down", tags=["a", "secret"])
    deleted = await publish(ann, title="deleted", tags=["a", "secret"])
    await publish(ann, title="public", tags=["a"])
    await admin.put(f"/admin/posts/{down['id']}/takedown")
    await ann.delete(f"/posts/{deleted['id']}")

    for client in (ann, bob, admin):
        assert await list_tags(client) == [("a", 1)]
        assert await list_tagged(client, "a") == ["public"]
        assert await list_tagged(client, "secret") == []
    assert await list_tagged(ann, "a", "/users/me/posts") == [
        "public",
        "down",
        "scheduled",
        "draft",
    ]
    assert await list_tagged(ann, "SECRET", "/users/me/posts") == ["down", "draft"]


async def test_every_list_of_posts_can_be_filtered_by_tag(ann: AsyncClient, bob: AsyncClient):
    post = await publish(ann, title="Tagged", tags=["Python"])
    await publish(ann, title="Untagged")
    await publish(bob, title="By Bob", tags=["python"])
    await bob.put(f"/users/me/following/{post['user_id']}")

    assert await list_tagged(bob, "PYTHON") == ["By Bob", "Tagged"]
    assert await list_tagged(bob, "python", f"/users/{post['user_id']}/posts") == ["Tagged"]
    assert await list_tagged(bob, "python", "/users/me/feed") == ["Tagged"]
    assert await list_tagged(bob, "python", "/users/me/posts") == ["By Bob"]


async def test_deleting_an_account_removes_its_posts_from_their_tags(
    ann: AsyncClient, bob: AsyncClient
):
    await publish(ann, tags=["Python", "Web"])
    await publish(bob, tags=["python"])

    await ann.request("DELETE", "/users/me", json={"current_password": PASSWORD})

    assert await list_tags(bob) == [("python", 1)]


async def test_a_hidden_post_does_not_decide_the_spelling_of_a_tag(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient, anonymous: AsyncClient
):
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    await publish(ann, tags=["SECRET"], published_at=None)
    await publish(ann, tags=["Secret"], published_at=tomorrow)
    first = await publish(bob, tags=["secret"])
    await publish(bob, tags=["SecreT"])

    assert await list_tags(anonymous) == [("secret", 2)]
    await admin.put(f"/admin/posts/{first['id']}/takedown")
    assert await list_tags(anonymous) == [("SecreT", 1)]


async def test_tags_are_in_order_while_their_counts_are_merged(
    ann: AsyncClient, anonymous: AsyncClient
):
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    for number in range(40):
        await publish(ann, tags=[f"tag {one}" for one in range(10) if number % (one + 1) == 0])
    for number in (0, 1):
        await publish(ann, tags=[f"tag {number}", f"new {number}"], published_at=tomorrow)

    counts = [(f"tag {one}", len(range(0, 40, one + 1))) for one in range(10)]
    assert await list_tags(anonymous) == sorted(counts, key=lambda tag: -tag[1])
    assert [
        (await anonymous.get(f"/tags?size=1&page={page}")).json()["results"][0]["name"]
        for page in range(1, 11)
    ] == [name for name, _ in sorted(counts, key=lambda tag: -tag[1])]
