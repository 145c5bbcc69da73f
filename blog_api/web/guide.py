"""The guide: Markdown pages of this package, shown as HTML at `/guide`.

The pages also work in the repository: they link to each other as `deploy.md#backups`. The title of
a page is its first line, and the order of the pages is the order of the links in `index.md`.
"""

import re
from functools import cache
from html import escape
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from blog_api.core.errors import NotFound
from blog_api.text.markdown import render_markdown
from blog_api.text.sanitizer import ID_PREFIX

FOLDER = Path(__file__).parent / "guide"
INDEX = "index"
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

LINK_IN_MARKDOWN = re.compile(r"\]\(([a-z-]+)\.md\)")
LINK_IN_HTML = re.compile(r'href="([a-z-]+)\.md(#[\w-]+)?"')
# The policy forbids inline styles; the renderer aligns the columns of a table with one.
ALIGNMENT = re.compile(r'style="text-align: ?(left|center|right);?"')

CURRENT = ' aria-current="page"'
PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="{root}/static/favicon.svg">
<link rel="stylesheet" href="{root}/static/guide.css">
</head>
<body>
<nav aria-label="Guide">
<ul>
{links}
<li class="docs"><a href="{root}/docs">API documentation</a></li>
</ul>
</nav>
<main>
{content}</main>
</body>
</html>
"""

router = APIRouter(include_in_schema=False)


def read_page(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


@cache
def list_pages() -> dict[str, str]:
    """Return the title of each page by its name, in the order of the navigation."""
    names = [INDEX, *LINK_IN_MARKDOWN.findall(read_page(INDEX))]
    return {name: read_page(name).partition("\n")[0].removeprefix("# ") for name in names}


def page_path(name: str) -> str:
    return "/guide" if name == INDEX else f"/guide/{name}"


@cache
def render_page(name: str, root: str) -> str:
    """Return a page as HTML whose links begin with `root`, the prefix of the service."""
    # Nothing on the page has an id, so that those of the text need no prefix.
    content = render_markdown(read_page(name)).replace(ID_PREFIX, "")
    content = ALIGNMENT.sub(r'class="\1"', content)
    content = LINK_IN_HTML.sub(
        lambda link: f'href="{root}{page_path(link[1])}{link[2] or ""}"', content
    )
    links = "\n".join(
        f'<li><a href="{root}{page_path(other)}"{CURRENT if other == name else ""}>'
        f"{escape(title)}</a></li>"
        for other, title in list_pages().items()
    )
    title = escape(list_pages()[name])
    return PAGE.format(title=title, root=root, links=links, content=content)


def show_page(request: Request, name: str) -> HTMLResponse:
    """Return a page; raise NotFound for a name that is not in the index."""
    if name not in list_pages():
        raise NotFound
    html = render_page(name, escape(request.scope.get("root_path", "")))
    return HTMLResponse(html, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})


@router.get("/guide")
async def read_guide(request: Request) -> HTMLResponse:
    """Show the list of pages."""
    return show_page(request, INDEX)


@router.get("/guide/{page}")
async def read_guide_page(page: str, request: Request) -> HTMLResponse:
    """Show a page of the guide."""
    return show_page(request, page)
