"""Markdown: what becomes of it, that a browser runs nothing of it, and texts that take long."""

import asyncio
import html
import itertools
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any, NoReturn

import anyio
import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response

from blog_api.text.markdown import MEMORY_BYTES
from blog_api.text.renderer import Renderer
from tests.support.attacks import ATTACKS
from tests.support.clients import CHEAP_HASHING, client_of, make_settings, running, sign_up

# What may be in a text, written down once more: the service's own list is what is tested.
ELEMENTS = set(
    re.findall(
        r"\w+",
        """
        a abbr acronym area article aside b bdi bdo blockquote br caption center cite code col
        colgroup data dd del details dfn div dl dt em figcaption figure footer h1 h2 h3 h4 h5 h6
        header hgroup hr i img ins kbd li map mark nav ol p pre q rp rt rtc ruby s samp small span
        strike strong sub summary sup table tbody td tfoot th thead time tr tt u ul var wbr
        """,
    )
)
OF_ALL = {"lang", "title"}
OF_CELLS = {"align", "char", "charoff"}
ATTRIBUTES = {
    "a": {"href", "hreflang", "rel"},
    "bdo": {"dir"},
    "blockquote": {"cite"},
    "code": {"class"},
    "col": OF_CELLS | {"span"},
    "colgroup": OF_CELLS | {"span"},
    "del": {"cite", "datetime"},
    "hr": {"align", "size", "width"},
    "img": {"align", "alt", "height", "src", "width"},
    "ins": {"cite", "datetime"},
    "ol": {"start"},
    "q": {"cite"},
    "table": OF_CELLS | {"summary"},
    "tbody": OF_CELLS,
    "td": OF_CELLS | {"colspan", "headers", "rowspan", "style"},
    "tfoot": OF_CELLS,
    "th": OF_CELLS | {"colspan", "headers", "rowspan", "scope", "style"},
    "thead": OF_CELLS,
    "tr": OF_CELLS,
}
ADDRESSES = {"cite", "href", "src"}
SCHEMES = {"http", "https", "mailto"}
REL = "nofollow noopener noreferrer ugc"

# What is dropped from an address before it is read: https://url.spec.whatwg.org/#url-parsing
AROUND_URLS = "".join(map(chr, range(0x21)))
IN_URLS = re.compile("[\t\n\r]")
SCHEME = re.compile("([A-Za-z][A-Za-z0-9+.-]*):")
# XML 1.0, 2.2
XML_TEXT = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")

NUMBERS = itertools.count()

Attributes = Mapping[str, str | None]


