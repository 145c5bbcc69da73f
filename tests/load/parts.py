"""The parts: what is compared with what, and by which requests."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec

from blog_api.cli.console import progress
from tests.load import data
from tests.load.bench import Bench, Entry
from tests.load.checks import check_create, check_reads, record
from tests.load.contenders import (
    HERE,
    Contender,
    Running,
    bare,
    client_of,
    fastify,
    install_fastify,
    ours,
    tutorial,
)
from tests.load.data import TOKEN, Size
from tests.load.databases import Loaded
from tests.load.machine import CORES, LOAD_CORES, SERVER_CORES, pinned
from tests.load.measure import Figures, Load, Request, get, post

# Growth is measured by one client: what a request costs, and how long it takes on its own.
ALONE = 1
LOGIN_SECONDS = 60


def reads(size: Size) -> list[Load]:
    return [
        Load("list", [get("/posts", page=1, size=10)]),
        Load("one post", [get(f"/posts/{size.posts // 2}")]),
        Load("me", [get("/users/me", TOKEN)]),
    ]


def new_post() -> Request:
    tags = [data.tag_name(tag_id) for tag_id in data.tag_ids(1)]
    title = "Load @run@ @number@"
    return post("/posts", TOKEN, {"title": title, "content": data.sample_markdown(), "tags": tags})


def anonymous_reads(size: Size, count: int, words: random.Random) -> list[Request]:
    """Half of them of twenty pages of the list, half of two hundred posts."""
    pages = [get("/posts", page=page, size=10) for page in range(1, 21)]
    step = max(1, size.posts // 200)
    posts = [get(f"/posts/{post_id}") for post_id in range(1, size.posts + 1, step)][:200]
    return [words.choice(pages if number % 2 else posts) for number in range(count)]


def mixed_requests(size: Size) -> list[Request]:
    """95 % anonymous reads, 4 % by somebody who is logged in, 1 % new posts; always the same."""
    words = random.Random(1)
    signed_in = [
        get("/users/me", TOKEN) if number % 2 else get(f"/posts/{1 + number}", TOKEN)
        for number in range(80)
    ]
    found = [*anonymous_reads(size, 1_900, words), *signed_in, *[new_post()] * 20]
    words.shuffle(found)
    return found


def other_readers(bench: Bench, loaded: Loaded) -> list[Contender]:
    """Those that are not ours; of one that cannot run here, a note says why."""
    found = []
    why = install_fastify(bench.options.folder / "fastify")
    if why is None:
        folder = bench.options.folder / "fastify"
        found = [fastify(loaded, folder, count=count) for count in ("exact", "counter")]
    else:
        bench.note(f"Fastify is left out: {why}.")
    return [*found, *tutorials(bench, loaded)]


def tutorials(bench: Bench, loaded: Loaded) -> list[Contender]:
    if find_spec("psycopg") is None:
        bench.note("The synchronous tutorial is left out: there is no `psycopg`.")
        return [tutorial(loaded, "async")]
    return [tutorial(loaded, kind) for kind in ("async", "sync")]


def measure_reads(bench: Bench) -> None:
    """The same three reads, again and again, by all contenders."""
    size = bench.options.small
    loads = reads(size)
    on_postgres, on_sqlite = bench.postgres(size), bench.sqlite(size)
    reference = bench.start(ours(on_postgres, cache=False))
    answers = bench.options.folder / "answers.json"
    record(reference, loads, answers)
    running = [
        bench.start(contender)
        for contender in (
            bare(answers),
            ours(on_postgres),
            ours(on_postgres, cache=False),
            ours(on_sqlite),
            ours(on_sqlite, cache=False),
            *other_readers(bench, on_postgres),
        )
    ]
    for one in running:
        bench.problems += check_reads(reference, one, loads)
    for connections in bench.options.connections:
        for load in loads:
            entries = [Entry(one.contender.name, one, load) for one in running]
            bench.compare("reads", f"{load.name}, {connections} connections", entries, connections)


def measure_create(bench: Bench) -> None:
    """New posts, by all who write."""
    size = bench.options.small
    on_postgres, on_sqlite = bench.postgres(size), bench.sqlite(size)
    reference = bench.start(ours(on_postgres))
    in_file = bench.start(ours(on_sqlite))
    others = [bench.start(contender) for contender in tutorials(bench, on_postgres)]
    for writer in (reference, in_file, *others):
        bench.problems += check_create(writer if writer is in_file else reference, writer)
    load = Load("create", [new_post()])
    entries = [Entry(one.contender.name, one, load) for one in (reference, in_file, *others)]
    bench.clean()
    connections = bench.options.connections[0]
    bench.compare("create", f"create, {connections} connections", entries, connections, writes=True)


def growth_loads(running: Running, size: Size, deep_page: int) -> list[Load]:
    middle = data.published_at(size.posts // 2).isoformat()
    with client_of(running) as client:
        half_way = client.get("/posts", params={"until": middle})
    return [
        Load("list", [get("/posts", page=1, size=10)]),
        Load(f"page {deep_page}", [get("/posts", page=deep_page, size=10)]),
        Load("cursor half-way", [get("/posts", cursor=half_way.json()["next_cursor"], size=10)]),
        Load("one post", [get(f"/posts/{size.posts // 2}")]),
        Load("posts of an author", [get("/users/7/posts", page=1, size=10)]),
        Load("posts of a tag", [get("/posts", tag=data.tag_name(7), page=1, size=10)]),
        Load("create", [new_post()]),
    ]


def measure_growth(bench: Bench) -> None:
    """What a request of one client costs the service with few posts and with many, the cache off.
    CPU is the server's and that of Postgres."""
    sizes = bench.options.sizes
    # Nine tenths down the smaller list.
    deep_page = sizes[0].posts // 10 * 9 // 10
    entries: list[tuple[str, list[Load], Running]] = []
    for size in sizes:
        for loaded in (bench.postgres(size), bench.sqlite(size)):
            running = bench.start(ours(loaded, cache=False))
            database = "SQLite" if loaded.is_sqlite else "Postgres"
            name = f"{database}, {size.name}"
            entries.append((name, growth_loads(running, size, deep_page), running))
    for number, load in enumerate(entries[0][1]):
        which = [Entry(name, running, loads[number]) for name, loads, running in entries]
        bench.compare("growth", load.name, which, ALONE, writes=load.name == "create")


