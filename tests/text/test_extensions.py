"""Ids, footnotes, task lists, bare addresses, media and frames in texts."""

import itertools
import re
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlmodel import col, update

from blog_api.posts.models import Post
from blog_api.text.markdown import HTML, MARKDOWN, RENDERERS, ContentType
from tests.support.attacks import ATTACKS
from tests.support.clients import CHEAP_HASHING, client_of, make_settings, publish, running, sign_up
from tests.support.html import IFRAME, REL, XML_TEXT, Elements, assert_harmless
from tests.support.rebuilds import count_wrong
from tests.support.recording_page import RecordingPage

HOST = "video.example"
NUMBERS = itertools.count()
FRAME = "".join(f' {name}="{value}"' for name, value in IFRAME.items())


@pytest.fixture(scope="module")
async def ann(app: FastAPI) -> AsyncGenerator[AsyncClient]:
    """An author of a blog that shows frames from one host."""
    settings = make_settings(
        database_url="sqlite://", iframe_hosts=[HOST, "видео.рф"], **CHEAP_HASHING
    )
    async with running(settings) as own, client_of(own) as client:
        await sign_up(client, "Ann")
        yield client


async def render(client: AsyncClient, content: str, content_type: ContentType = MARKDOWN) -> str:
    """Publish a text and return its HTML."""
    post = await publish(
        client, title=f"Hello {next(NUMBERS)}", content=content, content_type=content_type
    )
    html: str = (await client.get(f"/posts/{post['id']}")).json()["content_html"]
    return html.removesuffix("\n")


def find_values(html: str, name: str) -> list[str]:
    found = [attributes.get(name) for _, attributes in Elements(html).found]
    return [value for value in found if value is not None]


@pytest.mark.parametrize(
    ("heading", "slug"),
    [
        ("Hello, World!", "hello-world"),
        ("  What's new in 2.0?  ", "whats-new-in-20"),
        ("C++ & `a_b` -- *c*", "c--a_b----c"),
        ("Введение: часть 1", "введение-часть-1"),
        ("हिन्दी की बात", "हिन्दी-की-बात"),
        ("ภาษาไทย", "ภาษาไทย"),
        ("日本語、中文。", "日本語中文"),
        ("Straße ÉCOLE", "straße-école"),
        ("e\u0301te\u0301", "e\u0301te\u0301"),
        ("A 🎉 party", "a--party"),
        ("[Link](/a) ![picture](/b) x", "link--x"),
        ("A&lt;b&gt; &amp; <i>c</i>", "ab--c"),
        ("A[^1]\n\n[^1]: note", "a"),
    ],
)
async def test_headings_have_ids_as_on_github(ann: AsyncClient, heading: str, slug: str):
    html = await render(ann, f"# {heading}")

    assert find_values(html, "id")[0] == f"user-content-{slug}"


async def test_a_heading_without_letters_has_no_id(ann: AsyncClient):
    assert await render(ann, "# !?") == "<h1>!?</h1>"


@pytest.mark.parametrize(
    ("content", "content_type", "ids"),
    [
        ("# A\n# A\n# A-1\n# A", MARKDOWN, "a a-1 a-1-1 a-2"),
        ("<h2>A</h2><h3 align=left>A</h3><h4 id=b>A</h4>", HTML, "a a-1 b"),
        ('<p id="a">\n\n# A', MARKDOWN, "a a-1"),
        ("<p id=a>1</p><p id=a>2</p><p id=user-content-a>3</p>", HTML, "a"),
        ("<h1>A</h1><p id=a>b</p>", HTML, "a-1 a"),
        ("# fn:1\n# fnref1\n\nA[^1]\n\n[^1]: b", MARKDOWN, "fn1 fnref1 fnref:1 fn:1"),
    ],
)
async def test_ids_are_unique_in_a_text(
    ann: AsyncClient, content: str, content_type: ContentType, ids: str
):
    html = await render(ann, content, content_type)

    assert find_values(html, "id") == [f"user-content-{one}" for one in ids.split()]


@pytest.mark.parametrize("content_type", [MARKDOWN, HTML])
async def test_a_table_of_contents_leads_to_its_places(ann: AsyncClient, content_type: ContentType):
    html = await render(
        ann,
        '<a href="#b">1</a> <a href="#user-content-c">2</a> <a href="#d">3</a> <a href="#">4</a> '
        '<a href="#top">5</a> <a href="/x#b">6</a>\n\n<h2 id="b">B</h2>\n\n<h2>C</h2>\n\n'
        '<a name="d"></a>',
        content_type,
    )

    links = [href.removeprefix("#") for href in find_values(html, "href")]
    places = find_values(html, "id") + find_values(html, "name")
    assert links == [*places, "", "top", "/x#b"]


