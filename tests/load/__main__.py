"""The command: `python -m tests.load`."""

import asyncio
import shutil
import signal
import sys
import tempfile
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from blog_api.cli.console import confirm
from blog_api.core.urls import parse_database_url
from tests.load.bench import Bench, Options, running_bench
from tests.load.databases import ForeignDatabase, server_version
from tests.load.memory import MemoryUse, measure_memory
from tests.load.parts import PARTS
from tests.load.plot import DRAWN, draw
from tests.load.report import write_report

MARK = "made-by-the-load-test"

DEFAULT_FOLDER = Path(tempfile.gettempdir()) / "blog-api-load"


class Part(StrEnum):
    reads = "reads"
    signed_in = "signed-in"
    create = "create"
    comments = "comments"
    bookmarks = "bookmarks"
    search = "search"
    growth = "growth"
    mixed = "mixed"
    discussion = "discussion"
    page = "page"
    storm = "storm"
    workers = "workers"
    memory = "memory"


def prepare_folder(folder: Path, *, may_replace: bool) -> None:
    """Create the folder; ask for confirmation if it has files of another program."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()) and not (folder / MARK).exists():
        confirm(f"{folder} has files of another program. Write into it?", yes=may_replace)
    (folder / MARK).touch()


def measure_all(parts: list[Part], options: Options) -> tuple[Bench, list[MemoryUse]]:
    memory: list[MemoryUse] = []
    with running_bench(options) as bench:
        for part in parts:
            print(f"== {part}", file=sys.stderr, flush=True)
            bench.clean()
            if part is Part.memory:
                memory = measure_memory(bench)
            else:
                PARTS[part](bench)
            # Otherwise the servers of earlier parts would react to the writes of later ones.
            if not options.quick:
                bench.stop()
    return bench, memory


def main(
    database_url: Annotated[
        str,
        typer.Option(
            envvar="LOAD_DATABASE_URL",
            help="A Postgres server and a superuser that may create databases.",
        ),
    ] = "postgresql://postgres@127.0.0.1/postgres",
    part: Annotated[
        list[Part] | None, typer.Option(help="The parts to run; all by default.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Run everything once on small data, as a test.")
    ] = False,
    folder: Annotated[
        Path, typer.Option(help="The folder for databases, reused by later runs; needs gigabytes.")
    ] = DEFAULT_FOLDER,
    connections: Annotated[
        list[int] | None, typer.Option(min=1, help="Numbers of connections; 32 and 256 by default.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    baseline: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Another checkout of this project, which is measured beside this one.",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Duration of a round.")] = 5,
    output: Annotated[Path | None, typer.Option(help="Write the tables to this .md file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the plot to this .png file.")] = None,
    logs: Annotated[
        bool, typer.Option("--logs", help="Write the logs of the servers to the folder.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Replace without confirmation.")] = False,
) -> None:
    """Measure the service and other implementations of it.

    Requires Linux, `wrk` and Postgres. The exit status is 1 if a request fails, or if responses
    of the contenders differ.
    """
    # Exit by an exception, so that the servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if shutil.which("wrk") is None:
        sys.exit("load: `wrk` is not installed")
    if plot is not None and find_spec("matplotlib") is None:
        sys.exit("load: --plot requires matplotlib")
    if baseline is not None and not (baseline / "blog_api" / "__main__.py").exists():
        sys.exit(f"load: {baseline} is not a checkout of this project")
    parts = part or list(Part)
    if plot is not None and not DRAWN & {*parts}:
        sys.exit(f"load: --plot draws the parts {', '.join(sorted(DRAWN))}")
    prepare_folder(folder, may_replace=yes)
    options = Options(
        folder=folder.resolve(),
        server=parse_database_url(database_url),
        connections=tuple(connections or ((32,) if quick else (32, 256))),
        rounds=1 if quick else rounds,
        seconds=0.25 if quick else seconds,
        warm_up=0 if quick else 2,
        quick=quick,
        may_replace=yes,
        logs=logs or quick,
        baseline=baseline and baseline.resolve(),
    )
    try:
        bench, memory = measure_all(parts, options)
    except ForeignDatabase as error:
        sys.exit(f"load: {error} was not created by this program; --yes replaces it")
    report = write_report(bench, memory, asyncio.run(server_version(options.server)))
    print(report)
    if output is not None:
        output.write_text(report)
    if plot is not None:
        draw(bench.results, plot)
    raise typer.Exit(bool(bench.problems))


if __name__ == "__main__":
    typer.run(main)