def measure_mixed(bench: Bench) -> None:
    """What a blog is asked for in a day: mostly reads, by everybody, of what others read too."""
    size = bench.options.small
    loaded = bench.postgres(size)
    load = Load("mixed", mixed_requests(size))
    contenders = (ours(loaded), tutorial(loaded, "async"))
    entries = [Entry(one.name, bench.start(one), load) for one in contenders]
    for connections in bench.options.connections:
        bench.compare(
            "mixed", f"mixed, {connections} connections", entries, connections, writes=True
        )


def measure_storm(bench: Bench) -> None:
    """Anonymous reads, alone and while many log in, each with the right password."""
    options = bench.options
    loaded = bench.postgres(options.small)
    running = bench.start(ours(loaded))
    load = Load("reads", anonymous_reads(options.small, 2_000, random.Random(1)))
    entry = Entry(running.contender.name, running, load)
    connections = options.connections[0]
    alone: list[Figures] = []
    stormed: list[Figures] = []
    logins = 0
    with progress("storm", options.rounds) as step:
        if options.warm_up:
            bench.run(entry, connections, options.warm_up)
        for _ in range(options.rounds):
            alone.append(bench.run(entry, connections, options.seconds))
            figures, statuses = with_logins(
                running.url, lambda: bench.run(entry, connections, options.seconds)
            )
            stormed.append(figures)
            logins += statuses.pop("200", 0)
            if statuses:
                bench.problems.append(f"storm: log-ins are answered {statuses}")
            step()
    bench.clean_after(entry)
    case = f"reads, {connections} connections"
    bench.keep("storm", case, "alone", alone)
    bench.keep("storm", case, f"while {data.LOGINS} clients log in", stormed)
    bench.note(f"storm: {logins} log-ins in {options.rounds} rounds of {options.seconds:g} s.")


def with_logins(url: str, work: Callable[[], Figures]) -> tuple[Figures, dict[str, int]]:
    """What the work gives while clients log in, and what these are answered."""
    emails = [data.login_email(number) for number in range(1, data.LOGINS + 1)]
    command = [sys.executable, str(HERE / "logins.py"), url, data.PASSWORD, *emails]
    with pinned(LOAD_CORES):
        storm = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert storm.stdout is not None
        storm.stdout.readline()
        figures = work()
        storm.terminate()
        output, _ = storm.communicate(timeout=LOGIN_SECONDS)
    finally:
        storm.kill()
        storm.wait()
    statuses: dict[str, int] = json.loads(output)
    return figures, statuses


def measure_workers(bench: Bench) -> None:
    """One worker on one core, and two on two."""
    size = bench.options.small
    loaded = bench.postgres(size)
    two_cores = frozenset(CORES[:2])
    if len(CORES) < 3:
        bench.note(
            f"workers: this machine has {len(CORES)} cores, so two are not free for two workers: "
            "they share one with wrk, and all with Postgres."
        )
    running = [
        bench.start(ours(loaded, cache=cache, workers=workers, cores=cores))
        for cache in (True, False)
        for workers, cores in ((1, frozenset(SERVER_CORES)), (2, two_cores))
    ]
    for connections in bench.options.connections:
        for load in reads(size):
            entries = [Entry(one.contender.name, one, load) for one in running]
            case = f"{load.name}, {connections} connections"
            bench.compare("workers", case, entries, connections)


PARTS: dict[str, Callable[[Bench], None]] = {
    "reads": measure_reads,
    "create": measure_create,
    "growth": measure_growth,
    "mixed": measure_mixed,
    "storm": measure_storm,
    "workers": measure_workers,
}
