"""Posts in HTML: type, content negotiation, search, and the version before."""

import asyncio
import json
from html import unescape
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import text

from blog_api.db.base import Invalidates
from blog_api.text.markdown import HTML, MARKDOWN, Source
from blog_api.text.renderer import is_inexpensive
from tests.support.clients import publish
from tests.support.databases import TEST_DATABASE_URL
from tests.support.rebuilds import count_wrong
from tests.support.renderers import PausingRenderer

CONTENT = "<p onclick=pwn()>My <b>first</b> post.</p><script>pwn()</script>"
SANITIZED = "<p>My <b>first</b> post.</p>"
AS_MARKDOWN = {"Accept": "text/markdown"}


async def publish_html(client: AsyncClient, content: str = CONTENT, **values: Any) -> Any:
    return await publish(client, content=content, content_type=HTML, **values)


async def read(client: AsyncClient, post: dict[str, Any]) -> dict[str, Any]:
    response = await client.get(f"/posts/{post['id']}")
    assert response.status_code == 200, response.text
    shown: dict[str, Any] = response.json()
    return shown


async def change(client: AsyncClient, post: dict[str, Any], **values: object) -> dict[str, Any]:
    """Change a post; return it with its HTML."""
    response = await client.patch(f"/posts/{post['id']}", json=values)
    assert response.status_code == 200, response.text
    return await read(client, post)


async def is_found(client: AsyncClient, *queries: str) -> list[bool]:
    pages = [(await client.get("/posts", params={"q": q})).json() for q in queries]
    return [page["total_count"] == 1 for page in pages]


async def execute(app: FastAPI, *statements: str, **values: object) -> None:
    """Execute SQL of the version before, each statement with the values that it names."""
    async with app.state.database.session(writes=True) as session:
        connection = await session.connection()
        for statement in statements:
            clause = text(statement)
            names = clause.compile().params.keys()
            await connection.execute(clause, {name: values[name] for name in names})
    app.state.database.invalidate(Invalidates.EVERYTHING)


async def check_index(app: FastAPI) -> None:
    """Check that the index of the search has exactly the texts of the posts."""
    if TEST_DATABASE_URL is None:
        await execute(
            app, "INSERT INTO post_search (post_search, rank) VALUES ('integrity-check', 1)"
        )
        return
    vector = "post_search_vector(title, tags, coalesce(content_text, content))"
    query = f"SELECT count(*) FROM posts JOIN post_search ON post_id = id WHERE vector <> {vector}"
    async with app.state.database.session(writes=False) as session:
        assert (await (await session.connection()).execute(text(query))).scalar_one() == 0


async def test_html_is_stored_as_sent_and_sanitized_in_every_response(
    ann: AsyncClient, anonymous: AsyncClient
):
    post = await publish_html(ann)
    await ann.put(f"/users/me/bookmarks/{post['id']}")

    shown = [await read(anonymous, post)]
    shown.append((await anonymous.get(f"/posts/slug/{post['slug']}")).json())
    for path in ("/posts?", "/posts?q=first&", "/users/me/posts?", "/users/me/bookmarks?"):
        shown += (await ann.get(f"{path}body=both")).json()["results"]
    lines = (await ann.get("/users/me/export")).text.splitlines()
    (exported,) = (one for one in map(json.loads, lines) if one["type"] == "post")
    feeds = [(await anonymous.get(f"/feed.{name}")).text for name in ("json", "atom", "rss")]

    assert post["content"] == exported["content"] == CONTENT
    assert post["content_type"] == exported["content_type"] == HTML
    assert post["summary"] == "My first post."
    assert len(shown) == 6
    for one in shown:
        assert (one["content"], one["content_type"]) == (CONTENT, HTML)
        assert one["content_html"] == SANITIZED
    for feed in feeds:
        assert "My <b>first</b> post." in unescape(feed) and "pwn" not in feed


async def test_the_type_is_part_of_a_list_without_texts(ann: AsyncClient):
    await publish_html(ann)

    (listed,) = (await ann.get("/posts?body=none")).json()["results"]

    assert (listed["content"], listed["content_type"]) == (None, HTML)


async def test_a_post_is_markdown_by_default(ann: AsyncClient):
    post = await read(ann, await publish(ann, content="*a*"))

    assert (post["content_type"], post["content_html"]) == (MARKDOWN, "<p><em>a</em></p>\n")


async def test_html_is_not_rendered_as_markdown(ann: AsyncClient):
    post = await publish_html(ann, "<p>*a*</p>\n\n    <p>b</p>\n# c & d < e")

    assert (await read(ann, post))["content_html"] == (
        "<p>*a*</p>\n\n    <p>b</p>\n# c &amp; d &lt; e"
    )


