"""The bulkseed command at growing scales: seconds per row, and whether memory stays constant."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from typing import Any, Final

from benchmarks.benchmark import Benchmark, scales_option, workers_option
from benchmarks.charts import OURS, PEER, decades, panel
from benchmarks.databases import Databases, count
from benchmarks.loads import command_load
from benchmarks.plans import plan_of
from benchmarks.results import Figures, Findings, Run, matching, mebibytes, spread
from benchmarks.turns import turns
from bulkseed.errors import InputError
from bulkseed.plan.activity import expected_bytes

__all__ = ["BENCHMARK"]

DISK_PER_BYTE: Final = 2.5
"""Free bytes needed for each byte of rows and indexes, because the write-ahead log and sorting need space too."""

METHOD: Final = """
`python -m bulkseed` from the start of the interpreter to its exit, into a fresh database for each scale. The time of
the smallest scale is taken as the cost of a start; *past the start* is the time without it.
""".strip()


def measure(databases: Databases, chosen: argparse.Namespace) -> Iterator[Run]:
    """Yield the runs of all scales, after a check that each loaded the rows that it reports."""
    _ = databases.admin
    check_disk(databases, chosen.scales)
    for scale in turns(chosen.scales, chosen.repeats):
        with databases.fresh() as address:
            run = command_load(address, scale, workers=chosen.workers)
            assert count(address) == run["tables"], f"{run['tables']} were reported, but {count(address)} were loaded"
        yield {"scale": scale, **run}


def check_disk(databases: Databases, scales: list[str]) -> None:
    wanted = max(sum(expected_bytes(plan_of(scale)).values()) for scale in scales) * DISK_PER_BYTE
    free = shutil.disk_usage(databases.home).free
    if free < wanted:
        raise InputError(
            f"the largest scale needs about {wanted / 1e9:.1f} GB of disk, but {databases.home.parent} has only "
            f"{free / 1e9:.1f} GB free: give smaller --scales, or set TMPDIR to a folder on a larger disk",
            code="disk-too-small",
        )


def medians(figures: Figures) -> list[dict[str, float]]:
    """Return the medians of each scale, in order of rows."""
    scales = []
    for scale in dict.fromkeys(run["scale"] for run in figures["runs"]):
        runs = matching(figures, scale=scale)
        fields = ("rows", "seconds", "peak_pss", "peak_rss", "cpu_seconds")
        scales.append({field: spread(runs, field).median for field in fields} | {"scale": scale})
    return sorted(scales, key=lambda medians: medians["rows"])


def findings(figures: Figures) -> Findings:
    """Return a line for each scale, and the cost of a row at the largest scale compared with smaller ones."""
    scales, settings = medians(figures), figures["settings"]
    start = scales[0]["seconds"]
    lines = []
    for each in scales:
        runs = matching(figures, scale=each["scale"])
        past = max(0.0, each["seconds"] - start)
        lines.append(
            (
                str(each["scale"]),
                f"{each['rows']:,.0f}",
                str(spread(runs)),
                f"{each['rows'] / each['seconds']:,.0f}",
                f"{each['seconds'] / each['rows'] * 1e6:.2f}",
                f"{past / each['rows'] * 1e6:.2f}" if past else "",
                f"{each['cpu_seconds']:.2f}",
                mebibytes(each["peak_pss"]),
                mebibytes(each["peak_rss"]),
            )
        )
    largest = scales[-1]
    notes = [f"Peak client memory of all scales: {mebibytes(max(each['peak_pss'] for each in scales))} (PSS)."]
    for smaller in scales[1:-1]:
        rows = largest["rows"] / smaller["rows"]
        cost = largest["seconds"] / smaller["seconds"] / rows
        note = f"A row at {largest['scale']} costs {cost:.2f} of a row at {smaller['scale']}"
        if smaller["seconds"] > start:
            note += f"; past the start {(largest['seconds'] - start) / (smaller['seconds'] - start) / rows:.2f}"
        notes.append(f"{note}.")
    columns = ("scale", "rows", "seconds (min–max)", "rows/s", "µs/row", "past the start")  # noqa: RUF001
    return Findings(
        f"{settings['workers']} workers, medians of {settings['repeats']}",
        (*columns, "client CPU s", "client PSS", "client RSS"),
        lines,
        notes,
    )


def draw(figures: Figures, figure: Any) -> None:
    """Draw the seconds per row, and memory, against the number of rows."""
    scales = medians(figures)
    rows = [each["rows"] for each in scales]
    figure.set_size_inches(8, 3.4)
    cost, memory = figure.subplots(1, 2)
    panel(cost, "Time per row", "rows", "µs")
    cost.plot(rows, [each["seconds"] / each["rows"] * 1e6 for each in scales], "o-", color=OURS)
    decades(cost.yaxis, cost.set_yscale)
    cost.margins(x=0.1, y=0.15)
    panel(memory, "Client memory, all processes", "rows", "MiB")
    memory.plot(rows, [each["peak_pss"] / 2**20 for each in scales], "o-", color=OURS, label="PSS (shared pages once)")
    memory.plot(rows, [each["peak_rss"] / 2**20 for each in scales], "o-", color=PEER, label="RSS, added up")
    memory.set_ylim(0, max(each["peak_rss"] for each in scales) / 2**20 * 1.15)
    memory.legend(loc="lower right")
    for axes in (cost, memory):
        decades(axes.xaxis, axes.set_xscale)
        axes.grid(axis="y", color="#eaeef2")
    for each in scales:
        point = (each["rows"], each["seconds"] / each["rows"] * 1e6)
        cost.annotate(each["scale"], point, textcoords="offset points", xytext=(0, 8), ha="center")


def options(parser: argparse.ArgumentParser) -> None:
    scales_option(parser, "1x", "10x", "30x", "100x", "200x")
    workers_option(parser)


BENCHMARK: Final = Benchmark(
    "growth",
    "the bulkseed command at growing scales: seconds per row, and memory",
    METHOD,
    options,
    measure,
    findings,
    draw,
)
