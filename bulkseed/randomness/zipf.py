"""Zipf's law: weights by rank, whole numbers shared out by them, and the exponent that counts have."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from bulkseed.randomness.draws import Ints

__all__ = ["apportioned", "fitted_exponent", "rank_weights", "whole_weights"]

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