async def test_the_type_stays_if_it_is_left_out(ann: AsyncClient):
    post = await publish_html(ann)
    path = f"/posts/{post['id']}"

    patched = await change(ann, post, content="<i>*a*</i>")
    await ann.put(path, json={"title": "Hello", "content": "<i>*b*</i>"})
    put = await read(ann, post)

    assert (patched["content_type"], patched["content_html"]) == (HTML, "<i>*a*</i>")
    assert (put["content_type"], put["content_html"]) == (HTML, "<i>*b*</i>")


async def test_the_schema_of_a_post_has_no_default_that_clients_would_send_in_put(app: FastAPI):
    field = app.openapi()["components"]["schemas"]["PostCreate"]["properties"]["content_type"]

    assert field["enum"] == [MARKDOWN, HTML]
    assert "default" not in field


async def test_a_new_type_renders_the_same_content_again(ann: AsyncClient, empty_app: FastAPI):
    post = await publish(ann, content="# *a* <b title=moon>b</b>")

    html = await change(ann, post, content_type=HTML)
    found_as_html = await is_found(ann, "moon", "a b")
    markdown = await change(ann, post, content_type=MARKDOWN)
    found_as_markdown = await is_found(ann, "moon", "a b")

    assert html["content_html"] == '# *a* <b title="moon">b</b>'
    assert html["summary"] == "# *a* b"
    assert markdown["content_html"] == (
        '<h1 id="user-content-a-b"><em>a</em> <b title="moon">b</b></h1>\n'
    )
    assert html["updated_at"] < markdown["updated_at"]
    assert found_as_html == [False, True]
    assert found_as_markdown == [True, True]
    await check_index(empty_app)


async def test_an_unchanged_type_changes_nothing(ann: AsyncClient):
    post = await read(ann, await publish_html(ann))

    assert await change(ann, post, content_type=HTML, content=CONTENT) == post


@pytest.mark.parametrize("value", [None, "", "html", "text/plain", "TEXT/HTML", "text/html;a=b", 1])
async def test_other_types_are_rejected(ann: AsyncClient, value: object):
    post = await publish_html(ann)
    body = {"title": "Hello", "content": "World", "content_type": value}

    responses = [
        await ann.post("/posts", json=body),
        await ann.put(f"/posts/{post['id']}", json=body),
        await ann.patch(f"/posts/{post['id']}", json={"content_type": value}),
        await ann.post("/preview", json={"content": "World", "content_type": value}),
    ]

    for response in responses:
        assert response.status_code == 422
        assert response.json()["errors"][0]["loc"] == ["body", "content_type"]


@pytest.mark.parametrize("new_type", [MARKDOWN, HTML])
@pytest.mark.parametrize("content", ["*one*", "*two*"])
async def test_content_and_type_that_change_at_the_same_time_fit_together(
    ann: AsyncClient,
    empty_app: FastAPI,
    pausing_renderer: PausingRenderer,
    new_type: str,
    content: str,
):
    old_type = {HTML: MARKDOWN, MARKDOWN: HTML}[new_type]
    post = await publish(ann, content="*one*", content_type=old_type)

    first = asyncio.create_task(change(ann, post, content="*two*"))
    await pausing_renderer.has_begun.wait()
    second = await change(ann, post, content_type=new_type, content=content)
    pausing_renderer.may_continue.set()
    shown = await first

    html = {HTML: "*{}*", MARKDOWN: "<p><em>{}</em></p>\n"}[new_type]
    assert second["content_html"] == html.format(content.strip("*"))
    assert (shown["content"], shown["content_type"]) == ("*two*", new_type)
    assert shown["content_html"] == html.format("two")
    await check_index(empty_app)


async def test_a_preview_has_the_type_that_is_sent(ann: AsyncClient):
    shown = [
        (await ann.post("/preview", json={"content": f"*a* {CONTENT}", **values})).json()
        for values in ({"content_type": HTML}, {"content_type": MARKDOWN}, {})
    ]

    assert shown[0]["content_html"] == f"*a* {SANITIZED}"
    assert shown[0]["summary"] == "*a* My first post."
    assert shown[1] == shown[2]
    assert shown[1]["content_html"].startswith("<p><em>a</em>")


# Content negotiation


