"""Runs as the ledger records them: state, rows, times, user, versions."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

import asyncpg

from bulkseed.errors import InputError, TargetError
from bulkseed.ledger.claims import Claim, changed_run_error, describe_lock_holder
from bulkseed.ledger.locks import limit_read
from bulkseed.ledger.tables import SCHEMA, Ledger, exists, version
from bulkseed.plan.plan import Placement, Plan
from bulkseed.plan.shards import shard_counts
from bulkseed.plan.tables import Names
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection, preflight_errors
from bulkseed.sql import compose

__all__ = ["History", "Run", "State", "find_run_or_all", "find_runs", "read_history", "read_runs"]

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


async def read_runs(connection: Connection, ledger: Ledger) -> list[Run]:
    """Return all runs, oldest first; none if there is no ledger. Raises TargetError if a run cannot be read."""
    if not await exists(connection, ledger):
        return []
    try:
        async with limit_read(connection, ledger):
            rows = await fetch_runs(connection, ledger)
    except asyncpg.UndefinedTableError:
        # another command has just removed the last run
        if await exists(connection, ledger):
            raise
        return []
    return [parse_run(row, ledger) for row in rows]


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


def parse_run(row: Any, ledger: Ledger) -> Run:
    values = json.loads(row["run"])
    state = values.get("state", "whole")
    try:
        plan = Plan.from_json(json.dumps(values["plan"]))
        rows, expected = json.loads(row["rows"]), values.get("expected", values["rows"])
        return Run(
            number=values["id"],
            schema=values["target_schema"],
            plan=plan,
            placement=Placement.from_json(json.dumps(values["placement"])),
            made_by={name: values["made_by"][name] for name in (*MADE_BY, *values["made_by"])},
            state=STATES[state],
            rows={name: int(rows[name] if state == "whole" else rows.get(name, 0)) for name in plan.model.names},
            expected={name: int(expected[name]) for name in plan.model.names},
            rows_per_shard=values.get("rows_per_shard"),
            shards=None if values.get("rows_per_shard") is None else frozenset(row["shards"]),
            token=values.get("token", ""),
            began=row["began"],
            ended=row["ended"],
            login=values.get("login"),
            client=values.get("client"),
            resumed=values.get("resumed", 0),
            seconds=values["seconds"] or {},
        )
    except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
        raise TargetError(
            f"the record of run {values['id']} in schema {ledger.schema} cannot be read ({error!r}): "
            "use a newer bulkseed if one made it, or restore it if it was changed by hand",
            code="unreadable-run",
        ) from error


async def find_run_or_all(connection: Connection, ledger: Ledger, wanted: int | Claim | None) -> list[Run]:
    """Return the wanted run, or all, of which there may be none. Raises InputError if the wanted one is missing."""
    if wanted is None:
        return await read_runs(connection, ledger)
    return await find_runs(connection, ledger, [wanted])


async def find_runs(connection: Connection, ledger: Ledger, wanted: Collection[int | Claim] | None) -> list[Run]:
    """Return the wanted runs, or all of them. Raises InputError if there is none, or one of the wanted is missing.

    A claim also names the command that loads the run. It is an error if another run has its number, or another command
    has taken the run over.
    """
    runs = await read_runs(connection, ledger)
    if not runs:
        where = "" if ledger == Ledger() else f" in schema {ledger.schema!r}"
        raise InputError(
            f"no run is recorded in this database{where}: load one first, or name another database", code="no-runs"
        )
    if wanted is None:
        return runs
    by_number = {run.number: run for run in runs}
    chosen = []
    for choice in wanted:
        number = choice.number if isinstance(choice, Claim) else choice
        if number not in by_number:
            raise InputError(
                f"no run {number} is recorded in this database: give one of {', '.join(map(str, by_number))}",
                code="no-such-run",
            )
        if isinstance(choice, Claim) and by_number[number].claim != choice:
            raise changed_run_error(number, ledger)
        chosen.append(by_number[number])
    return chosen


Condition = Literal["whole", "loading", "interrupted", "undoing"]


@dataclass(frozen=True, slots=True)
class History:
    """A run with its present condition.

    ``loading``: another command holds the load lock of this database, and probably loads this run; ``interrupted``: the
    run waits for `resume` or `cleanup`.
    """

    run: Run
    state: Condition
    now: datetime
    """The server's time."""

    @property
    def seconds(self) -> float:
        """From its start to its end, interruptions included; to its last shard, or to now, if it is not complete."""
        until = self.now if self.state == "loading" else self.run.ended or self.run.began
        return (until - self.run.began).total_seconds()

    @property
    def shards(self) -> tuple[int, int] | None:
        """The numbers of loaded shards and of all shards; None for a run of a version that did not record them."""
        if self.run.shards is None or self.run.rows_per_shard is None:
            return None
        return len(self.run.shards), sum(shard_counts(self.run.plan, self.run.rows_per_shard).values())

    def to_json(self) -> dict[str, Any]:
        """Return all of it, with times in ISO 8601 and durations in seconds."""
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
            "began": run.began.isoformat(),
            "ended": None if run.ended is None else run.ended.isoformat(),
            "seconds": round(self.seconds, 3),
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
            runs = await read_runs(connection, Ledger(ledger_schema))
            now = await connection.fetchval("SELECT clock_timestamp()")
    return [History(run, find_condition(run, is_locked=is_locked), now) for run in runs]


def find_condition(run: Run, *, is_locked: bool) -> Condition:
    if run.state != "loading":
        return run.state
    return "loading" if is_locked else "interrupted"
