"""Two versions of the service side by side on one database."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from httpx import AsyncClient

from tests.support.clients import request_with_retry, sign_up
from tests.support.databases import temporary_database
from tests.support.processes import Server
from tests.support.versions import NEWER_REVISION, add_migration, copy_code

pytestmark = pytest.mark.processes

CREATED = 100


def run_migrate(server: Server) -> None:
    command = [sys.executable, "-m", "blog_api", "migrate"]
    subprocess.run(command, cwd=server.folder, env=server.environment, check=True)


async def create_posts(client: AsyncClient, number: int) -> list[int]:
    """Create posts one after another, and read each; return their ids."""
    ids = []
    for _ in range(number):
        body = {"title": "Hello", "content": "World"}
        created = await request_with_retry(client, "POST", "/posts", json=body)
        assert created.status_code == 201, created.text
        ids.append(created.json()["id"])
        assert (await request_with_retry(client, "GET", f"/posts/{ids[-1]}")).status_code == 200
    return ids


async def test_two_versions_serve_one_database_during_an_upgrade(tmp_path: Path):
    newer_folder = tmp_path / "newer"
    newer_folder.mkdir()
    copy_code(newer_folder)
    add_migration(newer_folder)

    async with temporary_database(tmp_path, "upgrade", is_migrated=True) as url:
        new = Server(newer_folder, url)
        with ExitStack() as servers:
            old = servers.enter_context(Server(tmp_path, url, workers=2))
            async with old.client() as ann:
                await sign_up(ann, "Ann")
                created = asyncio.create_task(create_posts(ann, CREATED))
                await asyncio.to_thread(run_migrate, new)
                await asyncio.to_thread(servers.enter_context, new)
                async with new.client() as bob:
                    await sign_up(bob, "Bob")
                    ids = await create_posts(bob, CREATED) + await created
                    # A worker of the old version that starts anew leaves the schema as it is.
                    worker = int(re.findall(r"Started server process \[(\d+)\]", old.log)[0])
                    os.kill(worker, signal.SIGKILL)
                    await asyncio.to_thread(old.wait_for_log, rf"process \[({worker})\] died")
                    ids += await create_posts(ann, 10)
                    ready = [(await client.get("/health/ready")).json() for client in (ann, bob)]
                    total = (await bob.get("/posts?size=1")).json()["total_count"]

    assert ready[0]["status"] == "ok"
    assert f"revision {NEWER_REVISION} of a newer version, which serves" in ready[0]["detail"]
    assert ready[1] == {"status": "ok"}
    assert len(set(ids)) == total == 2 * CREATED + 10
    assert "Traceback" not in old.log + new.log
