"""The report: tables in Markdown, and a plot."""

import platform
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path

from tests.load.bench import Bench, Result
from tests.load.contenders import BASELINE
from tests.load.machine import CORES, cpu_model
from tests.load.measure import Figures
from tests.load.memory import MemoryUse, measure_memory
from tests.load.parts import PARTS

# The contenders with which the others are compared, if they took part.
REFERENCES = (
    BASELINE,
    "bare ASGI",
    "tutorial, async",
    "tutorial, sync",
    "Django REST framework",
    "Fastify, a counter",
)
# The cases of the summary, and their names there.
SUMMARY = {
    ("reads", "list"): "list",
    ("reads", "one post"): "one post",
    ("reads", "me"): "`/users/me`",
    ("signed-in", "list"): "list, signed in",
    ("signed-in", "post"): "one post, signed in",
    ("create", "create"): "new post",
    ("comments", "comment on many posts"): "new comment",
    ("bookmarks", "bookmark many posts"): "bookmark",
    ("search", "word of a hundredth"): "search",
    ("discussion", "discussion"): "discussion",
}
PACKAGES = ("fastapi", "starlette", "uvicorn", "sqlmodel", "sqlalchemy", "asyncpg", "pydantic")
MIB = 1024 * 1024

Column = Callable[[Result], str]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table; the columns after the first are numbers."""
    yield f"| {' | '.join(head)} |"
    yield f"| --- |{' ---: |' * (len(head) - 1)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def format_number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def format_ratio(value: float | None) -> str:
    """Format with two decimals, or two significant digits if it is small."""
    if value is None:
        return ""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def describe_part(part: Callable[[Bench], object]) -> str:
    """Return the docstring of a part as one line."""
    return " ".join((part.__doc__ or "").split())


def case_table(results: Sequence[Result]) -> Iterator[str]:
    """Yield the table of one case, with ratios to the references."""
    by_name = {one.contender: one for one in results}
    references = [name for name in REFERENCES if name in by_name] or [results[0].contender]
    columns: list[tuple[str, Column]] = [
        ("requests/s", lambda one: format_number(one.figures.requests_per_second, 0)),
        *((f"÷ {name}", ratio_column(by_name[name], requests_per_second)) for name in references),
        *time_columns(results),
        ("CPU µs", lambda one: format_number(one.figures.cpu_us, 0)),
        ("Postgres µs", lambda one: format_number(one.figures.postgres_us, 0)),
    ]
    if BASELINE in by_name:
        of_baseline = by_name[BASELINE]
        columns += [
            (f"CPU ÷ {BASELINE}", ratio_column(of_baseline, lambda found: found.cpu_us)),
            (
                f"with Postgres ÷ {BASELINE}",
                ratio_column(of_baseline, lambda found: found.all_cpu_us),
            ),
        ]
    if any(one.figures.errors for one in results):
        columns.append(("failed", lambda one: format_number(one.figures.errors, 0)))
    head = [results[0].case, *(name for name, _ in columns)]
    return table(head, ([one.contender, *(show(one) for _, show in columns)] for one in results))


def requests_per_second(figures: Figures) -> float:
    return figures.requests_per_second


def server_cpu(figures: Figures) -> float:
    return figures.cpu_us


def all_cpu(figures: Figures) -> float:
    return figures.all_cpu_us


def ratio_column(other: Result, value: Callable[[Figures], float]) -> Column:
    return lambda one: format_ratio(one.ratio_to(other, value))


def time_columns(results: Sequence[Result]) -> list[tuple[str, Column]]:
    """Return the columns of response times, those of reads and writes apart if they are known."""
    names = {"p50_ms": "p50 ms", "p99_ms": "p99 ms"}
    if any(one.figures.writes_per_second is not None for one in results):
        names = {
            "read_p50_ms": "reads p50 ms",
            "read_p99_ms": "reads p99 ms",
            "writes_per_second": "writes/s",
            "write_p50_ms": "writes p50 ms",
            "write_p99_ms": "writes p99 ms",
        }

    def column(name: str) -> Column:
        return lambda one: format_number(getattr(one.figures, name))

    return [(title, column(name)) for name, title in names.items()]


def summary_tables(results: Sequence[Result]) -> Iterator[str]:
    """Yield the tables of the README: requests, and CPU time of server and Postgres together."""
    found: dict[tuple[str, str], Result] = {}
    for one in results:
        name = SUMMARY.get((one.part, one.case.partition(", ")[0]))
        if name is not None:
            # The first number of connections.
            found.setdefault((name, one.contender), one)
    columns = [name for name in SUMMARY.values() if any(name == key[0] for key in found)]
    contenders = list(dict.fromkeys(contender for _, contender in found))
    for title, value in (("requests/s", requests_per_second), ("CPU µs", all_cpu)):

        def cell(key: tuple[str, str], value: Callable[[Figures], float] = value) -> str:
            return format_number(value(found[key].figures), 0) if key in found else ""

        rows = ([name, *(cell((column, name)) for column in columns)] for name in contenders)
        yield from ("", *table([title, *columns], rows))


def growth_table(results: Sequence[Result]) -> Iterator[str]:
    """Yield the table of each request with few posts and with many."""
    sizes = list(dict.fromkeys(one.contender.partition(", ")[2] for one in results))
    head = ["request, database"]
    shown: dict[str, Callable[[Figures], float]] = {
        "CPU ms": lambda found: found.all_cpu_us / 1000,
        "p50 ms": lambda found: found.p50_ms,
        "p99 ms": lambda found: found.p99_ms,
    }
    for what in shown:
        head += [*(f"{what}, {size}" for size in sizes), "ratio"]
    found = {(one.case, one.contender): one for one in results}
    databases = dict.fromkeys(one.contender.partition(", ")[0] for one in results)
    rows = []
    for case in dict.fromkeys(one.case for one in results):
        for database in databases:
            few, many = (found[case, f"{database}, {size}"] for size in sizes)
            row = [f"{case}, {database}"]
            for value in shown.values():
                row += [format_number(value(one.figures), 2) for one in (few, many)]
                row.append(format_number(many.ratio_to(few, value), 2))
            rows.append(row)
    return table(head, rows)


def memory_table(found: Sequence[MemoryUse]) -> Iterator[str]:
    head = ["server", "first response, s", "MiB then", "MiB after responses", "responses"]
    return table(
        head,
        (
            [
                one.contender,
                format_number(one.start_seconds, 2),
                format_number(one.bytes_at_start / MIB),
                format_number(one.bytes_at_end / MIB),
                format_number(one.responses, 0),
            ]
            for one in found
        ),
    )


def versions() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def node_version() -> str:
    try:
        process = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return "no Node.js"
    return f"Node.js {process.stdout.strip().removeprefix('v')}"


def describe_commit(folder: Path) -> str:
    """Return the commit of a checkout, or its path if it is no working copy of Git."""
    process = subprocess.run(
        ["git", "-C", str(folder), "log", "-1", "--format=%h, “%s”"],
        capture_output=True,
        text=True,
        check=False,
    )
    return process.stdout.strip() or str(folder)


def about(bench: Bench, postgres: str) -> Iterator[str]:
    options = bench.options
    yield "# Load test"
    yield ""
    yield (
        f"{datetime.now(UTC):%Y-%m-%d}, {len(CORES)} cores ({cpu_model()}), Python "
        f"{platform.python_version()}, {versions()}, {node_version()}, Postgres {postgres}."
    )
    yield ""
    yield (
        f"Medians of {options.rounds} rounds of {options.seconds:g} s, in which the contenders "
        "take turns; a ratio (÷) is the median of the ratios of the rounds. Each server has one "
        "core, "
        "and wrk another; Postgres may use both. `CPU µs` is the CPU time of a request in the "
        "server's processes, `Postgres µs` that in all Postgres processes; no other client should "
        "use Postgres meanwhile."
    )
    if options.baseline is not None:
        yield ""
        yield f"`{BASELINE}` is the service at {describe_commit(options.baseline)}."
    if options.quick:
        yield ""
        yield "**A quick run: it shows that the benchmark works, not how fast the service is.**"


def write_report(bench: Bench, memory: Sequence[MemoryUse], postgres: str) -> str:
    lines = list(about(bench, postgres))
    lines += ["", "## Summary", *summary_tables(bench.results)]
    for part, of_part in groupby(bench.results, lambda one: one.part):
        lines += ["", f"## {part.title()}", "", describe_part(PARTS[part])]
        if part == "growth":
            lines += ["", *growth_table(list(of_part))]
            continue
        for _, of_case in groupby(of_part, lambda one: one.case):
            lines += ["", *case_table(list(of_case))]
    if memory:
        lines += ["", "## Memory", "", describe_part(measure_memory), "", *memory_table(memory)]
    for title, texts in (("Notes", bench.notes), ("Problems", bench.problems)):
        if texts:
            lines += ["", f"## {title}", "", *(f"- {text}" for text in texts)]
    return "\n".join(lines) + "\n"
