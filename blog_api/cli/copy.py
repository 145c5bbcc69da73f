"""The command `copy`."""

from typing import Annotated

import typer

from blog_api.cli.console import print_database, progress, require_file, run_async
from blog_api.core.settings import Settings, exit_with_errors, load_settings
from blog_api.core.urls import get_sqlite_path, parse_database_url
from blog_api.db.copy import open_copy
from blog_api.models import metadata
from blog_api.posts.search_index import fill_index


def copy_database(
    to: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="URL of the target. Other users of this machine can read a password in it: "
            "set BLOG_COPY_TO instead.",
        ),
    ] = None,
) -> None:
    """Copy everything in the database to an empty one, such as from SQLite to Postgres.

    The service may serve meanwhile: the state at the start is copied. The target has to be migrated
    by this version, and stays empty unless all of its rows equal those of the source.
    """
    settings = load_settings()
    target, label = read_target(settings, to)
    print_database(settings)
    print_database(target, "Target")
    for one, name in ((settings, "BLOG_DATABASE_URL"), (target, label)):
        if one.is_in_memory:
            exit_with_errors(f"{name}: is a database in memory")
        require_file(one, name)

    async def copy() -> dict[str, int]:
        async with open_copy(settings, target, metadata, label) as running:
            total = await running.count_rows()
            with progress("copy", total) as advance:
                await running.copy_tables(advance)
            with progress("compare", total) as advance:
                counts = await running.compare_tables(advance)
            with progress("index for the search", 1) as advance:
                await fill_index(running.target)
                advance()
        return counts

    counts = run_async(copy())
    for name, count in sorted(counts.items()):
        print(f"{name}: {count}")
    print(f"{sum(counts.values())} rows copied.")
    print_what_is_left(settings, target)


def read_target(settings: Settings, to: str | None) -> tuple[Settings, str]:
    """Return the settings of the target, and where its URL is from."""
    url, label = settings.copy_to, "BLOG_COPY_TO"
    if to is not None:
        label = "--to"
        try:
            url = parse_database_url(to)
        except ValueError as error:
            exit_with_errors(f"{label}: {error}")
    if url is None:
        exit_with_errors("copy takes --to, or BLOG_COPY_TO")
    return settings.model_copy(update={"database_url": url}), label


def print_what_is_left(settings: Settings, target: Settings) -> None:
    """Print what is outside of the database and has to go along."""
    files = [get_sqlite_path(one.database_url) for one in (settings, target)]
    key = "of the source"
    if settings.secret_key is None and files[0] is not None:
        key = f"to the content of {files[0]}.key"
    beside = "" if files[1] is None else f", or copy the file to {files[1]}.key"
    print(f"Secret key: set BLOG_SECRET_KEY {key}{beside}. Another one logs users out.")
    if settings.media_folder is not None:
        folder = target.media_folder or "the folder of BLOG_MEDIA_URL"
        if folder == settings.media_folder:
            print(f"Pictures: keep BLOG_MEDIA_URL, {folder}.")
        else:
            print(f"Pictures: copy the files of {settings.media_folder} to {folder}.")
