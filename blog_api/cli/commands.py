"""The commands of `blog-api`."""

import logging.config
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from typer.core import TyperGroup

from blog_api.accounts.models import User, UserBase, UserCreate
from blog_api.accounts.service import find_user, users_by_email
from blog_api.admin.service import create_admin, make_admin, set_user_password
from blog_api.cli.console import (
    choose_password,
    confirm,
    exit_with_error,
    progress,
    run_async,
    run_in_session,
    run_with_database,
    validate_or_exit,
)
from blog_api.core.fields import MAX_INT32, Email
from blog_api.core.settings import exit_with_errors, load_settings
from blog_api.core.urls import get_sqlite_path
from blog_api.db.migrate import get_head_revision, migrate, prepare_sqlite_file
from blog_api.db.queries import count_rows, iterate_rows
from blog_api.db.session import Database
from blog_api.posts.models import Post
from blog_api.posts.service import rerender_posts
from blog_api.text.renderer import Renderer
from blog_api.web.access_log import LOGGING

GRACEFUL_SHUTDOWN_SECONDS = 10


# A worker answers only once Python has started and read this module. Uvicorn's own five seconds
# kill and restart workers for ever on a machine that is busy enough.
WORKER_START_SECONDS = 60


log = logging.getLogger("blog_api")


