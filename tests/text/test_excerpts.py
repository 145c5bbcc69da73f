"""Summaries and reading times are made of sanitized HTML."""

import re

import pytest

from blog_api.text.excerpts import cut_summary, make_excerpt
from blog_api.text.markdown import render_markdown, render_plain_text


@pytest.mark.parametrize(
    ("markdown", "summary"),
    [
        ("A *b*c **d**.", "A bc d."),
        ("# Title\n\nText\n\n- one\n- two", "Title Text one two"),
        ("<p>a</p><p>b</p><br>c<hr>d", "a b c d"),
        ("1 &lt; 2 &amp;&amp; `<b>`", "1 < 2 && <b>"),
        ('[a](https://example.com "x > y")b', "ab"),
        ("| a | b |\n|---|---|\n| c | d |", "a b c d"),
        ("a  \nb\u00a0c\td", "a b c d"),
        ("![alt](a.png)", ""),
        ("<script>alert(1)</script>", ""),
        ("a<!-- secret -->b", "ab"),
        ("\x85a\x9fb", "a b"),
        ("a[^1]. b[^1]\n\n[^1]: note", "a. b"),
        ("- [x] a\n- [ ] b", "a b"),
        ("<figure><img src=a.png><figcaption>a</figcaption></figure>b", "a b"),
        ("a <video src=b.mp4>no <i>video</i></video><audio>no sound</audio> b", "a b"),
    ],
)
def test_a_summary_is_the_text_without_markup(markdown: str, summary: str):
    assert make_excerpt(render_markdown(markdown)).summary == summary


def test_the_reading_time_counts_footnotes():
    html = render_markdown(f"a[^1]\n\n[^1]: {'word ' * 200}")

    assert make_excerpt(html).reading_minutes == 2


def test_a_text_that_is_too_expensive_to_render_has_a_summary():
    assert make_excerpt(render_plain_text("*a* <b> & c")).summary == "*a* <b> & c"


@pytest.mark.parametrize("length", range(290, 312))
def test_a_long_summary_ends_with_a_whole_word_and_an_ellipsis(length: int):
    text = f"{'word ' * 100}"[:length].rstrip()

    summary = cut_summary(text)

    assert len(summary) <= 300
    assert summary == text or re.fullmatch(r"(word )+word…", summary)
    assert (summary == text) == (len(text) <= 300)


def test_a_text_of_300_characters_is_not_cut():
    assert cut_summary("a" * 300) == "a" * 300
    assert cut_summary("a" * 301) == "a" * 299 + "…"
    assert cut_summary("ab " + "中" * 1000) == "ab " + "中" * 296 + "…"


def test_a_letter_is_not_separated_from_its_combining_marks():
    assert cut_summary("e\u0301\u0302" * 1000) == "e\u0301\u0302" * 99 + "…"


@pytest.mark.parametrize(
    ("words", "minutes"), [(0, 1), (1, 1), (200, 1), (201, 2), (400, 2), (401, 3), (20_000, 100)]
)
def test_the_reading_time_is_rounded_up(words: int, minutes: int):
    html = render_markdown("It's — " * words)

    assert make_excerpt(html).reading_minutes == minutes


def test_tags_within_a_word_do_not_make_it_two():
    assert make_excerpt("<p>" + "a<em>b</em>c " * 200 + "</p>").reading_minutes == 1


def test_the_reading_time_of_a_long_text_is_estimated():
    html = "<p>" + "<b>word</b> word " * 100_000 + "</p>"
    exact = make_excerpt(html, limit=len(html))

    assert exact.reading_minutes == 1000
    for limit in (5_000, 200_000):
        excerpt = make_excerpt(html, limit=limit)
        assert excerpt.summary == exact.summary
        assert abs(excerpt.reading_minutes - 1000) < 20


@pytest.mark.parametrize(
    "html",
    [
        "<p " * 300_000,
        '<p title="' * 300_000,
        "&" * 1_000_000,
        "<video>" * 150_000,
        '<sup class="footnote-ref">' * 40_000,
        '<a x="' * 150_000,
    ],
)
def test_html_that_no_sanitizer_writes_has_an_excerpt(html: str):
    """Searching it for tags must not be quadratic: that would take minutes."""
    assert len(make_excerpt(html, limit=1_000_000).summary) <= 300
