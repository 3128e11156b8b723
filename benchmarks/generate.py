"""Make rows without a database: the cost of each table, and of all together.

``made once`` is the part of a run's context that all shards use (Faker's corpus, the pieces of its prose, the times of
all accounts); ``members`` is the drawing of channels and their members, which all tables of a shard use. Reactions make
their messages a second time, without texts. Imports are excluded.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, Final

from benchmarks.benchmark import Benchmark, scale_option
from benchmarks.databases import Databases
from benchmarks.measure import Clock, Spread, clocked, in_fresh_process, peak_rss
from benchmarks.plans import plan_of
from benchmarks.results import Figures, Findings, Run, mebibytes, spread
from benchmarks.turns import turns
from bulkseed.copy.encoders import encode_binary, encode_records
from bulkseed.generators import Context, shard_tables
from bulkseed.plan.plan import Placement
from bulkseed.plan.shards import split_into_shards
from bulkseed.plan.tables import TABLES
from bulkseed.text.faker_source import make_corpus

__all__ = ["BENCHMARK", "generate_once"]

MADE_ONCE: Final = "made once"
MEMBERS: Final = "members"
WHOLE: Final = "whole"

BASE: Final = {"integer": "int8", "text": "text", "boolean": "bool", "timestamp": "timestamp"}
TYPES: Final = {table.name: {column.name: BASE[column.kind] for column in table.columns} for table in TABLES}
"""The base types of the columns of the reference tables."""

OUTPUTS: Final = {
    "none": "rows",
    "records": "rows and tuples of them",
    "binary": "rows and COPY's binary format of them",
}
"""The output by encoder."""

METHOD: Final = """
All rows of a plan are made in one process, batch by batch, and discarded. *made once* is the part of a run's context
that all shards use; *members* is the drawing of channels and their members, which all tables of a shard use. Imports
are excluded.
""".strip()


def generate_once(scale: str, encoder: str, scenario: str = "default") -> dict[str, Any]:
    """Make every row of a scenario at a scale, batch by batch, and discard it; return rows, seconds and memory."""
    plan = plan_of(scale, scenario)
    placement = Placement(first_user=1, first_channel=1, first_message=1, reactions=tuple(range(1, 13)))
    clocks: defaultdict[str, Clock] = defaultdict(Clock)
    rows: Counter[str] = Counter()
    whole = clocks[WHOLE]
    with clocked(clocks[MADE_ONCE], whole):
        context = Context(plan, placement, make_corpus(plan.locale))
        _ = context.corpus, context.prose, context.layout, context.user_created, context.user_activity, context.ranking
    for shard in split_into_shards(plan):
        tables = shard_tables(context, shard)
        while True:
            with clocked(clocks[MEMBERS], whole):
                table = next(tables, None)
            if table is None:
                break
            name, batches = table
            with clocked(clocks[name], whole):
                if encoder == "binary":
                    rows[name] += sum(chunk.rows for chunk in encode_binary(batches, TYPES[name], name))
                    continue
                for batch in batches:
                    rows[name] += batch.num_rows
                    if encoder == "records":
                        encode_records(batch)
    rows[WHOLE] = rows.total()
    return {
        "parts": {
            name: {"rows": rows[name], "seconds": clock.seconds, "cpu_seconds": clock.cpu_seconds}
            for name, clock in sorted(clocks.items(), key=lambda item: item[0] == WHOLE)
        },
        "peak_rss": peak_rss(),
    }


def measure(databases: Databases, chosen: argparse.Namespace) -> Iterator[Run]:
    """Make all rows, in a new process each time; yield the runs."""
    for encoder in turns([chosen.encoder], chosen.repeats):
        yield in_fresh_process("benchmarks.generate:generate_once", scale=chosen.scale, encoder=encoder)


def findings(figures: Figures) -> Findings:
    """Return a line for each part."""
    settings, runs = figures["settings"], figures["runs"]
    return Findings(
        f"Making {OUTPUTS[settings['encoder']]} at {settings['scale']}: medians of {settings['repeats']}",
        ("part", "rows", "seconds (min–max)", "rows/s", "µs/row", "CPU µs/row"),  # noqa: RUF001
        [line(part, [run["parts"][part] for run in runs]) for part in runs[0]["parts"]],
        (f"peak RSS {mebibytes(spread(runs, 'peak_rss').median)}",),
    )


def line(part: str, runs: list[dict[str, float]]) -> tuple[str, ...]:
    rows, spread = runs[0]["rows"], Spread.of([run["seconds"] for run in runs])
    if not rows:
        return (part, "", str(spread), "", "", "")
    cpu = Spread.of([run["cpu_seconds"] for run in runs]).median
    return (
        part,
        f"{rows:,}",
        str(spread),
        f"{rows / spread.median:,.0f}",
        f"{spread.median / rows * 1e6:.2f}",
        f"{cpu / rows * 1e6:.2f}",
    )


def options(parser: argparse.ArgumentParser) -> None:
    scale_option(parser, "100x")
    parser.add_argument("--encoder", choices=list(OUTPUTS), default="none", help="also encode for COPY (none)")


BENCHMARK: Final = Benchmark(
    "generate",
    "making rows without a database, table by table",
    METHOD,
    options,
    measure,
    findings,
    needs=(),
)
