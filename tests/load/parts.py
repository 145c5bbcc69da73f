"""The parts of the benchmark: contenders and requests of each."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec

from blog_api.cli.console import progress
from tests.load import data
from tests.load.bench import Bench, Entry
from tests.load.checks import check_create, check_reads, record_responses
from tests.load.contenders import (
    HERE,
    Contender,
    Running,
    bare,
    blog_api,
    client_of,
    fastify,
    install_fastify,
    tutorial,
)
from tests.load.data import TOKEN, Size
from tests.load.databases import Loaded
from tests.load.machine import CORES, LOAD_CORES, SERVER_CORES, pinned
from tests.load.measure import Figures, Load, Request, get, post

# Growth is measured with a single client, for the cost and latency of one request.
ONE_CONNECTION = 1
LOGIN_SECONDS = 60


def make_reads(size: Size) -> list[Load]:
    return [
        Load("list", [get("/posts", page=1, size=10)]),
        Load("one post", [get(f"/posts/{size.posts // 2}")]),
        Load("me", [get("/users/me", TOKEN)]),
    ]


def make_new_post() -> Request:
    tags = [data.tag_name(tag_id) for tag_id in data.tag_ids(1)]
    title = "Load @run@ @number@"
    return post("/posts", TOKEN, {"title": title, "content": data.sample_markdown(), "tags": tags})


def make_anonymous_reads(size: Size, count: int, words: random.Random) -> list[Request]:
    """Return random requests: half for twenty pages of the list, half for two hundred posts."""
    pages = [get("/posts", page=page, size=10) for page in range(1, 21)]
    step = max(1, size.posts // 200)
    posts = [get(f"/posts/{post_id}") for post_id in range(1, size.posts + 1, step)][:200]
    return [words.choice(pages if number % 2 else posts) for number in range(count)]


def make_mixed_requests(size: Size) -> list[Request]:
    """Return 95 % anonymous reads, 4 % reads with a token and 1 % new posts, always the same."""
    words = random.Random(1)
    with_token = [
        get("/users/me", TOKEN) if number % 2 else get(f"/posts/{1 + number}", TOKEN)
        for number in range(80)
    ]
    requests = [*make_anonymous_reads(size, 1_900, words), *with_token, *[make_new_post()] * 20]
    words.shuffle(requests)
    return requests


def other_readers(bench: Bench, loaded: Loaded) -> list[Contender]:
    """Return the other implementations; add a note for each that cannot run here."""
    contenders = []
    error = install_fastify(bench.options.folder / "fastify")
    if error is None:
        folder = bench.options.folder / "fastify"
        contenders = [fastify(loaded, folder, count=count) for count in ("exact", "counter")]
    else:
        bench.add_note(f"Fastify is omitted: {error}.")
    return [*contenders, *tutorials(bench, loaded)]


def tutorials(bench: Bench, loaded: Loaded) -> list[Contender]:
    if find_spec("psycopg") is None:
        bench.add_note("The synchronous tutorial is omitted: `psycopg` is not installed.")
        return [tutorial(loaded, "async")]
    return [tutorial(loaded, kind) for kind in ("async", "sync")]


def measure_reads(bench: Bench) -> None:
    """Three reads by all contenders, repeated."""
    size = bench.options.small
    loads = make_reads(size)
    on_postgres, on_sqlite = bench.postgres(size), bench.sqlite(size)
    reference = bench.start(blog_api(on_postgres, cache=False))
    responses = bench.options.folder / "responses.json"
    record_responses(reference, loads, responses)
    running = [
        bench.start(contender)
        for contender in (
            bare(responses),
            blog_api(on_postgres),
            blog_api(on_postgres, cache=False),
            blog_api(on_sqlite),
            blog_api(on_sqlite, cache=False),
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
    """New posts by all contenders that can write."""
    size = bench.options.small
    on_postgres, on_sqlite = bench.postgres(size), bench.sqlite(size)
    reference = bench.start(blog_api(on_postgres))
    in_file = bench.start(blog_api(on_sqlite))
    others = [bench.start(contender) for contender in tutorials(bench, on_postgres)]
    for writer in (reference, in_file, *others):
        bench.problems += check_create(writer if writer is in_file else reference, writer)
    load = Load("create", [make_new_post()])
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
        Load("create", [make_new_post()]),
    ]


def measure_growth(bench: Bench) -> None:
    """The cost of a request of a single client with few posts and with many, without the cache.
    CPU is that of the server and of Postgres."""
    sizes = bench.options.sizes
    # The page at nine tenths of the smaller list.
    deep_page = sizes[0].posts // 10 * 9 // 10
    entries: list[tuple[str, list[Load], Running]] = []
    for size in sizes:
        for loaded in (bench.postgres(size), bench.sqlite(size)):
            running = bench.start(blog_api(loaded, cache=False))
            database = "SQLite" if loaded.is_sqlite else "Postgres"
            name = f"{database}, {size.name}"
            entries.append((name, growth_loads(running, size, deep_page), running))
    for number, load in enumerate(entries[0][1]):
        entries_of_load = [Entry(name, running, loads[number]) for name, loads, running in entries]
        bench.compare(
            "growth", load.name, entries_of_load, ONE_CONNECTION, writes=load.name == "create"
        )


def measure_mixed(bench: Bench) -> None:
    """The mix of a normal day: mostly anonymous reads of popular posts and pages."""
    size = bench.options.small
    loaded = bench.postgres(size)
    load = Load("mixed", make_mixed_requests(size))
    contenders = (blog_api(loaded), tutorial(loaded, "async"))
    entries = [Entry(one.name, bench.start(one), load) for one in contenders]
    for connections in bench.options.connections:
        bench.compare(
            "mixed", f"mixed, {connections} connections", entries, connections, writes=True
        )


def measure_storm(bench: Bench) -> None:
    """Anonymous reads, alone and during many log-ins with correct passwords."""
    options = bench.options
    loaded = bench.postgres(options.small)
    running = bench.start(blog_api(loaded))
    load = Load("reads", make_anonymous_reads(options.small, 2_000, random.Random(1)))
    entry = Entry(running.contender.name, running, load)
    connections = options.connections[0]
    alone: list[Figures] = []
    during_logins: list[Figures] = []
    logins = 0
    with progress("storm", options.rounds) as step:
        if options.warm_up:
            bench.run(entry, connections, options.warm_up)
        for _ in range(options.rounds):
            alone.append(bench.run(entry, connections, options.seconds))
            figures, statuses = with_logins(
                running.url, lambda: bench.run(entry, connections, options.seconds)
            )
            during_logins.append(figures)
            logins += statuses.pop("200", 0)
            if statuses:
                bench.problems.append(f"storm: log-ins return {statuses}")
            step()
    bench.clean_after(entry)
    case = f"reads, {connections} connections"
    bench.add_result("storm", case, "alone", alone)
    bench.add_result("storm", case, f"while {data.LOGINS} clients log in", during_logins)
    bench.add_note(f"storm: {logins} log-ins in {options.rounds} rounds of {options.seconds:g} s.")


def with_logins(url: str, work: Callable[[], Figures]) -> tuple[Figures, dict[str, int]]:
    """Return the result of the work while clients log in, and the statuses of the log-ins."""
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
    """One worker on one core, and two workers on two cores."""
    size = bench.options.small
    loaded = bench.postgres(size)
    two_cores = frozenset(CORES[:2])
    if len(CORES) < 3:
        bench.add_note(
            f"workers: this machine has only {len(CORES)} cores, so two workers share one with wrk "
            "and all with Postgres."
        )
    running = [
        bench.start(blog_api(loaded, cache=cache, workers=workers, cores=cores))
        for cache in (True, False)
        for workers, cores in ((1, frozenset(SERVER_CORES)), (2, two_cores))
    ]
    for connections in bench.options.connections:
        for load in make_reads(size):
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
