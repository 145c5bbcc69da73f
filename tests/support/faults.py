"""Faults of the database, injected at one of the calls or awaits of a request."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import aiosqlite
import asyncpg
import pytest
from anyio import fail_after
from asyncpg.prepared_stmt import PreparedStatement

T = TypeVar("T")

WAIT_SECONDS = 30

# What `Calls` can do instead of a call, or after it.
ERROR, DROP, LOST_RESPONSE, TIMEOUT = "error", "drop", "lost response", "timeout"
FAULTS = {"sqlite": (ERROR, LOST_RESPONSE), "postgresql": (ERROR, DROP, LOST_RESPONSE, TIMEOUT)}

# Of the driver of SQLite; the others use no file.
USING_FILE = {"_execute_fetchall", "commit", "execute", "executemany", "fetchall", "rollback"}


class CancelAt(Awaitable[T]):
    """Await something, and cancel the task at one of its awaits, counted from 0.

    With `repeatedly`, at all later ones too, as anyio's cancel scopes do.
    """

    def __init__(self, work: Awaitable[T], number: int, *, repeatedly: bool = False) -> None:
        self._work = work
        self._number = number
        self._repeatedly = repeatedly
        self.count = 0

    def __await__(self) -> Generator[Any, Any, T]:
        task = asyncio.current_task()
        assert task is not None
        steps = self._work.__await__()
        step: Callable[[], Any] = partial(steps.send, None)
        while True:
            try:
                waiting = step()
            except StopIteration as done:
                value: T = done.value
                return value
            if self.count == self._number or (self._repeatedly and self.count > self._number):
                task.cancel()
            self.count += 1
            try:
                step = partial(steps.send, (yield waiting))
            except BaseException as error:  # It is raised where the work awaits.
                step = partial(steps.throw, error)


async def cancel_at(
    work: Awaitable[T], number: int, *, repeatedly: bool = False
) -> T | BaseException:
    """Await something in a task that is cancelled; return the result or the exception."""

    async def run() -> T:
        return await CancelAt(work, number, repeatedly=repeatedly)

    (result,) = await asyncio.gather(run(), return_exceptions=True)
    return result


async def wait_until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what happens after a response. Fails after half a minute."""
    with fail_after(WAIT_SECONDS):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.001)


class Calls:
    """Count the calls of the drivers, and let one of them fail.

    An error happens as it does in the database: it aborts the transaction, and SQLite rolls it back
    if its disk is full.
    """

    def __init__(self) -> None:
        self.count = 0
        self.name = ""
        self._number = -1
        self._fault: str | Exception = ""

    @contextmanager
    def failing(self, number: int, fault: str | Exception) -> Iterator[None]:
        """Let the call with this number, counted from 0, fail within the block.

        The fault is one of `FAULTS`, or an error to raise instead of the call.
        """
        self.count, self._number, self._fault = 0, number, fault
        yield
        self._number = -1

    def next_fault(self, name: str) -> str | Exception:
        number, self.count = self.count, self.count + 1
        if number != self._number:
            return ""
        self.name = name
        return self._fault


@contextmanager
def recorded_calls() -> Iterator[Calls]:
    """Yield the calls of the drivers within the block."""
    calls = Calls()
    with pytest.MonkeyPatch.context() as patch:
        # A private method of aiosqlite 0.22, through which all calls pass.
        patch.setattr(aiosqlite.Connection, "_execute", wrap_sqlite(calls))
        for owner, name in (
            (asyncpg.Connection, "execute"),
            (asyncpg.Connection, "executemany"),
            (asyncpg.Connection, "fetch"),
            (asyncpg.Connection, "prepare"),
            (PreparedStatement, "fetch"),
        ):
            patch.setattr(owner, name, wrap_postgres(calls, getattr(owner, name)))
        yield calls


def sqlite_error(message: str, code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(message)
    error.sqlite_errorcode = code
    return error


def wrap_sqlite(calls: Calls) -> Any:
    execute: Any = aiosqlite.Connection._execute

    async def execute_or_fail(driver: Any, function: Any, *values: Any, **options: Any) -> Any:
        name = getattr(function, "__name__", "")
        if name not in USING_FILE:
            return await execute(driver, function, *values, **options)
        fault = calls.next_fault(f"{name} {values[:1]}")
        if isinstance(fault, Exception):
            raise fault
        if fault == ERROR and name in ("execute", "executemany", "commit"):
            await execute(driver, driver._conn.rollback)
            raise sqlite_error("database or disk is full", sqlite3.SQLITE_FULL)
        result = None if fault == ERROR else await execute(driver, function, *values, **options)
        if fault:
            raise sqlite_error("disk I/O error", sqlite3.SQLITE_IOERR)
        return result

    return execute_or_fail


def wrap_postgres(calls: Calls, call: Any) -> Any:
    execute = asyncpg.Connection.execute

    async def call_or_fail(target: Any, *values: Any, **options: Any) -> Any:
        driver = target._connection if isinstance(target, PreparedStatement) else target
        fault = calls.next_fault(f"{call.__name__} {values[:1]}")
        if fault in (ERROR, TIMEOUT) or isinstance(fault, Exception):
            # Outside of a transaction too: the server is waiting after `prepare`.
            is_end = values[:1] in (("COMMIT;",), ("ROLLBACK;",))
            with suppress(asyncpg.DivisionByZeroError):
                await execute(driver, "ROLLBACK" if is_end else "SELECT 1 / 0")
            if isinstance(fault, Exception):
                raise fault
            raise TimeoutError if fault == TIMEOUT else asyncpg.DiskFullError("disk is full")
        result = await call(target, *values, **options) if fault != DROP else None
        if fault:
            driver.terminate()
            raise asyncpg.ConnectionDoesNotExistError("connection was closed")
        return result

    return call_or_fail
