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
    """One condition of a rule, and whether rows violate it."""

    rule: str
    """The name of the rule, such as ``U2``; ``N`` for the numbers of rows, ``own`` for a rule of the scenario."""
    text: str
    """The condition in words."""
    violations: int
    """The number of rows, or groups of rows, that violate it."""
    example: str | None
    """One of the violations in words; None if there is none."""


@dataclass(frozen=True, slots=True)
class ChanceCheck:
    """A share or a mean of independent random draws, and whether it differs by more than chance allows."""

    rule: str
    """The name of the rule, such as ``G3``."""
    text: str
    """What is measured, in words."""
    expected: float
    """The mean of the distribution that the plan asks for."""
    found: float
    """The mean of the draws in the tables; 0 without a draw."""
    trials: int
    """The number of draws."""
    within: bool
    """Whether chance allows ``found``: correct data are rejected with a probability of at most one in a million."""

    @classmethod
    def from_total(
        cls, rule: str, text: str, *, expected: float, total: float, trials: int, low: float = 0.0, high: float = 1.0
    ) -> ChanceCheck:
        """Return the check of ``trials`` draws from [low, high] whose sum is ``total``."""
        found = total / trials if trials else 0.0
        return cls(rule, text, expected, found, trials, within_chance(found, trials, expected, low=low, high=high))


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of the verification of a run."""

    run: int
    """The number of the run in the ledger."""
    rules: tuple[RuleCheck, ...]
    """The conditions that every row must meet, by rule."""
    chances: tuple[ChanceCheck, ...]
    """The shares and means that random draws decide, by rule."""

    @property
    def holds(self) -> bool:
        """Whether no rule is broken, and chance allows every share and mean."""
        return not self.broken

    @property
    def broken(self) -> tuple[RuleCheck | ChanceCheck, ...]:
        """The checks that do not hold."""
        rules = (rule for rule in self.rules if rule.violations)
        return (*rules, *(chance for chance in self.chances if not chance.within))

    def to_dict(self) -> dict[str, Any]:
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