class Elements(HTMLParser):
    """The elements of HTML, with their attributes; anything but elements and text is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, Attributes]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), self.get_starttag_text()
        self.found.append((tag, dict(attrs)))

    def handle_comment(self, data: str) -> NoReturn:
        raise AssertionError(f"There is a declaration or a comment: {data}")

    def handle_decl(self, decl: str) -> NoReturn:
        self.handle_comment(decl)

    def handle_pi(self, data: str) -> NoReturn:
        self.handle_comment(data)

    def unknown_decl(self, data: str) -> NoReturn:
        self.handle_comment(data)


def scheme_of(address: str) -> str | None:
    """As a browser reads it; None where it is relative."""
    found = SCHEME.match(IN_URLS.sub("", address.strip(AROUND_URLS)))
    return found and found[1].lower()


def assert_harmless(elements: Iterable[tuple[str, Attributes]]) -> None:
    for element, attributes in elements:
        assert element in ELEMENTS
        for name, value in attributes.items():
            shown = f"{element} {name}={value!r}"
            assert name in OF_ALL | ATTRIBUTES.get(element, set()), shown
            assert not name.startswith("on"), shown
            assert value is not None, shown
            if name in ADDRESSES:
                assert scheme_of(value) in SCHEMES | {None}, shown
            elif name == "style":
                assert re.fullmatch(r"text-align:\w*", value), shown
            elif name == "class":
                # One class: whoever shows it has others that mean something.
                assert re.fullmatch(r"language-\S*", value), shown
            elif name == "rel":
                assert value == REL, shown


async def post(client: AsyncClient, content: str) -> Response:
    # Many posts of one title would look for a slug that is free.
    body = {"title": f"Hello {next(NUMBERS)}", "content": content}
    return await client.post("/posts", json=body)


async def publish(client: AsyncClient, content: str) -> str:
    """The HTML of a post that was published and is read again."""
    response = await post(client, content)
    assert response.status_code == 201, response.text
    found: str = (await client.get(f"/posts/{response.json()['id']}")).json()["content_html"]
    return found


@pytest.fixture(scope="module")
async def own_app() -> AsyncGenerator[FastAPI]:
    """An application with a renderer that a test may replace, and one connection."""
    async with running(make_settings(database_url="sqlite://", **CHEAP_HASHING)) as app:
        async with client_of(app) as client:
            await sign_up(client, "Ann")
            app.state.authorization = client.headers["Authorization"]
        async with client_of(app) as bob:
            await sign_up(bob, "Bob")
            app.state.bob = bob
            yield app


@asynccontextmanager
async def ann_of(app: FastAPI, renderer: Renderer) -> AsyncIterator[AsyncClient]:
    app.state.renderer = renderer
    async with client_of(app) as client:
        client.headers["Authorization"] = app.state.authorization
        yield client


@pytest.fixture
async def ann(own_app: FastAPI) -> AsyncGenerator[AsyncClient]:
    """An author whose texts are rendered, however busy the machine is."""
    async with ann_of(own_app, Renderer(seconds=60)) as ann:
        yield ann


@pytest.mark.parametrize("kind", ATTACKS)
async def test_sanitized_html_contains_nothing_executable(ann: AsyncClient, kind: str):
    for attack in ATTACKS[kind]:
        content_html = await publish(ann, attack)

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
    "# a\n###### b\nc\n=\n": "<h1>a</h1>\n<h6>b</h6>\n<h1>c</h1>\n",
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
        f'<p><a href="#b" rel="{REL}">a</a><a href="?d" rel="{REL}">c</a>'
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
    "https://example.com": "<p>https://example.com</p>\n",
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


def without_order(text: str) -> str:
    """The order of attributes means nothing."""
    one = r' [a-z]+="[^"]*"'
    return re.sub(f"({one})+", lambda found: "".join(sorted(re.findall(one, found[0]))), text)


@pytest.mark.parametrize("texts", [COMMONMARK, EXTENSIONS], ids=["commonmark", "extensions"])
async def test_markdown_is_rendered_to_html(ann: AsyncClient, texts: dict[str, str]):
    for text, expected in texts.items():
        assert without_order(await publish(ann, text)) == without_order(expected)


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
    content_html = await publish(ann, text)

    assert set(re.findall(r"level \d+", content_html)) == set(re.findall(r"level \d+", text))


async def test_changed_content_is_rendered_again(ann: AsyncClient):
    path = f"/posts/{(await post(ann, '*a*')).json()['id']}"

    seen = []
    for method, body in (
        ("PATCH", {"content": "**b**"}),
        ("PATCH", {"title": "Bye"}),
        ("PUT", {"title": "Bye", "content": "`c`"}),
    ):
        await ann.request(method, path, json=body)
        seen.append((await ann.get(path)).json()["content_html"])

    b, c = "<p><strong>b</strong></p>\n", "<p><code>c</code></p>\n"
    assert seen == [b, b, c]


# Half a minute and more.
SLOW = "<ul><li>" * 62_500
# More than two gigabytes: a long address that is written sixteen thousand times.
LARGE = f"[a]: /{'u' * 150_000}\n\n" + "[a] " * 16_000


class Gate(Renderer):
    """A renderer that says when it begins, and waits until it may."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.begun = asyncio.Event()
        self.is_open = asyncio.Event()

    async def render(self, text: str, *, owner: int | None = None) -> str:
        self.begun.set()
        await self.is_open.wait()
        return await super().render(text, owner=owner)


def as_written(text: str) -> str:
    return f"<pre>{html.escape(text, quote=False)}</pre>\n"


@pytest.mark.parametrize("text", ["![" * 250_000, "<b>&amp;\n\n" + SLOW[:490_000]])
async def test_a_text_that_takes_too_long_is_shown_unrendered(own_app: FastAPI, text: str):
    async with ann_of(own_app, Renderer(seconds=0.1)) as ann:
        content_html = await publish(ann, text)

        assert content_html == as_written(text)
        assert_harmless(Elements(content_html[:1_000]).found)


async def test_a_text_that_needs_too_much_memory_is_shown_unrendered(own_app: FastAPI):
    # Whichever it runs out of first.
    async with ann_of(own_app, Renderer(seconds=1)) as ann:
        content_html = await publish(ann, LARGE)
    async with ann_of(own_app, Renderer(seconds=60)) as ann:
        after = await publish(ann, "*a*")

    assert content_html == as_written(LARGE)
    assert after == "<p><em>a</em></p>\n"


