"""Random words at single places, for rows that are asked for in any order: functions of a key and one or two numbers.

The streams of ``draws`` are for consecutive rows: there, setting the counter for each row would cost most of the time.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from bulkseed.randomness.draws import Ints, Words

__all__ = ["keyed_words"]

FIRST: Final = np.uint64(0x9E3779B97F4A7C15)
SECOND: Final = np.uint64(0xD1B54A32D192ED03)
"""Odd numbers: the bits of the golden ratio, and those of the second number of the R2 sequence (Roberts 2018)."""


def keyed_words(key: int, first: Ints, second: Ints | int = 0) -> Words:
    """Return the word of each pair of ``first`` and ``second`` (int64): uint64, the shape of both together.

    Uses the output function of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
    generators") on a sum in which the two numbers have odd factors. ``key`` is that of a stream, of any size.
    """
    offset = int(second) * int(SECOND) if isinstance(second, int) else 0
    words = first.view(np.uint64) * FIRST
    words += np.uint64((key + offset) % 2**64)
    if not isinstance(second, int):
        words = words + second.view(np.uint64) * SECOND
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words
