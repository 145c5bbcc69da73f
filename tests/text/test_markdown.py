"""Markdown: rendering, sanitizing, and the limits of the renderer processes."""

import asyncio
import itertools
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from html import escape
from typing import get_args

import anyio
import pytest
from anyio.lowlevel import checkpoint
from fastapi import FastAPI
from httpx import AsyncClient, Response

from blog_api.core.processes import MEMORY_BYTES
from blog_api.text import renderer
from blog_api.text.markdown import MARKDOWN, ContentType, Source
from blog_api.text.renderer import Renderer
from tests.support.attacks import ATTACKS
from tests.support.clients import CHEAP_HASHING, client_of, make_settings, running, sign_up
from tests.support.html import REL, XML_TEXT, Attributes, Elements, assert_harmless
from tests.support.recording_page import Element, RecordingPage

NUMBERS = itertools.count()
CONTENT_TYPES = get_args(ContentType)


async def create_post(
    client: AsyncClient, content: str, content_type: ContentType = MARKDOWN
) -> Response:
    # With one title, each post would search for a free slug.
    title = f"Hello {next(NUMBERS)}"
    body = {"title": title, "content": content, "content_type": content_type}
    return await client.post("/posts", json=body)


async def render(client: AsyncClient, content: str, content_type: ContentType = MARKDOWN) -> str:
    """Create a post, read it, and return its HTML."""
    response = await create_post(client, content, content_type)
    assert response.status_code == 201, response.text
    path = f"/posts/{response.json()['id']}"
    content_html: str = (await client.get(path)).json()["content_html"]
    return content_html


@pytest.fixture(scope="module")
async def own_app(app: FastAPI) -> AsyncGenerator[FastAPI]:
    """An application with one connection, and a renderer that a test may replace."""
    async with running(make_settings(database_url="sqlite://", **CHEAP_HASHING)) as own:
        async with client_of(own) as client:
            await sign_up(client, "Ann")
            own.state.authorization = client.headers["Authorization"]
        async with client_of(own) as bob:
            await sign_up(bob, "Bob")
            own.state.bob = bob
            yield own


@asynccontextmanager
async def ann_with_renderer(app: FastAPI, renderer: Renderer) -> AsyncIterator[AsyncClient]:
    app.state.renderer = renderer
    async with client_of(app) as client:
        client.headers["Authorization"] = app.state.authorization
        yield client


@pytest.fixture
async def ann(own_app: FastAPI) -> AsyncGenerator[AsyncClient]:
    """An author with a renderer that never times out here."""
    async with ann_with_renderer(own_app, Renderer(seconds=60)) as ann:
        yield ann


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
@pytest.mark.parametrize("kind", ATTACKS)
async def test_sanitized_html_contains_nothing_executable(
    ann: AsyncClient, kind: str, content_type: ContentType
):
    for attack in ATTACKS[kind]:
        content_html = await render(ann, attack, content_type)

        try:
            assert_harmless(Elements(content_html).found)
            assert XML_TEXT.fullmatch(content_html)
        except AssertionError as error:
            error.add_note(f"{attack[:500]!r} became {content_html[:2_000]!r}")
            raise


@pytest.mark.parametrize(
    ("element", "attributes"),
    [
        ("script", {}),
        ("svg", {}),
        ("p", {"onclick": "pwn()"}),
        ("p", {"id": "x"}),
        ("p", {"class": "language-x"}),
        ("p", {"style": "text-align:left"}),
        ("a", {"href": "\x01 java\tscript:pwn()"}),
        ("img", {"src": "DATA:image/png,"}),
        ("td", {"style": "text-align:left;position:fixed"}),
        ("code", {"class": "modal"}),
        ("code", {"class": "language-x modal"}),
        ("a", {"href": "x", "rel": "opener"}),
        ("a", {"name": "x"}),
        ("td", {"headers": "user-content-x y"}),
        ("img", {"srcset": "x 1x, javascript:pwn() 2x"}),
        ("video", {"poster": "javascript:pwn()"}),
        ("video", {"autoplay": ""}),
        ("input", {"type": "checkbox"}),
        ("input", {"type": "text", "disabled": ""}),
        ("iframe", {"src": "https://video.example/"}),
    ],
)
def test_the_checker_detects_harmful_elements_and_attributes(element: str, attributes: Attributes):
    with pytest.raises(AssertionError):
        assert_harmless([(element, attributes)])


