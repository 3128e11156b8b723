"""The hours of the week: moments that fall more often into office hours than into nights and weekends.

A week is cut where its pace changes. The weight of a time since some Monday is how many microseconds an even week
would have had by then; a moment drawn even in weight and turned back into time keeps the shares of the week.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from bulkseed.randomness.draws import Ints
from bulkseed.randomness.streams import Words

__all__ = ["HOUR", "MONDAY", "WEEK", "Week"]

HOUR: Final = 3_600_000_000
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY
MONDAY: Final = 4 * DAY
"""1970 began on a Thursday: microseconds from then to a Monday, 00:00 UTC."""

OFFICE: Final = (9, 17)
WORKDAYS: Final = 5

Floats = npt.NDArray[np.float64]


class Week:
    """A week of which ``office_hours`` and ``weekends`` are the shares of what happens (shape.py)."""

    def __init__(self, office_hours: float, weekends: float) -> None:
        opens, closes = OFFICE
        office = WORKDAYS * (closes - opens)
        nights = WORKDAYS * 24 - office
        # the pace of each part, 1 where all hours are alike; never 0, so that every moment can be turned back
        paces = {
            "office": office_hours * 168 / office,
            "night": (1 - office_hours - weekends) * 168 / nights,
            "weekend": weekends * 168 / (168 - WORKDAYS * 24),
        }
        cuts: list[tuple[int, str]] = []
        for day in range(WORKDAYS):
            cuts += [(day * 24, "night"), (day * 24 + opens, "office"), (day * 24 + closes, "night")]
        cuts.append((WORKDAYS * 24, "weekend"))
        self.starts: Ints = np.array([hour * HOUR for hour, _ in cuts])
        self.paces: Floats = np.maximum(np.array([paces[part] for _, part in cuts]), 1e-9)
        lengths = np.diff(np.append(self.starts, WEEK))
        self.paces *= WEEK / np.cumsum(self.paces * lengths)[-1]
        self.weights: Floats = np.cumsum(self.paces * lengths) - self.paces * lengths

    def weight(self, moments: Ints) -> Floats:
        """The weight of the time from a Monday to ``moments`` (microseconds since 1970 UTC)."""
        weeks, within = np.divmod(moments - MONDAY, WEEK)
        part = np.searchsorted(self.starts, within, side="right") - 1
        found: Floats = weeks * float(WEEK) + (self.weights[part] + (within - self.starts[part]) * self.paces[part])
        return found

    def between(self, words: Words, low: Ints, ends: Ints, which: Ints) -> Ints:
        """Moments from ``low`` to ``ends[which]``, both included, as often as their part of the week has them.

        Where that is a week or more, they are in the whole weeks up to its end: the shares of the week are exact.
        """
        high, last = ends[which], self.weight(ends)[which]
        whole = (high - low) // WEEK
        span = whole * float(WEEK)
        short = np.flatnonzero(whole == 0)
        span[short] = last[short] - self.weight(low[short])
        reached = last - (words >> np.uint64(11)).astype(np.float64) * (2.0**-53 * span)
        weeks = np.floor(reached / WEEK)
        within = reached - weeks * WEEK
        part = np.searchsorted(self.weights, within, side="right") - 1
        passed = (within - self.weights[part]) / self.paces[part]
        moments = MONDAY + weeks.astype(np.int64) * WEEK + self.starts[part] + passed.astype(np.int64)
        # what rounding moves by a microsecond stays within the bounds
        kept: Ints = np.clip(moments, low, high)
        return kept
