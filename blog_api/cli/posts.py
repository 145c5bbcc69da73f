"""Commands for posts: `import` and `export`."""

import re
import sys
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from sqlmodel import SQLModel

from blog_api.accounts.usernames import UserKey
from blog_api.cli.console import (
    YesOption,
    confirm,
    exit_with_error,
    print_database,
    progress,
    run_with_database,
    validate_or_exit,
)
from blog_api.core.characters import escape_unprintable
from blog_api.core.fields import utc_now
from blog_api.core.settings import load_settings
from blog_api.db.migrate import prepare_database
from blog_api.db.queries import count_rows
from blog_api.db.session import Database
from blog_api.media.storage import open_storage
from blog_api.posts.models import Post
from blog_api.text.renderer import COMMAND_TIMEOUT_SECONDS, Renderer

if TYPE_CHECKING:
    from blog_api.archive.importer import Result

NOTHING_FOUND = (
    "Nothing here can be imported. Formats: Markdown with front matter (.md) and folders of it; "
    "exports of WordPress (.xml) and Ghost (.json) and JSON Lines (.jsonl), which have to be named "
    "themselves; and a .zip of these. Pages are imported with --pages."
)


MAX_LINES_OF_KIND = 20
MAX_KIND_LENGTH = 60


class ImportArguments(SQLModel):
    author: UserKey


class Undated(StrEnum):
    draft = "draft"
    now = "now"


class ImportSummary:
    """Count the results of an import, and print warnings and errors as they come.

    Of each kind of them only the first ones, unless the summary is verbose.
    """

    def __init__(self, replaced: tuple[str, str], *, verbose: bool = False) -> None:
        self.replaced = replaced
        self.verbose = verbose
        self.printed: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.drafts = self.undated = self.warnings = self.missing_pictures = 0

    def add(self, result: "Result") -> None:
        self.outcomes[result.outcome] += 1
        if result.kind is not None:
            self.left_out[result.kind] += 1
            if result.details:
                told = escape_unprintable(f"left out: {result.kind} {result.details}")
                self.print(f"{result.location}: {told}", kind=f"left out: {result.kind}")
        if result.outcome == "imported":
            self.drafts += result.is_draft
            self.undated += result.is_undated
        self.missing_pictures += len(result.missing_pictures)
        if result.error is not None:
            kind = f"rejected: {find_kind(result.error)}"
            self.print(f"{result.location}: {result.error}", kind=kind)
        for warning in result.warnings:
            # A warning has a line of its own, and begins with the file of the result.
            file = result.location.rpartition(":")[0]
            kind = find_kind(warning.removeprefix(file).partition(": ")[2])
            self.add_warnings([warning], kind=kind)
        self.add_warnings(result.missing_pictures, kind="missing pictures")
        self.add_warnings(result.site_pictures, kind="pictures elsewhere on the site")

    def add_warnings(self, warnings: Iterable[str], *, kind: str) -> None:
        for warning in warnings:
            self.print(warning, kind=kind)
            self.warnings += 1

    def print(self, message: str, *, kind: str) -> None:
        self.printed[kind] += 1
        if self.verbose or self.printed[kind] <= MAX_LINES_OF_KIND:
            print(message.replace(*self.replaced), file=sys.stderr)

    def print_omitted(self) -> None:
        """Print how many lines of each kind were omitted."""
        for kind, number in self.printed.items():
            if number > MAX_LINES_OF_KIND and not self.verbose:
                omitted = f"and {number - MAX_LINES_OF_KIND} more; --verbose prints all"
                print(f"{kind}: {omitted}", file=sys.stderr)

    @property
    def is_complete(self) -> bool:
        """Whether something was found, and neither a post nor a picture was rejected."""
        found = self.outcomes["imported"] + self.outcomes["already present"]
        return bool(found) and not self.outcomes["rejected"] and not self.missing_pictures

    def __str__(self) -> str:
        names = ("imported", "already present", "rejected")
        lines = [", ".join(f"{self.outcomes[name]} {name}" for name in names) + "."]
        if self.drafts:
            lines.append(f"{count_things(self.drafts, 'draft')} among the imported posts.")
        if self.undated:
            posts = count_things(self.undated, "post")
            lines.append(f"{posts} without a time: drafts; --undated now publishes them.")
        if self.left_out:
            kinds = (count_things(number, kind) for kind, number in self.left_out.most_common())
            lines.append(f"Left out: {', '.join(kinds)}.")
        if self.warnings:
            lines.append(f"{count_things(self.warnings, 'warning')}, above.")
        if not self.outcomes.total() - self.outcomes["left out"]:
            lines.append(NOTHING_FOUND)
        return "\n".join(lines)


