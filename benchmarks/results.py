"""Results: a table on the screen for people, and a JSON file with the raw figures for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import machine

__all__ = ["RESULTS", "keep", "mebibytes", "show"]

RESULTS: Final = Path(__file__).parent / "results"
WIDTH: Final = 120
"""Of a table that goes to a file or a pipe, which has no width of its own."""


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> None:
    """Print a table, its first column to the left and the others to the right, and notes below it."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table)
    for note in notes:
        console.print(note, highlight=False)


def keep(folder: Path, name: str, on: dict[str, Any], settings: dict[str, Any], runs: Sequence[dict[str, Any]]) -> Path:
    """Write the raw figures of all runs to ``folder``, with the machine and the settings; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    kept = {"benchmark": name, "machine": on, "line": machine.line(on), "settings": settings, "runs": runs}
    file.write_text(json.dumps(kept, indent=2) + "\n")
    return file


def mebibytes(size: float) -> str:
    """Bytes as MiB."""
    return f"{size / 2**20:,.0f} MiB"
