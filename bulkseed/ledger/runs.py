"""What the ledger says of runs: state, rows, when, by whom, how long."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from bulkseed.errors import InputError, TargetError
from bulkseed.ledger.claims import Claim, another, holder
from bulkseed.ledger.tables import SCHEMA, Ledger, exists, version
from bulkseed.plan.plan import Placement, Plan
from bulkseed.plan.shards import shard_counts
from bulkseed.plan.tables import Names
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, connected, preflight_errors

__all__ = ["History", "Run", "State", "chosen_runs", "history", "runs"]

State = Literal["loading", "whole", "undoing"]
"""``loading`` until all shards are in and all indexes and keys are back; ``undoing`` from when that is given up."""

STATES: Final[dict[str, State]] = {"loading": "loading", "whole": "whole", "undoing": "undoing"}

MADE_BY: Final = ("bulkseed", "generator", "faker", "numpy")
"""The versions that every run has; those of later bulkseeds have more."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the ledger has it: its number, where and what it made, by which versions, how far it came.

    ``rows`` are those that are in, by table; ``expected`` those that there are in a whole run, as far as that is
    known before they are made: exact for users, channels and messages. ``shards`` are the numbers of the shards
    that are in, of those that :func:`bulkseed.plan.shards.split_into_shards` gives for ``rows_per_shard``; both are
    None for a run of a version that kept none, which is whole.
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
    """When it was whole; the last shard's moment for one that is not yet; None where none is in."""
    login: str | None
    client: str | None
    """The address of the machine that loaded it, where that was over TCP."""
    resumed: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    """By phase, with ``total``, of the command that finished it; empty for one that is not whole."""

    @property
    def claim(self) -> Claim:
        """What tells it from another run of the same number."""
        return Claim(self.number, self.token)

    @property
    def names(self) -> Names:
        """What its tables and columns are called."""
        return Names(self.schema, self.plan.model)

    @property
    def whole(self) -> bool:
        """Whether all of it is in, with every index and key in place."""
        return self.state == "whole"

    def ids(self, table: str) -> tuple[int, int]:
        """The first and the last id that the run has reserved in ``users``, ``channels`` or ``messages``."""
        first = self.placement.first(table)
        return first, first + self.expected[table] - 1


ALL: Final = """
SELECT to_jsonb(r) AS run, r.started_at AS began, {numbers} AS shards,
       coalesce(r.finished_at, {last}) AS ended, coalesce(r.rows, {rows}, '{{}}') AS rows
FROM {runs} AS r {condition} ORDER BY r.id
"""
"""What older versions of the ledger lack is missing in the row as jsonb, and no error."""

OF_SHARDS: Final = {
    "numbers": "ARRAY(SELECT number FROM {shards} WHERE run = r.id)",
    "last": "(SELECT max(loaded_at) FROM {shards} WHERE run = r.id)",
    "rows": "(SELECT jsonb_object_agg(key, total) FROM (SELECT key, sum(value::bigint) AS total "
    "FROM {shards} AS s, jsonb_each_text(s.rows) WHERE s.run = r.id GROUP BY key) AS summed)",
}
WITHOUT_SHARDS: Final = {"numbers": "NULL", "last": "NULL", "rows": "NULL"}


async def runs(connection: Connection, ledger: Ledger) -> list[Run]:
    """All runs, oldest first; none where there is no ledger. Raises TargetError where one cannot be read."""
    if not await exists(connection, ledger):
        return []
    first = await version(connection, ledger) == 1
    parts = WITHOUT_SHARDS if first else {name: sql.format(shards=ledger.shards) for name, sql in OF_SHARDS.items()}
    # the first version kept a run that was under way in the same table, unfinished
    condition = "WHERE r.finished_at IS NOT NULL" if first else ""
    found = await connection.fetch(ALL.format(runs=ledger.runs, condition=condition, **parts))
    return [run_of(row, ledger) for row in found]


def run_of(row: Any, ledger: Ledger) -> Run:
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
            "another bulkseed made it (use a newer one), or it was changed by hand"
        ) from error


async def chosen_runs(connection: Connection, ledger: Ledger, wanted: Collection[int | Claim] | None) -> list[Run]:
    """All runs, or those that are wanted. Raises InputError where there is none, or not one of those.

    A claim stands for the very run, and the command that loads it: where another has its number, or another command
    has gone on with it, that is an error too.
    """
    found = await runs(connection, ledger)
    if not found:
        where = "" if ledger == Ledger() else f" in schema {ledger.schema!r}"
        raise InputError(f"this database has no run of bulkseed{where}: load one first, or name another database")
    if wanted is None:
        return found
    there = {run.number: run for run in found}
    chosen = []
    for each in wanted:
        number = each.number if isinstance(each, Claim) else each
        if number not in there:
            raise InputError(f"this database has no run {number}: it has {', '.join(map(str, there))}")
        if isinstance(each, Claim) and there[number].claim != each:
            raise InputError(another(number, ledger))
        chosen.append(there[number])
    return chosen


Condition = Literal["whole", "loading", "interrupted", "undoing"]


@dataclass(frozen=True, slots=True)
class History:
    """A run, and what has become of it.

    ``loading``: another command works in this database now, at this run as far as can be told; ``interrupted``: it
    waits for `resume` or `cleanup`.
    """

    run: Run
    state: Condition
    now: datetime
    """The server's time."""

    @property
    def seconds(self) -> float:
        """From its begin until it was whole, interruptions included; of one that is not, to its last shard or now."""
        until = self.now if self.state == "loading" else self.run.ended or self.run.began
        return (until - self.run.began).total_seconds()

    @property
    def shards(self) -> tuple[int, int] | None:
        """How many of its shards are in, and how many there are; None for a run of a version that kept none."""
        if self.run.shards is None or self.run.rows_per_shard is None:
            return None
        return len(self.run.shards), sum(shard_counts(self.run.plan, self.run.rows_per_shard).values())

    def to_json(self) -> dict[str, Any]:
        """All of it, with times in ISO 8601 and seconds."""
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


async def history(address: Address, *, ledger_schema: str = SCHEMA) -> list[History]:
    """All runs, oldest first; none where there is no ledger. Raises ConnectError, TargetError."""
    async with connected(address) as connection:
        with preflight_errors(connection, "reading the ledger"):
            # first: a run that ends in between is then called whole
            busy = await holder(connection) is not None
            found = await runs(connection, Ledger(ledger_schema))
            now = await connection.fetchval("SELECT clock_timestamp()")
    return [History(run, state_of(run, busy=busy), now) for run in found]


def state_of(run: Run, *, busy: bool) -> Condition:
    if run.state != "loading":
        return run.state
    return "loading" if busy else "interrupted"
