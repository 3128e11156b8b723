"""Writes to the ledger: a run is begun, taken over, loaded shard by shard, finished, undone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import asyncpg

from bulkseed.deferral import describe_holders, forget_rebuilt
from bulkseed.errors import InputError, RunError
from bulkseed.ledger.locks import WRITE_SECONDS, limit_wait
from bulkseed.ledger.tables import Ledger, exists, make_ledger
from bulkseed.listeners import ProgressListener
from bulkseed.plan.plan import Placement, Plan, Reservation
from bulkseed.postgres.connection import Connection, translate_errors
from bulkseed.sql import compose

__all__ = [
    "LOCK",
    "Claim",
    "acquire_load_lock",
    "begin_run",
    "changed_run_error",
    "claim_shard",
    "describe_lock_holder",
    "find_run_by_token",
    "finish_run",
    "forget_run",
    "forget_shards",
    "lock_incomplete",
    "lost_run_error",
    "mark_emptied",
    "mark_undoing",
    "record_shard",
    "share_run",
    "take_over",
]

SECONDS_BEFORE_NOTE: Final = 2
"""How long a lock is waited for before a note says who holds it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that a command is loading: its number, and a token that changes when another command takes the run over.

    The token keeps a command that has lost a run from going on with it, and from mistaking another run for it:
    numbers begin again with a new ledger.
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
    reservations: Sequence[Reservation],
    *,
    ids_given: bool = False,
) -> Claim:
    """Record a run into the tables of ``schema``; make the ledger if there is none. ``token`` is a new UUID.

    ``reservations`` are what the run has taken from sequences; ``ids_given``: whether the user gave its first ids.
    """
    await make_ledger(connection, ledger)
    number: int = await connection.fetchval(
        compose(
            "INSERT INTO {runs} "
            "(token, origin, target_schema, plan, placement, made_by, expected, rows_per_shard, reserved, state, "
            "login, client) VALUES ($1::text::uuid, $1::text::uuid, $2, $3, $4, $5, $6, $7, $8, 'loading', "
            "session_user, host(inet_client_addr())) RETURNING id",
            runs=ledger.runs,
        ),
        token,
        schema,
        plan.to_json(),
        placement.to_json(),
        json.dumps(dict(made_by)),
        json.dumps(dict(expected)),
        rows_per_shard,
        json.dumps(
            {"ids_given": ids_given, "sequences": [asdict(reservation) for reservation in reservations]},
        ),
    )
    return Claim(number, token)


async def find_run_by_token(connection: Connection, ledger: Ledger, token: str) -> Claim | None:
    """Return the run that was begun with ``token``; None if there is none.

    It tells whether a run was recorded when the answer to the commit was lost. Raises RunError if another command has
    taken the run over.
    """
    if not await exists(connection, ledger):
        return None
    # the columns are read through jsonb because an older ledger does not have them yet
    row = await connection.fetchrow(
        compose(
            "SELECT id, to_jsonb(r) ->> 'token' AS token FROM {runs} AS r WHERE to_jsonb(r) ->> 'origin' = $1",
            runs=ledger.runs,
        ),
        token,
    )
    if row is None:
        return None
    if row["token"] != token:
        raise lost_run_error(row["id"], ledger)
    return Claim(row["id"], token)


def lost_run_error(number: int, ledger: Ledger) -> RunError:
    """Return the error of a command whose run belongs to another command now."""
    return RunError(
        f"another command has taken over or undone run {number}: see {ledger.command('runs')}",
        code="run-lost",
    )


