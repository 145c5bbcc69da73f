"""An operator's day by the commands of the guide, while clients read and write through nginx.

The commands are read from the pages. Only addresses, ports, a folder, the number of a process, and
pip, which would download packages, are replaced by ours.
"""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from anyio import create_task_group
from httpx import AsyncClient

from tests.support.clients import PASSWORD, bearer, request_with_retry
from tests.support.clusters import ACCOUNT, Cluster, find_programs, running_clusters
from tests.support.operator import OperatedServer, Terminal, install, read_blocks
from tests.support.proxies import find_fixed_port, running_guide_proxy
from tests.support.traffic import Traffic
from tests.support.versions import NEWER_REVISION, add_migration, copy_code

pytestmark = pytest.mark.operations

DEPLOY = read_blocks("deploy")
MOVE = DEPLOY["Move to another database"][0]
BACK_UP = read_blocks("back-up")
FAILOVER = read_blocks("failover")
UPGRADE = read_blocks("upgrade")

# The defaults would limit the clients, and hash for longer.
SETTINGS = """\
BLOG_ACCESS_LOG=false
BLOG_ARGON2_LANES=1
BLOG_ARGON2_MEMORY_KIB=19456
BLOG_ARGON2_PASSES=2
BLOG_RATE_LIMIT_ENABLED=false
BLOG_TRUSTED_PROXIES=["127.0.0.1"]
"""


def run_git(folder: Path, *options: str) -> None:
    identity = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")
    subprocess.run(["git", *identity, *options], cwd=folder, check=True, capture_output=True)


def commit_version(repository: Path) -> None:
    run_git(repository, "add", "--all")
    run_git(repository, "commit", "--message", "A version")


class Operator:
    """A clone of the repository in which the service runs, and two servers of Postgres."""

    def __init__(self, folder: Path, stack: ExitStack, primary: Cluster, standby: Cluster) -> None:
        self.primary, self.standby = primary, standby
        self.repository = folder / "repository"
        self.repository.mkdir()
        copy_code(self.repository)
        run_git(self.repository, "init", "--initial-branch=main")
        commit_version(self.repository)
        self.folder = folder / "blog"
        run_git(folder, "clone", str(self.repository), str(self.folder))
        install(self.folder)
        (self.folder / ".env").write_text(SETTINGS)
        port = find_fixed_port()
        replaced = {
            "--port 8001": f"--port {port}",
            "-h 127.0.0.1": f"-h 127.0.0.1 -p {primary.port}",
            "@127.0.0.1/": f"@127.0.0.1:{primary.port}/",
            "-h db1": f"-h 127.0.0.1 -p {primary.port}",
            "-h db2": f"-h 127.0.0.1 -p {standby.port}",
            "host=db1 port=5432": f"host=127.0.0.1 port={primary.port}",
            "db1:5432": f"127.0.0.1:{primary.port}",
            "db2:5432": f"127.0.0.1:{standby.port}",
            "/var/lib/postgresql/15/main": str(standby.folder),
        }
        programs = find_programs()
        self.terminal = Terminal(self.folder, replaced, programs)
        self.standby_terminal = Terminal(standby.folder.parent, replaced, programs, ACCOUNT)
        nginx = stack.enter_context(
            running_guide_proxy("nginx", folder, f"http://127.0.0.1:{port}")
        )
        self.traffic = Traffic(f"http://127.0.0.1:{nginx}")
        self.servers: list[OperatedServer] = []
        self._stack = stack

    async def paste(self, *blocks: str) -> str:
        return "".join([await asyncio.to_thread(self.terminal.paste, block) for block in blocks])

    async def serve(self) -> None:
        server = OperatedServer(self.terminal, MOVE)
        self.servers.append(server)
        await asyncio.to_thread(self._stack.enter_context, server)

    async def stop(self) -> None:
        await asyncio.to_thread(self.servers[-1].stop)

    async def reload(self, block: str) -> str:
        return await asyncio.to_thread(self.servers[-1].reload, block)

    async def kill_worker(self) -> None:
        server = self.servers[-1]
        worker = server.find_worker()
        os.kill(worker, signal.SIGKILL)
        await asyncio.to_thread(server.wait_for_log, rf"process \[({worker})\] died")

    def publish_version(self) -> None:
        add_migration(self.repository)
        commit_version(self.repository)

    def list_blocks_that_were_not_pasted(self) -> list[str]:
        pasted = self.terminal.pasted | self.standby_terminal.pasted
        pages = (BACK_UP, FAILOVER, UPGRADE)
        blocks = [block for page in pages for found in page.values() for block in found]
        return [block for block in blocks if block not in pasted]


