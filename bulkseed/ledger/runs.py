"""The runs that the ledger has: what each was to make, where, and how far it came."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from bulkseed.connection import Connection
from bulkseed.deferral import forget_rebuilt
from bulkseed.errors import InputError, RunError, TargetError
from bulkseed.ledger.tables import SCHEMA, drop_ledger, exists, make_ledger, version
from bulkseed.plan import Placement, Plan
from bulkseed.tables import TABLE_NAMES

__all__ = [
    "Claim",
    "Run",
    "State",
    "begin_run",
    "chosen_runs",
    "empty_run",
    "finish_run",
    "forget_run",
    "mark_undoing",
    "record_shard",
    "runs",
    "share_run",
]

State = Literal["loading", "whole", "undoing"]
"""``loading`` until all shards are in and all indexes and keys are back; ``undoing`` from when that is given up."""

STATES: Final[dict[str, State]] = {"loading": "loading", "whole": "whole", "undoing": "undoing"}

MADE_BY: Final = ("bulkseed", "generator", "faker", "numpy")


BEGAN: Final = "(extract(epoch FROM started_at) * 1000000)::bigint"


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that is being loaded: its number, and when it began (microseconds since 1970).

    Numbers begin again when the ledger was dropped with its last run; who lost a run must not take another for it.
    """

    number: int
    began: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the ledger has it: its number, where and what it made, by which versions, how far it came.

    ``rows`` are those that are in, by table; ``expected`` those that there are in a whole run, as far as that is
    known before they are made: exact for users, channels and messages. ``shards`` are the numbers of the shards
    that are in, of those that :func:`bulkseed.shards.cut` gives for ``rows_per_shard``; None for a run of a
    version that kept none, which is whole.
    """

    number: int
    schema: str
    plan: Plan
    placement: Placement
    made_by: Mapping[str, str]
    state: State
    rows: Mapping[str, int]
    expected: Mapping[str, int]
    rows_per_shard: int | None = None
    shards: frozenset[int] | None = None
    began: int = 0
    """Microseconds since 1970."""

    @property
    def claim(self) -> Claim:
        """What tells it from another run of the same number."""
        return Claim(self.number, self.began)

    @property
    def whole(self) -> bool:
        """Whether all of it is in, with every index and key in place."""
        return self.state == "whole"

    def ids(self, table: str) -> tuple[int, int]:
        """The first and the last id that the run has reserved in ``users``, ``channels`` or ``messages``."""
        firsts = {
            "users": self.placement.first_user,
            "channels": self.placement.first_channel,
            "messages": self.placement.first_message,
        }
        return firsts[table], firsts[table] + self.expected[table] - 1


async def begin_run(
    connection: Connection,
    schema: str,
    plan: Plan,
    placement: Placement,
    made_by: Mapping[str, str],
    expected: Mapping[str, int],
    rows_per_shard: int,
) -> Claim:
    """Record a run into the tables of ``schema``, making the ledger where there is none."""
    await make_ledger(connection)
    row = await connection.fetchrow(
        f"INSERT INTO {SCHEMA}.runs (target_schema, plan, placement, made_by, expected, rows_per_shard, state) "
        f"VALUES ($1, $2, $3, $4, $5, $6, 'loading') RETURNING id, {BEGAN} AS began",
        schema,
        plan.to_json(),
        placement.to_json(),
        json.dumps(dict(made_by)),
        json.dumps(dict(expected)),
        rows_per_shard,
    )
    return Claim(row["id"], row["began"])


async def share_run(connection: Connection, claim: Claim) -> bool:
    """Whether the run is still being loaded; if so it stays so until the transaction ends.

    Who loads a shard asks first: a cleanup waits for shards that have begun, and none begins after it.
    """
    found = await connection.fetchval(
        f"SELECT true FROM {SCHEMA}.runs WHERE id = $1 AND {BEGAN} = $2 AND state = 'loading' FOR SHARE",
        claim.number,
        claim.began,
    )
    return found is not None


async def record_shard(connection: Connection, number: int, shard: int, rows: Mapping[str, int]) -> None:
    """Record that a shard of a run is in, in the transaction that loads it."""
    await connection.execute(
        f"INSERT INTO {SCHEMA}.shards (run, number, rows) VALUES ($1, $2, $3)", number, shard, json.dumps(dict(rows))
    )


async def finish_run(
    connection: Connection, claim: Claim, rows: Mapping[str, int], seconds: Mapping[str, float]
) -> None:
    """Record that a run is whole. Raises RunError where it is no longer being loaded, by the ledger."""
    tag = await connection.execute(
        f"UPDATE {SCHEMA}.runs SET state = 'whole', rows = $2, seconds = $3, finished_at = clock_timestamp() "
        f"WHERE id = $1 AND {BEGAN} = $4 AND state = 'loading'",
        claim.number,
        json.dumps(dict(rows)),
        json.dumps(dict(seconds)),
        claim.began,
    )
    if tag != "UPDATE 1":
        raise RunError(f"run {claim.number} is not being loaded any more, by the ledger: another command has undone it")


async def mark_undoing(connection: Connection, number: int) -> None:
    """Record that a run is not to go on; waits for shards of it that are being loaded."""
    await connection.execute(f"UPDATE {SCHEMA}.runs SET state = 'undoing' WHERE id = $1", number)


async def empty_run(connection: Connection, number: int) -> None:
    """Record that no row of a run is in any more, while its indexes and keys have yet to be rebuilt."""
    await connection.execute(f"DELETE FROM {SCHEMA}.shards WHERE run = $1", number)
    await connection.execute(f"UPDATE {SCHEMA}.runs SET state = 'undoing', rows = NULL WHERE id = $1", number)


async def forget_run(connection: Connection, number: int) -> None:
    """Take a run out of the ledger; the ledger goes with the last one, where this login owns it."""
    await connection.execute(f"DELETE FROM {SCHEMA}.runs WHERE id = $1", number)
    await forget_rebuilt(connection, number)
    await drop_ledger(connection)


async def runs(connection: Connection) -> list[Run]:
    """All runs, oldest first; none where there is no ledger."""
    if not await exists(connection):
        return []
    if await version(connection) == 1:
        return [
            run_of(row)
            for row in await connection.fetch(
                f"SELECT id, target_schema, plan, placement, made_by, rows, rows AS expected, 'whole' AS state, "
                f"NULL AS rows_per_shard, NULL AS shards, {BEGAN} AS began FROM {SCHEMA}.runs "
                "WHERE finished_at IS NOT NULL ORDER BY id"
            )
        ]
    return [
        run_of(row)
        for row in await connection.fetch(
            f"""
            SELECT id, target_schema, plan, placement, made_by, state, expected, rows_per_shard, {BEGAN} AS began,
                   ARRAY(SELECT number FROM {SCHEMA}.shards WHERE run = r.id) AS shards,
                   coalesce(rows, (SELECT jsonb_object_agg(key, total) FROM (
                       SELECT key, sum(value::bigint) AS total FROM {SCHEMA}.shards AS s, jsonb_each_text(s.rows)
                       WHERE s.run = r.id GROUP BY key) AS summed), '{{}}') AS rows
            FROM {SCHEMA}.runs AS r ORDER BY id
            """
        )
    ]


def run_of(row: Any) -> Run:
    try:
        made_by, rows, expected = (json.loads(row[name]) for name in ("made_by", "rows", "expected"))
        return Run(
            row["id"],
            row["target_schema"],
            Plan.from_json(row["plan"]),
            Placement.from_json(row["placement"]),
            {name: made_by[name] for name in MADE_BY},
            STATES[row["state"]],
            {name: int(rows[name] if row["state"] == "whole" else rows.get(name, 0)) for name in TABLE_NAMES},
            {name: int(expected[name]) for name in TABLE_NAMES},
            row["rows_per_shard"],
            # a run of version 1 kept no shards
            None if row["rows_per_shard"] is None else frozenset(row["shards"]),
            row["began"],
        )
    except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
        raise TargetError(
            f"the record of run {row['id']} in schema {SCHEMA} cannot be read ({error!r}): "
            "another bulkseed made it (use a newer one), or it was changed by hand"
        ) from error


async def chosen_runs(connection: Connection, numbers: Collection[int] | None) -> list[Run]:
    """All runs, or those with ``numbers``. Raises InputError where there is none, or not one of those."""
    found = await runs(connection)
    if not found:
        raise InputError("this database has no run of bulkseed: load one first, or name another database")
    if numbers is None:
        return found
    there = {run.number: run for run in found}
    for number in numbers:
        if number not in there:
            raise InputError(f"this database has no run {number}: it has {', '.join(map(str, there))}")
    return [there[number] for number in numbers]
