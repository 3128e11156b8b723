"""Loads into tables that already have rows: is it faster to drop indexes and keys, or to keep them?"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Final

from benchmarks.benchmark import Benchmark, number
from benchmarks.charts import COLORS, panel
from benchmarks.databases import TEMPLATE, Databases, count
from benchmarks.loads import command_load
from benchmarks.results import Figures, Findings, Run, matching, ratio, spread
from benchmarks.turns import turns

__all__ = ["BENCHMARK", "crossing"]

BASE_SEED: Final = 2
SMALLEST_BASE: Final = 1.0

METHOD: Final = """
`python -m bulkseed` from the start of the interpreter to its exit, into a copy of a database that already has a
multiple of the new rows (of another seed). Indexes, keys and foreign keys are dropped and rebuilt (`--defer always`) or
kept (`--defer never`). Small loads go into empty tables only.
""".strip()


def base_scale(scale: str, times: float) -> str:
    """Return the scale with ``times`` the rows of ``scale``; rows grow with the square of the scale."""
    size = float(scale.removesuffix("x")) * math.sqrt(times)
    return f"{max(SMALLEST_BASE, size):.2f}x"


def measure(databases: Databases, chosen: argparse.Namespace) -> Iterator[Run]:
    """Yield the runs of all loads and bases."""
    with ExitStack() as stack:
        bases = {0.0: (TEMPLATE, 0)}
        databases.make_template()
        for times in chosen.bases:
            if times:
                address = stack.enter_context(databases.fresh())
                scale = base_scale(chosen.scale, times)
                rows = command_load(address, scale, workers=2, defer="always", seed=BASE_SEED)["rows"]
                bases[times] = (str(address.url.database), rows)
        loads = [(chosen.scale, times) for times in chosen.bases] + [(scale, 0.0) for scale in chosen.small]
        ways = [(defer, workers) for workers in chosen.workers for defer in ("always", "never")]
        for scale, times, defer, workers in turns([(*load, *way) for load in loads for way in ways], chosen.repeats):
            template, before = bases[times]
            with databases.fresh(template) as address:
                run = command_load(address, scale, workers=workers, defer=defer)
                assert sum(count(address).values()) == before + run["rows"]
            yield {"scale": scale, "base": times, "base_rows": before, "defer": defer, "workers": workers, **run}


def crossing(points: Sequence[tuple[float, float]]) -> float | None:
    """Return where a ratio first rises to 1, interpolated linearly between two points; None if it does not."""
    for (left, low), (right, high) in itertools.pairwise(points):
        if low < 1 <= high:
            return left + (right - left) * (1 - low) / (high - low)
    return None


def ratios(figures: Figures, scale: str, workers: int) -> list[tuple[float, float]]:
    """Return for each base: existing rows divided by new rows, and seconds deferring divided by seconds in place."""
    points = []
    for base in sorted({run["base"] for run in matching(figures, scale=scale, workers=workers)}):
        always, never = (
            matching(figures, scale=scale, workers=workers, base=base, defer=defer) for defer in ("always", "never")
        )
        points.append((always[0]["base_rows"] / always[0]["rows"], ratio(always, never)))
    return points


def findings(figures: Figures) -> Findings:
    """Return a line for each load, and from which size of the tables deferring is slower."""
    settings = figures["settings"]
    lines, notes = [], []
    for scale in (settings["scale"], *settings["small"]):
        for workers in settings["workers"]:
            points = ratios(figures, scale, workers)
            for base in sorted({run["base"] for run in matching(figures, scale=scale)}):
                always, never = (
                    matching(figures, scale=scale, workers=workers, base=base, defer=defer)
                    for defer in ("always", "never")
                )
                lines.append(
                    (
                        f"{scale} into {always[0]['base_rows']:,}",
                        f"{always[0]['rows']:,}",
                        f"{always[0]['base_rows'] / always[0]['rows']:.2f}",
                        str(workers),
                        str(spread(always)),
                        str(spread(never)),
                        f"{ratio(always, never):.2f}",
                    )
                )
            if scale == settings["scale"]:
                equal = crossing(points)
                where = "at no measured size" if equal is None else f"at {equal:.1f} times the new rows"
                notes.append(f"With {workers} worker{'s' * (workers > 1)} both take the same time {where}.")
    columns = ("load", "new rows", "old/new", "workers", "deferring s", "in place s", "ratio")
    return Findings(f"{settings['scale']} into tables with more and more rows", columns, lines, notes)


def draw(figures: Figures, figure: Any) -> None:
    """Draw both ways against the existing rows, a panel for each number of workers."""
    settings = figures["settings"]
    figure.set_size_inches(8, 3.4)
    panels = figure.subplots(1, len(settings["workers"]), sharey=True, squeeze=False)[0]
    for axes, workers in zip(panels, settings["workers"], strict=True):
        panel(axes, f"{workers} worker{'s' * (workers > 1)}", "old rows / new rows", "seconds")
        for color, defer, label in ((COLORS[0], "always", "deferring"), (COLORS[1], "never", "in place")):
            runs = matching(figures, scale=settings["scale"], workers=workers, defer=defer)
            sizes = sorted({run["base_rows"] / run["rows"] for run in runs})
            spreads = [spread([run for run in runs if run["base_rows"] / run["rows"] == size]) for size in sizes]
            axes.plot(sizes, [each.median for each in spreads], "o-", color=color, label=label)
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", color="#eaeef2")
        axes.legend()


def times(text: str) -> float:
    """Return a number from 0. Raises ValueError for another text."""
    value = float(text)
    if value < 0:
        raise ValueError(text)
    return value


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scale", default="30x", metavar="S", help="size of the new rows (30x)")
    parser.add_argument(
        "--bases", nargs="+", type=times, default=[0.0, 0.1, 0.3, 1.0, 3.0, 10.0], metavar="F",
        help="existing rows, as multiples of the new rows (0 0.1 0.3 1 3 10)",
    )  # fmt: skip
    parser.add_argument(
        "--small",
        nargs="*",
        default=["1x", "3x", "10x"],
        metavar="S",
        help="sizes of loads into empty tables (1x 3x 10x)",
    )
    parser.add_argument(
        "--workers", nargs="+", type=number, default=[1, 2], metavar="N", help="numbers of workers (1 2)"
    )


BENCHMARK: Final = Benchmark(
    "inplace",
    "loads into tables that already have rows, dropping indexes and keys, or keeping them",
    METHOD,
    options,
    measure,
    findings,
    draw,
)