async def lose_and_restore_sqlite(operator: Operator) -> None:
    acknowledged = operator.traffic.acknowledged()
    await operator.paste(*BACK_UP["Back up SQLite"])
    await operator.traffic.advance()

    await operator.stop()
    (operator.folder / "blog.db").write_bytes(b"lost")
    operator.traffic.restore(acknowledged)
    await operator.paste(*BACK_UP["Restore SQLite"])
    await operator.serve()
    await operator.traffic.advance()

    assert stat.S_IMODE((operator.folder / "backup" / "blog.db").stat().st_mode) == 0o600


async def move_to_postgres(operator: Operator) -> None:
    await operator.stop()
    await asyncio.to_thread(operator.primary.create)
    output = await operator.paste(MOVE)
    await operator.serve()
    await operator.traffic.advance()

    assert " rows copied." in output


async def upgrade(operator: Operator) -> None:
    install_and_reload, rebuild = UPGRADE["Without an outage"]
    operator.publish_version()
    output = await operator.reload(install_and_reload)
    await operator.paste(rebuild)
    await operator.traffic.advance()

    async with operator.traffic.client() as client:
        ready = (await request_with_retry(client, "GET", "/health/ready")).json()
    assert f"The database is at revision {NEWER_REVISION}." in output
    # A worker of the older version would say that the database is newer.
    assert ready == {"status": "ok"}


async def get_jwt(client: AsyncClient) -> str:
    form = {"grant_type": "password", "username": "ann@example.com", "password": PASSWORD}
    response = await request_with_retry(client, "POST", "/token", data=form)
    token: str = response.json()["access_token"]
    return token


async def rotate_the_key(operator: Operator) -> None:
    async with operator.traffic.client() as client:
        tokens = [await get_jwt(client)]
        for block in DEPLOY["Change the secret key"]:
            await operator.reload(block)
            tokens.append(await get_jwt(client))
            await operator.traffic.advance()
        accounts = [
            await request_with_retry(client, "GET", "/users/me", headers=bearer(token))
            for token in tokens
        ]

    assert [account.status_code for account in accounts] == [200, 200, 200]


async def lose_and_restore_postgres(operator: Operator) -> None:
    acknowledged = operator.traffic.acknowledged()
    await operator.paste(*BACK_UP["Back up Postgres"])
    await operator.traffic.advance()

    await asyncio.to_thread(operator.primary.lose)
    await operator.traffic.wait_for_outage()
    await operator.stop()
    (operator.folder / ".env").unlink()
    shutil.rmtree(operator.folder / "blog.db.media")
    operator.traffic.restore(acknowledged)
    await asyncio.to_thread(operator.primary.create)
    output = await operator.paste(*BACK_UP["Restore Postgres"])
    await operator.serve()
    await operator.traffic.advance()

    assert "search: 0 wrong" in output


async def set_up_the_standby(operator: Operator) -> None:
    create_role, copy_primary, wait_for_standby, name_both_hosts = FAILOVER["Set up the standby"]
    primary, standby, traffic = operator.primary, operator.standby, operator.traffic

    async def start_the_standby() -> None:
        await asyncio.to_thread(standby.start)
        await asyncio.to_thread(primary.wait_for_standby, "async")
        await operator.paste(wait_for_standby)
        await asyncio.to_thread(primary.wait_for_standby, "sync")
        await traffic.advance()

    await operator.paste(create_role)
    await asyncio.to_thread(operator.standby_terminal.paste, copy_primary)
    await start_the_standby()
    await operator.reload(name_both_hosts)
    await traffic.advance()

    await asyncio.to_thread(standby.crash)
    # Each write waits for five seconds.
    await traffic.wait_for_outage(1)
    await operator.paste(*FAILOVER["Afterwards"])
    await traffic.advance()
    await start_the_standby()


async def fail_over(operator: Operator) -> None:
    await asyncio.to_thread(operator.primary.crash)
    await operator.traffic.wait_for_outage()
    await operator.paste(*FAILOVER["Fail over"])
    await operator.traffic.advance()


async def test_an_operators_day(tmp_path: Path):
    with ExitStack() as stack:
        clusters = stack.enter_context(running_clusters("db1", "db2"))
        operator = await asyncio.to_thread(Operator, tmp_path, stack, *clusters)
        await operator.serve()
        async with create_task_group() as group:
            group.start_soon(operator.traffic.run)
            await operator.traffic.advance()
            await lose_and_restore_sqlite(operator)
            await move_to_postgres(operator)
            await operator.kill_worker()
            await operator.traffic.advance()
            await upgrade(operator)
            await rotate_the_key(operator)
            await lose_and_restore_postgres(operator)
            await set_up_the_standby(operator)
            await fail_over(operator)
            operator.traffic.stop()
        lost = await operator.traffic.find_lost()
        derived = await operator.paste(*DEPLOY["Rebuild what is derived"])
        await operator.stop()

    assert lost == []
    assert "search: 0 wrong" in derived
    assert operator.list_blocks_that_were_not_pasted() == []
    assert [log for log in (server.log for server in operator.servers) if "Traceback" in log] == []
