"""Random bits by row number, and transforms from bits to values: our own, so that they stay what they are.

Transforms take uint64 words of shape ``(n,)`` and return arrays of that shape.
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
    "weighted",
]

GENERATOR_VERSION: Final = 1
"""Goes up whenever a change makes other rows of the same plan and placement."""

WORDS_PER_COUNT: Final = 4
"""Philox4x64 makes four words from one value of its counter."""

NEAR: Final = 512
"""Drawing so many words that nobody asked for costs less than setting the counter again."""

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Streams:
    """The random streams of one run.

    ``first_user`` is the run's first user id: no two runs into one target share it, so a second run
    with the same seed has other names, texts and UUIDs than the first.
    """

    seed: int
    first_user: int

    def words(self, table: str, column: str, start: int, count: int) -> Words:
        """Words ``start`` to ``start + count`` of the column's stream: uint64, shape ``(count,)``."""
        counter, skipped = divmod(start, WORDS_PER_COUNT)
        philox = np.random.Philox(key=self.key(table, column), counter=counter)
        return philox.random_raw(skipped + count)[skipped:]

    def words_at(self, table: str, column: str, rows: npt.NDArray[np.int64]) -> Words:
        """The words at ``rows``, which ascend, of the column's stream: uint64, of the shape of ``rows``."""
        philox = np.random.Philox(key=self.key(table, column))
        state = philox.state
        found = []
        for near in np.split(rows, np.flatnonzero(np.diff(rows) > NEAR) + 1):
            counter, skipped = divmod(int(near[0]), WORDS_PER_COUNT)
            # as for a new generator with this counter, at a sixth of its price
            state["state"]["counter"][0] = counter
            state["buffer_pos"] = WORDS_PER_COUNT
            philox.state = state
            wanted = near - near[0] + skipped
            found.append(philox.random_raw(int(wanted[-1]) + 1)[wanted])
        return np.concatenate(found)

    def key(self, table: str, column: str) -> int:
        """The 128-bit key of the column's stream."""
        digest = blake2b(digest_size=16)
        for part in ("bulkseed", str(GENERATOR_VERSION), str(self.seed), str(self.first_user), table, column):
            # length-prefixed, so that no two lists of parts make the same bytes
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
        return int.from_bytes(digest.digest(), "little")


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
