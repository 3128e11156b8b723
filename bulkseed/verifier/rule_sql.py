"""Rules as SQL: conditions on rows, means of random draws, and the queries that judge several of them in one scan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
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
from bulkseed.sql import SQL, compose, identifier, join, literal
from bulkseed.verifier.rule_checks import ChanceCheck, RuleCheck

__all__ = ["COUNT", "NEVER", "Clause", "Columns", "Draw", "RuleQuery", "Scope", "columns", "count_where"]

Columns = frozenset[tuple[str, str]]
"""Pairs of a table and a column, by bulkseed's own names."""

FIRST_GENERATOR: Final = "1"

NEVER: Final = compose("false")
"""The condition of a query that selects only the rows that break its rule."""

COUNT: Final = compose("count(*)")


def columns(**tables: str) -> Columns:
    """Return the (table, column) pairs of ``columns(messages="id parent_id", users="id")``."""
    return frozenset((table, column) for table, names in tables.items() for column in names.split())


def count_where(condition: SQL) -> SQL:
    """Return the SQL aggregate for the number of rows that meet ``condition``."""
    return compose("count(*) FILTER (WHERE {condition})", condition=condition)


@dataclass(frozen=True)
class Scope:
    """The rows of a run, as SQL: those with ids in its ranges, and those that belong to its channels and messages.

    Rules name tables and columns as bulkseed does, and have ids as numbers; :meth:`table` gives them in this form.
    ``lacking`` are columns that cannot be judged, because the app has none or does not store all of their values.
    ``texts`` are templates of SQL that read text from columns of other types, with ``{column}`` for the column.
    """

    run: Run
    lacking: Columns = frozenset()
    texts: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @cached_property
    def model(self) -> Model:
        return self.run.plan.model

    @cached_property
    def uuids(self) -> Mapping[str, Uuids]:
        """The UUIDs that stand for ids, by table."""
        run = self.run
        generator = int(run.made_by.get("generator", FIRST_GENERATOR))
        return uuids_of(run.plan, run.placement, run.expected.get("messages", 0), generator)

    def has(self, needs: Columns) -> bool:
        """Return whether the app has all of these columns, with all of their values."""
        return not needs & self.lacking and all(table in self.model.by_name for table, _ in needs)

    def table(self, name: str) -> SQL:
        """Return the table with bulkseed's own names of columns, and ids as numbers: an item of a FROM list.

        For a table that the app lacks it is a name only: a query declares the columns that it needs, and is not run.
        """
        actual = identifier(self.run.schema, self.model.name(name))
        if name not in self.model.by_name:
            return actual
        expressions = {column: self.column(name, column, "t") for column in self.model.by_name[name].column_names}
        if all(expression == identifier("t", column) for column, expression in expressions.items()):
            return actual
        selected = (
            compose("{expression} AS {column}", expression=expression, column=identifier(column))
            for column, expression in expressions.items()
        )
        return compose("(SELECT {selected} FROM {actual} AS t)", selected=join(", ", selected), actual=actual)

    def column(self, table: str, column: str, alias: str) -> SQL:
        """Return the SQL expression for a column of the row ``alias`` of the app's own table, with an id as a number.

        ``table`` and ``column`` are bulkseed's own names.
        """
        actual = identifier(alias, self.model.column(table, column))
        uuids = self.uuids.get(self.parent(table, column))
        if uuids is not None:
            return uuids.decoded(actual)
        return compose(self.texts.get((table, column), "{column}"), column=actual)

    def parent(self, table: str, column: str) -> str:
        """Return the table whose ids the column holds; empty where it holds none."""
        return self.model.by_name[table].holds.get(column, "")

    def describe(self, table: str, column: str) -> Callable[[int | None], str]:
        """Return the function that describes a row by the number in this column, as :meth:`describe_row` does."""
        return partial(self.describe_row, table, column)

    def describe_row(self, table: str, column: str, key: int | None) -> str:
        """Return ``table.column key`` as it is in the app's own table: by the app's names, and the UUID of an id."""
        text, parent = "null" if key is None else str(key), self.parent(table, column)
        if key is not None and parent in self.uuids:
            first, last = self.ids(parent)
            if first <= key <= last:
                text = str(UUID(bytes=self.uuids[parent].octets(pa.array([key]))[0].as_py()))
        return f"{self.model.name(table)}.{self.model.column(table, column)} {text}"

    def ids(self, table: str) -> tuple[int, int]:
        """Return the first and the last id of the run in ``table``."""
        return self.run.ids(table)

    def within(self, table: str, expression: SQL) -> SQL:
        """Return the SQL condition that ``expression`` is one of the run's ids in ``table``."""
        first, last = self.ids(table)
        return compose("{expression} BETWEEN {first} AND {last}", expression=expression, first=first, last=last)

    def ours(self, table: str, alias: str) -> SQL:
        """Return the SQL condition that the row ``alias`` of :meth:`table` is one of the run's."""
        if table not in self.model.by_name:
            return NEVER
        column, parent = self.model.belonging(table)
        return self.within(parent, identifier(alias, column))

    def ours_there(self, table: str, alias: str) -> SQL:
        """Return the SQL condition that the row ``alias`` of the app's own table is one of the run's."""
        column, parent = self.model.belonging(table)
        return self.within(parent, self.column(table, column, alias))

    def applicable(self, query: RuleQuery) -> RuleQuery | None:
        """Return the query with the clauses and draws whose columns the app has; None where none are left."""
        if not self.has(query.needs):
            return None
        clauses = tuple(clause for clause in query.clauses if self.has(clause.needs))
        draws = tuple(draw for draw in query.draws if self.has(draw.needs))
        return replace(query, clauses=clauses, draws=draws) if clauses or draws else None

    @property
    def as_of(self) -> SQL:
        """as_of as SQL: without a type, so that it is read as the type of the column it is compared with (UTC)."""
        return moment_literal(self.run.plan.as_of)

    @property
    def history_start(self) -> SQL:
        """The first moment of the run's history as SQL."""
        return moment_literal(self.run.plan.history_start)

    @property
    def latest_signup(self) -> SQL:
        """The last moment of accounts and channels as SQL."""
        plan = self.run.plan
        settled = plan.as_of - timedelta(days=self.shape.settled_days)
        return moment_literal(plan.latest_signup if self.is_in_order else settled)

    @property
    def is_in_order(self) -> bool:
        """Return whether the rows are in order of time: those of the first generator are not."""
        return self.run.made_by.get("generator", FIRST_GENERATOR) != FIRST_GENERATOR

    @property
    def idle_since(self) -> SQL:
        """The moment after which idle users write nothing, as SQL."""
        return moment_literal(self.run.plan.idle_since)

    @property
    def shape(self) -> Shape:
        """The shape that the plan asks for."""
        return self.run.plan.scenario.shape

    @property
    def ranking(self) -> Ranking | None:
        """The ranks of the run's channels; None where its shape has no ranks."""
        return ranking_of(self.run.plan)