class ServeByDefault(TyperGroup):
    """`blog-api --port 9000` is `blog-api serve --port 9000`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


cli = typer.Typer(
    cls=ServeByDefault,
    help="A blog as a JSON API. Without a command it serves: blog-api --port 9000.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@cli.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    reload: Annotated[bool, typer.Option(help="Start anew whenever the code changes.")] = False,
) -> None:
    """Serve the API. A SQLite file is made and migrated first."""
    settings = load_settings()
    logging.config.dictConfig(LOGGING)
    if workers > 1 and settings.is_in_memory:
        exit_with_errors("--workers: each would have a database in memory of its own")
    if workers > 1 and settings.rate_limit_enabled and settings.uses_memory_rate_limits:
        log.warning("Each worker counts its own BLOG_RATE_LIMIT_…: name a Redis to share them")
    file = get_sqlite_path(settings.database_url)
    if file is not None:
        # Before any worker, so that what is wrong with the file is said once.
        run_async(prepare_sqlite_file(settings, file))
    uvicorn.run(
        "blog_api.main:app",
        host=host,
        port=port,
        workers=workers,
        reload=reload,
        log_config=LOGGING,
        access_log=False,
        # There are none, and a request to upgrade to one would wait for ever.
        ws="none",
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
        timeout_worker_healthcheck=WORKER_START_SECONDS,
    )


@cli.command("migrate")
def migrate_database() -> None:
    """Bring the database to the newest revision, as a whole or not at all."""
    settings = load_settings()
    logging.config.dictConfig(LOGGING)
    run_async(migrate(settings))
    print(f"The database is at revision {get_head_revision()}.")


class NamedAddress(UserBase):
    """What is asked for before a password is."""

    email: Email


async def find_account(session: AsyncSession, email: str) -> User | None:
    return (await session.exec(users_by_email(email))).first()


@cli.command("create-admin")
def create_administrator(
    email: Annotated[str, typer.Argument(help="The address to log in with.")],
    name: Annotated[str, typer.Option(help="The name of a new account.")] = "Administrator",
    yes: Yes = False,
) -> None:
    """Open an account that administrates, or make an administrator of one that there is.

    The password of a new account is asked for, or read from standard input.
    """
    settings = load_settings()
    validate_or_exit(NamedAddress, email=email, name=name)
    user = run_in_session(settings, lambda session: find_account(session, email), makes=True)
    if user is None:
        password, password_hash = choose_password(settings)
        new = validate_or_exit(UserCreate, email=email, name=name, password=password)
        user = run_in_session(settings, lambda session: create_admin(session, new, password_hash))
    elif not (user.is_admin and user.is_active):
        whose = f"user {user.id}, {user.name}, who has this address"
        if not user.is_active:
            whose = f"{whose}, and activate them"
        confirm(f"Make an administrator of {whose}?", yes=yes)
        run_in_session(settings, lambda session: make_admin(session, email))
    print(f"User {user.id} is an administrator.")


@cli.command("set-password")
def set_password(
    user_id: Annotated[int, typer.Argument(metavar="ID", min=1, max=MAX_INT32)],
    email: Annotated[str, typer.Argument(help="The address to log in with.")],
    yes: Yes = False,
) -> None:
    """Give a user an address and a password, such as an author who was imported.

    The password is asked for, or read from standard input. All tokens of the user are revoked.
    """
    settings = load_settings()
    validate_or_exit(NamedAddress, email=email, name="-")
    user = run_in_session(settings, lambda session: find_user(session, user_id))
    if user.email is not None:
        confirm(f"User {user.id}, {user.name}, logs in as {user.email}. Change that?", yes=yes)
    _, password_hash = choose_password(settings)
    run_in_session(
        settings, lambda session: set_user_password(session, user_id, email, password_hash)
    )
    print(f"User {user.id}, {user.name}, logs in as {email}.")


@cli.command("import")
def import_posts(
    file: Annotated[
        Path, typer.Argument(help="JSON Lines, a folder of Markdown, or WordPress' export (.xml).")
    ],
    author: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_INT32, help="The id of a user, whose posts they become."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
) -> None:
    """Import posts; those that are there already stay as they are.

    Authors become users, who cannot log in until they are given a password. What is bad is told
    with its line, and the rest goes on; the exit status is 1 then.
    """
    # Only here, and below: who serves does without what archives need.
    from blog_api.archive.formats import open_archive
    from blog_api.archive.importer import Importer, Outcome

    settings = load_settings()
    try:
        archive = open_archive(file)
    except OSError as error:
        exit_with_error(str(error))
    counts: Counter[Outcome] = Counter()

    async def work(database: Database) -> None:
        importer = Importer(database, Renderer(), author_id=author, dry_run=dry_run)
        with progress(file.name, archive.total) as step:
            async for result in importer.run(archive.entries):
                counts[result.outcome] += 1
                if result.problem is not None:
                    print(f"{result.place}: {result.problem}", file=sys.stderr)
                step()

    run_with_database(settings, work, makes=not dry_run)
    told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome)
    print(f"{'Nothing is written; otherwise: ' if dry_run else ''}{told}.")
    if counts[Outcome.bad]:
        raise typer.Exit(1)


@cli.command("export")
def export_posts(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON Lines (.jsonl), WordPress' format with HTML (.xml), or, without a suffix, "
            "a new folder of Markdown."
        ),
    ],
    yes: Yes = False,
) -> None:
    """Export the posts of all authors in all states."""
    from blog_api.archive.exporter import ArchiveWriteError, WriteRecord, create_archive, to_record

    settings = load_settings()
    if file.is_file():
        confirm(f"{file} is there already. Overwrite it?", yes=yes)

    async def work(database: Database, write: WriteRecord) -> int:
        total = await count_rows(database, Post)
        with progress(file.name, total) as step:
            async for post in iterate_rows(database, select(Post), Post):
                write(to_record(post), post.content_html)
                step()
        return total

    try:
        with create_archive(file, title=settings.title, link=settings.public_url or "/") as write:
            total = run_with_database(settings, lambda database: work(database, write))
    except (OSError, ArchiveWriteError) as error:
        exit_with_error(str(error))
    print(f"{total} posts exported.")


@cli.command("render")
def render_posts(
    post_ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="[ID]...", min=1, max=MAX_INT32, help="The posts."),
    ] = None,
    all_posts: Annotated[bool, typer.Option("--all", help="All posts.")] = False,
) -> None:
    """Render the Markdown of posts anew, after a new version that renders otherwise."""
    settings = load_settings()
    if bool(post_ids) == all_posts:
        exit_with_errors("render takes the ids of posts, or --all")
    query = select(Post)
    if post_ids:
        query = query.where(col(Post.id).in_(post_ids))

    async def work(database: Database) -> Counter[bool]:
        counts: Counter[bool] = Counter()
        total = len(post_ids) if post_ids else await count_rows(database, Post)
        with progress("render", total) as step:
            async for is_new in rerender_posts(database, Renderer(), query):
                counts[is_new] += 1
                step()
        return counts

    counts = run_with_database(settings, work)
    print(f"{counts.total()} posts rendered, of which {counts[True]} look different now.")


@cli.command("settings")
def show_settings() -> None:
    """Print the settings in force, without what is secret."""
    for name, value in load_settings().describe():
        print(f"{name}={value}")
