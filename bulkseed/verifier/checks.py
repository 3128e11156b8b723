"""Checks: what a rule counts, and how likely a count is by chance."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

__all__ = ["FALSE_ALARM", "ChanceCheck", "RuleCheck", "Tally", "VerifyReport", "within_chance"]

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


@dataclass(frozen=True, slots=True)
class RuleCheck:
    """One thing that a rule of rules.md says: in how many places it is not so, and one of them in words."""

    rule: str
    text: str
    violations: int
    example: str | None


@dataclass(frozen=True, slots=True)
class ChanceCheck:
    """A share or a mean of ``trials`` independent draws: whether ``found`` lies within what chance allows."""

    rule: str
    text: str
    expected: float
    found: float
    trials: int
    within: bool

    @classmethod
    def of(
        cls, rule: str, text: str, *, expected: float, total: float, trials: int, low: float = 0.0, high: float = 1.0
    ) -> ChanceCheck:
        """The check of draws from [low, high] that add up to ``total``."""
        found = total / trials if trials else 0.0
        return cls(rule, text, expected, found, trials, within_chance(found, trials, expected, low=low, high=high))


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was found of a run: every rule in the order of rules.md, then every probability."""

    run: int
    rules: tuple[RuleCheck, ...]
    chances: tuple[ChanceCheck, ...]

    @property
    def holds(self) -> bool:
        """Whether no rule is broken, and all that was drawn lies within what chance allows."""
        return not any(rule.violations for rule in self.rules) and all(chance.within for chance in self.chances)

    def to_json(self) -> dict[str, Any]:
        """The report as values that JSON has, ``holds`` among them."""
        return {
            "run": self.run,
            "holds": self.holds,
            "rules": [asdict(rule) for rule in self.rules],
            "chances": [asdict(chance) for chance in self.chances],
        }


@dataclass(slots=True)
class Tally:
    """Counts the rows that break a rule, as they are read; ``key`` says what identifies one, such as ``users.id``."""

    rule: str
    text: str
    key: str
    violations: int = 0
    lowest: int | None = None

    def add(self, row: int) -> None:
        """The row with this id breaks the rule."""
        self.violations += 1
        self.lowest = row if self.lowest is None else min(self.lowest, row)

    def check(self) -> RuleCheck:
        """What was counted."""
        return RuleCheck(
            self.rule, self.text, self.violations, None if self.lowest is None else f"{self.key} {self.lowest}"
        )