# An eighth of what it may have, so that it does not take long.
RENDER_IN_LITTLE = r"""
import re, sys
from blog_api.text import markdown
markdown.MEMORY_BYTES //= 8
print(markdown.render_in_worker(sys.stdin.read()))
print(re.search(r"VmHWM:\s*(\d+) kB", open("/proc/self/status").read())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS bounds nothing elsewhere")
async def test_the_memory_of_the_renderer_process_is_limited():
    # Three thousand times are enough to be too much.
    text = LARGE[:162_000].encode()
    done = await anyio.run_process([sys.executable, "-c", RENDER_IN_LITTLE], input=text)

    html, peak_kib = done.stdout.split()
    assert html == b"None"
    assert int(peak_kib) * 1024 < MEMORY_BYTES // 8


async def test_other_requests_are_served_while_a_text_is_rendered(own_app: FastAPI):
    renderer = Gate(seconds=60)
    renderer.is_open.set()
    async with ann_of(own_app, renderer) as ann, client_of(own_app) as anonymous:
        slow = asyncio.create_task(post(ann, SLOW))
        await renderer.begun.wait()

        statuses = [
            (await anonymous.get(path)).status_code
            for path in ("/health/live", "/posts", "/tags", "/feed.atom", "/users")
            for _ in range(5)
        ]
        written = await publish(own_app.state.bob, "*b*")

        assert set(statuses) == {200}
        assert written == "<p><em>b</em></p>\n"
        assert not slow.done()
        slow.cancel()
        await asyncio.wait([slow])
        assert await publish(ann, "*a*") == "<p><em>a</em></p>\n"


async def test_no_connection_is_held_while_a_text_is_rendered(own_app: FastAPI):
    async with ann_of(own_app, Renderer()) as ann:
        old = (await post(ann, "old")).json()
        gate = Gate(seconds=60)
        own_app.state.renderer = gate
        waiting = [
            asyncio.create_task(post(ann, "*new*")),
            asyncio.create_task(ann.patch(f"/posts/{old['id']}", json={"content": "*newer*"})),
        ]
        await gate.begun.wait()

        # There is one connection: whoever held it would keep all of these from it.
        read = await ann.get(f"/posts/{old['id']}")
        written = await ann.patch(f"/posts/{old['id']}", json={"title": "Meanwhile"})
        gate.is_open.set()
        answers = [await task for task in waiting]

        assert (read.status_code, written.status_code) == (200, 200)
        assert [answer.status_code for answer in answers] == [201, 200]
        assert answers[1].json()["title"] == "Meanwhile"
        assert answers[1].json()["content"] == "*newer*"


# What a page does that shows a text, in the page itself.
WATCH = """
() => {
    window.ran = [];
    for (const name of ["pwn", "alert", "confirm", "prompt", "print", "open", "fetch"]) {
        window[name] = () => { window.ran.push(name); };
    }
    // Following a link is what links are for; running it is not.
    window.addEventListener("click", (event) => {
        const link = event.target.closest && event.target.closest("a[href], area[href]");
        if (link && ["http:", "https:", "mailto:"].includes(link.protocol)) event.preventDefault();
    }, true);
    window.addEventListener("submit", (event) => {
        if (event.isTrusted) window.ran.push("submit");
        event.preventDefault();
    }, true);
}
"""
POKE = """
async () => {
    const types = [
        "animationend", "animationstart", "auxclick", "beforeinput", "blur", "change",
        "contextmenu", "copy", "cut", "dblclick", "drag", "error", "focus", "focusin", "input",
        "keydown", "keyup", "load", "mousedown", "mouseenter", "mousemove", "mouseover",
        "mouseup", "paste", "pointerdown", "pointerenter", "pointermove", "pointerover",
        "pointerup", "scroll", "submit", "toggle", "touchstart", "transitionend", "wheel",
    ];
    for (const element of document.querySelectorAll("*")) {
        for (const type of types) {
            const Kind = type.startsWith("mouse") ? MouseEvent : Event;
            element.dispatchEvent(new Kind(type, {bubbles: true, cancelable: true}));
        }
        if (element.focus) element.focus();
        if (element.click) element.click();
    }
    await new Promise((done) => setTimeout(done, 20));
    return window.ran;
}
"""
DESCRIBE = """
() => [...document.body.querySelectorAll("*")].map((element) => [
    element.namespaceURI === "http://www.w3.org/1999/xhtml" ? element.localName : element.tagName,
    Object.fromEntries([...element.attributes].map((one) => [one.name, one.value])),
])
"""
# From a document that nobody shows, and once more from what the first time made of it.
ADOPT = """
(text) => {
    const detached = document.implementation.createHTMLDocument("");
    for (const _ of [1, 2]) {
        const box = detached.createElement("div");
        box.innerHTML = text;
        text = box.innerHTML;
        document.body.append(document.adoptNode(box));
    }
    const parsed = new DOMParser().parseFromString(text, "text/html").body;
    document.body.append(...document.adoptNode(parsed).childNodes);
    const template = document.createElement("template");
    template.innerHTML = text;
    document.body.append(template.content.cloneNode(true));
    for (const parent of ["li", "td", "summary"]) {
        const box = document.createElement(parent);
        box.innerHTML = text;
        document.body.append(box);
        text = box.innerHTML;
    }
}
"""


class Reader:
    """A page with no policy of its own that shows texts, and what happened there."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.happened: list[str] = []

    async def open(self) -> None:
        await self.page.route("**/*", self.answer)
        self.page.on("dialog", self.dismiss)
        self.page.on("popup", lambda page: self.happened.append("popup"))
        self.page.on("pageerror", lambda error: self.happened.append(f"error: {error}"))
        self.page.on("download", lambda download: self.happened.append("download"))
        await self.renew()

    async def renew(self) -> None:
        await self.page.goto("http://blog.example/")
        await self.page.evaluate(WATCH)
        self.happened.clear()

    async def answer(self, route: Any) -> None:
        request = route.request
        if request.url == "http://blog.example/" and request.resource_type == "document":
            await route.fulfill(body="<!doctype html><p>", content_type="text/html")
            return
        if request.resource_type != "image":
            self.happened.append(f"{request.resource_type}: {request.url}")
        await route.abort()

    async def dismiss(self, dialog: Any) -> None:
        self.happened.append("dialog")
        await dialog.dismiss()

    async def read(self, text: str) -> list[tuple[str, Attributes]]:
        """Show a text as a page, as the parser and `document.write` do."""
        await self.page.evaluate("() => { window.ran = []; }")
        await self.page.set_content(text)
        # Opening a document anew takes its listeners off.
        await self.page.evaluate(WATCH.replace("window.ran = [];", ""))
        return await self.poke()

    async def adopt(self, texts: list[str]) -> list[tuple[str, Attributes]]:
        """Add texts to the page, as scripts of a page do."""
        for text in texts:
            await self.page.evaluate(ADOPT, text)
        return await self.poke()

    async def poke(self) -> list[tuple[str, Attributes]]:
        """Touch everything that is there; tell what is there."""
        found = [(tag, attributes) for tag, attributes in await self.page.evaluate(DESCRIBE)]
        self.happened += await self.page.evaluate(POKE)
        self.happened += [f"frame: {frame.url}" for frame in self.page.frames[1:]]
        return found


