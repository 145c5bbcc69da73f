"""Run `rebuild` on the database of an application."""

from blog_api.cli.rebuild import make_kinds
from blog_api.db.session import Database
from blog_api.text.renderer import Renderer


async def count_wrong(database: Database, *names: str, repairs: bool) -> dict[str, int]:
    """Check these kinds of derived values, or all; return the numbers that are not zero."""
    found = {
        kind.name: sum([batch.wrong async for batch in kind.run(database, repairs=repairs)])
        for kind in make_kinds(Renderer())
        if kind.name in names or not names
    }
    return {name: number for name, number in found.items() if number}
