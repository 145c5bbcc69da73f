"""Postgres servers of a test, in a temporary folder."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.proxies import find_fixed_port

START_SECONDS = 60
# The server that runs as a user of its own refuses to run as root.
ACCOUNT = "postgres" if os.geteuid() == 0 else None
# Without fsync: the processes may crash in a test, but not the machine.
CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
max_connections = 60
shared_buffers = 16MB
"""


def find_programs() -> Path:
    """Return the folder of `initdb`: Debian has it outside of the path."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    program = max(found, key=lambda path: int(path.parts[-3])) if found else shutil.which("initdb")
    if program is None:
        pytest.exit("initdb: the programs of a Postgres server are not installed", 2)
    return Path(program).parent


class Cluster:
    """A Postgres server on a port that stays the same. It needs no passwords."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = find_fixed_port()
        self.programs = find_programs()

    def create(self) -> None:
        """Create an empty server, and start it."""
        options = ("-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        self._run("initdb", *options)
        with (self.folder / "postgresql.conf").open("a") as file:
            file.write(CONFIGURATION)
        self.start()

    def start(self) -> None:
        log = str(self.folder.with_suffix(".log"))
        self._run("pg_ctl", "-w", "-t", str(START_SECONDS), "-o", f"-p {self.port}", "-l", log)

    def crash(self) -> None:
        """Stop all processes at once, without a checkpoint."""
        self._run("pg_ctl", "-m", "immediate")

    def lose(self) -> None:
        """Crash, and lose all files."""
        self.crash()
        shutil.rmtree(self.folder)

    def query(self, sql: str) -> str:
        server = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres")
        command = [str(self.programs / "psql"), *server, "-Atc", sql]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def wait_for_standby(self, state: str) -> None:
        """Wait until a standby streams, as `async` or `sync`."""
        deadline = time.monotonic() + START_SECONDS
        sql = "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'"
        while self.query(sql) != state:
            assert time.monotonic() < deadline, f"No standby is {state}"

    def is_running(self) -> bool:
        return (self.folder / "postmaster.pid").exists()

    def _run(self, program: str, *options: str) -> None:
        command = [str(self.programs / program), "-D", str(self.folder), *options]
        if program == "pg_ctl":
            command.insert(1, "stop" if "immediate" in options else "start")
        # Not to a pipe, which the server would keep open.
        subprocess.run(
            command, user=ACCOUNT, cwd=self.folder.parent, stdout=subprocess.DEVNULL, check=True
        )


@contextmanager
def running_clusters(*names: str) -> Iterator[list[Cluster]]:
    """Yield servers that have not been created, and stop those that run at the end."""
    with tempfile.TemporaryDirectory(prefix="blog-api-clusters-") as folder:
        if ACCOUNT is not None:
            account = pwd.getpwnam(ACCOUNT)
            os.chown(folder, account.pw_uid, account.pw_gid)
        clusters = [Cluster(Path(folder) / name) for name in names]
        try:
            yield clusters
        finally:
            for cluster in clusters:
                if cluster.is_running():
                    cluster.crash()