async def test_links_to_headings_in_other_scripts_follow_the_prefix(ann: AsyncClient):
    html = await render(ann, "[a](#дом)\n\n# Дом")

    assert find_values(html, "href") == ["#user-content-%D0%B4%D0%BE%D0%BC"]
    assert find_values(html, "id") == ["user-content-дом"]


async def test_the_ids_of_headers_follow_the_prefix(ann: AsyncClient):
    html = await render(ann, '<table><tr><th id="a">A<td headers="a b">', HTML)

    assert find_values(html, "headers") == ["user-content-a user-content-b"]


def link(address: str, text: str | None = None) -> str:
    return f'<a href="{address}" rel="{REL}">{text or address}</a>'


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("See https://example.com/a_b?c&d.", f"See {link('https://example.com/a_b?c&amp;d')}."),
        ("(http://example.com/a(b))", f"({link('http://example.com/a(b)')})"),
        ("**https://example.com**", f"<strong>{link('https://example.com')}</strong>"),
        ("www.example.com", link("http://www.example.com", "www.example.com")),
        ("a@example.com", link("mailto:a@example.com", "a@example.com")),
        (
            "https://пример.рф/ж",
            link("https://xn--e1afmkfd.xn--p1ai/%D0%B6", "https://пример.рф/ж"),
        ),
        ("`https://example.com`", "<code>https://example.com</code>"),
        ("[https://example.com](/a)", link("/a", "https://example.com")),
        ("<a href=/a>https://example.com</a>", link("/a", "https://example.com")),
        (
            "xhttps://example.com example.com README.md",
            "xhttps://example.com example.com README.md",
        ),
        ("javascript://example.com xmpp:a@b", "javascript://example.com xmpp:a@b"),
        ("https://example.com/\\_a\\_", "https://example.com/_a_"),
        ("http:// https://_ http:", "http:// https://_ http:"),
        ("[Call](tel:+4912) <tel:+4912>", f"{link('tel:+4912', 'Call')} {link('tel:+4912')}"),
    ],
)
async def test_addresses_are_links(ann: AsyncClient, content: str, shown: str):
    assert await render(ann, content) == f"<p>{shown}</p>"


async def test_task_lists_have_disabled_checkboxes(ann: AsyncClient):
    html = await render(ann, "- [ ] a\n- [x] *b*\n  1. [X] c\n- [y] d\n\n[ ] e")

    assert html == (
        '<ul class="contains-task-list">\n'
        '<li class="task-list-item"><input type="checkbox" disabled=""> a</li>\n'
        '<li class="task-list-item"><input type="checkbox" checked="" disabled=""> <em>b</em>\n'
        '<ol class="contains-task-list">\n'
        '<li class="task-list-item"><input type="checkbox" checked="" disabled=""> c</li>\n'
        "</ol>\n</li>\n<li>[y] d</li>\n</ul>\n<p>[ ] e</p>"
    )


async def test_other_fields_are_removed(ann: AsyncClient):
    html = await render(ann, "<input><input type=text value=a><input type=checkbox checked>", HTML)

    assert html == '<input type="checkbox" checked="" disabled="">'


async def test_footnotes_and_their_marks_link_to_each_other(ann: AsyncClient):
    html = await render(ann, "A[^x] B[^y] C[^x]\n\n[^y]: Two\n\n[^x]: *One*\n\n    - more")

    places = find_values(html, "id")
    numbers = re.findall(r"\[(\d)\]", html)
    assert places == [
        *(f"user-content-fnref:{one}" for one in ("1", "2", "1:1")),
        *(f"user-content-fn:{one}" for one in (1, 2)),
    ]
    assert {href.removeprefix("#") for href in find_values(html, "href")} == set(places)
    assert numbers == ["1", "2", "1"]
    assert html.index('<section class="footnotes">') < html.index("One") < html.index("more")
    assert html.index("more") < html.index("Two")


async def test_what_is_no_footnote_is_text(ann: AsyncClient):
    html = await render(
        ann, "A[^x] [^a b] ^[c] [^]\n\n[^1]: One[^1]\n\nB[^2]\n\n[^2]: C\n\n    [^3]: D e"
    )

    assert "A[^x] [^a b] ^[c] [^]" in html
    assert "[^3]: D e" in html


