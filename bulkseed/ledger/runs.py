"""Runs as the ledger records them: state, rows, times, user, versions."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Final, Literal

import asyncpg

from bulkseed.errors import InputError, TargetError
from bulkseed.ledger.claims import Claim, changed_run_error, describe_lock_holder
from bulkseed.ledger.locks import limit_read
from bulkseed.ledger.tables import SCHEMA, Ledger, check_readable, exists, version
from bulkseed.plan.plan import PLAN_VERSION, Placement, Plan, Reservation
from bulkseed.plan.shards import shard_counts
from bulkseed.plan.tables import WITH_IDS, Names
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection, preflight_errors
from bulkseed.sql import compose

__all__ = [
    "History",
    "Record",
    "Run",
    "State",
    "find_run_or_all",
    "find_runs",
    "highest_ids",
    "read_history",
    "read_records",
    "read_runs",
]

State = Literal["loading", "whole", "undoing"]
"""The states that the ledger stores.

``loading`` until all shards are loaded and all indexes and keys rebuilt, then ``whole``; ``undoing`` once rows are
being removed.
"""

STATES: Final[dict[str, State]] = {"loading": "loading", "whole": "whole", "undoing": "undoing"}

MADE_BY: Final = ("bulkseed", "generator", "faker", "numpy")
"""The versions that every run has; runs of later versions of bulkseed have more."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the ledger records it: its number, its plan and where it goes, the versions, and the progress.

    ``rows`` are the loaded rows, by table; ``expected`` those of the complete run, as far as they are known before they
    are made: exact for users, channels and messages. ``shards`` are the numbers of the loaded shards, of those that
    :func:`bulkseed.plan.shards.split_into_shards` returns for ``rows_per_shard``; both are None for a run of a version
    that did not record them, which is complete.
    """

    number: int
    schema: str
    plan: Plan
    placement: Placement
    made_by: Mapping[str, str]
    state: State
    rows: Mapping[str, int]
    expected: Mapping[str, int]
    rows_per_shard: int | None
    shards: frozenset[int] | None
    token: str
    began: datetime
    ended: datetime | None
    """When the run was complete; when the last shard was loaded if it is not; None if no shard is loaded."""
    login: str | None
    client: str | None
    """The address of the client that loaded it, if the connection was over TCP."""
    resumed: int
    ids_given: bool = False
    """Whether the user gave its first ids."""
    reservations: tuple[Reservation, ...] = ()
    """What it took from sequences, in this order; nothing is known of a run of a version that did not record it."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """By phase, with ``total``, of the command that finished it; empty for a run that is not complete."""

    @property
    def claim(self) -> Claim:
        """The number with the token, which tells the run from another one of the same number."""
        return Claim(self.number, self.token)

    @property
    def names(self) -> Names:
        """The names of its tables and columns."""
        return Names(self.schema, self.plan.model)

    @property
    def is_complete(self) -> bool:
        """Return whether all rows are loaded and every index and key is in place."""
        return self.state == "whole"

    def ids(self, table: str) -> tuple[int, int]:
        """Return the first and the last id that the run has reserved in ``users``, ``channels`` or ``messages``."""
        first = self.placement.first(table)
        return first, first + self.expected[table] - 1


READ_RUNS: Final = """
SELECT to_jsonb(r) AS run, r.started_at AS began, {numbers} AS shards,
       coalesce(r.finished_at, {last}) AS ended, coalesce(r.rows, {rows}, '{}') AS rows
