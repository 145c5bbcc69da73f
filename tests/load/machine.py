"""The machine, as Linux tells it in `/proc`: cores, CPU time, memory and who listens where."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
LISTENS = "0A"

CORES = sorted(os.sched_getaffinity(0))
# A server has the first, what loads it has the last. Postgres may run on all of them.
SERVER_CORES = {CORES[0]}
LOAD_CORES = {CORES[-1]}


@contextmanager
def pinned(cores: set[int]) -> Iterator[None]:
    """Whatever is started meanwhile runs on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def stat(pid: int) -> list[str]:
    """The fields of `stat` from the third on: the second, a name, can have spaces."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def stats() -> dict[int, list[str]]:
    """Of all processes that there are."""
    found = {}
    for folder in PROC.iterdir():
        if folder.name.isdecimal():
            try:
                found[int(folder.name)] = stat(int(folder.name))
            except OSError:
                continue  # it has just ended
    return found


def tree(pid: int) -> dict[int, list[str]]:
    """A process and all that it has started, with what is known of them."""
    everybody = stats()
    found = {pid: everybody[pid]} if pid in everybody else {}
    while True:
        children = {
            one: fields
            for one, fields in everybody.items()
            if one not in found and int(fields[1]) in found
        }
        if not children:
            return found
        found |= children


def cpu_seconds(pid: int) -> float:
    """What a process and its children have used, with those that have ended."""
    ticks = sum(int(ticks) for fields in tree(pid).values() for ticks in fields[11:15])
    return ticks / TICKS


def memory_bytes(pid: int) -> int:
    """What a process and its children hold in memory."""
    pages = sum(int(fields[21]) for fields in tree(pid).values())
    return pages * os.sysconf("SC_PAGE_SIZE")


def listening_port(pid: int) -> int | None:
    """The port on which a process or one of its children listens.

    A server takes any free port; that it is asked for here, nobody else's can be taken for it.
    """
    sockets = set()
    for one in tree(pid):
        try:
            sockets |= {os.readlink(file) for file in (PROC / str(one) / "fd").iterdir()}
        except OSError:
            continue
    for line in (PROC / "net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == LISTENS and f"socket:[{fields[9]}]" in sockets:
            return int(fields[1].partition(":")[2], 16)
    return None


def parent_named(pid: int, name: str) -> int | None:
    """The parent of a process, if both have this name here: another machine's pid would not."""
    try:
        parent = int(stat(pid)[1])
        names = {(PROC / str(one) / "comm").read_text().strip() for one in (pid, parent)}
    except OSError:
        return None
    return parent if names == {name} else None


def cpu_model() -> str:
    for line in (PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"