async def lock_runs(connection: Connection, ledger: Ledger, listener: ProgressListener) -> None:
    """Keep shards from being begun until the transaction ends, and wait for those that are being loaded.

    ``listener`` gets a note that says who loads them. Raises TransientError if they are not finished in time. A command
    that loads a shard asks for a weaker lock on the same table. Locks on a table are granted in the order of the
    requests; locks on a row are not.
    """
    lock = compose("LOCK TABLE {runs} IN EXCLUSIVE MODE", runs=ledger.runs)
    try:
        async with connection.transaction():
            await connection.execute(
                compose("SET LOCAL lock_timeout = '{ms}ms'; {lock}", ms=round(SECONDS_BEFORE_NOTE * 1000), lock=lock)
            )
    except asyncpg.LockNotAvailableError:
        who = await describe_holders(connection, [ledger.runs])
        listener.note(
            f"waiting for shards that are still being loaded, by {who}; if that client is gone for good, "
            "end the server process with SELECT pg_terminate_backend(PID)"
        )
        async with limit_wait(connection, ledger, WRITE_SECONDS - SECONDS_BEFORE_NOTE):
            await connection.execute(lock)
    else:
        await connection.execute("SET LOCAL lock_timeout = 0")


async def take_over(
    connection: Connection, ledger: Ledger, claim: Claim, token: str, listener: ProgressListener
) -> Claim:
    """Make this command the owner of a run; wait for shards that the previous owner is still loading.

    A repetition with the same token changes nothing. Raises RunError if ``claim`` is out of date.
    """
    await lock_runs(connection, ledger, listener)
    tag = await connection.execute(
        compose(
            "UPDATE {runs} SET token = $3::text::uuid, resumed = resumed + (token <> $3::text::uuid)::int, "
            "login = session_user, client = host(inet_client_addr()) "
            "WHERE id = $1 AND token IN ($2::text::uuid, $3::text::uuid) AND state = 'loading'",
            runs=ledger.runs,
        ),
        claim.number,
        claim.token,
        token,
    )
    if tag != "UPDATE 1":
        raise lost_run_error(claim.number, ledger)
    return Claim(claim.number, token)


async def share_run(connection: Connection, ledger: Ledger, claim: Claim) -> None:
    """Keep the state and the owner of a run as they are until the transaction ends.

    Each transaction that loads a shard begins with this. A cleanup, and a command that takes the run over, therefore
    wait for the shards that have begun, and none begins after it. Raises RunError if this command has lost the run.
    """
    is_ours = await connection.fetchval(
        compose(
            "SELECT true FROM {runs} WHERE id = $1 AND token = $2::text::uuid AND state = 'loading' FOR SHARE",
            runs=ledger.runs,
        ),
        claim.number,
        claim.token,
    )
    if is_ours is None:
        raise lost_run_error(claim.number, ledger)


async def claim_shard(connection: Connection, ledger: Ledger, number: int, shard: int) -> dict[str, int] | None:
    """Claim a shard of a run, in the transaction that is to load it; return its rows by table if it is loaded already.

    Waits for another transaction that has claimed the shard: its client is gone, or it is committing at this moment.
    """
    tag = await connection.execute(
        compose(
            "INSERT INTO {shards} (run, number, rows) VALUES ($1, $2, '{}') ON CONFLICT DO NOTHING",
            shards=ledger.shards,
        ),
        number,
        shard,
    )
    if tag == "INSERT 0 1":
        return None
    rows = json.loads(
        await connection.fetchval(
            compose("SELECT rows::text FROM {shards} WHERE run = $1 AND number = $2", shards=ledger.shards),
            number,
            shard,
        )
    )
    return {name: int(count) for name, count in rows.items()}


async def record_shard(
    connection: Connection, ledger: Ledger, number: int, shard: int, rows: Mapping[str, int]
) -> None:
    """Record the rows of a claimed shard, at the end of the transaction that loads it."""
    await connection.execute(
        compose(
            "UPDATE {shards} SET rows = $3, loaded_at = clock_timestamp() WHERE run = $1 AND number = $2",
            shards=ledger.shards,
        ),
        number,
        shard,
        json.dumps(dict(rows)),
    )


async def finish_run(
    connection: Connection, ledger: Ledger, claim: Claim, rows: Mapping[str, int], seconds: Mapping[str, float]
) -> None:
    """Record that a run is complete; a repetition is no error. Raises RunError if this command has lost the run."""
    tag = await connection.execute(
        compose(
            "UPDATE {runs} SET state = 'whole', rows = $2, seconds = $3, finished_at = clock_timestamp() "
            "WHERE id = $1 AND token = $4::text::uuid AND state IN ('loading', 'whole')",
            runs=ledger.runs,
        ),
        claim.number,
        json.dumps(dict(rows)),
        json.dumps(dict(seconds)),
        claim.token,
    )
    if tag != "UPDATE 1":
        raise lost_run_error(claim.number, ledger)


