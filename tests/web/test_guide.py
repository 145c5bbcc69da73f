"""The guide: its pages at `/guide`, their links, and what they have to cover."""

import re
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from httpx import AsyncClient

import blog_api
from blog_api.core.settings import Settings
from tests.support.clients import CHEAP_HASHING, client_of, make_settings, running

PACKAGE = Path(blog_api.__file__).parent
PROJECT = PACKAGE.parent
GUIDE = PACKAGE / "web" / "guide"
README = PROJECT / "README.md"
PAGES = sorted(path.stem for path in GUIDE.glob("*.md"))

LINK = re.compile(r"\]\(([^)]+)\)")
DEPENDENCY = re.compile(r"[\w.-]+(\[[\w,]+\])?")
# compare.md: the rows with our "yes", the items below their table, and the tests that they name.
OUR_YES = re.compile(r"^\| ([^|]+) \| yes\b", re.MULTILINE)
EVIDENCE = re.compile(r"^- (.+?):((?:.|\n  )+)", re.MULTILINE)
NAMED_TEST = re.compile(r"`([^`]+)::(\w+)`")


class Page(HTMLParser):
    """The elements of a page: its links, its ids, and the addresses that a browser loads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.loaded: list[str] = []
        self.styles: list[str] = []
        self.current: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.styles += [found["style"]] if "style" in found else []
        self.loaded += [found[name] for name in ("src", "srcset") if name in found]
        if tag == "a":
            self.links.append(found["href"])
            self.current += [found["href"]] if "aria-current" in found else []
        elif "href" in found:
            self.loaded.append(found["href"])


def path_of(name: str) -> str:
    return "/guide" if name == "index" else f"/guide/{name}"


async def read_page(client: AsyncClient, path: str) -> Page:
    response = await client.get(path)
    assert response.status_code == 200, path
    return Page(response.text)


@pytest.mark.parametrize("name", PAGES)
async def test_a_page_is_shown_as_html(anonymous: AsyncClient, name: str):
    title = (GUIDE / f"{name}.md").read_text().partition("\n")[0]

    response = await anonymous.get(path_of(name))

    assert title.startswith("# ")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert f"<title>{title[2:]}</title>" in response.text
    assert f"{title[2:]}</h1>" in response.text
    assert Page(response.text).tags.count("h1") == 1


@pytest.mark.parametrize("name", PAGES)
async def test_a_page_loads_nothing_from_elsewhere_and_runs_nothing(
    anonymous: AsyncClient, name: str
):
    response = await anonymous.get(path_of(name))

    page = Page(response.text)
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "script" not in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert page.loaded == ["/static/favicon.svg", "/static/guide.css"]
    assert page.styles == []
    assert not {"script", "style", "iframe", "img"} & set(page.tags)
    assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_stylesheet_loads_nothing(anonymous: AsyncClient):
    response = await anonymous.get("/static/guide.css")

    assert response.headers["Content-Type"].startswith("text/css")
    assert "url(" not in response.text
    assert "@import" not in response.text


async def test_every_link_leads_somewhere(anonymous: AsyncClient):
    pages = {path_of(name): await read_page(anonymous, path_of(name)) for name in PAGES}

    for path, page in pages.items():
        assert len(page.ids) == len(set(page.ids)), path
        for link in page.links:
            address, _, anchor = link.partition("#")
            assert address.startswith("/"), f"{path}: {link}"
            assert (await anonymous.get(address)).status_code == 200, f"{path}: {link}"
            if anchor:
                assert anchor in pages[address].ids, f"{path}: {link}"


@pytest.mark.parametrize("name", PAGES)
async def test_the_navigation_lists_all_pages(anonymous: AsyncClient, name: str):
    page = await read_page(anonymous, path_of(name))

    navigation = page.links[: len(PAGES) + 1]
    assert set(navigation) == {*map(path_of, PAGES), "/docs"}
    assert navigation[0] == "/guide"
    assert page.current == [path_of(name)]


def markdown_links() -> Iterator[tuple[Path, str]]:
    for file in (README, *(GUIDE / f"{name}.md" for name in PAGES)):
        for link in LINK.findall(file.read_text()):
            yield file, link


def test_links_work_in_the_repository_too():
    links = list(markdown_links())

    assert len(links) > 20
    for file, link in links:
        assert (file.parent / link.partition("#")[0]).is_file(), f"{file.name}: {link}"


@pytest.mark.parametrize("path", ["nothing", "deploy.md", "INDEX", "..%2Fguide", "%00", "a/b"])
async def test_an_unknown_page_is_not_found(anonymous: AsyncClient, path: str):
    response = await anonymous.get(f"/guide/{path}")

    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"


async def test_head_and_conditional_requests_work(anonymous: AsyncClient):
    page = await anonymous.get("/guide/deploy")
    head = await anonymous.head("/guide/deploy")
    known = await anonymous.get("/guide/deploy", headers={"If-None-Match": page.headers["ETag"]})
    slashed = await anonymous.get("/guide/deploy/")

    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["ETag"] == page.headers["ETag"]
    assert head.headers["Content-Security-Policy"] == page.headers["Content-Security-Policy"]
    assert known.status_code == 304
    assert slashed.text == page.text


async def test_links_keep_the_version_prefix(anonymous: AsyncClient):
    page = await read_page(anonymous, "/api/v1/guide/deploy")

    assert page.loaded == ["/api/v1/static/favicon.svg", "/api/v1/static/guide.css"]
    assert "/api/v1/guide/configure#rate-limits" in page.links
    for address in (*page.loaded, *page.links):
        assert address.startswith("/api/v1/")
        assert (await anonymous.get(address)).status_code == 200, address


@pytest.mark.parametrize("prefix", ["", "/blog"], ids=["removed by the proxy", "left"])
async def test_links_stay_under_the_path_of_the_public_url(prefix: str):
    settings = make_settings(
        database_url="sqlite://", public_url="https://example.com/blog", **CHEAP_HASHING
    )
    async with running(settings) as app, client_of(app) as client:
        page = await read_page(client, f"{prefix}/guide/deploy")
        found = [(await client.get(address)).status_code for address in page.links]

    assert page.loaded == ["/blog/static/favicon.svg", "/blog/static/guide.css"]
    assert "/blog/guide/configure#rate-limits" in page.links
    assert "/blog/docs" in page.links
    assert set(found) == {200}


def test_every_setting_is_documented():
    configure = (GUIDE / "configure.md").read_text()

    for field in Settings.model_fields:
        assert f"| `BLOG_{field.upper()}`" in configure, field


def test_every_required_dependency_is_explained():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    required = [DEPENDENCY.match(one) for one in project["dependencies"]]
    text = (GUIDE / "dependencies.md").read_text().partition("## Extras")
    rows = re.findall(r"^\| `([^`]+)` \| \w", text[0], re.MULTILINE)
    extras = re.findall(r"^\| `([^`]+)` \| \w", text[2], re.MULTILINE)

    assert rows == [one[0] for one in required if one]
    assert sorted(extras) == sorted(project["optional-dependencies"])


def test_the_comparison_names_an_existing_test_for_each_yes():
    tables = (GUIDE / "compare.md").read_text().split("\n| | ")[1:]

    assert len(tables) > 5
    for table in tables:
        evidence = dict(EVIDENCE.findall(table))
        assert list(evidence) == OUR_YES.findall(table)
        for row, text in evidence.items():
            named = NAMED_TEST.findall(text)
            assert named, row
            for file, name in named:
                source = (PROJECT / file).read_text()
                assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), (file, name)


def test_the_readme_is_short():
    text = README.read_text()

    assert len(text.split()) <= 2_500
    assert "| `BLOG_" not in text
