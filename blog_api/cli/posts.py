"""Commands for posts: `import` and `export`."""

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from blog_api.cli.console import (
    YesOption,
    confirm,
    exit_with_error,
    print_database,
    progress,
    run_with_database,
)
from blog_api.core.fields import MAX_INT32
from blog_api.core.settings import load_settings
from blog_api.db.queries import count_rows
from blog_api.db.session import Database
from blog_api.media.storage import open_storage
from blog_api.posts.models import Post
from blog_api.text.renderer import Renderer


def import_archive(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON Lines, a folder of Markdown and HTML, or a WordPress export (.xml)."
        ),
    ],
    author: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_INT32, help="Id of a user: the author of all posts."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
) -> None:
    """Import posts; those already present stay unchanged.

    Authors become users, who cannot log in before set-password. Pictures beside
    the posts of a folder are stored. Rejected posts and pictures are reported with
    file and line, and the exit status is then 1.
    """
    # Imported here, and below: serving does without the libraries of the formats.
    from blog_api.archive.formats import open_archive
    from blog_api.archive.importer import Importer, Outcome
    from blog_api.media.folders import FolderImport

    settings = load_settings()
    print_database(settings)
    try:
        archive = open_archive(file)
    except OSError as error:
        exit_with_error(str(error))
    counts: Counter[Outcome] = Counter()
    warnings: list[str] = []

    async def run_import(database: Database) -> None:
        renderer = Renderer(iframe_hosts=settings.iframe_hosts)
        pictures = FolderImport(database, renderer, storage, max_bytes=settings.media_max_bytes)
        importer = Importer(database, renderer, pictures, author_id=author, dry_run=dry_run)
        with progress(file.name, archive.total) as advance:
            async for result in importer.import_entries(archive.entries):
                counts[result.outcome] += 1
                if result.error is not None:
                    print(f"{result.location}: {result.error}", file=sys.stderr)
                for warning in result.warnings:
                    print(warning, file=sys.stderr)
                warnings.extend(result.warnings)
                advance()

    with open_storage(settings) as storage:
        run_with_database(settings, run_import)
    summary = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome)
    print(f"{'Dry run, nothing written: ' if dry_run else ''}{summary}.")
    if counts[Outcome.rejected] or warnings:
        raise typer.Exit(1)


def export_archive(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON Lines (.jsonl), WordPress' format with HTML (.xml), or, without a suffix, "
            "a new folder of Markdown and HTML files."
        ),
    ],
    yes: YesOption = False,
) -> None:
    """Export all posts, including drafts and posts that were taken down."""
    from blog_api.archive.exporter import ArchiveWriteError, export_posts
    from blog_api.archive.formats import WriteRecord, create_archive
    from blog_api.media.folders import FolderExport

    settings = load_settings()
    if file.is_file():
        confirm(f"{file} already exists. Overwrite it?", yes=yes)

    async def run_export(database: Database, write: WriteRecord) -> None:
        pictures = None
        if storage is not None and file.is_dir():
            pictures = FolderExport(Renderer(iframe_hosts=settings.iframe_hosts), storage, file)
        with progress(file.name, total) as advance:
            async for _ in export_posts(database, write, pictures):
                advance()

    total = run_with_database(settings, lambda database: count_rows(database, Post))
    try:
        with (
            open_storage(settings) as storage,
            create_archive(file, title=settings.title, link=settings.public_url or "/") as write,
        ):
            run_with_database(settings, lambda database: run_export(database, write))
    except ArchiveWriteError as error:
        exit_with_error(str(error))
    except OSError as error:
        exit_with_error(f"{error.filename or file}: {error.strerror or error}")
    print(f"{total} posts exported.")