@pytest.mark.parametrize("text", ["<!-- a -->", "<!DOCTYPE html>", "<?a?>", "<![CDATA[a]]>"])
def test_the_checker_detects_comments_and_declarations(text: str):
    with pytest.raises(AssertionError):
        Elements(text)


COMMONMARK = {
    "a paragraph\nof lines": "<p>a paragraph\nof lines</p>\n",
    "one\n\ntwo": "<p>one</p>\n<p>two</p>\n",
    "a  \nb\\\nc": "<p>a<br>\nb<br>\nc</p>\n",
    "*a* __b__ `c` ***d***": (
        "<p><em>a</em> <strong>b</strong> <code>c</code> <em><strong>d</strong></em></p>\n"
    ),
    "# a\n###### b\nc\n=\n": (
        '<h1 id="user-content-a">a</h1>\n<h6 id="user-content-b">b</h6>\n'
        '<h1 id="user-content-c">c</h1>\n'
    ),
    "> a\n> > b": "<blockquote>\n<p>a</p>\n<blockquote>\n<p>b</p>\n</blockquote>\n</blockquote>\n",
    "* a\n* b\n  1. c": "<ul>\n<li>a</li>\n<li>b\n<ol>\n<li>c</li>\n</ol>\n</li>\n</ul>\n",
    "- a\n\n- b": "<ul>\n<li>\n<p>a</p>\n</li>\n<li>\n<p>b</p>\n</li>\n</ul>\n",
    "7) a": '<ol start="7">\n<li>a</li>\n</ol>\n',
    "a\n\n---\n\nb": "<p>a</p>\n<hr>\n<p>b</p>\n",
    "    a <b>\n      c": "<pre><code>a &lt;b&gt;\n  c\n</code></pre>\n",
    "\ta\r\n\tb": "<pre><code>a\nb\n</code></pre>\n",
    '[a](/b "c")': f'<p><a href="/b" title="c" rel="{REL}">a</a></p>\n',
    "[a][b]\n\n[B]: <c d> 'e'": f'<p><a href="c%20d" title="e" rel="{REL}">a</a></p>\n',
    "[a](#b)[c](?d)[e]()": (
        f'<p><a href="#user-content-b" rel="{REL}">a</a><a href="?d" rel="{REL}">c</a>'
        f'<a href="" rel="{REL}">e</a></p>\n'
    ),
    "<https://example.com/a?b&c>": (
        f'<p><a href="https://example.com/a?b&amp;c" rel="{REL}">'
        "https://example.com/a?b&amp;c</a></p>\n"
    ),
    "<a@example.com>": f'<p><a href="mailto:a@example.com" rel="{REL}">a@example.com</a></p>\n',
    "[a](https://пример.рф/ж)": (
        f'<p><a href="https://xn--e1afmkfd.xn--p1ai/%D0%B6" rel="{REL}">a</a></p>\n'
    ),
    '![a *b*](c.png "d")': '<p><img src="c.png" alt="a b" title="d"></p>\n',
    "&copy; &#1078; &amp;amp; AT&T <3": "<p>© ж &amp;amp; AT&amp;T &lt;3</p>\n",
    "\\*a\\* \\<b>": "<p>*a* &lt;b&gt;</p>\n",
    "a <b>b</b> <kbd>c</kbd>": "<p>a <b>b</b> <kbd>c</kbd></p>\n",
    "<div>\n\n*a*\n\n</div>": "<div>\n<p><em>a</em></p>\n</div>",
    "<details>\n<summary>a</summary>\n\n**b**\n\n</details>": (
        "<details>\n<summary>a</summary>\n<p><strong>b</strong></p>\n</details>"
    ),
    "привет 🎉 שלום \u202eolleh": "<p>привет 🎉 שלום \u202eolleh</p>\n",
}
EXTENSIONS = {
    "~~a~~ ~b~": "<p><s>a</s> ~b~</p>\n",
    "```python\nprint(1 < 2)\n```": (
        '<pre><code class="language-python">print(1 &lt; 2)\n</code></pre>\n'
    ),
    "~~~ c++ startline=3\n*a*\n~~~": '<pre><code class="language-c++">*a*\n</code></pre>\n',
    "```\na\n\n b\n": "<pre><code>a\n\n b\n</code></pre>\n",
    "| a | b | c | d |\n|---|:--|:-:|--:|\n| 1 | 2 | *3* | `\\|` |": (
        "<table>\n<thead>\n<tr>\n<th>a</th>\n"
        '<th style="text-align:left">b</th>\n<th style="text-align:center">c</th>\n'
        '<th style="text-align:right">d</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td>1</td>\n'
        '<td style="text-align:left">2</td>\n<td style="text-align:center"><em>3</em></td>\n'
        '<td style="text-align:right"><code>|</code></td>\n</tr>\n</tbody>\n</table>\n'
    ),
}


