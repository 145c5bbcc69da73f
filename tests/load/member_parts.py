"""The parts in which users are signed in."""

from collections.abc import Callable

from tests.load import data
from tests.load.available import fastifies, rest_frameworks
from tests.load.bench import Bench, Entry
from tests.load.checks import check_members, check_reads
from tests.load.contenders import Running, blog_api, tutorial
from tests.load.data import Size
from tests.load.loads import (
    make_bookmarks,
    make_comments,
    make_discussion,
    make_page,
    make_signed_in_reads,
)
from tests.load.measure import Load

READERS_OF_PAGE = 100


def start_services(bench: Bench, size: Size) -> list[Running]:
    """Start the service on both databases, and that of another checkout if one is given."""
    services = (blog_api(bench.postgres(size)), blog_api(bench.sqlite(size)))
    return [bench.start(contender) for contender in (*services, *bench.baselines(size))]


def start_writers(bench: Bench, size: Size) -> list[Running]:
    """Start all contenders with comments and bookmarks, and check these."""
    others = rest_frameworks(bench, bench.postgres(size))
    running = [*start_services(bench, size), *map(bench.start, others)]
    # Without the cache, it returns at once what another process has written.
    reference = bench.start(blog_api(bench.postgres(size), cache=False))
    for one in running:
        is_shared = one.contender.loaded == reference.contender.loaded
        bench.problems += check_members(reference if is_shared else one, one)
    bench.clean()
    return running


def compare_loads(
    bench: Bench, part: str, running: list[Running], loads: list[Load], *, writes: bool = False
) -> None:
    connections = bench.options.connections[0]
    for load in loads:
        entries = [Entry(one.contender.name, one, load) for one in running]
        case = f"{load.name}, {connections} connections"
        bench.compare(part, case, entries, connections, writes=writes)


def measure_signed_in(bench: Bench) -> None:
    """Public data read by a hundred users in turn, with an opaque token or a JWT. Fastify and the
    tutorial do not check the token on these routes, and have no JWT and no profiles."""
    size = bench.options.small
    loaded = bench.postgres(size)
    reference = bench.start(blog_api(loaded, cache=False))
    services = start_services(bench, size)
    with_profiles = [*services, *map(bench.start, rest_frameworks(bench, loaded))]
    others = [tutorial(loaded, "async"), *fastifies(bench, loaded)[-1:]]
    all_running = [*with_profiles, *map(bench.start, others)]
    for load in make_signed_in_reads(size, data.token_of):
        running = with_profiles if load.name == "profile" else all_running
        measure_checked(bench, reference, running, load)
    for load in make_signed_in_reads(size, data.jwt_of):
        measure_checked(bench, reference, services, Load(f"{load.name} with JWT", load.requests))


def measure_checked(bench: Bench, reference: Running, running: list[Running], load: Load) -> None:
    for one in running:
        bench.problems += check_reads(reference, one, [load])
    compare_loads(bench, "signed-in", running, [load])


def measure_comments(bench: Bench) -> None:
    """New comments by a hundred users, on two hundred posts and on a single one."""
    measure_writes(bench, "comments", make_comments)


def measure_bookmarks(bench: Bench) -> None:
    """Bookmarks that a hundred users add and then remove, of a hundred posts and of a single
    one."""
    measure_writes(bench, "bookmarks", make_bookmarks)


def measure_writes(bench: Bench, part: str, make_loads: Callable[[Size], list[Load]]) -> None:
    size = bench.options.small
    compare_loads(bench, part, start_writers(bench, size), make_loads(size), writes=True)


def measure_discussion(bench: Bench) -> None:
    """A mixed load: 90 % reads, a third of them signed in, 5 % comments and 5 % bookmarks. The
    comments and bookmarks are on the five newest posts, which are read more than others."""
    size = bench.options.small
    running = start_writers(bench, size)
    compare_loads(bench, "discussion", running, [make_discussion(size)], writes=True)


def measure_page(bench: Bench) -> None:
    """A hundred anonymous clients read a post without a pause, while a user comments on it without
    a pause."""
    size = bench.options.small
    load = make_page(size)
    entries = [Entry(one.contender.name, one, load) for one in start_writers(bench, size)]
    case = f"{READERS_OF_PAGE} readers and a writer"
    bench.compare("page", case, entries, READERS_OF_PAGE + 1, writes=True)
