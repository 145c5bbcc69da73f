"""The machine, read from Linux' `/proc`: cores, CPU time, memory and listening ports."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
TCP_LISTEN = "0A"

CORES = sorted(os.sched_getaffinity(0))
# A server runs on the first core, the load generator on the last, Postgres on any.
SERVER_CORES = {CORES[0]}
LOAD_CORES = {CORES[-1]}


@contextmanager
def pinned(cores: set[int]) -> Iterator[None]:
    """Pin processes that are started in the block to these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def read_stat(pid: int) -> list[str]:
    """Return the fields of `stat` from the third on; the second, a name, can have spaces."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def read_all_stats() -> dict[int, list[str]]:
    """Return the fields of all processes by pid."""
    stats = {}
    for folder in PROC.iterdir():
        if folder.name.isdecimal():
            try:
                stats[int(folder.name)] = read_stat(int(folder.name))
            except OSError:
                continue  # the process has just ended
    return stats


def read_process_tree(pid: int) -> dict[int, list[str]]:
    """Return the fields of a process and all its descendants by pid."""
    stats = read_all_stats()
    tree = {pid: stats[pid]} if pid in stats else {}
    while True:
        children = {
            one: fields
            for one, fields in stats.items()
            if one not in tree and int(fields[1]) in tree
        }
        if not children:
            return tree
        tree |= children


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its descendants, including those that ended."""
    ticks = sum(int(ticks) for fields in read_process_tree(pid).values() for ticks in fields[11:15])
    return ticks / TICKS


def memory_bytes(pid: int) -> int:
    """Return the resident memory of a process and its descendants."""
    pages = sum(int(fields[21]) for fields in read_process_tree(pid).values())
    return pages * os.sysconf("SC_PAGE_SIZE")


def listening_port(pid: int) -> int | None:
    """Return the port on which a process or one of its descendants listens."""
    sockets = set()
    for one in read_process_tree(pid):
        try:
            sockets |= {os.readlink(file) for file in (PROC / str(one) / "fd").iterdir()}
        except OSError:
            continue
    for line in (PROC / "net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == TCP_LISTEN and f"socket:[{fields[9]}]" in sockets:
            return int(fields[1].partition(":")[2], 16)
    return None


def parent_named(pid: int, name: str) -> int | None:
    """Return the parent of a process if both have this name on this machine."""
    try:
        parent = int(read_stat(pid)[1])
        names = {(PROC / str(one) / "comm").read_text().strip() for one in (pid, parent)}
    except OSError:
        return None
    return parent if names == {name} else None


def cpu_model() -> str:
    for line in (PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"