def sort_attributes(html: str) -> str:
    attribute = r' [a-z]+="[^"]*"'
    return re.sub(
        f"({attribute})+", lambda match: "".join(sorted(re.findall(attribute, match[0]))), html
    )


@pytest.mark.parametrize("texts", [COMMONMARK, EXTENSIONS], ids=["commonmark", "extensions"])
async def test_markdown_is_rendered_to_html(ann: AsyncClient, texts: dict[str, str]):
    for text, expected in texts.items():
        assert sort_attributes(await render(ann, text)) == sort_attributes(expected)


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"{'  ' * level}- level {level}\n" for level in range(20)),
        "".join(f"{'> ' * level}level {level}\n\n" for level in range(40)),
        "".join(f"{'  ' * level}- > level {level}\n" for level in range(15)),
        "*a **" * 15 + "level 0" + "** b*" * 15,
    ],
    ids=["lists", "quotations", "both", "emphasis"],
)
async def test_nested_markdown_is_rendered_completely(ann: AsyncClient, text: str):
    content_html = await render(ann, text)

    assert set(re.findall(r"level \d+", content_html)) == set(re.findall(r"level \d+", text))


async def test_changed_content_is_rendered_again(ann: AsyncClient):
    path = f"/posts/{(await create_post(ann, '*a*')).json()['id']}"

    shown = []
    for method, body in (
        ("PATCH", {"content": "**b**"}),
        ("PATCH", {"title": "Bye"}),
        ("PUT", {"title": "Bye", "content": "`c`"}),
    ):
        await ann.request(method, path, json=body)
        shown.append((await ann.get(path)).json()["content_html"])

    b, c = "<p><strong>b</strong></p>\n", "<p><code>c</code></p>\n"
    assert shown == [b, b, c]


# Takes more than half a minute to render.
SLOW = "<ul><li>" * 62_500
# Needs more than 2 GB: a long URL that is repeated sixteen thousand times.
LARGE = f"[a]: /{'u' * 150_000}\n\n" + "[a] " * 16_000


