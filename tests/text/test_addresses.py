"""Addresses of links and pictures in texts, and not in code."""

import time

import pytest

from blog_api.text.addresses import MarkedText, find_addresses, replace_all
from blog_api.text.markdown import HTML, MARKDOWN, RENDERERS, ContentType, Source


def change(content: str, content_type: ContentType = MARKDOWN) -> str:
    """Replace each address that readers get by NEW, and that of a picture by PICTURE."""
    source = Source(content, content_type)
    marked = MarkedText(source, find_addresses(source, lambda value: "a.png" in value))
    shown = marked.find_shown(RENDERERS[content_type](marked.source.content))
    values = ["PICTURE" if one.is_picture else "NEW" for one in shown]
    return replace_all(content, [one.address for one in shown], values)


@pytest.mark.parametrize(
    ("content", "changed"),
    [
        ("![](a.png)", "![](PICTURE)"),
        ('![A](./b/a.png "t")', '![A](PICTURE "t")'),
        ("![A](  a.png 't')", "![A](  PICTURE 't')"),
        ("![A](\na.png)", "![A](\nPICTURE)"),
        ("![A](<my a.png>)", "![A](<PICTURE>)"),
        ("![A](my%20a.png)", "![A](PICTURE)"),
        ("![A](a.png(1))", "![A](PICTURE)"),
        ("![A](\\(a.png)", "![A](PICTURE)"),
        ("[A](a.png)", "[A](NEW)"),
        ("[![A](a.png)](b/a.png)", "[![A](PICTURE)](NEW)"),
        ("![A][x]\n\n[x]: a.png 't'", "![A][x]\n\n[x]: PICTURE 't'"),
        ("![x]\n\n[x]:\n  <a.png>", "![x]\n\n[x]:\n  <PICTURE>"),
        ("![x][]\n\n> [X]: a.png", "![x][]\n\n> [X]: PICTURE"),
        ('A <img alt="" src="a.png"> b', 'A <img alt="" src="PICTURE"> b'),
        ("<p>\n<IMG SRC = 'a.png'>\n</p>", "<p>\n<IMG SRC = 'PICTURE'>\n</p>"),
        ("x[1]: <img src=a.png> y", "x[1]: <img src=PICTURE> y"),
        ("<img src=a.png >", "<img src=PICTURE >"),
        ("| ![A](a.png) | `![A](a.png)` |\n|-|-|", "| ![A](PICTURE) | `![A](a.png)` |\n|-|-|"),
        ("- > ![A](a.png)", "- > ![A](PICTURE)"),
        ("A[^1]\n\n[^1]: ![](a.png)", "A[^1]\n\n[^1]: ![](PICTURE)"),
        ('x[1]: <source srcset="a.png"> y', 'x[1]: <source srcset="PICTURE"> y'),
        ("**![A](a.png)**\r\n![A](a.png)", "**![A](PICTURE)**\r\n![A](PICTURE)"),
        ("![A](a.png) `![A](a.png)` ![A](a.png)", "![A](PICTURE) `![A](a.png)` ![A](PICTURE)"),
        ("[x]: a.png\n[x]: b/a.png\n\n![x]", "[x]: PICTURE\n[x]: b/a.png\n\n![x]"),
    ],
)
def test_each_form_of_an_address_is_changed(content: str, changed: str):
    assert change(content) == changed


@pytest.mark.parametrize(
    "content",
    [
        "`![A](a.png)`",
        "``![A](a.png) ` ``",
        "```\n![A](a.png)\n```",
        "~~~html\n<img src='a.png'>\n~~~",
        "    ![A](a.png)",
        "- x\n\n      ![A](a.png)",
        "> ```\n> ![A](a.png)",
        '<code>src="a.png"</code>',
        "<pre>\n![A](a.png)\n</pre>",
        "<!-- ![A](a.png) <img src='a.png'> -->",
        "<script>x('<img src=\"a.png\">')</script>",
        "\\![A]\\(a.png)",
        "![A] (a.png)",
        "[x]: a.png",
        "a.png](a.png",
        '<p title="![A](a.png)">x</p>',
        "<p data-src='a.png'>x</p>",
    ],
)
def test_what_only_looks_like_an_address_stays(content: str):
    assert change(content) == content


@pytest.mark.parametrize(
    ("content", "changed"),
    [
        ('<img src="a.png">', '<img src="PICTURE">'),
        ("<a href='a.png'>![A](a.png)</a>", "<a href='NEW'>![A](a.png)</a>"),
        ('<pre>&lt;img src="a.png"&gt;</pre>', '<pre>&lt;img src="a.png"&gt;</pre>'),
        ('<!-- <img src="a.png"> -->', '<!-- <img src="a.png"> -->'),
        ('<video src="a.png"></video>', '<video src="NEW"></video>'),
        ("<video POSTER=a.png></video>", "<video POSTER=PICTURE></video>"),
        ('<track src="a.png">', '<track src="a.png">'),
        (
            "<picture><source srcset=' a.png 1x,b/a.png 2x '><img srcset='c.png,\na.png 9w'>",
            "<picture><source srcset=' PICTURE 1x,PICTURE 2x '><img srcset='c.png,\nPICTURE 9w'>",
        ),
        ('<img srcset="a.png,w_1.png 1x">', '<img srcset="PICTURE 1x">'),
    ],
)
def test_html_has_no_markdown(content: str, changed: str):
    assert change(content, HTML) == changed


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("![A](a\\_b&amp;c.png)", "a_b&c.png"),
        ('<img src="a\\_b&amp;c.png">', "a\\_b&c.png"),
    ],
)
def test_an_address_is_read_without_its_escapes(content: str, value: str):
    (address,) = find_addresses(Source(content), lambda _: True)

    assert address.value == value


def test_a_long_text_of_possible_addresses_is_searched_at_once():
    for part in (
        "](",
        "](<",
        "](((",
        "src=",
        'src="',
        "]: ",
        "](\\",
        "](" + " " * 100,
        "](<a ",
        "srcset='a",
        "srcset='a, ",
        "poster=",
    ):
        content = part * (500_000 // len(part))
        before = time.process_time()

        find_addresses(Source(content), lambda _: False)

        assert time.process_time() - before < 2, part
