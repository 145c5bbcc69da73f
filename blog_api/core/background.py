"""Work that goes on beside the requests."""

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import anyio

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0


@contextmanager
def errors_logged(work: str) -> Iterator[None]:
    """Log an error instead of raising it: it would end the work of all others, and the service."""
    try:
        yield
    # Broad: no caller waits for this work, and any error that escaped would cancel all the other
    # background tasks of the process. The traceback is logged.
    except Exception:
        log.exception("Failed: %s", work)


async def keep_running(work: Callable[[], Awaitable[None]], name: str) -> None:
    """Run endless work until cancelled; start it again after an error."""
    while True:
        with errors_logged(name):
            await work()
        await anyio.sleep(RETRY_SECONDS)