class PausingRenderer(Renderer):
    """A renderer that sets `has_begun`, then waits for `may_continue`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.has_begun = asyncio.Event()
        self.may_continue = asyncio.Event()

    async def render(self, source: Source, *, owner: int | None = None) -> str:
        self.has_begun.set()
        await self.may_continue.wait()
        return await super().render(source, owner=owner)


def unrendered(text: str) -> str:
    """Return the HTML of a text that could not be rendered."""
    return f"<pre>{escape(text, quote=False)}</pre>\n"


@pytest.mark.parametrize("text", ["![" * 250_000, "<b>&amp;\n\n" + SLOW[:490_000]])
async def test_a_text_that_takes_too_long_is_shown_unrendered(own_app: FastAPI, text: str):
    async with ann_with_renderer(own_app, Renderer(seconds=0.1)) as ann:
        content_html = await render(ann, text)

        assert content_html == unrendered(text)
        assert_harmless(Elements(content_html[:1_000]).found)


async def test_a_text_that_needs_too_much_memory_is_shown_unrendered(own_app: FastAPI):
    # It runs out of memory or of time.
    async with ann_with_renderer(own_app, Renderer(seconds=1)) as ann:
        content_html = await render(ann, LARGE)
    async with ann_with_renderer(own_app, Renderer(seconds=60)) as ann:
        next_html = await render(ann, "*a*")

    assert content_html == unrendered(LARGE)
    assert next_html == "<p><em>a</em></p>\n"


# An eighth of the limit, so that it does not take long.
RENDER_IN_LITTLE_MEMORY = r"""
import re, sys
from blog_api.text import markdown
markdown.MEMORY_BYTES //= 8
print(markdown.render_in_process(markdown.Source(sys.stdin.read())))
print(re.search(r"VmHWM:\s*(\d+) kB", open("/proc/self/status").read())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces RLIMIT_AS")
async def test_the_memory_of_the_renderer_process_is_limited():
    # Three thousand repetitions exceed the eighth.
    text = LARGE[:162_000].encode()
    process = await anyio.run_process([sys.executable, "-c", RENDER_IN_LITTLE_MEMORY], input=text)

    html, peak_kib = process.stdout.split()
    assert html == b"None"
    assert int(peak_kib) * 1024 < MEMORY_BYTES // 8


async def test_other_requests_are_served_while_a_text_is_rendered(own_app: FastAPI):
    renderer = PausingRenderer(seconds=60)
    renderer.may_continue.set()
    async with ann_with_renderer(own_app, renderer) as ann, client_of(own_app) as anonymous:
        slow = asyncio.create_task(create_post(ann, SLOW))
        await renderer.has_begun.wait()

        statuses = [
            (await anonymous.get(path)).status_code
            for path in ("/health/live", "/posts", "/tags", "/feed.atom", "/users")
            for _ in range(5)
        ]
        other_html = await render(own_app.state.bob, "*b*")

        assert set(statuses) == {200}
        assert other_html == "<p><em>b</em></p>\n"
        assert not slow.done()
        slow.cancel()
        await asyncio.wait([slow])
        assert await render(ann, "*a*") == "<p><em>a</em></p>\n"


class RecordingRenderer(Renderer):
    """A renderer that records the texts in `begun`, and finishes one for each `may_finish`."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[str] = []
        self.may_finish = asyncio.Semaphore(0)

    async def _render(self, source: Source) -> str | None:
        self.begun.append(source.content)
        await self.may_finish.acquire()
        return source.content


@pytest.mark.parametrize(
    "text",
    [
        "|a" * 250 + "|\n" + "|-" * 250 + "|\n" + "|\n" * 450,
        "> " * 150 + "a\n" * 850,
        "[" * 2_000,
        "a" * 2_001,
    ],
)
def test_a_short_text_that_takes_long_is_rendered_in_a_process(text: str):
    assert not renderer.is_inexpensive(Source(text))


def test_an_ordinary_short_text_is_rendered_at_once():
    table = "| a | b | c |\n|---|---|---|\n" + "| 1 | 2 | 3 |\n" * 20
    assert renderer.is_inexpensive(Source(table + "\n> Well said.\n" * 5))


async def let_tasks_run() -> None:
    """Let other tasks run until they wait, without waiting for those of the shared application."""
    for _ in range(20):
        await checkpoint()


async def test_the_first_text_of_an_owner_is_rendered_before_the_next_ones_of_others(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(renderer, "count_available_cores", lambda: 1)
    monkeypatch.setattr(renderer, "MAX_INLINE_LENGTH", 0)
    one_at_a_time = RecordingRenderer()

    async with asyncio.TaskGroup() as tasks:

        async def start(text: str, owner: int) -> asyncio.Task[str]:
            task = tasks.create_task(one_at_a_time.render(Source(text), owner=owner))
            await let_tasks_run()
            return task

        await start("first of Ann", 1)
        await start("first of Bob", 2)
        await start("second of Ann", 1)
        given_up = await start("of Dan", 4)
        one_at_a_time.may_finish.release()
        await let_tasks_run()
        await start("of Eve", 3)
        given_up.cancel()
        for _ in range(3):
            one_at_a_time.may_finish.release()
            await let_tasks_run()

    assert one_at_a_time.begun == ["first of Ann", "first of Bob", "of Eve", "second of Ann"]


async def test_no_connection_is_held_while_a_text_is_rendered_in_a_process(
    own_app: FastAPI, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("blog_api.text.renderer.MAX_INLINE_LENGTH", 0)
    async with ann_with_renderer(own_app, Renderer()) as ann:
        old = (await create_post(ann, "old")).json()
        renderer = PausingRenderer(seconds=60)
        own_app.state.renderer = renderer
        waiting = [
            asyncio.create_task(create_post(ann, "*new*")),
            asyncio.create_task(ann.patch(f"/posts/{old['id']}", json={"content": "*newer*"})),
        ]
        await renderer.has_begun.wait()

        # The application has a single connection: if a request held it, these would fail.
        read = await ann.get(f"/posts/{old['id']}")
        write = await ann.patch(f"/posts/{old['id']}", json={"title": "Meanwhile"})
        renderer.may_continue.set()
        created, changed = [await task for task in waiting]

        assert (read.status_code, write.status_code) == (200, 200)
        assert (created.status_code, changed.status_code) == (201, 200)
        assert changed.json()["title"] == "Meanwhile"
        assert changed.json()["content"] == "*newer*"


TEXTS_AT_ONCE = 50


async def assert_nothing_happens(
    recording_page: RecordingPage,
    show: Callable[[list[str]], Awaitable[list[Element]]],
    fragments: list[str],
) -> None:
    """Show many fragments at once; after an event one by one, to name the fragment."""
    for start in range(0, len(fragments), TEXTS_AT_ONCE):
        together = fragments[start : start + TEXTS_AT_ONCE]
        assert_harmless(await show(together))
        events = [*recording_page.events]
        for fragment in together if events else []:
            await recording_page.reset()
            await show([fragment])
            assert recording_page.events == [], fragment
        assert events == [], together


@pytest.mark.browser
@pytest.mark.parametrize("content_type", CONTENT_TYPES)
async def test_a_browser_executes_nothing_in_sanitized_html(
    ann: AsyncClient, recording_page: RecordingPage, content_type: ContentType
):
    attacks = itertools.chain(*ATTACKS.values())
    fragments = [await render(ann, attack, content_type) for attack in attacks]

    await assert_nothing_happens(recording_page, recording_page.show, fragments)
    # Without the deepest, which have a thousand elements each.
    short = [fragment for fragment in fragments if len(fragment) < 5_000]
    await assert_nothing_happens(recording_page, recording_page.insert, short)


# HTML with an event that the page must record if it is not sanitized.
EXPECTED_EVENTS = {
    "<script>pwn()</script>": "pwn",
    "<script>alert(1)</script>": "alert",
    "<img src=x onerror=pwn()>": "pwn",
    "<svg onload=pwn()>": "pwn",
    "<p onmouseover=pwn()>": "pwn",
    "<p onclick=pwn()>": "pwn",
    "<a href=javascript:pwn()>": "pwn",
    "<a href='&#1;java&#10;script:pwn()'>": "pwn",
    "<input onfocus=pwn()>": "pwn",
    "<details ontoggle=pwn()><summary>": "pwn",
    "<iframe srcdoc='<script>parent.pwn()</script>'>": "pwn",
    "<iframe src=https://evil.example>": "document: https://evil.example/",
    "<link rel=stylesheet href=https://evil.example>": "stylesheet: https://evil.example/",
    "<script src=https://evil.example></script>": "script: https://evil.example/",
    "<form action=https://evil.example><button>": "submit",
    "<script>throw 'up'</script>": "error: up",
    "<a id=x></a>": "named: x",
    "<form name=y></form>": "named: y",
    "<img name=createElement>": "named: createElement",
}


@pytest.mark.browser
async def test_the_browser_check_detects_scripts_in_a_page(recording_page: RecordingPage):
    for html, event in EXPECTED_EVENTS.items():
        await recording_page.reset()
        await recording_page.show(["<p>harmless</p>", html, "<b>harmless</b>"])

        assert event in recording_page.events, html


@pytest.mark.browser
async def test_the_browser_check_detects_scripts_in_adopted_nodes(recording_page: RecordingPage):
    await recording_page.insert(["<img src=x onerror=pwn()><svg><style><p onclick=alert(1)>"])

    assert {"pwn", "alert"} <= set(recording_page.events)
