"""Ways to get a million rows of ``messages`` into one bare table, over one connection of one process each."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, Final

from benchmarks.benchmark import Benchmark, scale_option
from benchmarks.charts import bars, panel
from benchmarks.databases import Databases, content, execute, value
from benchmarks.lane import IN_SERVER, LANES, MAKING
from benchmarks.measure import in_fresh_process
from benchmarks.results import Figures, Findings, Run, matching, mebibytes, spread
from benchmarks.turns import turns

__all__ = ["BENCHMARK"]

BARE: Final = "CREATE TABLE bare (LIKE messages); DROP TABLE messages CASCADE; ALTER TABLE bare RENAME TO messages"

METHOD: Final = """
The rows of one table, `messages`, without indexes and keys, into a fresh database each time; each lane is a process of
its own with one connection. bulkseed's two lanes *make* their rows within the clock, what is made once for a run
included. The others are *handed* ready rows in the form that they like best (tuples, dicts, an Arrow table), made
before their clock starts and kept out of the garbage collector's sight. `INSERT … SELECT` makes rows of like widths in
the server, with texts that all begin alike. The clock runs from an open connection to the commit, without imports.
Memory is that of the process, with its ready rows. After each run the hashes of all rows are compared: all lanes but
`INSERT … SELECT` leave the same.
""".strip()


def measure(databases: Databases, chosen: argparse.Namespace) -> Iterator[Run]:
    """The runs of all lanes, each checked to leave the same rows."""
    wanted = None
    for lane in turns([name for name in LANES if not chosen.only or name in chosen.only], chosen.repeats):
        with databases.fresh() as address:
            execute(address, BARE)
            run = in_fresh_process("benchmarks.lane:run_lane", name=lane, scale=chosen.scale, dsn=address.dsn)
            rows = value(address, "SELECT count(*) FROM messages")
            if lane not in IN_SERVER:
                [left] = content(address, ["messages"]).values()
                wanted = wanted or left
                assert left == wanted, f"{lane} left other rows"
        yield {"contestant": lane, "rows": rows, **run}


def findings(figures: Figures) -> Findings:
    """The lanes, the quickest first; ratios are of their rows/s to those of the binary lane."""
    lines, rates = [], {}
    for name in dict.fromkeys(run["contestant"] for run in figures["runs"]):
        runs = matching(figures, contestant=name)
        rates[name] = runs[0]["rows"] / spread(runs).median
        lines.append(
            (
                rates[name],
                (
                    name,
                    made(name),
                    str(spread(runs)),
                    f"{rates[name]:,.0f}",
                    f"{spread(runs, 'cpu_seconds').median:.2f}",
                    "" if name in IN_SERVER else mebibytes(spread(runs, "peak_rss").median),
                ),
            )
        )
    lines.sort(key=lambda line: -line[0])
    ours, *_ = MAKING
    others = {name: rate for name, rate in rates.items() if name not in MAKING}
    quickest = max(others, key=others.__getitem__, default=None)
    notes = []
    if ours in rates and quickest:
        notes.append(
            f"The binary lane, making its rows, does {rates[ours] / others[quickest]:.2f} times the rows/s of "
            f"{quickest}, the quickest other."
        )
    settings = figures["settings"]
    return Findings(
        f"{figures['runs'][0]['rows']:,} messages ({settings['scale']}): medians of {settings['repeats']}",
        ("lane", "rows are", "seconds (min–max)", "rows/s", "client CPU s", "client RSS"),  # noqa: RUF001
        [line for _, line in lines],
        notes,
    )


def made(name: str) -> str:
    return "made" if name in MAKING else "made in the server" if name in IN_SERVER else "handed"


def draw(figures: Figures, figure: Any) -> None:
    """A bar for each, the quickest on top."""
    names = list(dict.fromkeys(run["contestant"] for run in figures["runs"]))
    names.sort(key=lambda name: spread(matching(figures, contestant=name)).median)
    figure.set_size_inches(8, 1.1 + 0.4 * len(names))
    axes = figure.add_subplot()
    panel(axes, f"{figures['runs'][0]['rows']:,} messages into a bare table", "seconds (less is better)")
    bars(
        axes,
        [f"{name} ({made(name)})" for name in names],
        [spread(matching(figures, contestant=name)) for name in names],
        [name in MAKING for name in names],
        lambda seconds: f"{seconds:.2f} s",
    )


def options(parser: argparse.ArgumentParser) -> None:
    scale_option(parser, "66x")
    parser.add_argument("--only", nargs="+", choices=LANES, metavar="LANE", help="these lanes (all)")


BENCHMARK: Final = Benchmark(
    "lanes",
    "ways to get a million ready rows into one table, beside bulkseed's lanes that make theirs",
    METHOD,
    options,
    measure,
    findings,
    draw,
    needs=("psycopg", "adbc_driver_postgresql.dbapi"),
)
