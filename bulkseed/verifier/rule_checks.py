"""Checks: violations of a rule, and whether chance allows a share or a mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

__all__ = ["FALSE_ALARM", "ChanceCheck", "RuleCheck", "Tally", "VerifyReport", "within_chance"]

FALSE_ALARM: Final = 1e-6
"""The highest probability with which one check rejects correct data."""


def within_chance(found: float, trials: int, expected: float, *, low: float = 0.0, high: float = 1.0) -> bool:
    """Return whether chance allows ``found`` as the mean of ``trials`` independent values in [low, high].

    ``expected`` is the mean of their distribution. A share is the mean of values that are 0 or 1. For values in [0, 1]
    and any number n of them, the mean reaches x on the far side of its expectation p with a probability of at most
    exp(-n D(x, p)), where D is the relative entropy x ln(x/p) + (1-x) ln((1-x)/(1-p)): W. Hoeffding, "Probability
    inequalities for sums of bounded random variables", 1963, theorem 1 (Chernoff's bound where the values are 0 or 1).
    Each of the two sides gets half of :data:`FALSE_ALARM`. Without a trial, any mean is allowed.
    """
    if trials == 0:
        return True
    if not low <= found <= high:
        return False
    if high == low:
        return True
    width = high - low
    return trials * relative_entropy((found - low) / width, (expected - low) / width) <= math.log(2 / FALSE_ALARM)


def relative_entropy(found: float, expected: float) -> float:
    return entropy_term(found, expected) + entropy_term(1 - found, 1 - expected)


def entropy_term(found: float, expected: float) -> float:
    if found == 0:
        return 0.0
    return found * math.log(found / expected) if expected > 0 else math.inf


@dataclass(frozen=True, slots=True)
class RuleCheck:
    """One condition of a rule: the number of violations, and one of them in words (None without any)."""

    rule: str
    text: str
    violations: int
    example: str | None


@dataclass(frozen=True, slots=True)
class ChanceCheck:
    """A share or a mean of ``trials`` independent draws, and whether chance allows the value ``found``."""

    rule: str
    text: str
    expected: float
    found: float
    trials: int
    within: bool

    @classmethod
    def from_total(
        cls, rule: str, text: str, *, expected: float, total: float, trials: int, low: float = 0.0, high: float = 1.0
    ) -> ChanceCheck:
        """Return the check of ``trials`` draws from [low, high] whose sum is ``total``."""
        found = total / trials if trials else 0.0
        return cls(rule, text, expected, found, trials, within_chance(found, trials, expected, low=low, high=high))


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result for a run: the checks of rules in the order of rules.md, then those of probabilities."""

    run: int
    rules: tuple[RuleCheck, ...]
    chances: tuple[ChanceCheck, ...]

    @property
    def holds(self) -> bool:
        """Return whether no rule is broken, and chance allows every share and mean."""
        return not any(rule.violations for rule in self.rules) and all(chance.within for chance in self.chances)

    def to_json(self) -> dict[str, Any]:
        """Return the report as values of JSON, with ``holds``."""
        return {
            "run": self.run,
            "holds": self.holds,
            "rules": [asdict(rule) for rule in self.rules],
            "chances": [asdict(chance) for chance in self.chances],
        }


@dataclass(slots=True)
class Tally:
    """A counter of rows that break a rule; ``describe`` names a row by its id."""

    rule: str
    text: str
    describe: Callable[[int], str]
    violations: int = 0
    lowest: int | None = None

    def add(self, row: int) -> None:
        """Count the row with this id as a violation."""
        self.violations += 1
        self.lowest = row if self.lowest is None else min(self.lowest, row)

    def check(self) -> RuleCheck:
        """Return the check, with the lowest id as the example."""
        example = None if self.lowest is None else self.describe(self.lowest)
        return RuleCheck(self.rule, self.text, self.violations, example)
