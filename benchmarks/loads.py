"""bulkseed as its users run it: the whole command, from the interpreter's start to its exit."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from benchmarks.commands import ran
from benchmarks.measure import Spread
from benchmarks.plans import AS_OF
from benchmarks.results import Run
from bulkseed.postgres.address import Address

__all__ = ["command_load", "phases_told"]


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
    """Load a scale into a database; returns its rows by table, its own seconds by phase, and what the command took.

    Raises RuntimeError where it fails.
    """
    options = ["--scale", scale, "--seed", str(seed), "--as-of", AS_OF.isoformat(), "--database-url", address.dsn]
    options += ["--workers", str(workers), "--defer", defer, "--format", format, "--yes", "--json", "--quiet"]
    options += ["--scenario", scenario]
    taken = ran([sys.executable, "-m", "bulkseed", *options])
    report = json.loads(taken.output)
    return {
        "rows": sum(report["rows"].values()),
        "tables": report["rows"],
        **taken.figures,
        "phases": report["seconds"],
        "deferred": report.get("deferred"),
    }


def phases_told(runs: Sequence[Run]) -> str:
    """The medians of the phases of several runs, in words."""
    names = dict.fromkeys(name for run in runs for name in run["phases"])
    medians = {name: Spread.of([run["phases"].get(name, 0.0) for run in runs]).median for name in names}
    return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in medians.items())
