"""The console: what the commands share of asking, telling and reaching the database."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NoReturn, TypeVar

import typer
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.passwords import PasswordHasher, PasswordRejected
from blog_api.core.errors import Problem
from blog_api.core.security import InvalidKeyFile
from blog_api.core.settings import Settings, exit_with_errors
from blog_api.core.urls import get_sqlite_path
from blog_api.db.errors import describe_error
from blog_api.db.migrate import UnknownRevision, prepare_sqlite_file
from blog_api.db.session import Database
from blog_api.web.health import require_migrated

# How often a pipe is told how far it is: after so many steps.
STEPS_A_LINE = 100


T = TypeVar("T")


M = TypeVar("M", bound=SQLModel)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run it; what is wrong with the database is a line and exit status 1."""
    try:
        return asyncio.run(work)
    except InvalidKeyFile as error:
        print(f"blog-api: {error}", file=sys.stderr)
    except UnknownRevision as error:
        print(f"blog-api: {error}: is this version older than the database?", file=sys.stderr)
    except (OSError, SQLAlchemyError) as error:
        print(f"blog-api: BLOG_DATABASE_URL: {describe_error(error)}", file=sys.stderr)
    except Problem as problem:
        print(f"blog-api: {problem.detail}", file=sys.stderr)
    raise typer.Exit(1)


@asynccontextmanager
async def migrated_database(settings: Settings, *, makes: bool) -> AsyncIterator[Database]:
    """The database at this version's revision; a file is brought there, and made if `makes`.

    Raises NotReady where Postgres is not migrated.
    """
    file = get_sqlite_path(settings.database_url)
    if file is not None:
        if not makes and not file.exists():
            exit_with_errors(f"{file}: there is no such database; BLOG_DATABASE_URL names it")
        await prepare_sqlite_file(settings, file)
    database = Database(settings)
    try:
        async with database.session(writes=False) as session:
            await require_migrated(session)
        yield database
    finally:
        await database.close()


def run_with_database(
    settings: Settings, work: Callable[[Database], Awaitable[T]], *, makes: bool = False
) -> T:
    """Run it on a database that is migrated. One that is not there is an error unless `makes`."""

    async def connected() -> T:
        async with migrated_database(settings, makes=makes) as database:
            return await work(database)

    return run_async(connected())


def run_in_session(
    settings: Settings, work: Callable[[AsyncSession], Awaitable[T]], *, makes: bool = False
) -> T:
    """The same in one transaction."""

    async def in_session(database: Database) -> T:
        async with database.session(writes=True) as session:
            return await work(session)

    return run_with_database(settings, in_session, makes=makes)


def is_at_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def ask_password() -> str:
    """Twice at a terminal, where it is not shown; otherwise it is the first line that comes in."""
    if is_at_terminal():
        password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return password
    return sys.stdin.readline().rstrip("\r\n") if sys.stdin is not None else ""


def choose_password(settings: Settings) -> tuple[str, str]:
    """A password that may be chosen, asked for, and its hash. Another ends the process."""
    password = ask_password()
    passwords = PasswordHasher(settings)
    try:
        passwords.check_choice(password)
    except PasswordRejected as refusal:
        exit_with_errors(f"password: {refusal}")
    return password, run_async(passwords.hash(password))


def confirm(question: str, *, yes: bool) -> None:
    """Ask at a terminal; elsewhere `--yes` has to be said. Who says no ends the command."""
    if yes:
        return
    if not is_at_terminal():
        exit_with_errors(f"say --yes: {question}")
    typer.confirm(question, abort=True)


def validate_or_exit(model: type[M], **values: str) -> M:
    """The model with these values; a wrong one ends the process, a line each, exit status 2."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        exit_with_errors(*(f"{one['loc'][0]}: {one['msg']}" for one in error.errors()))


def exit_with_error(message: str) -> NoReturn:
    """Say what is wrong, and end with exit status 1."""
    print(f"blog-api: {message}", file=sys.stderr)
    raise typer.Exit(1)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A function to call at each step: a bar on a terminal, and plain lines in a pipe."""
    if sys.stderr is not None and sys.stderr.isatty():
        # Only here: who serves does without.
        from rich import console, progress

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=console.Console(stderr=True)) as bar:
            task = bar.add_task(what, total=total)
            yield lambda: bar.advance(task)
        return
    done = 0

    def tell() -> None:
        nonlocal done
        done += 1
        if done % STEPS_A_LINE == 0 or done == total:
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)

    yield tell