MEDIA = (
    '<figure><picture><source srcset="a.webp 200w, b.webp 400w" type="image/webp" '
    'media="(min-width: 9em)" sizes="50vw"><img src="a.png" srcset="a.png 1x, b,c.png 2x" '
    'alt="A" loading="lazy"></picture><figcaption>A</figcaption></figure>'
    '<video src="a.mp4" poster="p.png" loop="" muted="" playsinline="" preload="none" '
    'width="9" height="9" controls="">b</video>'
    '<audio preload="metadata" controls=""><source src="a.ogg" type="audio/ogg"></audio>'
)


@pytest.mark.parametrize("content_type", [MARKDOWN, HTML])
async def test_pictures_films_and_sounds_stay(ann: AsyncClient, content_type: ContentType):
    assert await render(ann, MEDIA, content_type) == MEDIA


async def test_films_and_sounds_do_not_start_by_themselves(ann: AsyncClient):
    html = await render(ann, "<video autoplay src=a></video><audio preload=auto src=b>", HTML)

    assert html == '<video src="a" controls=""></video><audio controls="" src="b"></audio>'


@pytest.mark.parametrize("content_type", [MARKDOWN, HTML])
@pytest.mark.parametrize(
    "address",
    [f"https://{HOST}/embed/a?b=1&amp;c#d", f"https://{HOST}", "https://xn--b1aedk6a.xn--p1ai/"],
)
async def test_a_frame_from_a_host_of_the_setting_stays(
    ann: AsyncClient, address: str, content_type: ContentType
):
    html = await render(
        ann,
        f'<div><iframe width="9" src="{address}" title="A" allowfullscreen frameborder="0" '
        'allow="autoplay" srcdoc="x" name="y" sandbox="allow-forms">old</iframe> b</div>',
        content_type,
    )

    assert html == (
        f'<div><iframe width="9" src="{address}" title="A" allowfullscreen=""{FRAME}></iframe>'
        " b</div>"
    )


@pytest.mark.parametrize(
    ("frame", "shown"),
    [
        ('src="https://other.example/a?b&c"', link("https://other.example/a?b&amp;c")),
        (
            'src="https://other.example/" title="A <b>"',
            link("https://other.example/", "A &lt;b&gt;"),
        ),
        (f'src="http://{HOST}/"', link(f"http://{HOST}/")),
        (f'src="//{HOST}/"', link(f"//{HOST}/")),
        ('src="/demo"', link("/demo")),
        ('src="javascript:pwn()" title="A"', "A"),
        ('srcdoc="a"', "[iframe]"),
    ],
)
async def test_another_frame_is_replaced_by_a_link(ann: AsyncClient, frame: str, shown: str):
    assert await render(ann, f"<p>a <iframe {frame}></iframe> b</p>", HTML) == f"<p>a {shown} b</p>"


@pytest.mark.parametrize("end", [">", "/>", " />\n\n"])
async def test_the_text_after_a_frame_without_an_end_stays(ann: AsyncClient, end: str):
    html = await render(
        ann, f'<iframe src="https://{HOST}/"{end}<b>a</b> <iframe src="/c"></iframe> d'
    )

    assert "<b>a</b>" in html
    assert link("/c") in html
    assert html.endswith((" d", " d</p>"))


async def test_no_host_may_be_framed_by_default(bob: AsyncClient):
    html = await render(bob, f'<iframe src="https://{HOST}/"></iframe>', HTML)

    assert html == link(f"https://{HOST}/")


async def test_the_processes_that_render_long_texts_know_the_hosts(ann: AsyncClient):
    html = await render(ann, f'{"a " * 2_000}\n\n<iframe src="https://{HOST}/"></iframe>')

    assert html.endswith(f'<iframe src="https://{HOST}/"{FRAME}></iframe>')


@pytest.mark.parametrize(
    "values",
    [
        {"iframe_hosts": ["*.example.com"]},
        {"iframe_hosts": ["https://example.com"]},
        {"iframe_hosts": ["example.com:8443"]},
        {"iframe_hosts": ["example.com."]},
        {"iframe_hosts": ["127.0.0.1"]},
        {"iframe_hosts": ["a@example.com"]},
        # A frame from the page's own origin can leave its sandbox.
        {"iframe_hosts": ["example.com"], "public_url": "https://example.com/api"},
        {"iframe_hosts": ["example.com"], "post_url": "https://example.com/{slug}"},
        {"iframe_hosts": ["example.com"], "cors_origins": ["https://example.com"]},
    ],
)
def test_a_host_of_frames_is_a_foreign_host_name(values: dict[str, Any]):
    with pytest.raises(ValueError, match=r"(?i)iframe_hosts"):
        make_settings(database_url="sqlite://", **CHEAP_HASHING, **values)


