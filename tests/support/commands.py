"""Commands of `blog-api` in the process of the tests, and a service on their database."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio.to_thread
from httpx import AsyncClient
from sqlalchemy import URL
from typer.testing import CliRunner, Result

from blog_api.cli.commands import cli
from tests.support.clients import MINIMUM_HASHING, client_of, make_settings, running


@asynccontextmanager
async def serve_database(url: URL) -> AsyncGenerator[AsyncClient]:
    """Serve the database; yields an anonymous client."""
    settings = make_settings(database_url=url, **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as client:
        yield client


async def run_command(*args: str, stdin: str = "") -> Result:
    """Run a command in a thread: it starts an event loop."""
    return await anyio.to_thread.run_sync(lambda: CliRunner().invoke(cli, args, input=stdin))
