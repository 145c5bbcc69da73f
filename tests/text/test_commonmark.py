"""CommonMark's examples, as the package `commonmark-spec` of npm has them."""

import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from blog_api.text.markdown import make_parser
from blog_api.text.sanitizer import sanitize_html

VERSION = "0.31.2"
EXAMPLE = re.compile(r"^`{32} example\n(.*?)^\.\n(.*?)^`{32}$", re.MULTILINE | re.DOTALL)
EXTENSIONS = [
    "footnote_def", "footnote_ref", "footnote_tail",
    "gfm_autolink_email", "gfm_autolink_protocol", "gfm_autolink_www",
]  # fmt: skip
# markdown-it-py writes an empty quotation on one line.
EMPTY_QUOTATIONS = {218, 239, 240}
# Addresses without brackets.
BARE_ADDRESSES = {608, 611, 612}
BARE_LINK = re.compile(r'<a href="(?:mailto:)?([^"]*)">\1</a>')
HEADING_ID = re.compile(r'(?<=<h\d) id="user-content-[^"]*"')


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[str, str]]:
    """Markdown and HTML by number."""
    folder: Path = tmp_path_factory.mktemp("commonmark")
    command = ["npm", "pack", f"commonmark-spec@{VERSION}"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
    with tarfile.open(folder / f"commonmark-spec-{VERSION}.tgz") as package:
        spec = package.extractfile("package/spec.txt")
        assert spec is not None
        found = EXAMPLE.findall(spec.read().decode().replace("→", "\t"))
    return dict(enumerate(found, 1))


def without_extensions() -> MarkdownIt:
    parser = make_parser().disable(EXTENSIONS)
    parser.options["tasklists"] = False
    return parser


@pytest.mark.npm
def test_commonmark_is_rendered_as_specified(examples: dict[int, tuple[str, str]]):
    parser = without_extensions()

    different = {n for n, (text, html) in examples.items() if parser.render(text) != html}

    assert len(examples) == 652
    assert different == EMPTY_QUOTATIONS


@pytest.mark.npm
def test_the_extensions_change_bare_addresses_alone(examples: dict[int, tuple[str, str]]):
    base, extended = without_extensions(), make_parser()

    different = find_different(examples, base.render, extended.render)

    assert different == BARE_ADDRESSES
    for number in different:
        text = examples[number][0]
        assert BARE_LINK.sub(r"\1", extended.render(text)) == base.render(text)


@pytest.mark.npm
def test_sanitizing_adds_the_ids_of_headings(examples: dict[int, tuple[str, str]]):
    parser = make_parser()

    headings = {n for n, (text, _) in examples.items() if re.search("<h[1-6]", parser.render(text))}
    different = find_different(
        examples,
        lambda text: sanitize_html(parser.render(text)),
        lambda text: HEADING_ID.sub("", sanitize_html(parser.render(text))),
    )

    assert different <= headings
    assert len(different) > 30


def find_different(
    examples: dict[int, tuple[str, str]],
    render: Callable[[str], str],
    render_otherwise: Callable[[str], str],
) -> set[int]:
    return {n for n, (text, _) in examples.items() if render(text) != render_otherwise(text)}
