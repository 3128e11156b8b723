"""Charts: one style for all; the same figures give the same file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.libraries import library
from benchmarks.results import Run, spread

__all__ = ["COLORS", "OURS", "PEER", "bars", "decades", "panel", "save", "seconds_chart"]

OURS: Final = "#1f6feb"
PEER: Final = "#9aa4b2"
COLORS: Final = (OURS, "#d9730d", "#2da44e", "#8250df")
"""Colours of lines that colour-blind people can tell apart."""
INK: Final = "#24292f"

STYLE: Final = {
    "axes.edgecolor": "#d0d7de",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.facecolor": "white",
    "font.size": 10,
    "legend.frameon": False,
    "svg.hashsalt": "bulkseed",  # else the ids in the file are random
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def save(draw: Callable[[Any], None], file: Path) -> None:
    """Draw into a figure and save it as SVG. Raises InputError where matplotlib is missing."""
    with library("matplotlib").rc_context(STYLE):
        figure = library("matplotlib.figure").Figure(figsize=(8, 3), layout="constrained")
        draw(figure)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})


def panel(axes: Any, title: str, xlabel: str = "", ylabel: str = "") -> None:
    """Set the title and the labels of an empty panel."""
    axes.set_title(title, pad=10)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)


def decades(axis: Any, set_scale: Callable[[str], None]) -> None:
    """Make an axis logarithmic, with the labels 1 k, 10 k, 1 M."""
    ticker = library("matplotlib.ticker")
    set_scale("log")
    axis.set_major_formatter(ticker.EngFormatter(sep=" "))
    axis.set_minor_formatter(ticker.NullFormatter())


def bars(
    axes: Any, names: Sequence[str], spreads: Sequence[Any], ours: Sequence[bool], label: Callable[[float], str]
) -> None:
    """Draw horizontal bars, the first on top, of medians with their minimum and maximum, each with its label."""
    medians = [bar.median for bar in spreads]
    errors = [
        [bar.median - bar.least for bar in spreads],
        [bar.most - bar.median for bar in spreads],
    ]
    rows = range(len(names))
    axes.barh(rows, medians, color=[OURS if mine else PEER for mine in ours], height=0.66)
    axes.errorbar(medians, rows, xerr=errors, fmt="none", ecolor=INK, elinewidth=1, capsize=3)
    gap = max(bar.most for bar in spreads) * 0.015
    for row, bar in zip(rows, spreads, strict=True):
        axes.text(bar.most + gap, row, label(bar.median), va="center")
    axes.set_yticks(list(rows), list(names))
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, max(bar.most for bar in spreads) * 1.15)


def seconds_chart(figure: Any, by_name: Mapping[str, Sequence[Run]], ours: Sequence[str], title: str) -> None:
    """Draw a bar of seconds for each contestant; those in ``ours`` get bulkseed's colour."""
    figure.set_size_inches(8, 1.1 + 0.45 * len(by_name))
    axes = figure.add_subplot()
    panel(axes, title, "seconds (less is better)")
    bars(
        axes,
        list(by_name),
        [spread(runs) for runs in by_name.values()],
        [name in ours for name in by_name],
        lambda seconds: f"{seconds:.1f} s" if seconds >= 10 else f"{seconds:.2f} s",
    )
