"""The plot: requests per second of reads, and the CPU time of a request in other parts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.load.bench import Result
from tests.load.contenders import BASELINE

# Panels of CPU time: the parts, and the title.
PANELS = {
    ("signed-in",): "Signed in: CPU of the server and of Postgres",
    ("comments", "bookmarks"): "Comments and bookmarks: CPU of the server and of Postgres",
    ("search", "discussion", "page"): "Search, discussion, page: CPU of the server and of Postgres",
    ("growth",): "Growth: CPU of the server and of Postgres, no cache",
}
DRAWN = {"reads", *(part for parts in PANELS for part in parts)}


def name_of_case(result: Result) -> str:
    """Return the case without the number of connections."""
    return result.case.partition(", ")[0] if result.part != "growth" else result.case


def draw(results: Sequence[Result], file: Path) -> None:
    """Plot the parts that took part, without the baseline, which readers do not know.

    An axis starts at 0 or is labeled as logarithmic.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    results = [one for one in results if one.contender != BASELINE]
    reads = [one for one in results if one.part == "reads"]
    # Only the cases with the first number of connections.
    cases = [
        case
        for case in dict.fromkeys(one.case for one in reads)
        if case.partition(", ")[2] == reads[0].case.partition(", ")[2]
    ]
    panels = {
        title: [one for one in results if one.part in parts] for parts, title in PANELS.items()
    }
    panels = {title: found for title, found in panels.items() if found}
    heights = [3] * len(cases) + [4] * len(panels)
    figure, all_axes = pyplot.subplots(
        len(heights),
        1,
        figsize=(9, sum(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    axes = iter(all_axes[:, 0])
    for case in cases:
        draw_requests(next(axes), case, [one for one in reads if one.case == case])
    for title, found in panels.items():
        draw_cpu(next(axes), title, found)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def draw_requests(axis: Any, case: str, results: Sequence[Result]) -> None:
    bars = axis.barh(
        [one.contender for one in results],
        [one.figures.requests_per_second for one in results],
        color=["#1f77b4" if one.contender.startswith("blog-api") else "#999" for one in results],
    )
    axis.bar_label(bars, fmt="{:,.0f}", padding=3)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.15 * max(one.figures.requests_per_second for one in results))
    axis.set_title(f"{case}: requests per second on one core")


def draw_cpu(axis: Any, title: str, results: Sequence[Result]) -> None:
    """Draw the CPU time of a request, a group of bars for each case."""
    names = list(dict.fromkeys(one.contender for one in results))
    cases = list(dict.fromkeys(map(name_of_case, results)))
    width = 0.8 / len(names)
    for place, name in enumerate(names):
        of_name = [one for one in results if one.contender == name]
        places = [cases.index(name_of_case(one)) + place * width for one in of_name]
        axis.bar(places, [one.figures.all_cpu_us / 1000 for one in of_name], width, label=name)
    middle = 0.4 - width / 2
    ticks = [tick + middle for tick in range(len(cases))]
    axis.set_xticks(ticks, cases, rotation=20, horizontalalignment="right")
    axis.set_yscale("log")
    axis.set_ylabel("CPU ms a request (log scale)")
    axis.set_title(title)
    # Room for the legend above the bars.
    axis.set_ylim(top=8 * axis.get_ylim()[1])
    axis.legend(ncols=min(3, len(names)), loc="upper center", fontsize="small")
