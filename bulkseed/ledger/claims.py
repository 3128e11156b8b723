"""Writing to the ledger: a run is begun, taken over, loaded shard by shard, finished, undone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from bulkseed.deferral import forget_rebuilt, holders
from bulkseed.errors import InputError, RunError
from bulkseed.ledger.tables import Ledger, drop_ledger, exists, make_ledger
from bulkseed.listeners import ProgressListener
from bulkseed.plan.plan import Placement, Plan
from bulkseed.postgres.connection import Connection, translate_errors

__all__ = [
    "LOCK",
    "Claim",
    "acquire_load_lock",
    "another",
    "begin_run",
    "claim_shard",
    "empty_run",
    "finish_run",
    "forget_run",
    "forget_shards",
    "holder",
    "mark_undoing",
    "record_shard",
    "run_of_token",
    "share_run",
    "take_over",
]

PATIENCE_SECONDS: Final = 2


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that a command is loading: its number, and a token that a command which takes it over changes.

    Who lost a run must not go on with it, nor take another for it: numbers begin again with a new ledger.
    """

    number: int
    token: str


async def begin_run(
    connection: Connection,
    ledger: Ledger,
    token: str,
    schema: str,
    plan: Plan,
    placement: Placement,
    made_by: Mapping[str, str],
    expected: Mapping[str, int],
    rows_per_shard: int,
) -> Claim:
    """Record a run into the tables of ``schema``, making the ledger where there is none. ``token`` is a new UUID."""
    await make_ledger(connection, ledger)
    number: int = await connection.fetchval(
        f"INSERT INTO {ledger.runs} "
        "(token, origin, target_schema, plan, placement, made_by, expected, rows_per_shard, state, login, client) "
        "VALUES ($1::text::uuid, $1::text::uuid, $2, $3, $4, $5, $6, $7, 'loading', session_user, "
        "host(inet_client_addr())) RETURNING id",
        token,
        schema,
        plan.to_json(),
        placement.to_json(),
        json.dumps(dict(made_by)),
        json.dumps(dict(expected)),
        rows_per_shard,
    )
    return Claim(number, token)


async def run_of_token(connection: Connection, ledger: Ledger, token: str) -> Claim | None:
    """The run that was begun with ``token``, where the answer to that commit was lost; None where it was not begun.

    Raises RunError where it is not ours any more.
    """
    if not await exists(connection, ledger):
        return None
    # an older ledger has no such column yet
    found = await connection.fetchrow(
        f"SELECT id, to_jsonb(r) ->> 'token' AS token FROM {ledger.runs} AS r WHERE to_jsonb(r) ->> 'origin' = $1",
        token,
    )
    if found is not None and found["token"] != token:
        raise RunError(lost(found["id"]))
    return None if found is None else Claim(found["id"], token)


def lost(number: int) -> str:
    return f"run {number} is not this command's any more: another goes on with it, or has undone it"


async def lock_runs(connection: Connection, ledger: Ledger, listener: ProgressListener) -> None:
    """Keep shards from being begun until the transaction ends, and wait for those that have begun; says for whom.

    Who loads a shard asks for a weaker lock on the table: in that queue each has its turn, which for a row's lock is
    not so.
    """
    lock = f"LOCK TABLE {ledger.runs} IN EXCLUSIVE MODE"
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{PATIENCE_SECONDS}s'; {lock}")
    except asyncpg.LockNotAvailableError:
        who = await holders(connection, [ledger.runs])
        listener.note(
            f"waiting for shards that are still being loaded, by {who}; where its client is gone for good, "
            "pg_terminate_backend(that process) ends it"
        )
        await connection.execute(f"SET LOCAL lock_timeout = 0; {lock}")
    else:
        await connection.execute("SET LOCAL lock_timeout = 0")


async def take_over(
    connection: Connection, ledger: Ledger, claim: Claim, token: str, listener: ProgressListener
) -> Claim:
    """Make a run this command's, for it to go on with; waits for shards that a command before is loading yet.

    The same again with the same token changes nothing. Raises RunError where ``claim`` is not what the run is any more.
    """
    await lock_runs(connection, ledger, listener)
    tag = await connection.execute(
        f"UPDATE {ledger.runs} SET token = $3::text::uuid, resumed = resumed + (token <> $3::text::uuid)::int, "
        "login = session_user, client = host(inet_client_addr()) "
        "WHERE id = $1 AND token IN ($2::text::uuid, $3::text::uuid) AND state = 'loading'",
        claim.number,
        claim.token,
        token,
    )
    if tag != "UPDATE 1":
        raise RunError(lost(claim.number))
    return Claim(claim.number, token)


async def share_run(connection: Connection, ledger: Ledger, claim: Claim) -> None:
    """Keep a run as it is until the transaction ends: being loaded, and by us.

    Who loads a shard does so first: a cleanup, or who takes the run over, waits for shards that have begun, and none
    begins after it. Raises RunError where the run is not ours any more.
    """
    found = await connection.fetchval(
        f"SELECT true FROM {ledger.runs} WHERE id = $1 AND token = $2::text::uuid AND state = 'loading' FOR SHARE",
        claim.number,
        claim.token,
    )
    if found is None:
        raise RunError(lost(claim.number))


