"""Whether what was drawn lies within what chance allows: one bound that holds for every number of trials."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["FALSE_ALARM", "within_chance"]

FALSE_ALARM: Final = 1e-6
"""How often, at most, one check calls data wrong that was drawn as it should be."""


def within_chance(found: float, trials: int, expected: float, *, low: float = 0.0, high: float = 1.0) -> bool:
    """Whether ``found``, the mean of ``trials`` independent values in [low, high], may have the mean ``expected``.

    A share is the mean of values that are 0 or 1. For values in [0, 1] and any number n of them, the mean
    reaches x on the far side of its expectation p with a probability of at most exp(-n D(x, p)), where D is the
    relative entropy x ln(x/p) + (1-x) ln((1-x)/(1-p)): W. Hoeffding, "Probability inequalities for sums of
    bounded random variables", 1963, theorem 1 (Chernoff's bound where the values are 0 or 1). Each of the two
    sides gets half of :data:`FALSE_ALARM`. Without a trial everything is allowed.
    """
    if trials == 0:
        return True
    if not low <= found <= high:
        return False
    if high == low:
        return True
    width = high - low
    return trials * divergence((found - low) / width, (expected - low) / width) <= math.log(2 / FALSE_ALARM)


def divergence(found: float, expected: float) -> float:
    return term(found, expected) + term(1 - found, 1 - expected)


def term(found: float, expected: float) -> float:
    if found == 0:
        return 0.0
    return found * math.log(found / expected) if expected > 0 else math.inf
