"""bulkseed whole at growing scales: what a row costs, and whether memory stays flat."""

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
"""Free bytes wanted for each byte of rows and indexes: the write-ahead log and sorting take room too."""

METHOD: Final = """
`python -m bulkseed` from the start of the interpreter to its exit, into a fresh database for each scale. A start costs
what the smallest scale takes, whatever comes after it; *past the start* is the time without that.
""".strip()


def measure(databases: Databases, chosen: argparse.Namespace) -> Iterator[Run]:
    """The runs of all scales, each checked to leave the rows that it reports."""
    _ = databases.admin
    check_disk(databases, chosen.scales)
    for scale in turns(chosen.scales, chosen.repeats):
        with databases.fresh() as address:
            run = command_load(address, scale, workers=chosen.workers)
            assert count(address) == run["tables"], f"{run['tables']} were reported, {count(address)} are there"
        yield {"scale": scale, **run}


def check_disk(databases: Databases, scales: list[str]) -> None:
    wanted = max(sum(expected_bytes(plan_of(scale)).values()) for scale in scales) * DISK_PER_BYTE
    free = shutil.disk_usage(databases.home).free
    if free < wanted:
        raise InputError(
            f"the largest scale needs some {wanted / 1e9:.1f} GB of disk, and {databases.home.parent} has "
            f"{free / 1e9:.1f} GB free: give smaller --scales, or set TMPDIR to a folder on a larger disk"
        )


def medians(figures: Figures) -> list[dict[str, float]]:
    """What each scale comes to, in order of rows."""
    found = []
    for scale in dict.fromkeys(run["scale"] for run in figures["runs"]):
        runs = matching(figures, scale=scale)
        fields = ("rows", "seconds", "peak_pss", "peak_rss", "cpu_seconds")
        found.append({field: spread(runs, field).median for field in fields} | {"scale": scale})
    return sorted(found, key=lambda each: each["rows"])


def findings(figures: Figures) -> Findings:
    """A line for each scale, and what the largest costs a row beside the one with a tenth of its rows or less."""
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
    notes = [f"The most client memory at any scale: {mebibytes(max(each['peak_pss'] for each in scales))} (PSS)."]
    for smaller in scales[1:-1]:
        rows = largest["rows"] / smaller["rows"]
        whole = largest["seconds"] / smaller["seconds"] / rows
        note = f"A row at {largest['scale']} costs {whole:.2f} of a row at {smaller['scale']}"
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
    """What a row costs, and memory, against rows."""
    scales = medians(figures)
    rows = [each["rows"] for each in scales]
    figure.set_size_inches(8, 3.4)
    cost, memory = figure.subplots(1, 2)
    panel(cost, "Time for a row", "rows", "µs")
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
        place = (each["rows"], each["seconds"] / each["rows"] * 1e6)
        cost.annotate(each["scale"], place, textcoords="offset points", xytext=(0, 8), ha="center")


def options(parser: argparse.ArgumentParser) -> None:
    scales_option(parser, "1x", "10x", "30x", "100x", "200x")
    workers_option(parser)


BENCHMARK: Final = Benchmark(
    "growth",
    "bulkseed whole at growing scales: seconds a row, and memory",
    METHOD,
    options,
    measure,
    findings,
    draw,
)