def moment_literal(moment: datetime) -> SQL:
    return literal(moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" "))


@dataclass(frozen=True, slots=True)
class Clause:
    """A condition that a rule sets for each row; where it is false or null, the row breaks the rule.

    ``needs`` are the columns that the condition reads, beside those of its query.
    """

    rule: str
    text: str
    condition: SQL
    needs: Columns = frozenset()


@dataclass(frozen=True, slots=True)
class Draw:
    """Random values in [low, high] with the mean ``expected``: SQL aggregates for their number and their sum.

    ``needs`` are the columns that the aggregates read, beside those of the query.
    """

    rule: str
    text: str
    expected: float
    trials: SQL
    total: SQL
    needs: Columns = frozenset()
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, slots=True)
class RuleQuery:
    """A query that judges clauses and draws over the same ``rows``, the text after FROM.

    ``key`` is the SQL expression that identifies a row, and ``describe`` names a row by its key. ``needs`` are the
    columns that ``rows`` and ``key`` read.
    """

    rows: SQL
    key: SQL
    describe: Callable[[int | None], str]
    needs: Columns
    clauses: tuple[Clause, ...] = ()
    draws: tuple[Draw, ...] = ()

    def sql(self) -> SQL:
        """Return the query: for each clause the violations and the lowest key, for each draw its two aggregates."""
        return compose("SELECT {outputs} FROM {rows}", outputs=join(", ", self.outputs()), rows=self.rows)

    def outputs(self) -> Iterator[SQL]:
        """Yield the expressions of the SELECT list: two for each clause, then two for each draw."""
        for clause in self.clauses:
            broken = compose("FILTER (WHERE ({condition}) IS NOT TRUE)", condition=clause.condition)
            yield compose("count(*) {broken}", broken=broken)
            yield compose("min({key}) {broken}", key=self.key, broken=broken)
        for draw in self.draws:
            yield draw.trials
            yield draw.total

    async def judge(self, connection: Connection) -> tuple[list[RuleCheck], list[ChanceCheck]]:
        """Run the query, and return a check for each clause and each draw."""
        values = iter(await connection.fetchrow(self.sql()))
        rules = []
        for clause in self.clauses:
            violations, key = next(values), next(values)
            example = self.describe(key) if violations else None
            rules.append(RuleCheck(clause.rule, clause.text, violations, example))
        chances = []
        for draw in self.draws:
            trials, total = next(values), next(values)
            chances.append(
                ChanceCheck.from_total(
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
