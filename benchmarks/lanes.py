"""Ways to load a million rows of ``messages`` into one table without indexes, each with one process and connection."""

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
Each lane (a library or method) loads the rows of one table, `messages`, without indexes and keys, into a fresh
database, in its own process with one connection. For the two lanes of bulkseed the measured time includes *making* the
rows and all values that are computed once per run. The other lanes are *handed* ready rows in the form that is fastest
for them (tuples, dicts, an Arrow table), made before their clock starts and excluded from garbage collection. The lane
`INSERT … SELECT` makes rows of similar width in the server, with texts that begin alike. The clock runs from an open
connection to the commit, without imports. Memory is that of the process, including its ready rows. After each run the
hashes of all rows are compared: all lanes except `INSERT … SELECT` load the same rows.
""".strip()


def measure(databases: Databases, chosen: argparse.Namespace) -> Iterator[Run]:
    """Yield the runs of all lanes, after a check that all load the same rows."""
    wanted = None
    for lane in turns([name for name in LANES if not chosen.only or name in chosen.only], chosen.repeats):
        with databases.fresh() as address:
            execute(address, BARE)
            run = in_fresh_process("benchmarks.lane:run_lane", name=lane, scale=chosen.scale, dsn=address.dsn)
            rows = value(address, "SELECT count(*) FROM messages")
            if lane not in IN_SERVER:
                [left] = content(address, ["messages"]).values()
                wanted = wanted or left
                assert left == wanted, f"{lane} loaded other rows"
        yield {"contestant": lane, "rows": rows, **run}


def findings(figures: Figures) -> Findings:
    """Return a line for each lane, the fastest first, and the ratio of the binary lane to the fastest other."""
    lines, rates = [], {}
    for name in dict.fromkeys(run["contestant"] for run in figures["runs"]):
        runs = matching(figures, contestant=name)
        rates[name] = runs[0]["rows"] / spread(runs).median
        lines.append(
            (
                rates[name],
                (
                    name,
                    source_of_rows(name),
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
    fastest = max(others, key=others.__getitem__, default=None)
    notes = []
    if ours in rates and fastest:
        notes.append(
            f"The binary lane, which makes its rows, loads {rates[ours] / others[fastest]:.2f} times the rows/s of "
            f"{fastest}, the fastest other lane."
        )
    settings = figures["settings"]
    return Findings(
        f"{figures['runs'][0]['rows']:,} messages ({settings['scale']}): medians of {settings['repeats']}",
        ("lane", "rows are", "seconds (min–max)", "rows/s", "client CPU s", "client RSS"),  # noqa: RUF001
        [line for _, line in lines],
        notes,
    )


def source_of_rows(name: str) -> str:
    return "made" if name in MAKING else "made in the server" if name in IN_SERVER else "handed"


def draw(figures: Figures, figure: Any) -> None:
    """Draw a bar for each lane, the fastest on top."""
    names = list(dict.fromkeys(run["contestant"] for run in figures["runs"]))
    names.sort(key=lambda name: spread(matching(figures, contestant=name)).median)
    figure.set_size_inches(8, 1.1 + 0.4 * len(names))
    axes = figure.add_subplot()
    panel(axes, f"{figures['runs'][0]['rows']:,} messages into a table without indexes", "seconds (less is better)")
    bars(
        axes,
        [f"{name} ({source_of_rows(name)})" for name in names],
        [spread(matching(figures, contestant=name)) for name in names],
        [name in MAKING for name in names],
        lambda seconds: f"{seconds:.2f} s",
    )


def options(parser: argparse.ArgumentParser) -> None:
    scale_option(parser, "66x")
    parser.add_argument("--only", nargs="+", choices=LANES, metavar="LANE", help="run only these lanes (default: all)")


BENCHMARK: Final = Benchmark(
    "lanes",
    "ways to load a million ready rows into one table, compared with bulkseed, which also makes the rows",
    METHOD,
    options,
    measure,
    findings,
    draw,
    needs=("psycopg", "adbc_driver_postgresql.dbapi"),
)
