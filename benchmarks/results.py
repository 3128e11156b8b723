"""Results: a table on the screen, and a JSON file with the raw figures, from which chart and report are made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.measure import Spread

__all__ = [
    "COLUMNS",
    "RESULTS",
    "Figures",
    "Findings",
    "Run",
    "keep",
    "kept",
    "matching",
    "mebibytes",
    "ratio",
    "seconds_line",
    "show",
    "spread",
]

Run = dict[str, Any]
"""The figures of one run of one contestant."""
Figures = dict[str, Any]
"""The contents of a file that :func:`keep` writes: the benchmark, the machine, the settings, and all runs."""

RESULTS: Final = Path(__file__).parent / "results"
WIDTH: Final = 120
"""The width of a table that is printed to a file or a pipe."""


@dataclass(frozen=True, slots=True)
class Findings:
    """The findings of a benchmark: a table, its first column aligned left and the others right, and notes."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def show(findings: Findings, notes: Sequence[str] = ()) -> None:
    """Print findings, and notes below them."""
    table = Table(title=findings.title, title_justify="left", box=box.SIMPLE_HEAD)
    for index, column in enumerate(findings.columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    for row in findings.rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table)
    for note in (*findings.notes, *notes):
        console.print(note, highlight=False)


def keep(folder: Path, name: str, on: dict[str, Any], settings: dict[str, Any], runs: Sequence[Run]) -> Figures:
    """Write the raw figures of all runs to ``folder``, with the machine and the settings, and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"benchmark": name, "machine": on, "line": machine.line(on), "settings": settings, "runs": list(runs)}
    (folder / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def kept(folder: Path, name: str) -> Figures | None:
    """Return the figures that :func:`keep` wrote, or None if there are none."""
    file = folder / f"{name}.json"
    if not file.exists():
        return None
    figures: Figures = json.loads(file.read_text())
    return figures


def mebibytes(size: float) -> str:
    """Return ``size`` in bytes as text in MiB."""
    return f"{size / 2**20:,.0f} MiB"


def matching(figures: Figures, **wanted: Any) -> list[Run]:
    """Return the runs that have these values."""
    return [run for run in figures["runs"] if all(run[name] == value for name, value in wanted.items())]


def spread(runs: Sequence[Run], field: str = "seconds") -> Spread:
    """Return the spread of a field over runs."""
    return Spread.of([run[field] for run in runs])


def ratio(ours: Sequence[Run], theirs: Sequence[Run]) -> float:
    """Return the ratio of the median seconds of two contestants."""
    return spread(ours).median / spread(theirs).median


COLUMNS: Final = ("by", "seconds (min–max)", "ratio", "rows/s", "client CPU s", "client PSS", "client RSS")  # noqa: RUF001
"""The columns of :func:`seconds_line`. PSS counts memory that processes share once, RSS once for each process."""


def seconds_line(name: str, runs: Sequence[Run], compared_with: Sequence[Run]) -> tuple[str, ...]:
    """Return the line of a contestant; the ratio is its seconds divided by those of ``compared_with``."""
    return (
        name,
        str(spread(runs)),
        f"{ratio(runs, compared_with):.2f}",
        f"{runs[0]['rows'] / spread(runs).median:,.0f}",
        f"{spread(runs, 'cpu_seconds').median:.2f}" if "cpu_seconds" in runs[0] else "",
        *(mebibytes(spread(runs, field).median) if field in runs[0] else "" for field in ("peak_pss", "peak_rss")),
    )
