"""Console helpers: running on the database, prompts, errors and progress."""

import asyncio
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlmodel import SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.passwords import PasswordHasher, PasswordRejected
from blog_api.core.errors import Problem
from blog_api.core.security import InvalidKeyFile
from blog_api.core.settings import Settings, exit_with_errors
from blog_api.core.urls import get_sqlite_path, parse_database_url
from blog_api.db.copy import CopyFailed
from blog_api.db.errors import describe_error, explain_error
from blog_api.db.migrate import (
    IncompatibleSchema,
    check_sqlite_file,
    get_file_schema,
    migrate_in_memory,
)
from blog_api.db.session import Database
from blog_api.web.health import require_migrated

# Progress in a pipe or a log: a line after at least so many steps, and at most so many lines.
STEPS_PER_LINE = 100
MAX_LINES = 100

T = TypeVar("T")
M = TypeVar("M", bound=SQLModel)
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine; a database error or a problem is one line and exit status 1."""
    try:
        return asyncio.run(work)
    except InvalidKeyFile as error:
        exit_with_error(str(error))
    except (CopyFailed, IncompatibleSchema) as error:
        exit_with_error(str(error))
    except (OSError, SQLAlchemyError, sqlite3.Error) as error:
        exit_with_error(f"BLOG_DATABASE_URL: {explain_error(error)}")
    except Problem as problem:
        exit_with_error(problem.detail)


def require_file(settings: Settings, label: str) -> None:
    """Exit with status 2 if a SQLite file does not exist, and with 1 if it cannot be used."""
    file = get_sqlite_path(settings.database_url)
    if file is not None:
        if not file.exists():
            exit_with_errors(f"{label}: {file} does not exist; blog-api migrate creates it")
        try:
            check_sqlite_file(file)
        except OSError as error:
            exit_with_error(f"{label}: {describe_error(error)}")
        except IncompatibleSchema as error:
            exit_with_error(f"{label}: {error}")


async def describe_missing_database(settings: Settings) -> str | None:
    """Return why there is no blog to compare with, or None if the database was ever migrated."""
    file = get_sqlite_path(settings.database_url)
    if file is not None and not file.exists():
        return f"{file} does not exist"
    require_file(settings, "BLOG_DATABASE_URL")
    try:
        schema = await get_file_schema(settings)
    except (OSError, DBAPIError) as error:
        if settings.is_sqlite:
            raise
        return describe_error(error)
    return str(schema) if schema.current is None else None


def run_with_database(
    settings: Settings,
    work: Callable[[Database], Awaitable[T]],
    *,
    in_memory_if_missing: bool = False,
) -> T:
    """Run on a migrated database; a missing SQLite file is not created.

    With `in_memory_if_missing`, an empty database in memory takes the place of one that is missing,
    unreachable or was never migrated.
    """

    async def run(settings: Settings) -> T:
        if in_memory_if_missing and (reason := await describe_missing_database(settings)):
            print(f"An empty blog is assumed: {reason}", file=sys.stderr)
            settings = settings.model_copy(update={"database_url": parse_database_url("sqlite://")})
        require_file(settings, "BLOG_DATABASE_URL")
        database = Database(settings)
        try:
            if settings.is_in_memory:
                await migrate_in_memory(database)
            async with database.session(writes=False) as session:
                await require_migrated(session)
            return await work(database)
        finally:
            await database.close()

    return run_async(run(settings))


def run_in_session(settings: Settings, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """Run in one transaction of a migrated database."""

    async def run(database: Database) -> T:
        async with database.session(writes=True) as session:
            return await work(session)

    return run_with_database(settings, run)


def print_database(settings: Settings, label: str = "Database") -> None:
    """Print on standard error which database is about to change, without the password."""
    print(f"{label}: {settings.database_url.render_as_string()}", file=sys.stderr)


def is_at_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def read_password(*, is_new: bool) -> str:
    """Prompt without echo, twice for a new password; from a pipe, read the first line."""
    if is_at_terminal():
        password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=is_new)
        return password
    return sys.stdin.readline().rstrip("\r\n") if sys.stdin is not None else ""


def read_new_password(settings: Settings, *, name: str, email: str) -> tuple[str, str]:
    """Return a password and its hash; one that may not be chosen is exit status 2."""
    password = read_password(is_new=True)
    hasher = PasswordHasher(settings)
    try:
        hasher.check_choice(password, name=name, email=email)
    except PasswordRejected as error:
        exit_with_errors(f"password: {error}")
    return password, run_async(hasher.hash(password))


def confirm(question: str, *, yes: bool) -> None:
    """Ask at a terminal; elsewhere require `--yes`. "No" is exit status 1."""
    if yes:
        return
    if not is_at_terminal():
        exit_with_errors(f"confirm with --yes: {question}")
    typer.confirm(question, abort=True)


def validate_or_exit(model: type[M], **values: str) -> M:
    """Return the validated model; errors are a line each and exit status 2."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        exit_with_errors(*(f"{one['loc'][0]}: {one['msg']}" for one in error.errors()))


def exit_with_error(message: str) -> NoReturn:
    """Print an error and exit with status 1."""
    print(f"blog-api: {message}", file=sys.stderr)
    raise typer.Exit(1)


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[], None]]:
    """Show progress on standard error: a bar at a terminal, lines elsewhere.

    Yields a function to call after each step.
    """
    if sys.stderr is not None and sys.stderr.isatty():
        # Serving does without `rich`. Typer's own bar would mix with other lines on the terminal.
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress

        columns = (*Progress.get_default_columns(), MofNCompleteColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(label, total=total)
            yield lambda: bar.advance(task)
        return
    done = 0
    steps = max(STEPS_PER_LINE, total // MAX_LINES)

    def advance() -> None:
        nonlocal done
        done += 1
        if done % steps == 0 or done == total:
            print(f"{label}: {done} of {total}", file=sys.stderr, flush=True)

    yield advance
