"""What a benchmark is: how it is called, what it measures, what its figures come to, and how they are drawn."""

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
    """A benchmark of ``python -m benchmarks``. What it finds and draws follows from the figures that are kept."""

    name: str
    summary: str
    method: str
    """For the report: what is measured, what is counted and what is not."""
    options: Callable[[argparse.ArgumentParser], None]
    measure: Callable[[Databases, argparse.Namespace], Iterator[Run]]
    findings: Callable[[Figures], Findings]
    draw: Callable[[Figures, Any], None] | None = None
    """Draws into an empty figure of matplotlib."""
    needs: Sequence[str] = ("psutil",)
    """Libraries without which it cannot begin."""


def number(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def scale_option(parser: argparse.ArgumentParser, default: str) -> None:
    """``--scale``."""
    parser.add_argument("--scale", default=default, metavar="S", help=f"({default})")


def scales_option(parser: argparse.ArgumentParser, *defaults: str) -> None:
    """``--scales``."""
    parser.add_argument("--scales", nargs="+", default=list(defaults), metavar="S", help=f"({' '.join(defaults)})")


def workers_option(parser: argparse.ArgumentParser) -> None:
    """``--workers``."""
    parser.add_argument(
        "--workers", type=number, default=2, metavar="N", help="of bulkseed; and connections of each peer (2)"
    )
