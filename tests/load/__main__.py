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
from tests.load.databases import NotOurs, server_version
from tests.load.memory import Held, measure_memory
from tests.load.parts import PARTS
from tests.load.report import draw, write_report

MARK = "made-by-the-load-test"

DEFAULT_FOLDER = Path(tempfile.gettempdir()) / "blog-api-load"


class Part(StrEnum):
    """What can be measured on its own."""

    reads = "reads"
    create = "create"
    growth = "growth"
    mixed = "mixed"
    storm = "storm"
    workers = "workers"
    memory = "memory"


def own_folder(folder: Path, *, may_replace: bool) -> None:
    """Make the folder; ask before anything is written into one that was not made here."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()) and not (folder / MARK).exists():
        confirm(f"{folder} has files of others. Write among them?", yes=may_replace)
    (folder / MARK).touch()


def measure_all(parts: list[Part], options: Options) -> tuple[Bench, list[Held]]:
    held: list[Held] = []
    with running_bench(options) as bench:
        for part in parts:
            print(f"== {part}", file=sys.stderr, flush=True)
            bench.clean()
            if part is Part.memory:
                held = measure_memory(bench)
            else:
                PARTS[part](bench)
            # Nobody else's server listens to what a part writes. A quick run has no time for that.
            if not options.quick:
                bench.stop()
    return bench, held


def main(
    database_url: Annotated[
        str,
        typer.Option(
            envvar="LOAD_DATABASE_URL",
            help="A Postgres where databases may be made, by a superuser.",
        ),
    ] = "postgresql://postgres@127.0.0.1/postgres",
    part: Annotated[list[Part] | None, typer.Option(help="Which parts; all if left out.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Everything once and small: does it work?")
    ] = False,
    folder: Annotated[
        Path, typer.Option(help="Where files are kept between runs; gigabytes of them.")
    ] = DEFAULT_FOLDER,
    connections: Annotated[
        list[int] | None, typer.Option(min=1, help="How many; normally 32 and 256.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long a round is.")] = 5,
    output: Annotated[Path | None, typer.Option(help="A file for the tables, .md.")] = None,
    plot: Annotated[Path | None, typer.Option(help="A file for the plot, .png.")] = None,
    logs: Annotated[
        bool, typer.Option("--logs", help="Keep what the servers log in the folder.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before replacing.")] = False,
) -> None:
    """Show what the service costs next to other ways of writing the same thing.

    Linux with `wrk` and Postgres. The exit status is 1 where a request fails, or where contenders
    answer differently.
    """
    # The servers that it has started end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if shutil.which("wrk") is None:
        sys.exit("load: there is no `wrk`")
    if plot is not None and find_spec("matplotlib") is None:
        sys.exit("load: --plot needs matplotlib")
    parts = part or list(Part)
    if plot is not None and not {Part.reads, Part.growth} & {*parts}:
        sys.exit("load: --plot draws the parts reads and growth")
    own_folder(folder, may_replace=yes)
    options = Options(
        folder=folder.resolve(),
        server=parse_database_url(database_url),
        connections=tuple(connections or ((32,) if quick else (32, 256))),
        rounds=1 if quick else rounds,
        seconds=0.5 if quick else seconds,
        warm_up=0 if quick else 2,
        quick=quick,
        may_replace=yes,
        logs=logs or quick,
    )
    try:
        bench, held = measure_all(parts, options)
    except NotOurs as error:
        sys.exit(f"load: {error} was not made here; --yes replaces it")
    report = write_report(bench, held, asyncio.run(server_version(options.server)))
    print(report)
    if output is not None:
        output.write_text(report)
    if plot is not None:
        draw(bench.results, plot)
    raise typer.Exit(bool(bench.problems))


if __name__ == "__main__":
    typer.run(main)