async def lock_incomplete(
    connection: Connection, ledger: Ledger, claims: Sequence[Claim], listener: ProgressListener
) -> None:
    """Keep the state and the owner of runs, none of them complete, as they are until the transaction ends.

    Waits for shards of theirs that are being loaded. Nothing is written: on a full disk there may be no room for
    another version of a row. Raises InputError if one of ``claims`` is out of date.
    """
    if claims:
        await lock_runs(connection, ledger, listener)
    for claim in claims:
        # a ledger of an older version has no tokens
        is_ours = await connection.fetchval(
            compose(
                "SELECT true FROM {runs} AS r "
                "WHERE id = $1 AND coalesce(to_jsonb(r) ->> 'token', '') = $2 AND state <> 'whole'",
                runs=ledger.runs,
            ),
            claim.number,
            claim.token,
        )
        if is_ours is None:
            raise changed_run_error(claim.number, ledger)


def changed_run_error(number: int, ledger: Ledger) -> InputError:
    """Return the error of a command for which a run was chosen that has changed since."""
    return InputError(
        f"run {number} has changed since it was chosen: list the runs with {ledger.command('runs')}, and choose again",
        code="run-changed",
    )


async def mark_undoing(connection: Connection, ledger: Ledger, number: int) -> None:
    """Record that a run is being undone, so that no command loads more of its shards."""
    # a row that has been marked already is not written again, which would need room on a full disk
    await connection.execute(
        compose(
            "UPDATE {runs} SET state = 'undoing', rows = NULL "
            "WHERE id = $1 AND (state <> 'undoing' OR rows IS NOT NULL)",
            runs=ledger.runs,
        ),
        number,
    )


async def mark_emptied(connection: Connection, ledger: Ledger, number: int) -> None:
    """Record that all rows of a run are removed, while its indexes and keys have yet to be rebuilt."""
    await connection.execute(compose("DELETE FROM {shards} WHERE run = $1", shards=ledger.shards), number)
    await mark_undoing(connection, ledger, number)


async def forget_shards(connection: Connection, ledger: Ledger, number: int, shards: Sequence[int]) -> None:
    """Delete the records of these shards of a run, in the transaction that removes their rows."""
    await connection.execute(
        compose("DELETE FROM {shards} WHERE run = $1 AND number = ANY ($2::int[])", shards=ledger.shards),
        number,
        list(shards),
    )


async def forget_run(connection: Connection, ledger: Ledger, number: int) -> None:
    """Delete the record of a run; :func:`bulkseed.ledger.drop_empty_ledger` drops the ledger after the last one."""
    await connection.execute(compose("DELETE FROM {runs} WHERE id = $1", runs=ledger.runs), number)
    await forget_rebuilt(connection, ledger.deferred, number)


LOCK: Final = 0x62756C6B73656564
"""The bytes of "bulkseed"."""


async def acquire_load_lock(connection: Connection, listener: ProgressListener) -> None:
    """Hold the lock of all commands that write seeded rows until the connection ends; wait for its holder if need be.

    ``listener`` gets a note that says who holds the lock. It must be the first lock of a command: one that waits for
    it must not hold a lock that the holder needs. Raises ConnectionLostError.
    """
    with translate_errors(connection, "waiting for the load lock"):
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
            who = await describe_lock_holder(connection) or "just ending"
            listener.note(f"waiting for another bulkseed in this database ({who}) to finish")
            await connection.execute("SELECT pg_advisory_lock($1)", LOCK)


async def describe_lock_holder(connection: Connection) -> str | None:
    """Return who holds the load lock, as text: server process, user and start; None if no other connection does."""
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
    # backend_start of another user's session is NULL without the privileges of pg_read_all_stats
    since = f", since {row['since']} UTC" if row["since"] else ""
    return f"server process {row['pid']} of the user {row['usename']}{since}"
