"""What verifying a run comes to: how often each rule is broken, and whether each probability was kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bulkseed.verifier.chance import within_chance

__all__ = ["ChanceCheck", "RuleCheck", "Tally", "VerifyReport"]


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
