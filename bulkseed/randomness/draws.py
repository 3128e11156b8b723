"""Random bits by row number, and transforms from bits to values.

The transforms are implemented here, so that no release of a library changes their results. They take random words
(uint64) of shape ``(n,)`` and return arrays of that shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate
from math import lcm
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = [
    "GENERATOR_VERSION",
    "KEY_WORDS",
    "Bools",
    "Ints",
    "Streams",
    "Words",
    "below",
    "between",
    "binomial",
    "chance",
    "permute",
    "strata",
    "thresholds_of",
    "weighted",
]

GENERATOR_VERSION: Final = 2
"""To be raised with every change that generates other rows for the same plan and placement."""

WORDS_PER_COUNT: Final = 4
"""Philox4x64 produces four words for each value of its counter."""

NEAR: Final = 512
"""Rows: up to this distance, drawing the words between two rows costs less than setting the counter again."""

Words = npt.NDArray[np.uint64]
"""Random bits, 64 in each element."""


@dataclass(frozen=True, slots=True)
class Streams:
    """The random streams of one run.

    ``first_user`` is the run's first user id. No two runs into one target have it in common, so a second run with the
    same seed has other names, texts and UUIDs than the first. ``generator`` is the version that generated the run.
    """

    seed: int
    first_user: int
    generator: int = GENERATOR_VERSION

    def words(self, table: str, column: str, start: int, count: int) -> Words:
        """Return words ``start`` to ``start + count`` of the column's stream: uint64, shape ``(count,)``."""
        counter, skipped = divmod(start, WORDS_PER_COUNT)
        philox = np.random.Philox(key=self.key(table, column), counter=counter)
        return philox.random_raw(skipped + count)[skipped:]

    def words_at(self, table: str, column: str, rows: npt.NDArray[np.int64]) -> Words:
        """Return the words of the column's stream at ``rows``, in ascending order: uint64, shape of ``rows``."""
        philox = np.random.Philox(key=self.key(table, column))
        state = philox.state
        parts = []
        for near in np.split(rows, np.flatnonzero(np.diff(rows) > NEAR) + 1):
            counter, skipped = divmod(int(near[0]), WORDS_PER_COUNT)
            # the same as a new generator with this counter, in a sixth of the time
            state["state"]["counter"][0] = counter
            state["buffer_pos"] = WORDS_PER_COUNT
            philox.state = state
            wanted = near - near[0] + skipped
            parts.append(philox.random_raw(int(wanted[-1]) + 1)[wanted])
        return np.concatenate(parts)

    def key(self, table: str, column: str) -> int:
        """Return the 128-bit key of the column's stream."""
        digest = blake2b(digest_size=16)
        for part in ("bulkseed", str(self.generator), str(self.seed), str(self.first_user), table, column):
            # each part has its length before it, so that no two lists of parts give the same bytes
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
        return int.from_bytes(digest.digest(), "little")


Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

HALF: Final = np.uint64(32)
LOW_HALF: Final = np.uint64(2**32 - 1)
UNIT: Final = 2.0**-53


def chance(words: Words, probability: float) -> Bools:
    """Return True with ``probability`` (to 2**-53)."""
    return (words >> np.uint64(11)) < np.uint64(round(probability * 2**53))


def below(words: Words, bound: int | Ints) -> Ints:
    """Return uniform integers in [0, bound); ``bound`` is at most 2**32, one for all or one for each word.

    Computes the high half of the product of word and bound from two 32-bit halves of the word: the probability of a
    value is exact to ``bound`` / 2**64.
    """
    bounds = np.asarray(bound, dtype=np.uint64)
    return (((words >> HALF) * bounds + (((words & LOW_HALF) * bounds) >> HALF)) >> HALF).view(np.int64)