async def claim_shard(connection: Connection, ledger: Ledger, number: int, shard: int) -> dict[str, int] | None:
    """Claim a shard of a run, in the transaction that is to load it; where it is in already, its rows by table.

    Waits for another transaction that has claimed it: one whose client is gone, or that commits at this moment.
    """
    tag = await connection.execute(
        f"INSERT INTO {ledger.shards} (run, number, rows) VALUES ($1, $2, '{{}}') ON CONFLICT DO NOTHING", number, shard
    )
    if tag == "INSERT 0 1":
        return None
    rows = json.loads(
        await connection.fetchval(
            f"SELECT rows::text FROM {ledger.shards} WHERE run = $1 AND number = $2", number, shard
        )
    )
    return {name: int(count) for name, count in rows.items()}


async def record_shard(
    connection: Connection, ledger: Ledger, number: int, shard: int, rows: Mapping[str, int]
) -> None:
    """Record the rows of a claimed shard, at the end of the transaction that loads it."""
    await connection.execute(
        f"UPDATE {ledger.shards} SET rows = $3, loaded_at = clock_timestamp() WHERE run = $1 AND number = $2",
        number,
        shard,
        json.dumps(dict(rows)),
    )


async def finish_run(
    connection: Connection, ledger: Ledger, claim: Claim, rows: Mapping[str, int], seconds: Mapping[str, float]
) -> None:
    """Record that a run is whole. Raises RunError where it is not ours any more. Doing it again is no error."""
    tag = await connection.execute(
        f"UPDATE {ledger.runs} SET state = 'whole', rows = $2, seconds = $3, finished_at = clock_timestamp() "
        f"WHERE id = $1 AND token = $4::text::uuid AND state IN ('loading', 'whole')",
        claim.number,
        json.dumps(dict(rows)),
        json.dumps(dict(seconds)),
        claim.token,
    )
    if tag != "UPDATE 1":
        raise RunError(lost(claim.number))


async def mark_undoing(
    connection: Connection, ledger: Ledger, claims: Sequence[Claim], listener: ProgressListener
) -> None:
    """Record that runs, none of them whole, are not to go on; waits for shards of theirs that are being loaded.

    Raises InputError where one of them is not what ``claims`` says any more.
    """
    if claims:
        await lock_runs(connection, ledger, listener)
    for claim in claims:
        # a ledger of an older version has no tokens
        tag = await connection.execute(
            f"UPDATE {ledger.runs} AS r SET state = 'undoing' "
            "WHERE id = $1 AND coalesce(to_jsonb(r) ->> 'token', '') = $2 AND state <> 'whole'",
            claim.number,
            claim.token,
        )
        if tag != "UPDATE 1":
            raise InputError(another(claim.number, ledger))


def another(number: int, ledger: Ledger) -> str:
    """What is said where a run is not the one that was meant."""
    return f"run {number} has changed since it was chosen: look at {ledger.command('runs')}, and choose again"


async def empty_run(connection: Connection, ledger: Ledger, number: int) -> None:
    """Record that no row of a run is in any more, while its indexes and keys have yet to be rebuilt."""
    await connection.execute(f"DELETE FROM {ledger.shards} WHERE run = $1", number)
    await connection.execute(f"UPDATE {ledger.runs} SET state = 'undoing', rows = NULL WHERE id = $1", number)


async def forget_shards(connection: Connection, ledger: Ledger, number: int, shards: Sequence[int]) -> None:
    """Record that the rows of these shards of a run are out again, in the transaction that removes them."""
    await connection.execute(
        f"DELETE FROM {ledger.shards} WHERE run = $1 AND number = ANY ($2::int[])", number, list(shards)
    )


async def forget_run(connection: Connection, ledger: Ledger, number: int) -> None:
    """Take a run out of the ledger; the ledger goes with the last one, where this login owns it."""
    await connection.execute(f"DELETE FROM {ledger.runs} WHERE id = $1", number)
    await forget_rebuilt(connection, ledger.deferred, number)
    await drop_ledger(connection, ledger)


LOCK: Final = 0x62756C6B73656564
"""The bytes of "bulkseed"."""


async def acquire_load_lock(connection: Connection, listener: ProgressListener) -> None:
    """Hold the lock of all that writes seeded rows until the connection ends, waiting for, and naming, who has it.

    It comes before anything else: who waits must not hold a lock that the other one needs. Raises ConnectionLost.
    """
    with translate_errors(connection, "waiting for the turn of this command"):
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
            who = await holder(connection) or "just ending"
            listener.note(f"waiting for another bulkseed in this database ({who}) to finish")
            await connection.execute("SELECT pg_advisory_lock($1)", LOCK)


async def holder(connection: Connection) -> str | None:
    """Who holds the lock, in words: its server process, login, and since when; None where nobody else does."""
    row = await connection.fetchrow(
        """
        SELECT a.pid, a.usename, to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS since
        FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
          AND (l.classid::bigint << 32 | l.objid::bigint) = $1 AND l.pid <> pg_backend_pid()
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """,
        LOCK,
    )
    if row is None:
        return None
    # who may not read all statistics is not told when another login's session began
    since = f", since {row['since']} UTC" if row["since"] else ""
    return f"process {row['pid']} of {row['usename']}{since}"
