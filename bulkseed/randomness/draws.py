"""Transforms from raw random words to values: our own, so that they stay what they are.

All of them take uint64 words of shape ``(n,)`` and return arrays of that shape.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from math import lcm
from typing import Final

import numpy as np
import numpy.typing as npt

from bulkseed.randomness.streams import Words

__all__ = ["KEY_WORDS", "Bools", "Ints", "below", "between", "binomial", "chance", "permute", "weighted"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

HALF: Final = np.uint64(32)
LOW_HALF: Final = np.uint64(2**32 - 1)
UNIT: Final = 2.0**-53


def chance(words: Words, probability: float) -> Bools:
    """True with ``probability`` (to 2**-53)."""
    return (words >> np.uint64(11)) < np.uint64(round(probability * 2**53))


def below(words: Words, bound: int | Ints) -> Ints:
    """Uniform integers in [0, bound); ``bound`` is at most 2**32, one for all or one for each word.

    The high half of the product of word and bound, put together from two: no value is favoured by more than
    ``bound`` / 2**64.
    """
    bounds = np.asarray(bound, dtype=np.uint64)
    return (((words >> HALF) * bounds + (((words & LOW_HALF) * bounds) >> HALF)) >> HALF).view(np.int64)


def between(words: Words, low: Ints, high: Ints | int) -> Ints:
    """Uniform integers in [low, high], both included; ``high - low`` is below 2**52.

    One product of doubles, correctly rounded everywhere; it never reaches ``high - low + 1``.
    """
    span = (high - low + 1).astype(np.float64)
    return low + ((words >> np.uint64(11)).astype(np.float64) * UNIT * span).astype(np.int64)


def weighted(words: Words, thresholds: Words) -> Ints:
    """Indexes into a list of weighted elements, by the thresholds that :func:`thresholds_of` made."""
    return np.searchsorted(thresholds, words, side="right").astype(np.int64)


def thresholds_of(weights: list[Fraction]) -> Words:
    """Where each element but the last ends on the scale of a word, for :func:`weighted`."""
    # by whole numbers: fractions would be reduced at every step, which takes ten times as long
    whole = lcm(*(weight.denominator for weight in weights))
    reached = list(accumulate(weight.numerator * (whole // weight.denominator) for weight in weights))
    return below_all([(end << 64) // reached[-1] for end in reached[:-1]])


def below_all(ends: list[int]) -> Words:
    # an end of 2**64 is above every word: what comes after it is never drawn
    return np.array([end for end in ends if end < 2**64], dtype=np.uint64)


def binomial(words: Words, trials: int, probability: float) -> Ints:
    """Binomially distributed counts, by inversion of the exact distribution function."""
    return weighted(words, binomial_thresholds(trials, probability))


@lru_cache(maxsize=8)
def binomial_thresholds(trials: int, probability: float) -> Words:
    # exact integers: the terms of (hit + miss) ** trials with hit + miss = 2**32
    hit = round(probability * 2**32)
    miss = 2**32 - hit
    if miss == 0:
        return np.zeros(trials, dtype=np.uint64)
    shift = 32 * trials - 64
    term = miss**trials
    reached = 0
    ends = []
    for successes in range(trials):
        reached += term
        ends.append(reached >> shift if shift >= 0 else reached << -shift)
        if ends[-1] == 2**64 - 1:
            # so are all that follow, of which the large numbers would take longer than those before
            return below_all(ends + ends[-1:] * (trials - len(ends)))
        term = term * ((trials - successes) * hit) // ((successes + 1) * miss)
    return below_all(ends)


ROUNDS: Final = 8
"""With four, orders of 3 to 12 elements were visibly uneven (chi-square); with eight, none was."""

KEY_WORDS: Final = 2 * ROUNDS + 1
"""Words of key that a permutation takes."""


def permute(places: Ints, size: int, keys: Words, rows: Ints) -> Ints:
    """The values at ``places`` of permutations of [0, size), each by the row of ``keys`` that ``rows`` names.

    ``places`` and ``rows`` have shape ``(n,)``, ``keys`` has shape ``(m, KEY_WORDS)``; each place is in
    [0, size), size at most 2**62. Rounds of multiply, add and xor-shift are one-to-one on a power of two;
    what lands at size or above is sent round again until it lands below (cycle walking).
    """
    if size <= 1:
        return np.zeros_like(places)
    bits = (size - 1).bit_length()
    mask = np.uint64((1 << bits) - 1)
    shift = np.uint64((bits + 1) // 2)
    steps = np.array(keys.T, order="C")
    steps[0:-1:2] |= np.uint64(1)  # an odd factor has an inverse

    def once(values: Words, rows: Ints) -> Words:
        for step in range(0, 2 * ROUNDS, 2):
            values = (values * steps[step][rows] + steps[step + 1][rows]) & mask
            values ^= values >> shift
        last: Words = (values + steps[-1][rows]) & mask
        return last

    values = once(places.view(np.uint64), rows)
    outside = np.flatnonzero(values >= size)
    while outside.size:
        values[outside] = once(values[outside], rows[outside])
        outside = outside[values[outside] >= size]
    return values.view(np.int64)
