"""Rules as SQL: what a row must be like, what was drawn, and one pass over rows that judges several at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from bulkseed.checks import ChanceCheck, RuleCheck
from bulkseed.connection import Connection
from bulkseed.identifiers import qualified
from bulkseed.ledger import Run
from bulkseed.ranking import Ranking, ranking_of
from bulkseed.shape import Shape

__all__ = ["BROKEN", "PARENTS", "Clause", "Draw", "Pass", "Scope"]

PARENTS: Final = {"user_channels": ("channel_id", "channels"), "message_reactions": ("message_id", "messages")}
"""Tables whose rows belong to a run by the row that they point at."""

BROKEN: Final = "false"
"""What holds of the rows of a pass that only finds those that break a rule."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows are a run's: those with ids in its ranges, and those that belong to its channels and messages."""

    run: Run

    def table(self, name: str) -> str:
        """The table's name, qualified and quoted."""
        return qualified(self.run.schema, name)

    def ids(self, table: str) -> tuple[int, int]:
        """The first and the last id of the run in ``table``."""
        return self.run.ids(table)

    def within(self, table: str, column: str) -> str:
        """The SQL condition that ``column`` is one of the run's ids in ``table``."""
        first, last = self.ids(table)
        return f"{column} BETWEEN {first} AND {last}"

    def ours(self, table: str, alias: str) -> str:
        """The SQL condition that the row ``alias`` of ``table`` is one of the run's."""
        column, parent = PARENTS.get(table, ("id", table))
        return self.within(parent, f"{alias}.{column}")

    @property
    def as_of(self) -> str:
        """as_of as SQL: without a type, so that it is read as the column that it is compared with (UTC)."""
        return literal(self.run.plan.as_of)

    @property
    def history_start(self) -> str:
        """The first moment of the run's history as SQL."""
        return literal(self.run.plan.history_start)

    @property
    def settled(self) -> str:
        """The last moment of accounts and channels as SQL."""
        return literal(self.run.plan.settled)

    @property
    def quiet(self) -> str:
        """From when on idle users write nothing, as SQL."""
        return literal(self.run.plan.quiet)

    @property
    def shape(self) -> Shape:
        """The shape that the run was asked to have."""
        return self.run.plan.scenario.shape

    @property
    def ranking(self) -> Ranking | None:
        """The ranks of the run's channels, where its shape has them."""
        return ranking_of(self.run.plan)


def literal(moment: datetime) -> str:
    return f"'{moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=' ')}'"


@dataclass(frozen=True, slots=True)
class Clause:
    """A rule's word on a row: the SQL condition ``holds`` is true; where it is false or null the rule is broken."""

    rule: str
    text: str
    holds: str


@dataclass(frozen=True, slots=True)
class Draw:
    """Values in [low, high] that were drawn with the mean ``expected``: SQL aggregates for their number and sum."""

    rule: str
    text: str
    expected: float
    trials: str
    total: str
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, slots=True)
class Pass:
    """One query: clauses and draws over the same ``rows`` (all that follows FROM).

    ``key`` is the SQL expression that identifies a row, ``example`` the words to name one by, with ``{}`` for the key.
    """

    rows: str
    key: str
    example: str
    clauses: tuple[Clause, ...] = ()
    draws: tuple[Draw, ...] = ()

    def sql(self) -> str:
        """The query: for each clause the violations and the lowest key, for each draw its two aggregates."""
        return f"SELECT {', '.join(self.outputs())} FROM {self.rows}"

    def outputs(self) -> Iterator[str]:
        for clause in self.clauses:
            broken = f"FILTER (WHERE ({clause.holds}) IS NOT TRUE)"
            yield f"count(*) {broken}"
            yield f"min({self.key}) {broken}"
        for draw in self.draws:
            yield draw.trials
            yield draw.total

    async def judge(self, connection: Connection) -> tuple[list[RuleCheck], list[ChanceCheck]]:
        """Run the query: a check for each clause and each draw."""
        values = iter(await connection.fetchrow(self.sql()))
        rules = []
        for clause in self.clauses:
            violations, key = next(values), next(values)
            example = self.example.format("null" if key is None else key) if violations else None
            rules.append(RuleCheck(clause.rule, clause.text, violations, example))
        chances = []
        for draw in self.draws:
            trials, total = next(values), next(values)
            chances.append(
                ChanceCheck.of(
                    draw.rule,
                    draw.text,
                    expected=draw.expected,
                    total=float(total or 0),
                    trials=trials,
                    low=draw.low,
                    high=draw.high,
                )
            )
        return rules, chances
