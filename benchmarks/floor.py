"""bulkseed whole against the same bytes from files on the server: what is left is what PostgreSQL itself takes."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.benchmark import Benchmark, scale_option, workers_option
from benchmarks.charts import seconds_chart
from benchmarks.databases import Databases, content
from benchmarks.loads import command_load, phases_told
from benchmarks.programs import schema_of
from benchmarks.results import COLUMNS, Figures, Findings, Run, matching, ratio, seconds_line, spread
from benchmarks.server_side import PARTED, bare, fill, fill_and_rebuild, write_files
from benchmarks.turns import turns
from bulkseed.plan.tables import TABLE_NAMES
from bulkseed.postgres.address import Address

__all__ = ["BENCHMARK"]

FROZEN: Final = "files, COPY FREEZE"
PLAIN: Final = "files, COPY"
PARTS: Final = "files in parts, COPY"
REBUILD: Final = "files, our rebuild"
FLOORS: Final = (FROZEN, PLAIN, PARTS, REBUILD)
CONTESTANTS: Final = ("bulkseed", *FLOORS)

METHOD: Final = """
`python -m bulkseed` from the start of the interpreter to its exit, against the same rows in COPY's binary format, from
files that the server itself reads (they are in its cache) over N connections. Nothing is made, sent or encoded there;
indexes are built as soon as a table is full, foreign keys are added NOT VALID and then validated, and each table is
analysed. The clock of these begins with open connections and tables already bare, and does not count a client's start.
Tables go whole over one connection each, with FREEZE (and TRUNCATE) and without, or the large ones in N parts; the
quickest counts. *our rebuild* is COPY FREEZE with bulkseed's own rebuild of indexes in place of the benchmark's queue.
After each run the schema and the hashes of all rows are compared: they are the same.
""".strip()


def measure(databases: Databases, chosen: argparse.Namespace) -> Iterator[Run]:
    """The runs of all, each checked to leave the same schema and the same rows."""
    scale, workers = chosen.scale, chosen.workers
    with databases.folder() as folder:
        with databases.fresh() as address:
            rows = command_load(address, scale, workers=workers)["rows"]
            whole, parts = (asyncio.run(files_of(address, folder, count)) for count in (1, workers))
            schema, wanted = schema_of(address), content(address)
        for contestant in turns(CONTESTANTS, chosen.repeats):
            with databases.fresh() as address:
                if contestant == "bulkseed":
                    run = command_load(address, scale, workers=workers)
                else:
                    files = parts if contestant == PARTS else whole
                    run = {"seconds": asyncio.run(filled(address, contestant, files, workers))}
                assert schema_of(address) == schema, f"{contestant} left another schema"
                assert content(address) == wanted, f"{contestant} left other rows"
            yield {"contestant": contestant, "rows": rows, **run}


async def files_of(address: Address, folder: Path, parts: int) -> dict[str, list[Path]]:
    """The files of each table; the large ones in ``parts``."""
    return {table: await write_files(address, table, folder, parts if table in PARTED else 1) for table in TABLE_NAMES}


async def filled(address: Address, contestant: str, files: dict[str, list[Path]], lanes: int) -> float:
    captured = await bare(address)
    if contestant == REBUILD:
        return await fill_and_rebuild(address, captured.deferred, files, lanes)
    return await fill(address, captured.deferred, files, lanes, freeze=contestant == FROZEN)


def floor_of(figures: Figures) -> Sequence[Run]:
    """The runs of the quickest way from files."""
    return min((matching(figures, contestant=name) for name in FLOORS), key=lambda runs: spread(runs).median)


def findings(figures: Figures) -> Findings:
    """All beside each other; ratios are to the quickest way from files."""
    settings, quickest = figures["settings"], floor_of(figures)
    ours = matching(figures, contestant="bulkseed")
    return Findings(
        f"{settings['scale']} ({ours[0]['rows']:,} rows), {settings['workers']} workers or connections: "
        f"medians of {settings['repeats']}",
        COLUMNS,
        [seconds_line(name, matching(figures, contestant=name), quickest) for name in CONTESTANTS],
        [
            f"bulkseed takes {ratio(ours, quickest):.2f} of the floor's time ({quickest[0]['contestant']}).",
            f"bulkseed, by its own clock: {phases_told(ours)}. Phases of several workers overlap.",
        ],
    )


def draw(figures: Figures, figure: Any) -> None:
    """A bar for each."""
    by_name = {name: matching(figures, contestant=name) for name in CONTESTANTS}
    rows = by_name["bulkseed"][0]["rows"]
    seconds_chart(figure, by_name, ["bulkseed"], f"{rows:,} rows, against the server's own floor")


def options(parser: argparse.ArgumentParser) -> None:
    scale_option(parser, "100x")
    workers_option(parser)


BENCHMARK: Final = Benchmark(
    "floor",
    "bulkseed whole, and the same bytes from binary files on the server: the least that PostgreSQL takes",
    METHOD,
    options,
    measure,
    findings,
    draw,
)
