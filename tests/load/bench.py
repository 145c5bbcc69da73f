"""The bench: prepare databases, start servers, compare contenders and collect the results."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from statistics import median

from sqlalchemy import URL

from blog_api.cli.console import progress
from tests.load.contenders import Contender, Running, baseline
from tests.load.data import LARGE, MEDIUM, SMALL, TINY, Size
from tests.load.databases import Loaded, postmaster_pid, prepare_postgres, prepare_sqlite
from tests.load.measure import Figures, Load, measure, medians

# Requests of wrk may still be executing after it exits.
SETTLE_SECONDS = 0.3


@dataclass(frozen=True)
class Options:
    folder: Path
    server: URL
    connections: tuple[int, ...]
    rounds: int
    seconds: float
    warm_up: float
    quick: bool
    may_replace: bool
    logs: bool
    # Another checkout of this project, which is measured too.
    baseline: Path | None = None

    @property
    def small(self) -> Size:
        return SMALL if self.quick else MEDIUM

    @property
    def sizes(self) -> tuple[Size, Size]:
        """The sizes that the part `growth` compares."""
        return (TINY, SMALL) if self.quick else (MEDIUM, LARGE)


@dataclass(frozen=True)
class Result:
    """The figures of all rounds of one contender in one case."""

    part: str
    case: str
    contender: str
    rounds: Sequence[Figures]

    @cached_property
    def figures(self) -> Figures:
        """The medians of the rounds."""
        return medians(self.rounds)

    def ratio_to(self, other: "Result", value: Callable[[Figures], float]) -> float | None:
        """Return the median of the ratios of each round; None if the other value is always 0.

        A machine that is slow during a round is slow for both.
        """
        pairs = zip(map(value, self.rounds), map(value, other.rounds), strict=True)
        ratios = [one / two for one, two in pairs if two]
        return median(ratios) if ratios else None


@dataclass(frozen=True)
class Entry:
    """A server and the load that measures it, under a name in the comparison."""

    name: str
    running: Running
    load: Load


@dataclass
class Bench:
    """Databases and servers for the parts, and their results."""

    options: Options
    results: list[Result] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Prepare each database once.
        self.postgres = cache(self._postgres)
        self.sqlite: Callable[[Size], Loaded] = cache(self._sqlite)
        self.postmaster: Callable[[], int | None] = cache(
            lambda: postmaster_pid(self.options.server)
        )
        self._stack = ExitStack()
        self._running: list[Running] = []
        self._loaded: list[Loaded] = []

    def _postgres(self, size: Size, checkout: Path | None = None) -> Loaded:
        may_replace = self.options.may_replace
        loaded = prepare_postgres(self.options.server, size, checkout, may_replace=may_replace)
        self._loaded.append(loaded)
        return loaded

    def _sqlite(self, size: Size) -> Loaded:
        may_replace = self.options.may_replace
        loaded = prepare_sqlite(self.options.folder, size, may_replace=may_replace)
        self._loaded.append(loaded)
        return loaded

    def clean(self) -> None:
        """Delete what was added to the databases since they were loaded."""
        for loaded in self._loaded:
            loaded.clean()

    def make_server(self, contender: Contender) -> Running:
        """Return a server that the caller starts and stops as a context manager."""
        log = self.options.folder / f"{contender.name}.log" if self.options.logs else None
        return Running(contender, self.options.folder, log)

    @contextmanager
    def servers(self, contenders: Iterable[Contender]) -> Iterator[list[Running]]:
        """Start servers that no other part uses; stop them at the end of the block."""
        with ExitStack() as stack:
            yield [stack.enter_context(self.make_server(contender)) for contender in contenders]

    def start(self, contender: Contender) -> Running:
        """Return a server that runs until `stop()`, started earlier or now."""
        for running in self._running:
            if running.contender == contender:
                return running
        self._running.append(self._stack.enter_context(self.make_server(contender)))
        return self._running[-1]

    def baselines(self, size: Size) -> list[Contender]:
        """Return the service of another checkout on a database of its own, if one is given."""
        checkout = self.options.baseline
        return [] if checkout is None else [baseline(self.postgres(size, checkout))]

    def stop(self) -> None:
        self._running.clear()
        self._stack.close()

    def add_note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def run(self, entry: Entry, connections: int, seconds: float) -> Figures:
        contender = entry.running.contender
        return measure(
            entry.running.url,
            entry.load,
            pid=entry.running.pid,
            postgres_pid=self.postmaster() if contender.uses_postgres else None,
            connections=connections,
            seconds=seconds,
            folder=self.options.folder,
        )

    def compare(
        self,
        part: str,
        case: str,
        entries: Sequence[Entry],
        connections: int,
        *,
        writes: bool = False,
    ) -> None:
        """Measure the entries in turns, so that a slow moment of the machine affects all.

        After an entry that writes, its database is cleaned.
        """
        options = self.options
        runs: dict[str, list[Figures]] = {entry.name: [] for entry in entries}
        total = len(entries) * (options.rounds + (options.warm_up > 0))
        with progress(f"{part}: {case}", total) as step:
            rounds = [options.seconds] * options.rounds
            for number, seconds in enumerate([options.warm_up, *rounds]):
                for entry in entries if seconds else ():
                    figures = self.run(entry, connections, seconds)
                    if number > 0:
                        runs[entry.name].append(figures)
                    if writes:
                        self.clean_after(entry)
                    step()
        for name, figures_of_rounds in runs.items():
            self.add_result(part, case, name, figures_of_rounds)

    def clean_after(self, entry: Entry) -> None:
        loaded = entry.running.contender.loaded
        if loaded is not None:
            # wrk does not wait for its last requests.
            time.sleep(SETTLE_SECONDS)
            loaded.clean()

    def add_result(self, part: str, case: str, name: str, rounds: Sequence[Figures]) -> None:
        result = Result(part, case, name, rounds)
        self.results.append(result)
        if errors := result.figures.errors:
            self.problems.append(f"{part}, {case}: {name}: {errors:.0f} requests failed")


@contextmanager
def running_bench(options: Options) -> Iterator[Bench]:
    """Yield a bench; stop its servers at the end."""
    bench = Bench(options)
    try:
        yield bench
    finally:
        bench.stop()
