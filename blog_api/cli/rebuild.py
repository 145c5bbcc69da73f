"""The command `rebuild`."""

from typing import Annotated

import typer

from blog_api.accounts.names import NAMES
from blog_api.cli.console import print_database, progress, run_with_database
from blog_api.comments.counts import ANSWER_COUNTS, COMMENT_COUNTS
from blog_api.core.settings import load_settings
from blog_api.db.rebuild import Rebuild
from blog_api.db.session import Database
from blog_api.posts.rebuild import (
    AUTHOR_COUNTS,
    BOOKMARK_COUNTS,
    SLUGS,
    TAG_COUNTS,
    TAGS,
    make_html,
)
from blog_api.posts.search_index import SearchIndex
from blog_api.text.renderer import COMMAND_TIMEOUT_SECONDS, Renderer


def make_kinds(renderer: Renderer) -> tuple[Rebuild, ...]:
    """Return all kinds of derived values, each after those that it is derived from."""
    renderer = Renderer()
    return (
        NAMES,
        make_html(renderer),
        SearchIndex(renderer),
        SLUGS,
        TAGS,
        COMMENT_COUNTS,
        ANSWER_COUNTS,
        BOOKMARK_COUNTS,
        AUTHOR_COUNTS,
        TAG_COUNTS,
    )


async def rebuild_kind(database: Database, kind: Rebuild, *, repairs: bool) -> int:
    """Derive the values of one kind again; return how many were wrong."""
    wrong = 0
    with progress(kind.name, await kind.count(database)) as advance:
        async for batch in kind.run(database, repairs=repairs):
            wrong += batch.wrong
            for _ in range(batch.checked):
                advance()
    return wrong


def rebuild(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing. Exit status 1: something is wrong.")
    ] = False,
) -> None:
    """Derive again what is stored beside the data it is made of, and report what was wrong.

    That is the HTML and the excerpts of posts, the search, slugs, tags, counters, and the index of
    names. The service may serve meanwhile.
    """
    settings = load_settings()
    print_database(settings)

    async def run(database: Database) -> dict[str, int]:
        return {
            kind.name: await rebuild_kind(database, kind, repairs=not check)
            for kind in make_kinds(
                Renderer(COMMAND_TIMEOUT_SECONDS, iframe_hosts=settings.iframe_hosts)
            )
        }

    wrong = run_with_database(settings, run)
    for name, number in wrong.items():
        print(f"{name}: {number} wrong")
    if check and any(wrong.values()):
        raise typer.Exit(1)
