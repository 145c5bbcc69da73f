"""The other implementations that can run on this machine, with a note for each that cannot."""

from importlib.util import find_spec

from tests.load.bench import Bench
from tests.load.contenders import (
    Contender,
    fastify,
    install_fastify,
    rest_framework,
    tutorial,
)
from tests.load.databases import Loaded


def fastifies(bench: Bench, loaded: Loaded) -> list[Contender]:
    folder = bench.options.folder / "fastify"
    error = install_fastify(folder)
    if error is None:
        return [fastify(loaded, folder, count=count) for count in ("exact", "counter")]
    bench.add_note(f"Fastify is omitted: {error}.")
    return []


def tutorials(bench: Bench, loaded: Loaded) -> list[Contender]:
    if find_spec("psycopg") is None:
        bench.add_note("The synchronous tutorial is omitted: `psycopg` is not installed.")
        return [tutorial(loaded, "async")]
    return [tutorial(loaded, kind) for kind in ("async", "sync")]


def rest_frameworks(bench: Bench, loaded: Loaded) -> list[Contender]:
    for package in ("psycopg", "rest_framework", "gunicorn"):
        if find_spec(package) is None:
            bench.add_note(f"Django REST framework is omitted: `{package}` is not installed.")
            return []
    return [rest_framework(loaded)]


def other_writers(bench: Bench, loaded: Loaded) -> list[Contender]:
    """Return the other implementations that create posts."""
    return [*rest_frameworks(bench, loaded), *tutorials(bench, loaded)]


def other_readers(bench: Bench, loaded: Loaded) -> list[Contender]:
    return [*fastifies(bench, loaded), *other_writers(bench, loaded)]