def find_kind(message: str) -> str:
    """Return the field that a message begins with, or else what it says, without numbers."""
    from blog_api.archive.record import PostRecord

    field = re.match(r"([\w ]+?)(?:, item \d+)?: ", message)
    if field and field[1] in PostRecord.model_fields.keys() | {"text", "front matter"}:
        return field[1]
    return re.sub(r"\d+(?:, \d+)*", "…", message.rpartition(": ")[2])[:MAX_KIND_LENGTH]


def count_things(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def import_archive(
    file: Annotated[
        Path,
        typer.Argument(
            help="A folder of Markdown and HTML, an export of WordPress (.xml) or Ghost (.json), "
            "JSON Lines, or a .zip of these."
        ),
    ],
    author: Annotated[
        str | None, typer.Option(help="Id or username of a user: the author of all posts.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
    pages: Annotated[bool, typer.Option("--pages", help="Import pages, too, as drafts.")] = False,
    undated: Annotated[
        Undated, typer.Option(help="Posts without a time: drafts, or published now.")
    ] = Undated.draft,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", help=f"Print all warnings, not the first {MAX_LINES_OF_KIND} of each kind."
        ),
    ] = False,
) -> None:
    """Import posts; those already present stay unchanged.

    Authors become users, who cannot log in before set-password. Pictures beside
    the posts of a folder are stored. What is changed, rejected or missing is
    reported with file and line. The exit status is 1 if something was rejected,
    a picture is missing, or nothing was found.
    """
    # Imported here, and below: serving does without the libraries of the formats.
    from blog_api.archive.formats import open_archive, open_zip
    from blog_api.archive.importer import Importer
    from blog_api.media.folders import FolderImport

    if author is not None:
        author = validate_or_exit(ImportArguments, author=author).author
    settings = load_settings()
    print_database(settings)
    # Where a ZIP file is unpacked.
    folder = TemporaryDirectory(prefix="blog-api-import-", ignore_cleanup_errors=True)
    try:
        if file.suffix.lower() == ".zip" and file.is_file():
            archive = open_zip(file, Path(folder.name), with_pages=pages)
        else:
            archive = open_archive(file, with_pages=pages)
    except OSError as error:
        folder.cleanup()
        exit_with_error(str(error))
    summary = ImportSummary((folder.name, file.name), verbose=verbose)

    async def run_import(database: Database) -> None:
        renderer = Renderer(COMMAND_TIMEOUT_SECONDS, iframe_hosts=settings.iframe_hosts)
        pictures = FolderImport(
            database, renderer, storage, max_bytes=settings.media_max_bytes, dry_run=dry_run
        )
        importer = Importer(
            database,
            renderer,
            pictures,
            None if dry_run else await prepare_database(settings, database),
            author=author,
            undated_at=utc_now() if undated is Undated.now else None,
        )
        with progress(file.name, archive.total) as advance:
            async for result in importer.import_entries(archive.entries):
                summary.add(result)
                advance()
        summary.add_warnings(await importer.add_old_slugs(), kind="addresses of other posts")
        summary.print_omitted()

    with folder, open_storage(settings) as storage:
        run_with_database(settings, run_import, in_memory_if_missing=dry_run)
    print(f"{'Dry run, nothing written: ' if dry_run else ''}{summary}")
    if not summary.is_complete:
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
            pictures = FolderExport(
                Renderer(COMMAND_TIMEOUT_SECONDS, iframe_hosts=settings.iframe_hosts), storage, file
            )
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