FROM {runs} AS r {condition} ORDER BY r.id
"""
"""The rows are read as jsonb, in which a column that an older ledger lacks is absent, and no error."""

SHARD_NUMBERS: Final = "ARRAY(SELECT number FROM {shards} WHERE run = r.id)"
LAST_SHARD: Final = "(SELECT max(loaded_at) FROM {shards} WHERE run = r.id)"
SHARD_ROWS: Final = (
    "(SELECT jsonb_object_agg(key, total) FROM (SELECT key, sum(value::bigint) AS total "
    "FROM {shards} AS s, jsonb_each_text(s.rows) WHERE s.run = r.id GROUP BY key) AS summed)"
)


WRONG_VALUES: Final = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, InputError)
"""The errors of values that are not those of a run."""


@dataclass(frozen=True)
class Record:
    """A run as a row of the ledger. Its plan is read when it is needed: a newer bulkseed may have made it."""

    number: int
    state: str
    began: datetime
    ended: datetime | None
    values: Mapping[str, Any]
    """The columns of the row, from JSON."""
    rows: Mapping[str, Any]
    shards: frozenset[int]
    ledger: Ledger

    @cached_property
    def run(self) -> Run:
        """The run. Raises TargetError if the record cannot be read."""
        try:
            return parse_run(self)
        except WRONG_VALUES as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error) or repr(error)
            raise TargetError(
                f"the record of run {self.number} in schema {self.ledger.schema} cannot be read ({reason}): "
                "use a newer bulkseed if one made it, or restore it if it was changed by hand",
                code="unreadable-run",
            ) from error

    @cached_property
    def problem(self) -> str | None:
        """Why the record cannot be read; None if it can."""
        try:
            self.run  # noqa: B018 - to see whether it can be read
        except TargetError as error:
            return str(error)
        return None

    @property
    def highest_ids(self) -> dict[str, int]:
        """The highest id of the run, by table; empty if its record does not tell."""
        try:
            placement = Placement.from_json(json.dumps(self.values["placement"]))
            expected = self.values.get("expected", self.values["rows"])
            return {table: placement.first(table) + int(expected[table]) - 1 for table in WITH_IDS if table in expected}
        except WRONG_VALUES:
            return {}


def highest_ids(records: Iterable[Record]) -> dict[str, int]:
    """Return the highest id of the runs of all records, by table."""
    highest: dict[str, int] = {}
    for record in records:
        for table, last in record.highest_ids.items():
            highest[table] = max(highest.get(table, 0), last)
    return highest


async def read_records(connection: Connection, ledger: Ledger) -> list[Record]:
    """Return the records of all runs, oldest first; none without a ledger. Raises TargetError as check_readable."""
    if not await exists(connection, ledger):
        return []
    await check_readable(connection, ledger)
    try:
        async with limit_read(connection, ledger):
            rows = await fetch_runs(connection, ledger)
    except asyncpg.UndefinedTableError:
        # another command has just removed the last run
        if await exists(connection, ledger):
            raise
        return []
    return [make_record(row, ledger) for row in rows]


async def read_runs(connection: Connection, ledger: Ledger) -> list[Run]:
    """Return all runs, oldest first; none if there is no ledger. Raises TargetError if a run cannot be read."""
    return all_runs(await read_records(connection, ledger), ledger)


def all_runs(records: Collection[Record], ledger: Ledger) -> list[Run]:
    """Return the runs of all records. Raises TargetError, with a line for each record that cannot be read."""
    problems = [record.problem for record in records if record.problem]
    if problems and len(problems) < len(records):
        readable = ", ".join(str(record.number) for record in records if not record.problem)
        problems.append(f"until then, name another run of {ledger.command('runs')} by its number: {readable}")
    if problems:
        raise TargetError("\n".join(problems), code="unreadable-run")
    return [record.run for record in records]


async def fetch_runs(connection: Connection, ledger: Ledger) -> list[Any]:
    if await version(connection, ledger) == 1:
        # the first version recorded no shards, and a run in progress in the same table, unfinished
        null = compose("NULL")
        condition = compose("WHERE r.finished_at IS NOT NULL")
        sql = compose(READ_RUNS, runs=ledger.runs, condition=condition, numbers=null, last=null, rows=null)
    else:
        sql = compose(
            READ_RUNS,
            runs=ledger.runs,
            condition=compose(""),
            numbers=compose(SHARD_NUMBERS, shards=ledger.shards),
            last=compose(LAST_SHARD, shards=ledger.shards),
            rows=compose(SHARD_ROWS, shards=ledger.shards),
        )
    rows: list[Any] = await connection.fetch(sql)
    return rows


def make_record(row: Any, ledger: Ledger) -> Record:
    values = json.loads(row["run"])
    return Record(
        number=values["id"],
        state=values.get("state", "whole"),
        began=row["began"],
        ended=row["ended"],
        values=values,
        rows=json.loads(row["rows"]),
        shards=frozenset(row["shards"] or ()),
        ledger=ledger,
    )


def parse_run(record: Record) -> Run:
    """Return the run of a record. Raises one of WRONG_VALUES if it cannot be read."""
    values, rows = record.values, record.rows
    made_by = {name: values["made_by"][name] for name in (*MADE_BY, *values["made_by"])}
    # runs of versions that did not record it have plans of the first version
    if int(made_by.get("plan", 1)) > PLAN_VERSION:
        raise InputError(
            f"bulkseed {made_by['bulkseed']} made its plan, of version {made_by['plan']}, and this bulkseed reads "
            f"versions up to {PLAN_VERSION}",
            code="unreadable-run",
        )
    plan = Plan.from_json(json.dumps(values["plan"]))
    reserved = values.get("reserved") or {}
    expected, rows_per_shard = values.get("expected", values["rows"]), values.get("rows_per_shard")
    if rows_per_shard is not None:
        shard_counts(plan, rows_per_shard)
    return Run(
        number=record.number,
        schema=values["target_schema"],
        plan=plan,
        placement=Placement.from_json(json.dumps(values["placement"])),
        made_by=made_by,
        state=STATES[record.state],
        rows={name: int(rows[name] if record.state == "whole" else rows.get(name, 0)) for name in plan.model.names},
        expected={name: int(expected[name]) for name in plan.model.names},
        rows_per_shard=rows_per_shard,
        shards=None if rows_per_shard is None else record.shards,
        token=values.get("token", ""),
        began=record.began,
        ended=record.ended,
        login=values.get("login"),
        client=values.get("client"),
        resumed=values.get("resumed", 0),
        ids_given=reserved.get("ids_given", False),
        reservations=tuple(Reservation(**reservation) for reservation in reserved.get("sequences", ())),
        seconds=values["seconds"] or {},
    )


async def find_run_or_all(connection: Connection, ledger: Ledger, wanted: int | Claim | None) -> list[Run]:
    """Return the wanted run, or all, of which there may be none.

    Raises InputError if the wanted one is missing, and TargetError if it, or one of all, cannot be read.
    """
    if wanted is None:
        return await read_runs(connection, ledger)
    return await find_runs(connection, ledger, [wanted])


async def find_runs(connection: Connection, ledger: Ledger, wanted: Collection[int | Claim] | None) -> list[Run]:
    """Return the wanted runs, or all of them. Raises InputError if there is none, or one of the wanted is missing.

    A claim also names the command that loads the run. It is an error if another run has its number, or another command
    has taken the run over. Raises TargetError if a wanted run cannot be read; the others need not be readable.
    """
    records = await read_records(connection, ledger)
    if not records:
        where = "" if ledger == Ledger() else f" in schema {ledger.schema!r}"
        raise InputError(
            f"no run is recorded in this database{where}: load one first, or name another database", code="no-runs"
        )
    if wanted is None:
        return all_runs(records, ledger)
    by_number = {record.number: record for record in records}
    chosen = []
    for choice in wanted:
        number = choice.number if isinstance(choice, Claim) else choice
        if number not in by_number:
            raise InputError(
                f"no run {number} is recorded in this database: give one of {', '.join(map(str, by_number))}",
                code="no-such-run",
            )
        run = by_number[number].run
        if isinstance(choice, Claim) and run.claim != choice:
            raise changed_run_error(number, ledger)
        chosen.append(run)
    return chosen


Condition = Literal["whole", "loading", "interrupted", "undoing", "unreadable"]


@dataclass(frozen=True, slots=True)
class History:
    """The record of a run with its present condition.

    ``loading``: another command holds the load lock of this database, and probably loads this run; ``interrupted``: the
    run waits for `resume` or `cleanup`; ``unreadable``: ``problem`` says why.
    """

    record: Record
    state: Condition
    now: datetime
    """The server's time."""

    @property
    def run(self) -> Run:
        """The run. Raises TargetError if it is unreadable."""
        return self.record.run

    @property
    def problem(self) -> str | None:
        """Why the record cannot be read; None if it can."""
        return self.record.problem

    @property
    def seconds(self) -> float:
        """From its start to its end, interruptions included; to its last shard, or to now, if it is not complete."""
        until = self.now if self.state == "loading" else self.record.ended or self.record.began
        return (until - self.record.began).total_seconds()

    @property
    def shards(self) -> tuple[int, int] | None:
        """The numbers of loaded shards and of all shards; None for a run of a version that did not record them."""
        if self.run.shards is None or self.run.rows_per_shard is None:
            return None
        return len(self.run.shards), sum(shard_counts(self.run.plan, self.run.rows_per_shard).values())

    def to_json(self) -> dict[str, Any]:
        """Return all of it, with times in ISO 8601 and durations in seconds; less of it for an unreadable run."""
        record = self.record
        times = {
            "began": record.began.isoformat(),
            "ended": None if record.ended is None else record.ended.isoformat(),
            "seconds": round(self.seconds, 3),
        }
        if self.problem is not None:
            return {"run": record.number, "state": self.state, "problem": self.problem} | times
        run = self.run
        return {
            "run": run.number,
            "state": self.state,
            "rows": dict(run.rows),
            "expected": dict(run.expected),
            "shards": None if self.shards is None else {"in": self.shards[0], "of": self.shards[1]},
            "schema": run.schema,
            "seed": run.plan.seed,
            "as_of": run.plan.as_of.isoformat(),
            "first_ids": run.placement.first_ids(run.plan.model.names),
            **times,
            "phases": dict(run.seconds),
            "login": run.login,
            "client": run.client,
            "resumed": run.resumed,
            "made_by": dict(run.made_by),
        }


async def read_history(address: Address, *, ledger_schema: str = SCHEMA) -> list[History]:
    """Return all runs, oldest first; none if there is no ledger. Raises ConnectError, TargetError."""
    async with open_connection(address) as connection:
        with preflight_errors(connection, "reading the ledger"):
            # the lock first, so that a run that ends between the two is reported as complete
            is_locked = await describe_lock_holder(connection) is not None
            records = await read_records(connection, Ledger(ledger_schema))
            now = await connection.fetchval("SELECT clock_timestamp()")
    return [History(record, find_condition(record, is_locked=is_locked), now) for record in records]


def find_condition(record: Record, *, is_locked: bool) -> Condition:
    if record.problem is not None:
        return "unreadable"
    if record.run.state != "loading":
        return record.run.state
    return "loading" if is_locked else "interrupted"
