"""An app's own schema, created by its migrations and loaded with a scenario, compared with the reference schema."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

from benchmarks.benchmark import Benchmark, scale_option, workers_option
from benchmarks.charts import seconds_chart
from benchmarks.commands import ROOT
from benchmarks.databases import TEMPLATE, Databases, count, execute
from benchmarks.loads import command_load, describe_phases
from benchmarks.plans import plan_of
from benchmarks.results import COLUMNS, Figures, Findings, Run, matching, ratio, seconds_line
from benchmarks.turns import turns
from bulkseed.postgres.address import Address

__all__ = ["BENCHMARK"]

APP: Final = ROOT / "tests" / "scenarios" / "alembic_app"
MIGRATED: Final = "template_migrated"

REFERENCE: Final = "the reference schema"
VERSIONS: Final = {"the app's, UUIDs of version 4": 4, "the app's, UUIDs of version 7": 7}
CONTESTANTS: Final = (REFERENCE, *VERSIONS)
WANTED: Final = 0.7
"""The wanted share of the reference schema's rows/s."""

METHOD: Final = """
`python -m bulkseed` from the start of the interpreter to its exit, into a fresh database: with the reference tables, or
with those that `alembic upgrade head` creates in `tests/scenarios/alembic_app`, with the scenario in that folder. These
have UUID keys (16 bytes, where the reference schema has 8), `timestamptz`, citext, an enumeration, jsonb, two NOT NULL
columns and a jsonb column that fields fill, and a surrogate key in the table of members. The scenario fills that key
too, because with a volatile default, such as `gen_random_uuid()`, COPY inserts row by row. The rows are the same.
""".strip()


def migrate(address: Address) -> None:
    """Run ``alembic upgrade head``."""
    command = [sys.executable, "-m", "alembic", "--config", str(APP / "alembic.ini"), "upgrade", "head"]
    subprocess.run(command, env=os.environ | {"DATABASE_URL": address.dsn}, check=True)


def scenario_of(databases: Databases, version: int) -> str:
    """Write the app's scenario with UUID keys of ``version``, and return its file."""
    file = databases.home.parent / f"version_{version}.toml"
    file.write_text((APP / "bulkseed.toml").read_text().replace("\nuuid = 4 ", f"\nuuid = {version} "))
    return str(file)


def measure(databases: Databases, chosen: argparse.Namespace) -> Iterator[Run]:
    """Yield all runs, after a check that each loaded the rows that it reports."""
    execute(databases.admin, f"CREATE DATABASE {MIGRATED}")
    migrate(databases.named(MIGRATED))
    scenarios = {name: scenario_of(databases, version) for name, version in VERSIONS.items()}
    for name in turns(CONTESTANTS, chosen.repeats):
        scenario = scenarios.get(name, "default")
        model = plan_of(chosen.scale, scenario).model
        with databases.fresh(TEMPLATE if name == REFERENCE else MIGRATED) as address:
            run = command_load(address, chosen.scale, workers=chosen.workers, scenario=scenario)
            there = count(address, [model.name(table) for table in model.names])
            assert list(there.values()) == [run["tables"][table] for table in model.names], there
        yield {"contestant": name, **run}


def of_reference(figures: Figures, runs: Sequence[Run]) -> float:
    """Their rows/s to those of the reference schema."""
    reference = matching(figures, contestant=REFERENCE)
    return float(runs[0]["rows"] / reference[0]["rows"]) / ratio(runs, reference)


def findings(figures: Figures) -> Findings:
    """Return a line for each contestant; ratios of seconds are to the reference schema."""
    settings = figures["settings"]
    by_name = {name: matching(figures, contestant=name) for name in CONTESTANTS}
    reference = by_name[REFERENCE]
    notes = [
        f"{name}: {of_reference(figures, by_name[name]):.2f} of the reference schema's rows/s "
        f"(wanted: {WANTED} or more)."
        for name in VERSIONS
    ]
    notes += [f"{name}, seconds by phase: {describe_phases(runs)}." for name, runs in by_name.items()]
    return Findings(
        f"{settings['scale']} ({reference[0]['rows']:,} rows), {settings['workers']} workers: "
        f"medians of {settings['repeats']}",
        COLUMNS,
        [seconds_line(name, runs, reference) for name, runs in by_name.items()],
        notes,
    )


def draw(figures: Figures, figure: Any) -> None:
    """Draw a bar for each contestant."""
    by_name = {name: matching(figures, contestant=name) for name in CONTESTANTS}
    rows = by_name[REFERENCE][0]["rows"]
    seconds_chart(figure, by_name, [*VERSIONS], f"{rows:,} rows, into the reference schema and an app's own")


def options(parser: argparse.ArgumentParser) -> None:
    scale_option(parser, "30x")
    workers_option(parser)


BENCHMARK: Final = Benchmark(
    "adapted",
    "the bulkseed command with an app's own schema, created by Alembic, compared with the reference schema",
    METHOD,
    options,
    measure,
    findings,
    draw,
    needs=("psutil", "alembic"),
)
