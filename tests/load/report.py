"""The report: tables in Markdown, and a plot."""

import platform
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path

from tests.load.bench import Bench, Result
from tests.load.machine import CORES, cpu_model
from tests.load.measure import Figures
from tests.load.memory import MemoryUse, measure_memory
from tests.load.parts import PARTS

# The contenders with which the others are compared, if they took part.
BASELINES = ("bare ASGI", "tutorial, async", "tutorial, sync")
PACKAGES = ("fastapi", "starlette", "uvicorn", "sqlmodel", "sqlalchemy", "asyncpg", "pydantic")
MIB = 1024 * 1024


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
    """Yield the table of one case, with ratios to the baselines."""
    by_name = {one.contender: one for one in results}
    baselines = [name for name in BASELINES if name in by_name] or [results[0].contender]
    has_errors = any(one.figures.errors for one in results)
    head = [results[0].case, "requests/s", *(f"÷ {name}" for name in baselines)]
    head += ["p50 ms", "p99 ms", "CPU µs", "Postgres µs", *(["failed"] if has_errors else [])]
    rows = []
    for one in results:
        figures = one.figures
        ratios = [
            one.ratio_to(by_name[name], lambda found: found.requests_per_second)
            for name in baselines
        ]
        rows.append(
            [
                one.contender,
                format_number(figures.requests_per_second, 0),
                *(format_ratio(ratio) for ratio in ratios),
                format_number(figures.p50_ms),
                format_number(figures.p99_ms),
                format_number(figures.cpu_us, 0),
                format_number(figures.postgres_us, 0),
                *([format_number(figures.errors, 0)] if has_errors else []),
            ]
        )
    return table(head, rows)


def growth_table(results: Sequence[Result]) -> Iterator[str]:
    """Yield the table of each request with few posts and with many."""
    sizes = list(dict.fromkeys(one.contender.partition(", ")[2] for one in results))
    head = ["request, database"]
    shown: dict[str, Callable[[Figures], float]] = {
        "CPU ms": lambda found: found.all_cpu_us / 1000,
        "p50 ms": lambda found: found.p50_ms,
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
        "take turns; a ratio is the median of the ratios of the rounds. Each server has one core, "
        "and wrk another; Postgres may use both. `CPU µs` is the CPU time of a request in the "
        "server's processes, `Postgres µs` that in all Postgres processes; no other client should "
        "use Postgres meanwhile."
    )
    if options.quick:
        yield ""
        yield "**A quick run: it shows that the benchmark works, not how fast the service is.**"


def write_report(bench: Bench, memory: Sequence[MemoryUse], postgres: str) -> str:
    lines = list(about(bench, postgres))
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


def draw(results: Sequence[Result], file: Path) -> None:
    """Plot reads and growth; an axis starts at 0 or is labeled as logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    reads = [one for one in results if one.part == "reads"]
    # Only the cases with the first number of connections.
    cases = [
        case
        for case in dict.fromkeys(one.case for one in reads)
        if case.partition(", ")[2] == reads[0].case.partition(", ")[2]
    ]
    growth = [one for one in results if one.part == "growth"]
    figure, all_axes = pyplot.subplots(
        len(cases) + bool(growth), 1, figsize=(9, 3 * len(cases) + 4 * bool(growth)), squeeze=False
    )
    axes = list(all_axes[:, 0])
    for case in cases:
        axis = axes.pop(0)
        of_case = [one for one in reads if one.case == case]
        bars = axis.barh(
            [one.contender for one in of_case],
            [one.figures.requests_per_second for one in of_case],
            color=[
                "#1f77b4" if one.contender.startswith("blog-api") else "#999" for one in of_case
            ],
        )
        axis.bar_label(bars, fmt="{:,.0f}", padding=3)
        axis.invert_yaxis()
        axis.set_xlim(0, 1.15 * max(one.figures.requests_per_second for one in of_case))
        axis.set_title(f"{case}: requests per second on one core")
    if growth:
        axis = axes.pop(0)
        names = list(dict.fromkeys(one.contender for one in growth))
        growth_cases = list(dict.fromkeys(one.case for one in growth))
        width = 0.8 / len(names)
        for place, name in enumerate(names):
            of_name = [one for one in growth if one.contender == name]
            places = [growth_cases.index(one.case) + place * width for one in of_name]
            axis.bar(places, [one.figures.all_cpu_us / 1000 for one in of_name], width, label=name)
        middle = 0.4 - width / 2
        axis.set_xticks([tick + middle for tick in range(len(growth_cases))], growth_cases)
        axis.tick_params(axis="x", rotation=20)
        axis.set_yscale("log")
        axis.set_ylabel("CPU ms a request (log scale)")
        axis.set_title("Growth: CPU of the server and of Postgres, no cache")
        # Room for the legend above the bars.
        axis.set_ylim(top=4 * axis.get_ylim()[1])
        axis.legend(ncols=len(names), loc="upper center")
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    pyplot.close(figure)
