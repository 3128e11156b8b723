"""Run bulkseed as users do: the complete command, from the start of the interpreter to its exit."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from benchmarks.commands import ran
from benchmarks.measure import Spread
from benchmarks.plans import AS_OF
from benchmarks.results import Run
from bulkseed.postgres.address import Address

__all__ = ["command_load", "describe_phases"]


def command_load(
    address: Address,
    scale: str,
    *,
    workers: int,
    defer: str = "auto",
    format: str = "auto",
    seed: int = 1,
    scenario: str = "default",
) -> Run:
    """Load a scale into a database; return rows by table, seconds by phase, and the measurements of the command.

    Raises RuntimeError if the command fails.
    """
    options = ["--scale", scale, "--seed", str(seed), "--as-of", AS_OF.isoformat(), "--database-url", address.dsn]
    options += ["--workers", str(workers), "--defer", defer, "--format", format, "--yes", "--json", "--quiet"]
    options += ["--scenario", scenario]
    command = ran([sys.executable, "-m", "bulkseed", *options])
    report = json.loads(command.output)
    return {
        "rows": sum(report["rows"].values()),
        "tables": report["rows"],
        **command.figures,
        "phases": report["seconds"],
        "deferred": report.get("deferred"),
    }


def describe_phases(runs: Sequence[Run]) -> str:
    """Return the median seconds of each phase of several runs as text."""
    names = dict.fromkeys(name for run in runs for name in run["phases"])
    medians = {name: Spread.of([run["phases"].get(name, 0.0) for run in runs]).median for name in names}
    return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in medians.items())
