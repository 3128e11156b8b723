"""The type of a benchmark, and options that benchmarks share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.databases import Databases
from benchmarks.results import Figures, Findings, Run

__all__ = ["Benchmark", "number", "scale_option", "scales_option", "workers_option"]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark of ``python -m benchmarks``. Its findings and its chart are computed from the stored figures."""

    name: str
    summary: str
    method: str
    """The method, for the report: what is measured and what is excluded."""
    options: Callable[[argparse.ArgumentParser], None]
    measure: Callable[[Databases, argparse.Namespace], Iterator[Run]]
    findings: Callable[[Figures], Findings]
    draw: Callable[[Figures, Any], None] | None = None
    """Draws the chart into an empty figure of matplotlib."""
    needs: Sequence[str] = ("psutil",)
    """Libraries that the benchmark needs."""


def number(text: str) -> int:
    """Return a whole number from 1. Raises ArgumentTypeError for another text."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def scale_option(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--scale``."""
    parser.add_argument("--scale", default=default, metavar="S", help=f"size of the data ({default})")


def scales_option(parser: argparse.ArgumentParser, *defaults: str) -> None:
    """Add ``--scales``."""
    parser.add_argument(
        "--scales", nargs="+", default=list(defaults), metavar="S", help=f"sizes of the data ({' '.join(defaults)})"
    )


def workers_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--workers``."""
    parser.add_argument(
        "--workers", type=number, default=2, metavar="N", help="workers of bulkseed, and connections of each peer (2)"
    )
