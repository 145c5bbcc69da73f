"""Metrics of the response cache."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from opentelemetry.metrics import CallbackOptions, Meter, Observation


@dataclass(slots=True)
class CacheStatistics:
    """Requests that could be served from the cache, evicted responses, and what it holds."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    bytes: int = 0
    responses: int = 0


def observe_cache(statistics: CacheStatistics, meter: Meter) -> None:
    def observe_requests(_: CallbackOptions) -> Iterable[Observation]:
        yield Observation(statistics.hits, {"result": "hit"})
        yield Observation(statistics.misses, {"result": "miss"})

    def observe(name: str) -> list[Callable[[CallbackOptions], Iterable[Observation]]]:
        return [lambda _: [Observation(getattr(statistics, name))]]

    meter.create_observable_counter(
        "blog_api.cache.requests", [observe_requests], "{request}", "Requests by result."
    )
    meter.create_observable_counter(
        "blog_api.cache.evictions",
        observe("evictions"),
        "{response}",
        "Responses that were removed to make room.",
    )
    meter.create_observable_up_down_counter(
        "blog_api.cache.responses", observe("responses"), "{response}", "Cached responses."
    )
    meter.create_observable_up_down_counter(
        "blog_api.cache.size", observe("bytes"), "By", "Memory, at most BLOG_CACHE_BYTES."
    )