@pytest.fixture
async def reader(chromium: Any) -> AsyncIterator[Reader]:
    page = await chromium.new_page()
    reader = Reader(page)
    await reader.open()
    yield reader
    await page.close()


@pytest.mark.browser
async def test_a_browser_executes_nothing_in_sanitized_html(ann: AsyncClient, reader: Reader):
    texts = [await publish(ann, attack) for attacks in ATTACKS.values() for attack in attacks]

    for text in texts:
        assert_harmless(await reader.read(text))
        assert reader.happened == [], text
    await reader.renew()
    # Most of the deep ones alone have a thousand elements.
    assert_harmless(await reader.adopt([text for text in texts if len(text) < 5_000]))

    assert reader.happened == []


# What a page does that shows a text as it was written.
RUNS = {
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
}


@pytest.mark.browser
async def test_the_browser_check_detects_scripts_in_a_page(reader: Reader):
    for text, happens in RUNS.items():
        await reader.renew()
        await reader.read(text)

        assert happens in reader.happened, text


@pytest.mark.browser
async def test_the_browser_check_detects_scripts_in_adopted_nodes(reader: Reader):
    await reader.adopt(["<img src=x onerror=pwn()><svg><style><p onclick=alert(1)>"])

    assert {"pwn", "alert"} <= set(reader.happened)
