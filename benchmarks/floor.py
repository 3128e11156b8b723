"""The bulkseed command, compared with COPY of the same bytes from files: the time that PostgreSQL itself needs."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.benchmark import Benchmark, scale_option, workers_option
from benchmarks.charts import seconds_chart
from benchmarks.databases import Databases, content
from benchmarks.loads import command_load, describe_phases
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
`python -m bulkseed` from the start of the interpreter to its exit, compared with the same rows in COPY's binary format,
from files that the server itself reads (from its cache) over N connections. With files, no rows are made, sent or
encoded; indexes are built as soon as all rows of a table are loaded, foreign keys are added NOT VALID and then
validated, and each table is analysed. Their clock starts with open connections and with tables whose indexes are
already dropped, and does not include the start of a client. Each table is copied over one connection, with FREEZE (and
TRUNCATE) or without, or the large tables in N parts; the fastest way counts. *our rebuild* is COPY FREEZE with
bulkseed's own rebuild of indexes instead of the benchmark's queue. After each run the schema and the hashes of all rows
are compared: they are the same.
""".strip()


def measure(databases: Databases, chosen: argparse.Namespace) -> Iterator[Run]:
    """Yield all runs, after a check that each leaves the same schema and the same rows."""
    scale, workers = chosen.scale, chosen.workers
    with databases.folder() as folder:
        with databases.fresh() as address:
            rows = command_load(address, scale, workers=workers)["rows"]
            tables, parts = (asyncio.run(files_of(address, folder, count)) for count in (1, workers))
            schema, wanted = schema_of(address), content(address)
        for contestant in turns(CONTESTANTS, chosen.repeats):
            with databases.fresh() as address:
                if contestant == "bulkseed":
                    run = command_load(address, scale, workers=workers)
                else:
                    files = parts if contestant == PARTS else tables
                    run = {"seconds": asyncio.run(time_fill(address, contestant, files, workers))}
                assert schema_of(address) == schema, f"{contestant} left another schema"
                assert content(address) == wanted, f"{contestant} left other rows"
            yield {"contestant": contestant, "rows": rows, **run}


async def files_of(address: Address, folder: Path, parts: int) -> dict[str, list[Path]]:
    """Write the files of each table, large tables in ``parts``, and return their paths."""
    return {table: await write_files(address, table, folder, parts if table in PARTED else 1) for table in TABLE_NAMES}


async def time_fill(address: Address, contestant: str, files: dict[str, list[Path]], connections: int) -> float:
    """Fill the tables from files and build their indexes; return the seconds."""
    captured = await bare(address)
    if contestant == REBUILD:
        return await fill_and_rebuild(address, captured.deferred, files, connections)
    return await fill(address, captured.deferred, files, connections, freeze=contestant == FROZEN)


def floor_of(figures: Figures) -> Sequence[Run]:
    """Return the runs of the fastest way from files."""
    return min((matching(figures, contestant=name) for name in FLOORS), key=lambda runs: spread(runs).median)


def findings(figures: Figures) -> Findings:
    """Return a line for each contestant; ratios are to the fastest way from files."""
    settings, fastest = figures["settings"], floor_of(figures)
    ours = matching(figures, contestant="bulkseed")
    return Findings(
        f"{settings['scale']} ({ours[0]['rows']:,} rows), {settings['workers']} workers or connections: "
        f"medians of {settings['repeats']}",
        COLUMNS,
        [seconds_line(name, matching(figures, contestant=name), fastest) for name in CONTESTANTS],
        [
            f"bulkseed takes {ratio(ours, fastest):.2f} of the time from files ({fastest[0]['contestant']}).",
            f"bulkseed, seconds by phase: {describe_phases(ours)}. Phases of several workers overlap.",
        ],
    )


def draw(figures: Figures, figure: Any) -> None:
    """Draw a bar for each contestant."""
    by_name = {name: matching(figures, contestant=name) for name in CONTESTANTS}
    rows = by_name["bulkseed"][0]["rows"]
    seconds_chart(figure, by_name, ["bulkseed"], f"{rows:,} rows, compared with files on the server")


def options(parser: argparse.ArgumentParser) -> None:
    scale_option(parser, "100x")
    workers_option(parser)


BENCHMARK: Final = Benchmark(
    "floor",
    "the bulkseed command, compared with COPY of the same bytes from files on the server",
    METHOD,
    options,
    measure,
    findings,
    draw,
)
