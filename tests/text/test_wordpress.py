"""Paragraphs, shortcodes, comments and titles of WordPress.

The cases of `wpautop` are of the kinds that WordPress' own tests have.
"""

import re

import pytest

from blog_api.text.sanitizer import sanitize_html
from blog_api.text.wordpress import Attachment, render_comment, render_title, render_wordpress
from blog_api.text.wpautop import IS_BLOCK, WITHOUT_TEXT, wpautop

ATTACHMENTS = {
    "5": Attachment("https://a.example/5.jpg", "A & b", "9"),
    "6": Attachment("https://a.example/6.jpg", "", "9"),
}


def render(content: str) -> str:
    return render_wordpress(content, "9", ATTACHMENTS)


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("", ""),
        ("one", "<p>one</p>\n"),
        ("one\r\ntwo\rthree", "<p>one<br>two<br>three</p>\n"),
        ("one\n\n \n\ntwo\n", "<p>one</p>\n<p>two</p>\n"),
        ("one<br>\ntwo<br/>\nthree", "<p>one<br>two<br/>three</p>\n"),
        ("one<br>\n<br />\ntwo<br>", "<p>one</p>\n<p>two</p>\n"),
        ("one<hr>two", "<p>one</p>\n<hr>\n<p>two</p>\n"),
        ("one<div>two</div>three", "<p>one</p>\n<div>two</div>\n<p>three</p>\n"),
        ("<div>one\n\ntwo</div>", "<div>one<p>two</p>\n</div>\n"),
        ("<p>one\n\ntwo</p>", "<p>one<p>two</p>\n</p>\n"),
        ("<blockquote>one\n\ntwo</blockquote>",
         "<blockquote>\n<p>one</p>\n<p>two</p>\n</blockquote>\n"),
        ("<ul>\n<li>one</li>\n<li>two\nthree</li>\n</ul>",
         "<ul><li>one</li>\n<li>two<br>three</li>\n</ul>\n"),
        ("<a\nhref='x'>one</a>", "<p><a\nhref='x'>one</a></p>\n"),
        ("one <!-- a\n\nb --> two", "<p>one <!-- a\n\nb --> two</p>\n"),
        ("<!--more-->\n\none", "<!--more--><p>one</p>\n"),
        ("<em>one\n\ntwo</em>", "<p><em>one</p>\n<p>two</em></p>\n"),
        ("<object>\n <param>\n\n <embed>\n</object>", "<p><object><param><embed></object></p>\n"),
        ("<figure>\n<img src='x'>\n<figcaption>one</figcaption>\n</figure>",
         "<figure><img src='x'><figcaption>one</figcaption>\n</figure>\n"),
    ],
)  # fmt: skip
def test_blank_lines_become_paragraphs_and_lines_breaks(text: str, html: str):
    assert wpautop(text) == html


@pytest.mark.parametrize("tag", sorted(IS_BLOCK - WITHOUT_TEXT))
def test_a_block_is_in_no_paragraph(tag: str):
    assert "<p>" not in wpautop(f"<{tag} title='x'>\none\n</{tag}>").removeprefix("<p")


@pytest.mark.parametrize("tag", ["a", "em", "code", "span", "ins", "noscript", "select"])
def test_inline_elements_are_in_paragraphs(tag: str):
    assert wpautop(f"<{tag}>one</{tag}>\n\n<{tag}>two</{tag}>") == (
        f"<p><{tag}>one</{tag}></p>\n<p><{tag}>two</{tag}></p>\n"
    )


@pytest.mark.parametrize("tag", ["pre", "style", "svg", "textarea", "script"])
def test_text_that_is_not_prose_stays_byte_for_byte(tag: str):
    text = f"<{tag}>\n\na = 1\n\n\n# a comment\n\tb &amp;&lt; 2<br>\n\n[code]x[/code]\n</{tag}>"

    assert text in wpautop(f"one\n\n{text}\n\ntwo")


def test_text_in_pre_stays_as_it_is_whatever_is_around_it():
    text = "<pre><code>a\n\n[php]b[/php]\nhttps://a.example/\n\n  c</code></pre>"

    assert render(f"one\n\n{text}") == f"<p>one</p>\n{text}"


def test_contents_of_the_block_editor_have_their_paragraphs():
    content = "<!-- wp:paragraph -->\n<p>one\ntwo</p>\n<!-- /wp:paragraph -->"

    assert render(content) == content


@pytest.mark.parametrize(
    ("content", "html"),
    [
        (
            "[caption id='a' width='3']<a href='https://b/'><img src='https://a/'></a> One <i>b</i>"
            "[/caption]",
            "<figure><a href='https://b/'><img src='https://a/'></a>"
            "<figcaption>One <i>b</i></figcaption></figure>",
        ),
        (
            '[caption caption="One &amp; two"]<img src="https://a/">[/caption]',
            '<figure><img src="https://a/"><figcaption>One & two</figcaption></figure>',
        ),
        ("[caption]no picture[/caption]", "<p>[caption]no picture[/caption]</p>"),
        (
            "[gallery]",
            '<figure><img src="https://a.example/5.jpg" alt="A &amp; b" /></figure>'
            '<figure><img src="https://a.example/6.jpg" alt="" /></figure>',
        ),
        (
            '[gallery ids="6"]',
            '<figure><img src="https://a.example/6.jpg" alt="" /></figure>',
        ),
        ('[gallery ids="7"]', '<p>[gallery ids="7"]</p>'),
        (
            "[php]\n<?php\n\necho 1 && 2;\n[/php]",
            '<pre><code class="language-php">&lt;?php\n\necho 1 &amp;&amp; 2;\n</code></pre>',
        ),
        (
            "[sourcecode lang='C++']a &lt; b[/sourcecode]",
            '<pre><code class="language-c++">a &lt; b</code></pre>',
        ),
        ("[code]x[/code]", "<pre><code>x</code></pre>"),
        (
            "[embed width=1]https://a.example/?b&amp;c[/embed]",
            '<p><a href="https://a.example/?b&amp;c">https://a.example/?b&amp;c</a></p>',
        ),
        (
            "one\n\nhttps://a.example/\n\ntwo",
            '<p>one</p>\n<p><a href="https://a.example/">https://a.example/</a></p>\n<p>two</p>',
        ),
        (
            '[video src="https://a.example/a.mp4"][/video]',
            '<p><a href="https://a.example/a.mp4">https://a.example/a.mp4</a></p>',
        ),
        ("[contact-form to=x] one", "<p>[contact-form to=x] one</p>"),
    ],
)
def test_shortcodes_become_html_or_stay_visible(content: str, html: str):
    assert render(content) == html
    assert re.sub("<[^>]*>", "", sanitize_html(html)) or "<img" in html


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("One &lt;b&gt; &amp; <b>two</b>\n\nthree", "One <b> & two\n\nthree"),
        ("<p>One</p><p>two<br>three</p>", "One\ntwo\nthree\n"),
        ("<a href='https://a.example/?b&amp;c'>One</a>", "One (https://a.example/?b&c)"),
        ("<a href='https://a.example/'>https://a.example/</a>", "https://a.example/"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
    ],
)
def test_a_comment_becomes_plain_text(html: str, text: str):
    assert render_comment(html) == text


def test_a_title_becomes_plain_text():
    assert render_title("A <em>b</em> &amp; &lt;c&gt; 1 < 2") == "A b & <c> 1 < 2"
