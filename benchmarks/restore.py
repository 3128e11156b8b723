"""The bulkseed command, compared with ``pg_restore`` of the same rows, in alternating runs on one server."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.benchmark import Benchmark, scale_option, workers_option
from benchmarks.charts import seconds_chart
from benchmarks.databases import Databases, content
from benchmarks.loads import command_load, describe_phases
from benchmarks.programs import LEDGER, program, schema_of
from benchmarks.results import COLUMNS, Figures, Findings, Run, matching, ratio, seconds_line, spread
from benchmarks.turns import turns
from bulkseed.plan.tables import CATALOGUE, TABLE_NAMES
from bulkseed.postgres.address import Address

__all__ = ["BENCHMARK"]

RESTORE: Final = "pg_restore"
SINGLE: Final = "pg_restore, plain builds"
SERVER_OPTIONS: Final = {RESTORE: "", SINGLE: "-c max_parallel_maintenance_workers=0"}
CONTESTANTS: Final = ("bulkseed", *SERVER_OPTIONS)

METHOD: Final = """
`python -m bulkseed` from the start of the interpreter to its exit (imports, checks, COPY, indexes, keys, ANALYZE, its
record of the run), compared with `pg_restore -j N` and `vacuumdb --analyze-only -j N` of a `pg_dump -Fd -Z0` of a
database that bulkseed had loaded with the same plan. Both use the same server and settings, with a fresh database and a
checkpoint before each run. *plain builds* is pg_restore with `max_parallel_maintenance_workers=0`, because its N jobs
may already use all cores; the faster of the two counts. The tables exist before bulkseed starts, while pg_restore
creates them, which takes milliseconds. After each run, and not timed, the dump of the schema and the hashes of all rows
are compared: they are the same.
""".strip()


def measure(databases: Databases, chosen: argparse.Namespace) -> Iterator[Run]:
    """Yield all runs, after a check that each leaves the same schema and the same rows."""
    scale, workers = chosen.scale, chosen.workers
    with databases.folder() as folder:
        dump = folder / "dump"
        with databases.fresh() as address:
            # this also warms up: no run includes the compilation of modules at first use
            loaded = command_load(address, scale, workers=workers)
            directory = ("--format", "directory", "--compress", "none", "--jobs", str(workers))
            program("pg_dump", address, "--exclude-schema", LEDGER, *directory, "--file", dump)
            schema, wanted = schema_of(address), content(address)
        for contestant in turns(CONTESTANTS, chosen.repeats):
            with databases.fresh() if contestant == "bulkseed" else databases.empty() as address:
                if contestant == "bulkseed":
                    run = command_load(address, scale, workers=workers)
                else:
                    run = restore(address, dump, workers, SERVER_OPTIONS[contestant])
                assert schema_of(address) == schema, f"{contestant} left another schema"
                assert content(address) == wanted, f"{contestant} left other rows"
            yield {"contestant": contestant, "rows": loaded["rows"], **run}


def restore(address: Address, dump: Path, workers: int, server_options: str) -> dict[str, Any]:
    """Run pg_restore and ANALYZE, each with ``workers`` connections; return their measurements together."""
    jobs = ("--jobs", str(workers))
    restored = program("pg_restore", address, *jobs, "--exit-on-error", dump, server_options=server_options)
    tables = [f"--table={table}" for table in (*TABLE_NAMES, CATALOGUE.name)]  # not the system catalogues
    analyze = program("vacuumdb", address, "--analyze-only", *jobs, "--quiet", *tables)
    return {
        "seconds": restored.seconds + analyze.seconds,
        "cpu_seconds": restored.cpu_seconds + analyze.cpu_seconds,
        "peak_pss": max(restored.peak_pss, analyze.peak_pss),
        "peak_rss": max(restored.peak_rss, analyze.peak_rss),
        "phases": {"pg_restore": restored.seconds, "analyze": analyze.seconds},
    }


def findings(figures: Figures) -> Findings:
    """Return a line for each contestant, and the seconds by phase; ratios are to the faster pg_restore."""
    settings = figures["settings"]
    ours = matching(figures, contestant="bulkseed")
    theirs = min((matching(figures, contestant=name) for name in SERVER_OPTIONS), key=lambda runs: spread(runs).median)
    return Findings(
        f"{settings['scale']} ({ours[0]['rows']:,} rows), {settings['workers']} workers or jobs: "
        f"medians of {settings['repeats']}",
        COLUMNS,
        [seconds_line(name, matching(figures, contestant=name), theirs) for name in CONTESTANTS],
        [
            f"bulkseed takes {ratio(ours, theirs):.2f} of pg_restore's time.",
            f"{theirs[0]['contestant']}: {describe_phases(theirs)}.",
            f"bulkseed, seconds by phase: {describe_phases(ours)}. Phases of several workers overlap.",
        ],
    )


def draw(figures: Figures, figure: Any) -> None:
    """Draw a bar for each contestant."""
    by_name = {name: matching(figures, contestant=name) for name in CONTESTANTS}
    rows = by_name["bulkseed"][0]["rows"]
    seconds_chart(figure, by_name, ["bulkseed"], f"{rows:,} rows with indexes, keys and statistics")


def options(parser: argparse.ArgumentParser) -> None:
    scale_option(parser, "100x")
    workers_option(parser)


BENCHMARK: Final = Benchmark(
    "restore",
    "the bulkseed command, compared with pg_restore -j of a dump of the same rows",
    METHOD,
    options,
    measure,
    findings,
    draw,
)