@pytest.mark.parametrize("accept", ["text/markdown", "text/*", "text/markdown, text/html;q=0.9"])
async def test_html_is_not_acceptable_as_markdown(
    ann: AsyncClient, anonymous: AsyncClient, accept: str
):
    post = await publish_html(ann)

    for path in (f"/posts/{post['id']}", f"/posts/slug/{post['slug']}"):
        etag = (await anonymous.get(path)).headers["ETag"]
        # Twice, as the response to the first could be cached.
        for headers in ({"Accept": accept}, {"Accept": accept, "If-None-Match": etag}):
            response = await anonymous.get(path, headers=headers)
            assert response.status_code == 406
            assert response.json()["type"] == "urn:blog-api:not-acceptable"
            assert response.headers["Content-Type"] == "application/problem+json"
            assert "Accept" in response.headers["Vary"]
        assert (await anonymous.head(path, headers={"Accept": accept})).status_code == 406
        assert (await anonymous.get(path)).status_code == 200


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "text/html", "text/html, */*;q=0.8", "text/markdown, */*;q=0.1", "image/png"],
)
async def test_html_is_sent_in_json(ann: AsyncClient, accept: str):
    post = await publish_html(ann)

    for path in (f"/posts/{post['id']}", f"/posts/slug/{post['slug']}", "/posts"):
        response = await ann.get(path, headers={"Accept": accept})
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "application/json"


async def test_a_post_is_sent_as_markdown_while_it_is_markdown(
    ann: AsyncClient, anonymous: AsyncClient
):
    post = await publish(ann, content="*a*")
    path = f"/posts/{post['id']}"

    before = await anonymous.get(path, headers=AS_MARKDOWN)
    await change(ann, post, content_type=HTML)
    as_html = await anonymous.get(path, headers=AS_MARKDOWN)
    await change(ann, post, content_type=MARKDOWN)
    after = await anonymous.get(path, headers=AS_MARKDOWN)

    assert [one.status_code for one in (before, as_html, after)] == [200, 406, 200]
    assert before.text == after.text == "*a*"


async def test_a_hidden_post_is_not_found_rather_than_not_acceptable(
    ann: AsyncClient, anonymous: AsyncClient
):
    post = await publish_html(ann, published_at=None)
    path = f"/posts/{post['id']}"

    assert (await anonymous.get(path, headers=AS_MARKDOWN)).status_code == 404
    assert (await ann.get(path, headers=AS_MARKDOWN)).status_code == 406


# Search

MARKUP = """
<!-- comment --><style>.hidden{color:teal}</style><script>var script</script>
<div class="banner" id=anchor><a href="https://target.example/path" title="tooltip">Link</a></div>
<p>w<b>or</b>d</p><p>left</p><p>right</p><table><tr><td>cell<td>next</table>line<br>break
<svg><title>vector</title></svg>caf&eacute; R&amp;D &lt;kbd&gt;
"""


async def test_html_is_found_by_its_text_alone(ann: AsyncClient, empty_app: FastAPI):
    await publish_html(ann, MARKUP)

    words = ("word", "left", "right", "cell", "next", "line", "break", "link", "café", "kbd")
    phrases = ('"left right"', '"cell next"', '"line break"', '"r d"')
    markup = ("div", "href", "banner", "anchor", "target", "example", "https", "tooltip", "class")
    other = ("comment", "hidden", "teal", "script", "eacute", "amp", "lt", "leftright", "linebreak")
    assert all(await is_found(ann, *words, *phrases))
    assert not any(await is_found(ann, *markup, *other))
    await check_index(empty_app)


async def test_a_snippet_of_html_is_its_text(ann: AsyncClient):
    await publish_html(ann, "<div class=x><p>A <b>w</b>ord &lt;i&gt; &amp;</p><p>next</p></div>")

    (found,) = (await ann.get("/posts?q=word")).json()["results"]

    assert found["snippet"].strip() == "A <mark>word</mark> &lt;i&gt; &amp; next"


async def test_the_search_follows_changes_of_html(ann: AsyncClient, empty_app: FastAPI):
    post = await publish_html(ann, "<p>sun</p>", tags=["sky"])

    await change(ann, post, content="<i>moon</i>")
    changed = await is_found(ann, "sun", "moon", "sky")
    await change(ann, post, content="<b>m</b>oon")
    await change(ann, post, title="Night", tags=["dark"])
    renamed = await is_found(ann, "hello", "night", "moon", "sky", "dark")
    await check_index(empty_app)
    await ann.delete(f"/posts/{post['id']}")

    assert changed == [False, True, True]
    assert renamed == [False, True, True, False, True]
    assert not any(await is_found(ann, "night", "moon"))
    await check_index(empty_app)


async def test_html_without_text_is_found_by_its_title_alone(ann: AsyncClient, empty_app: FastAPI):
    post = await publish_html(ann, "<script>moon</script>")

    assert await is_found(ann, "hello", "moon", "script") == [True, False, False]
    assert (await read(ann, post))["content_html"] == ""
    await check_index(empty_app)


# The version before, which does not know the columns, renders every content as Markdown.
OLD_UPDATE = """
    UPDATE posts SET content = :content, content_html = :html, made_from = 'x',
        version = version + 1
    WHERE id = :id
"""
OLD_RENDER = "UPDATE posts SET content_html = :html, made_from = 'x' WHERE id = :id"
OLD_TITLE = "UPDATE posts SET title = :title, version = version + 1 WHERE id = :id"


