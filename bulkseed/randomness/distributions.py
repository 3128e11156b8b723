"""Distributions over ranks and hours: Zipf weights, and the hours of a week."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from bulkseed.randomness.draws import Ints

__all__ = ["HOUR", "MONDAY", "WEEK", "Week", "apportion", "fit_exponent", "rank_weights", "whole_weights"]

Floats = npt.NDArray[np.float64]

TERMS: Final = 20
"""Terms of each series: the remainder is below 2**-53."""
WHOLE: Final = 2.0**42
"""The approximate sum of whole weights: with it, half a million channels of all users fit into 63 bits."""
STEEPEST: Final = 8.0
HALVINGS: Final = 50


def rank_weights(count: int, exponent: float) -> Floats:
    """Return ``r ** -exponent`` for the ranks r from 1 to ``count``: shape ``(count,)``.

    Uses additions, multiplications and divisions only, which give the same bits on every machine. NumPy's power does
    not promise that, and ids depend on these weights.
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
    """Return the weights of ranks as integers from 1, so that sums are exact: shape ``(count,)``, sum near 2**42."""
    weights = rank_weights(count, exponent)
    whole: Ints = np.maximum(np.floor(weights / np.cumsum(weights)[-1] * WHOLE), 1).astype(np.int64)
    return whole


def apportion(total: int, weights: Floats) -> Ints:
    """Divide ``total`` in proportion to ``weights``: integers in descending order, each within 1 of its exact share.

    Uses the largest remainders. The result has shape ``(len(weights),)`` and the sum ``total`` (below 2**52).
    """
    shares = weights / np.cumsum(weights)[-1] * total
    counts: Ints = np.floor(shares).astype(np.int64)
    remaining = total - int(counts.sum())
    counts[np.argsort(counts - shares, kind="stable")[:remaining]] += 1
    descending: Ints = np.sort(counts)[::-1]
    return descending


def fit_exponent(counts: Ints) -> float:
    """Return the maximum-likelihood exponent (0 to 8) of Zipf's law over ranks 1 to ``len(counts)`` for ``counts``.

    The law is a one-parameter family whose sufficient statistic is the mean logarithm of the rank, so the most likely
    exponent is the one whose expected mean equals the observed mean. The order of ``counts`` does not matter. The
    result is 0 for fewer than two counts, and where all counts are 0.
    """
    total = int(counts.sum())
    if len(counts) < 2 or total == 0:
        return 0.0
    logarithms = np.log(np.arange(1, len(counts) + 1))
    observed = float(np.sort(counts)[::-1] @ logarithms) / total
    low, high = 0.0, STEEPEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        weights = rank_weights(len(counts), middle)
        low, high = (middle, high) if float(weights @ logarithms) / float(weights.sum()) > observed else (low, middle)
    return low


HOUR: Final = 3_600_000_000
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY
MONDAY: Final = 4 * DAY
"""Microseconds from 1970-01-01, a Thursday, to a Monday, 00:00 UTC."""

OFFICE: Final = (9, 17)
WORKDAYS: Final = 5


class Week:
    """A week in which ``office_hours`` and ``weekends`` are the shares of events in those hours (see ``Shape``).

    The weight of a span of time is in proportion to the events in it; a complete week has its own length as weight.
    """

    def __init__(self, office_hours: float, weekends: float) -> None:
        opens, closes = OFFICE
        office = WORKDAYS * (closes - opens)
        nights = WORKDAYS * 24 - office
        # the weight of a microsecond in each part: 1 where all hours are equal, and never 0, as weights are inverted
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
        self.lengths: Ints = np.diff(np.append(self.starts, WEEK))
        self.paces *= WEEK / np.cumsum(self.paces * self.lengths)[-1]
        self.weights: Floats = np.cumsum(self.paces * self.lengths) - self.paces * self.lengths

    def weight(self, moments: Ints) -> Floats:
        """Return the weight of the time from ``MONDAY`` to ``moments`` (microseconds since 1970): their shape."""
        weeks, within = np.divmod(moments - MONDAY, WEEK)
        part = np.searchsorted(self.starts, within, side="right") - 1
        weights: Floats = weeks * float(WEEK) + (self.weights[part] + (within - self.starts[part]) * self.paces[part])
        return weights

    def moments(self, positions: Ints) -> Ints:
        """Return the moments (microseconds since 1970) at whole weights from ``MONDAY`` on: they ascend with these."""
        weeks, within = np.divmod(positions, WEEK)
        part = np.searchsorted(self.weights, within, side="right") - 1
        elapsed = ((within - self.weights[part]) / self.paces[part]).astype(np.int64)
        last = self.lengths[part] - 1
        moments: Ints = MONDAY + weeks * WEEK + self.starts[part] + np.clip(elapsed, 0, last)
        return moments

    def positions(self, moments: Ints) -> Ints:
        """Return the least whole weights whose moments are not before ``moments``: the shape of these."""
        found = np.ceil(self.weight(moments)).astype(np.int64)
        # rounding may miss by one, and several weights may have one moment
        while (late := self.moments(found) < moments).any():
            found += late
        while (early := self.moments(found - 1) >= moments).any():
            found -= early
        return found