def between(words: Words, low: Ints, high: Ints | int) -> Ints:
    """Return uniform integers in [low, high], both included; ``high - low`` is below 2**52.

    Computes one product of doubles, which every machine rounds alike; it is always below ``high - low + 1``.
    """
    span = (high - low + 1).astype(np.float64)
    return low + ((words >> np.uint64(11)).astype(np.float64) * UNIT * span).astype(np.int64)


def strata(words: Words, first: int, count: int, low: int, high: int) -> Ints:
    """Return uniform integers, one in each of ``count`` equal parts of [low, high], for parts ``first`` and following.

    They ascend. ``high - low`` and ``count`` are below 2**52.
    """
    places = np.arange(first, first + len(words)) + (words >> np.uint64(11)).astype(np.float64) * UNIT
    ascending: Ints = low + np.minimum(places * ((high - low + 1) / count), high - low).astype(np.int64)
    return ascending


def weighted(words: Words, thresholds: Words) -> Ints:
    """Return indexes into a list of weighted elements, by the thresholds that :func:`thresholds_of` returns."""
    return np.searchsorted(thresholds, words, side="right").astype(np.int64)


def thresholds_of(weights: list[Fraction]) -> Words:
    """Return the end of each element's interval on the scale of a word, except the last one, for :func:`weighted`."""
    # with integers: fractions would be reduced at every step, which takes ten times as long
    denominator = lcm(*(weight.denominator for weight in weights))
    sums = list(accumulate(weight.numerator * (denominator // weight.denominator) for weight in weights))
    return reachable([(end << 64) // sums[-1] for end in sums[:-1]])


def reachable(ends: list[int]) -> Words:
    # an end of 2**64 is above every word: elements after it are never drawn
    return np.array([end for end in ends if end < 2**64], dtype=np.uint64)


def binomial(words: Words, trials: int, probability: float) -> Ints:
    """Return binomially distributed counts, by inversion of the exact distribution function."""
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
    cumulative = 0
    ends = []
    for successes in range(trials):
        cumulative += term
        ends.append(cumulative >> shift if shift >= 0 else cumulative << -shift)
        if ends[-1] == 2**64 - 1:
            # all ends after this one are equal to it, and computing them with large integers would take long
            return reachable(ends + ends[-1:] * (trials - len(ends)))
        term = term * ((trials - successes) * hit) // ((successes + 1) * miss)
    return reachable(ends)


ROUNDS: Final = 8
"""With four rounds, orders of 3 to 12 elements were measurably uneven (chi-square); with eight, none was."""

KEY_WORDS: Final = 2 * ROUNDS + 1
"""The number of words in the key of a permutation."""


def permute(indexes: Ints, size: int, keys: Words, rows: Ints) -> Ints:
    """Return the values at ``indexes`` of permutations of [0, size); the key of each is a row of ``keys``.

    ``indexes``, all in [0, size), and ``rows``, indexes into ``keys``, have shape ``(n,)``; ``keys`` has shape
    ``(m, KEY_WORDS)``; ``size`` is at most 2**62. Rounds of multiply, add and xor-shift are one-to-one on a power of
    two; values of ``size`` or above go through the rounds again until they are below (cycle walking).
    """
    if size <= 1:
        return np.zeros_like(indexes)
    bits = (size - 1).bit_length()
    mask = np.uint64((1 << bits) - 1)
    shift = np.uint64((bits + 1) // 2)
    steps = np.array(keys.T, order="C")
    steps[0:-1:2] |= np.uint64(1)  # an odd factor has an inverse

    def run_rounds(values: Words, rows: Ints) -> Words:
        for step in range(0, 2 * ROUNDS, 2):
            values = (values * steps[step][rows] + steps[step + 1][rows]) & mask
            values ^= values >> shift
        last: Words = (values + steps[-1][rows]) & mask
        return last

    values = run_rounds(indexes.view(np.uint64), rows)
    outside = np.flatnonzero(values >= size)
    while outside.size:
        values[outside] = run_rounds(values[outside], rows[outside])
        outside = outside[values[outside] >= size]
    return values.view(np.int64)
