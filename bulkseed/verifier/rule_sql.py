"""Rules as SQL: what a row must be like, what was drawn, and one pass over rows that judges several at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Final
from uuid import UUID

import pyarrow as pa

from bulkseed.ledger import Run
from bulkseed.plan.activity import Ranking, ranking_of
from bulkseed.plan.scenario import Shape
from bulkseed.plan.shards import uuids_of
from bulkseed.plan.tables import Model
from bulkseed.postgres.connection import Connection
from bulkseed.randomness.uuids import Uuids
from bulkseed.sql import identifier, trusted
from bulkseed.verifier.checks import ChanceCheck, RuleCheck

__all__ = ["BROKEN", "Clause", "Draw", "RuleQuery", "Scope"]

LACKING: Final = "(table that the app lacks)"
"""Stands for such a table in SQL that is never run."""

EXAMPLE: Final = re.compile(r"(?P<table>\w+)\.(?P<column>\w+) (?P<key>-?[0-9]+|null)")
"""Of a row that breaks a rule."""

BROKEN: Final = "false"
"""What holds of the rows of a pass that only finds those that break a rule."""


@dataclass(frozen=True)
class Scope:
    """Which rows are a run's: those with ids in its ranges, and those that belong to its channels and messages.

    Rules speak of tables and columns as bulkseed calls them, and of ids as numbers; ``table()`` makes them so.
    ``lacking`` are columns that cannot be judged, as the app has none, or not all of their values; ``texts`` has how
    the text in columns of other types is read, as SQL with ``{}`` for the column.
    """

    run: Run
    lacking: frozenset[tuple[str, str]] = frozenset()
    texts: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @cached_property
    def model(self) -> Model:
        return self.run.plan.model

    @cached_property
    def uuids(self) -> Mapping[str, Uuids]:
        """The UUIDs that stand for ids, by table."""
        return uuids_of(self.run.plan, self.run.placement, self.run.expected.get("messages", 0))

    def table(self, name: str) -> str:
        """What follows FROM: the table with bulkseed's own names, and ids as numbers."""
        if name not in self.model.by_name:
            return f"{LACKING} {name}"
        actual = self.run.names.name(name)
        columns = self.model.by_name[name].column_names
        if all(self.there(name, each, "t") == f"t.{each}" for each in columns):
            return actual
        listed = ", ".join(f"{self.there(name, each, 't')} AS {identifier(each)}" for each in columns)
        return f"(SELECT {listed} FROM {actual} AS t)"

    def there(self, table: str, column: str, alias: str) -> str:
        """The SQL expression for a column of the row ``alias`` of the app's own table."""
        actual = self.run.names.column(table, column)
        if actual == identifier(column):
            actual = trusted(column)
        uuids = self.uuids.get(self.holds(table, column))
        if uuids is not None:
            return uuids.decoded(trusted(f"{alias}.{actual}"))
        return self.texts.get((table, column), "{}").format(f"{alias}.{actual}")

    def holds(self, table: str, column: str) -> str:
        """The table whose ids the column holds; empty where it holds none."""
        return self.model.by_name[table].holds.get(column, "")

    def located(self, check: RuleCheck) -> RuleCheck:
        """The same, with its example as one finds it in the app's own table: by its names, and by the UUID."""
        match = EXAMPLE.fullmatch(check.example or "")
        if match is None or match["table"] not in self.model.by_name:
            return check
        table, column, key = match["table"], match["column"], match["key"]
        parent = self.holds(table, column)
        if parent in self.uuids and key.isdecimal():
            first, last = self.ids(parent)
            if first <= int(key) <= last:
                key = str(UUID(bytes=self.uuids[parent].octets(pa.array([int(key)]))[0].as_py()))
        return replace(check, example=f"{self.model.name(table)}.{self.model.column(table, column)} {key}")

    def keeps(self, table: str, *columns: str) -> bool:
        """Whether the app has all of the columns, with all of their values."""
        return table in self.model.by_name and not any((table, column) in self.lacking for column in columns)

    def ids(self, table: str) -> tuple[int, int]:
        """The first and the last id of the run in ``table``."""
        return self.run.ids(table)

    def within(self, table: str, column: str) -> str:
        """The SQL condition that ``column`` is one of the run's ids in ``table``."""
        first, last = self.ids(table)
        return f"{column} BETWEEN {first} AND {last}"

    def ours(self, table: str, alias: str) -> str:
        """The SQL condition that the row ``alias`` of ``table`` is one of the run's."""
        if table not in self.model.by_name:
            return LACKING
        column, parent = self.model.belonging(table)
        return self.within(parent, f"{alias}.{column}")

    def ours_there(self, table: str, alias: str) -> str:
        """The same of a row of the app's own table."""
        column, parent = self.model.belonging(table)
        return self.within(parent, self.there(table, column, alias))

    def judged(self, one: RuleQuery) -> RuleQuery | None:
        """What of the pass can be judged; None where nothing can."""
        if LACKING in one.rows or self.mentions(one, one.rows):
            return None
        clauses = tuple(each for each in one.clauses if not self.mentions(one, each.holds))
        draws = tuple(each for each in one.draws if not self.mentions(one, each.trials + each.total))
        return replace(one, clauses=clauses, draws=draws) if clauses or draws else None

    def mentions(self, one: RuleQuery, sql: str) -> bool:
        """Whether a part of the pass speaks of a column that cannot be judged."""
        return any(
            re.search(rf"\b{alias}\.{column}\b", sql)
            for table, column in self.lacking
            for alias in re.findall(rf"{re.escape(self.table(table))} AS (\w+)", one.rows)
        )

    @property
    def as_of(self) -> str:
        """as_of as SQL: without a type, so that it is read as the column that it is compared with (UTC)."""
        return literal(self.run.plan.as_of)

    @property
    def history_start(self) -> str:
        """The first moment of the run's history as SQL."""
        return literal(self.run.plan.history_start)

    @property
    def latest_signup(self) -> str:
        """The last moment of accounts and channels as SQL."""
        return literal(self.run.plan.latest_signup)

    @property
    def idle_since(self) -> str:
        """From when on idle users write nothing, as SQL."""
        return literal(self.run.plan.idle_since)

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
class RuleQuery:
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