@pytest.mark.parametrize("content_type", [MARKDOWN, HTML])
@pytest.mark.parametrize(
    "kind", ["frames of another host", "frames and forms", "mutations", "media"]
)
async def test_nothing_but_frames_of_the_host_is_loaded(
    ann: AsyncClient, kind: str, content_type: ContentType
):
    for attack in ATTACKS[kind]:
        html = await render(ann, attack, content_type)

        try:
            assert_harmless(Elements(html).found, {HOST})
            assert XML_TEXT.fullmatch(html)
            # As an import of an export does.
            again = RENDERERS[HTML](html, {HOST})
            assert_harmless(Elements(again).found, {HOST})
            assert again.count("<iframe") == html.count("<iframe")
        except AssertionError as error:
            error.add_note(f"{attack!r} became {html!r}")
            raise


@pytest.mark.browser
async def test_a_browser_loads_nothing_but_frames_of_the_host(
    ann: AsyncClient, recording_page: RecordingPage
):
    for attack in ATTACKS["frames of another host"]:
        html = await render(ann, attack, HTML)
        await recording_page.reset()

        await recording_page.show([html])

        # A frame is listed too; its request, which is not sent on, tells its address.
        others = [one for one in recording_page.events if not one.startswith("frame: ")]
        assert all(one.startswith(f"document: https://{HOST}/") for one in others), attack
        assert len(others) == html.count("<iframe"), attack


async def test_html_that_was_sanitized_stays_as_it_is(ann: AsyncClient):
    html = await render(
        ann,
        f'# A\n[a](#a)[^1]\n\n- [x] b\n\n{MEDIA}<iframe src="https://{HOST}/"></iframe>\n\n[^1]: c',
    )

    assert await render(ann, html, HTML) == html


async def test_rendering_again_gives_old_posts_their_ids(empty_app: FastAPI, bob: AsyncClient):
    app = empty_app
    post = await publish(bob, content="# A")
    old_html = "<h1>A</h1>\n"
    async with app.state.database.session(writes=True) as session:
        statement = update(Post).where(col(Post.id) == post["id"])
        await session.exec(statement.values(content_html=old_html))
    app.state.database.invalidate(2)
    path = f"/posts/{post['id']}"
    before = await bob.get(path)

    wrong = await count_wrong(app.state.database, "html", repairs=True)
    app.state.database.invalidate(2)
    after = await bob.get(path, headers={"If-None-Match": before.headers["ETag"]})
    changed = await bob.patch(
        path, json={"title": "New"}, headers={"If-Match": before.headers["ETag"]}
    )

    assert before.json()["content_html"] == old_html
    assert wrong == {"html": 1}
    assert after.status_code == 200
    assert after.json() == {
        **before.json(), "content_html": '<h1 id="user-content-a">A</h1>\n'
    }  # fmt: skip
    assert changed.status_code == 200


PATHOLOGICAL = {
    "headings with one name": "# a\n",
    "headings in headings": "<h1><p>a",
    "definitions of one footnote": "[^1]: a\n\n",
    "marks of one footnote": "[^1]: a\n[^1]",
    "marks without an end": "[^1]: a\n[^a",
    "footnotes in footnotes": "[^1]: ",
    "footnotes in lists": "- [^1]: [^1]\n",
    "addresses": "http://a ",
    "schemes": "http://",
    "colons": "a:",
    "addresses of mails": "mailto:a",
    "signs": "a@",
    "hosts": "www.",
    "parentheses": "http://a))))",
    "tasks": "- [ ] a\n",
    "tasks in tasks": "- [ ] ",
    "frames": "<iframe>",
    "frames in links": "<a><iframe src=x></iframe>",
    "frames without an end": '<iframe a="',
    "candidates": "<img srcset='a 1x,, b'>",
    "commas": "<img srcset=',,,,a,,,,'>",
    "ids": "<b id=a>",
    "films": "<video>",
}


@pytest.mark.parametrize("name", PATHOLOGICAL)
def test_no_extension_makes_rendering_slow(name: str):
    part = PATHOLOGICAL[name]
    text = part * (20_000 // len(part))
    started = time.process_time()

    RENDERERS[MARKDOWN](text, {HOST})

    assert time.process_time() - started < 3, name
