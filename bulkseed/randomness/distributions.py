"""Distributions over ranks and hours: Zipf weights, and the hours of a week."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from bulkseed.randomness.draws import Ints, Words

__all__ = ["HOUR", "MONDAY", "WEEK", "Week", "apportioned", "fitted_exponent", "rank_weights", "whole_weights"]

Floats = npt.NDArray[np.float64]

TERMS: Final = 20
"""Of either series: what is left out is below 2**-53."""
WHOLE: Final = 2.0**42
"""What whole weights add up to, about: half a million channels of all users fit into 63 bits."""
STEEPEST: Final = 8.0
HALVINGS: Final = 50


def rank_weights(count: int, exponent: float) -> Floats:
    """``r ** -exponent`` for the ranks r from 1 to ``count``: shape ``(count,)``.

    By additions, multiplications and divisions alone, which give the same bits on every machine; NumPy's power
    does not promise that, and ids follow from these.
    """
    mantissa, whole = np.frexp(np.arange(1, count + 1, dtype=np.float64))
    ratio = (mantissa - 1) / (mantissa + 1)
    square, logarithm = ratio * ratio, np.zeros(count)
    for term in range(2 * TERMS - 1, 0, -2):
        logarithm = logarithm * square + 1 / term
    power = -exponent * (whole + 2 * ratio * logarithm / math.log(2))
    floor = np.floor(power)
    rest, result = (power - floor) * math.log(2), np.ones(count)
    for term in range(TERMS, 0, -1):
        result = 1 + result * rest / term
    weights: Floats = np.ldexp(result, floor.astype(np.int64))
    return weights


def whole_weights(count: int, exponent: float) -> Ints:
    """The weights of the ranks as whole numbers from 1, whose sum is about 2**42: sums of them are exact."""
    weights = rank_weights(count, exponent)
    whole: Ints = np.maximum(np.floor(weights / np.cumsum(weights)[-1] * WHOLE), 1).astype(np.int64)
    return whole


def apportioned(total: int, weights: Floats) -> Ints:
    """``total`` shared out in proportion to ``weights``, in descending order: each within 1 of its share.

    By the largest remainder: shape ``(len(weights),)``, the sum is ``total`` (below 2**52).
    """
    shares = weights / np.cumsum(weights)[-1] * total
    counts: Ints = np.floor(shares).astype(np.int64)
    left = total - int(counts.sum())
    counts[np.argsort(counts - shares, kind="stable")[:left]] += 1
    descending: Ints = np.sort(counts)[::-1]
    return descending


def fitted_exponent(counts: Ints) -> float:
    """The exponent of Zipf's law over ranks 1 to ``len(counts)`` under which ``counts`` are the likeliest.

    The law is a family of one parameter whose sufficient statistic is the mean logarithm of the rank, so the
    likeliest exponent is the one that expects the mean that was found (0 to 8). The order of ``counts`` is nothing;
    0 where there are fewer than two of them, or nothing is counted.
    """
    total = int(counts.sum())
    if len(counts) < 2 or total == 0:
        return 0.0
    logarithms = np.log(np.arange(1, len(counts) + 1))
    found = float(np.sort(counts)[::-1] @ logarithms) / total
    low, high = 0.0, STEEPEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        weights = rank_weights(len(counts), middle)
        low, high = (middle, high) if float(weights @ logarithms) / float(weights.sum()) > found else (low, middle)
    return low


HOUR: Final = 3_600_000_000
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY
MONDAY: Final = 4 * DAY
"""1970 began on a Thursday: microseconds from then to a Monday, 00:00 UTC."""

OFFICE: Final = (9, 17)
WORKDAYS: Final = 5


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
