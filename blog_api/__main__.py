"""The command `blog-api`."""

import asyncio
import logging.config
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any, TypeVar

import typer
import uvicorn
from alembic.util import CommandError
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel.ext.asyncio.session import AsyncSession
from typer.core import TyperGroup

from blog_api.admin import create_admin, make_admin
from blog_api.database import Database, describe
from blog_api.errors import Problem
from blog_api.health import check_migrated
from blog_api.migrating import head_revision, migrate, prepare_file
from blog_api.security import BadKeyFile, PasswordRefused, Passwords
from blog_api.settings import Settings, load_settings, refuse
from blog_api.urls import sqlite_file
from blog_api.users import User, UserBase, UserCreate, users_of_address

GRACEFUL_SHUTDOWN_SECONDS = 10
# A worker answers only once Python has started and read this module. Uvicorn's own five seconds
# kill and restart workers for ever on a machine that is busy enough.
WORKER_START_SECONDS = 60

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {
        name: {"handlers": ["stderr"], "level": "INFO", "propagate": False}
        for name in ("blog_api", "uvicorn", "alembic.runtime.migration")
    },
}


T = TypeVar("T")

log = logging.getLogger("blog_api")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it; what is wrong with the database is a line and exit status 1."""
    try:
        return asyncio.run(work)
    except BadKeyFile as error:
        print(f"blog-api: {error}", file=sys.stderr)
    except CommandError as error:
        print(f"blog-api: {error}: is this version older than the database?", file=sys.stderr)
    except (OSError, SQLAlchemyError) as error:
        print(f"blog-api: BLOG_DATABASE_URL: {describe(error)}", file=sys.stderr)
    except Problem as problem:
        print(f"blog-api: {problem.detail}", file=sys.stderr)
    raise typer.Exit(1)


def run_in_session(settings: Settings, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """Run it in one transaction, on a database that is migrated: a file is so before."""

    async def connected() -> T:
        file = sqlite_file(settings.database_url)
        if file is not None:
            await prepare_file(settings, file)
        database = Database(settings)
        try:
            async with database.session(writes=True) as session:
                await check_migrated(session)
                return await work(session)
        finally:
            await database.engine.dispose()

    return run(connected())


def is_at_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def ask_password() -> str:
    """Twice at a terminal, where it is not shown; otherwise it is the first line that comes in."""
    if is_at_terminal():
        password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return password
    return sys.stdin.readline().rstrip("\r\n") if sys.stdin is not None else ""


class ServeByDefault(TyperGroup):
    """`blog-api --port 9000` is `blog-api serve --port 9000`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


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
        refuse("--workers: each would have a database in memory of its own")
    if workers > 1 and settings.rate_limit_enabled and settings.limits_in_memory:
        log.warning("Each worker counts its own BLOG_RATE_LIMIT_…: name a Redis to share them")
    file = sqlite_file(settings.database_url)
    if file is not None:
        # Before any worker, so that what is wrong with the file is said once.
        run(prepare_file(settings, file))
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
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
        timeout_worker_healthcheck=WORKER_START_SECONDS,
    )


@cli.command("migrate")
def migrate_database() -> None:
    """Bring the database to the newest revision, as a whole or not at all."""
    settings = load_settings()
    logging.config.dictConfig(LOGGING)
    run(migrate(settings))
    print(f"The database is at revision {head_revision()}.")


@cli.command("create-admin")
def create_administrator(
    email: Annotated[str, typer.Argument(help="The address to log in with.")],
    name: Annotated[str, typer.Option(help="The name of a new account.")] = "Administrator",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask about an account.")] = False,
) -> None:
    """Open an account that administrates, or make an administrator of one that there is.

    The password of a new account is asked for, or read from standard input.
    """
    settings = load_settings()
    check(UserBase, email=email, name=name)
    user = run_in_session(settings, lambda session: find_account(session, email))
    if user is None:
        password = ask_password()
        new = check(UserCreate, email=email, name=name, password=password)
        passwords = Passwords(settings)
        try:
            passwords.check_choice(password)
        except PasswordRefused as refusal:
            refuse(f"password: {refusal}")
        password_hash = run(passwords.hash(password))
        user = run_in_session(settings, lambda session: create_admin(session, new, password_hash))
    elif not (user.is_admin and user.is_active):
        whose = f"user {user.id}, {user.name}, who has this address"
        if not user.is_active:
            whose = f"{whose}, and activate them"
        if not yes and not is_at_terminal():
            refuse(f"{email}: say --yes to make an administrator of {whose}")
        if not yes:
            typer.confirm(f"Make an administrator of {whose}?", abort=True)
        run_in_session(settings, lambda session: make_admin(session, email))
    print(f"User {user.id} is an administrator.")


async def find_account(session: AsyncSession, email: str) -> User | None:
    return (await session.exec(users_of_address(email))).first()


M = TypeVar("M", bound=UserBase)


def check(model: type[M], **values: str) -> M:
    """The model with these values; a wrong one ends the process, a line each, exit status 2."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        refuse(*(f"{one['loc'][0]}: {one['msg']}" for one in error.errors()))


@cli.command("settings")
def show_settings() -> None:
    """Print the settings in force, without what is secret."""
    for name, value in load_settings().describe():
        print(f"{name}={value}")


if __name__ == "__main__":
    cli()