async def test_html_that_the_version_before_changes_is_markdown(
    ann: AsyncClient, empty_app: FastAPI
):
    post = await publish_html(ann, "<p>sun</p>")

    values = {"content": "*moon* [a](star)", "html": "<p><em>moon</em> <a>a</a></p>\n"}
    await execute(empty_app, OLD_UPDATE, id=post["id"], **values)
    shown = await read(ann, post)
    missing = await is_found(ann, "sun", "moon", "star")
    indexed = await count_wrong(empty_app.state.database, "search", repairs=True)
    found = await is_found(ann, "sun", "moon", "star")
    source = await ann.get(f"/posts/{post['id']}", headers=AS_MARKDOWN)
    await check_index(empty_app)
    again = await change(ann, post, content="<p>sun</p>", content_type=HTML)

    assert (shown["content_type"], shown["content_html"]) == (MARKDOWN, values["html"])
    # The words are those of no version until this one makes them.
    assert missing == [False, False, False]
    assert indexed == {"search": 1}
    assert found == [False, True, True]
    assert source.text == values["content"]
    assert (again["content_type"], again["content_html"]) == (HTML, "<p>sun</p>")
    assert await is_found(ann, "sun", "moon", "p") == [True, False, False]
    await check_index(empty_app)


async def test_html_whose_content_the_version_before_does_not_change_stays_html(
    ann: AsyncClient, empty_app: FastAPI
):
    post = await publish_html(ann, "<p title=x>*sun*</p>")

    await execute(empty_app, OLD_TITLE, id=post["id"], title="Night")
    await execute(empty_app, OLD_RENDER, id=post["id"], html="<p><em>sun</em></p>")
    rendered = await read(ann, post)
    database = empty_app.state.database
    changed = await count_wrong(database, "html", "search", repairs=True)
    database.invalidate(Invalidates.EVERYTHING)

    assert rendered["content_type"] == HTML
    assert changed == {"html": 1, "search": 1}
    assert (await read(ann, post))["content_html"] == '<p title="x">*sun*</p>'
    assert await is_found(ann, "night", "sun", "title") == [True, True, False]
    await check_index(empty_app)


async def test_rendering_again_changes_nothing_in_html(ann: AsyncClient, empty_app: FastAPI):
    posts = [await read(ann, await publish_html(ann)), await read(ann, await publish(ann))]

    database = empty_app.state.database
    changed = await count_wrong(database, "html", repairs=True)
    database.invalidate(Invalidates.EVERYTHING)

    assert changed == {}
    assert [await read(ann, post) for post in posts] == posts


# Hostile input

HOSTILE = {
    "deep elements": "<div>" * 100_000,
    "deep formatting": "<b><i><a href=x><p>" * 25_000,
    "signs": "<" * 500_000,
    "a comment that does not end": "<!--" + "-" * 400_000,
    "a tag that does not end": "<p " + "a=b " * 100_000,
    "a large attribute": f'<p title="{"x" * 499_000}">a',
    "many attributes": f"<p {' '.join(f'a{number}=1' for number in range(50_000))}>a",
    "entities": "&lt;" * 125_000,
    "characters that XML excludes": "&#0;&#1;&#xfffe;&#xd800;&#x110000;" * 10_000,
    "foreign elements": "<svg><math><title><template>" * 15_000,
    "tables": "<table><td>" * 45_000,
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_html_is_stored_and_shown(ann: AsyncClient, name: str):
    post = await publish_html(ann, HOSTILE[name])

    shown = await read(ann, post)

    assert shown["content"] == HOSTILE[name]
    for excluded in ("<!--", "<svg", "<template", "\x00", "\x01", "\ufffe"):
        assert excluded not in shown["content_html"]
    assert (await ann.get("/posts?q=hello&body=none")).json()["total_count"] == 1
    assert (await ann.get("/feed.atom")).status_code == 200


@pytest.mark.parametrize("content", ["<p>\x00</p>", "<p>\ufffe", "\x1b", ""])
async def test_html_with_characters_that_xml_excludes_is_rejected(ann: AsyncClient, content: str):
    body = {"title": "Hello", "content": content, "content_type": HTML}

    assert (await ann.post("/posts", json=body)).status_code == 422


async def test_html_with_a_lone_surrogate_is_rejected(ann: AsyncClient):
    body = rb'{"title": "Hello", "content": "<p>\ud800", "content_type": "text/html"}'

    response = await ann.post("/posts", content=body, headers={"Content-Type": "application/json"})

    assert response.status_code == 422


def test_long_html_is_rendered_in_a_process():
    assert is_inexpensive(Source("<p>[[[[[[[[[[[[|>\n" * 100, HTML))
    assert not is_inexpensive(Source("<" * 2_001, HTML))
