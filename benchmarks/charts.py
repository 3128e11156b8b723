"""Charts: what matplotlib needs to know, so that all of them look alike and the same figures make the same file."""

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
"""Of lines: readable beside each other, also by the colour-blind."""
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
    "svg.hashsalt": "bulkseed",  # else ids are drawn anew each time
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def save(draw: Callable[[Any], None], file: Path) -> None:
    """Draw into a figure and keep it as SVG. Raises InputError where matplotlib is missing."""
    with library("matplotlib").rc_context(STYLE):
        figure = library("matplotlib.figure").Figure(figsize=(8, 3), layout="constrained")
        draw(figure)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})


def panel(axes: Any, title: str, xlabel: str = "", ylabel: str = "") -> None:
    """Name what an empty panel shows."""
    axes.set_title(title, pad=10)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)


def decades(axis: Any, set_scale: Callable[[str], None]) -> None:
    """Make an axis one where each step is ten times the last, marked 1 k, 10 k, 1 M."""
    ticker = library("matplotlib.ticker")
    set_scale("log")
    axis.set_major_formatter(ticker.EngFormatter(sep=" "))
    axis.set_minor_formatter(ticker.NullFormatter())


def bars(
    axes: Any, names: Sequence[str], spreads: Sequence[Any], ours: Sequence[bool], label: Callable[[float], str]
) -> None:
    """Horizontal bars, the first on top: a median, its least and most, and the figure beside it."""
    medians = [each.median for each in spreads]
    reach = [
        [each.median - each.least for each in spreads],
        [each.most - each.median for each in spreads],
    ]
    places = range(len(names))
    axes.barh(places, medians, color=[OURS if mine else PEER for mine in ours], height=0.66)
    axes.errorbar(medians, places, xerr=reach, fmt="none", ecolor=INK, elinewidth=1, capsize=3)
    room = max(each.most for each in spreads) * 0.015
    for place, each in zip(places, spreads, strict=True):
        axes.text(each.most + room, place, label(each.median), va="center")
    axes.set_yticks(list(places), list(names))
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, max(each.most for each in spreads) * 1.15)


def seconds_chart(figure: Any, by_name: Mapping[str, Sequence[Run]], ours: Sequence[str], title: str) -> None:
    """One bar of seconds for each contestant; ``ours`` are drawn in bulkseed's colour."""
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
