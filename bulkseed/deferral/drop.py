"""Dropping what was captured and saved: all of it in one transaction, or none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio
import asyncpg

from bulkseed.deferral.capture import constraint_state, full_names, index_state
from bulkseed.deferral.definitions import KEYS, Deferred
from bulkseed.deferral.steps import LOCK_SECONDS, Limits, NoLock, step, tried
from bulkseed.errors import TargetError
from bulkseed.postgres.connection import Connection, server_message
from bulkseed.sql import identifier

__all__ = ["drop"]

DOING: Final = "dropping indexes and keys for the load"
TRIES: Final = 5
"""With the pauses, some ten seconds."""


async def drop(
    connection: Connection,
    deferred: Sequence[Deferred],
    *,
    lock_timeout: float = LOCK_SECONDS,
    tries: int = TRIES,
    before: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Drop the foreign keys, then the keys, then the indexes; what is already gone is passed over.

    Their definitions must be in the ledger, committed (:func:`bulkseed.deferral.save`). Waits ``lock_timeout``
    seconds for all locks together, ``tries`` times at most: an app stands still no longer, and goes on between the
    tries. Raises TargetError, with nothing dropped, where a lock cannot be had (it names who has
    it), where a definition is no longer the one captured, or where something has come to depend on one; and
    RunError or ConnectionLost for what else the server refuses. ``before`` is awaited in the same transaction, first:
    what it raises keeps all in place.
    https://www.postgresql.org/docs/current/explicit-locking.html
    """
    if not deferred:
        return
    tables = sorted({each.table for each in deferred} | {each.parent for each in deferred if each.parent})
    limits = Limits(lock_timeout, tries)

    async def once() -> None:
        async with step(connection, limits):
            if before is not None:
                await before()
            await drop_all(connection, deferred, Budget(lock_timeout))

    try:
        await tried(connection, DOING, tables, limits, once)
    except NoLock as error:
        raise TargetError(f"{error}; nothing was dropped") from error


class Budget:
    """Seconds to wait for locks, all together: who has some while it waits for another keeps others waiting too."""

    def __init__(self, seconds: float) -> None:
        self.until = anyio.current_time() + seconds

    def within(self, statement: str) -> str:
        """The statement, with what is left of it (0 ms would mean no limit)."""
        left = max(1, round((self.until - anyio.current_time()) * 1000))
        return f"SET LOCAL lock_timeout = '{left}ms'; {statement}"


async def drop_all(connection: Connection, deferred: Sequence[Deferred], budget: Budget) -> None:
    # first what locks wait for, all of it, so that what is looked at below cannot change before it is dropped
    for table in sorted({each.table for each in deferred}):
        await connection.execute(budget.within(f"LOCK TABLE ONLY {table}"))
    async with full_names(connection):
        there = [each for each in deferred if await is_there(connection, each)]
    constraints = [each for each in there if each.kind == "foreign key"]
    constraints += [each for each in there if each.kind in KEYS]
    try:
        for each in constraints:
            # it locks the table that a foreign key points at too, which may not be ours
            drop_it = f"ALTER TABLE {each.table} DROP CONSTRAINT IF EXISTS {identifier(each.name)}"
            await connection.execute(budget.within(drop_it))
        for each in there:
            # a key too: a rebuild cut off leaves its index without the constraint
            if each.kind != "foreign key":
                await connection.execute(f"DROP INDEX IF EXISTS {each.index}")
    except asyncpg.DependentObjectsStillExistError as error:
        raise TargetError(
            f"{DOING}: something has come to depend on one of them ({server_message(error)}); "
            "nothing was dropped: try again"
        ) from error


async def is_there(connection: Connection, deferred: Deferred) -> bool:
    state = await index_state(connection, deferred) if deferred.kind != "foreign key" else "absent"
    if deferred.kind != "index" and state != "other":
        constraint = await constraint_state(connection, deferred)
        state = constraint if constraint != "absent" else state
    if state == "other":
        raise TargetError(f"{DOING}: {deferred} has changed since it was read; nothing was dropped: try again")
    return state == "same"
