"""Dropping the indexes, keys and foreign keys that were captured and saved: all in one transaction, or none."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Final

import anyio
import asyncpg

from bulkseed.deferral.capture import constraint_state, index_state, qualified_names
from bulkseed.deferral.definitions import KEYS, Deferred
from bulkseed.deferral.steps import LOCK_SECONDS, Limits, NoLockError, run_with_retries, step_transaction
from bulkseed.errors import TargetError
from bulkseed.postgres.connection import Connection, server_message
from bulkseed.sql import SQL, compose, identifier

__all__ = ["drop"]

logger = logging.getLogger(__name__)

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
    """Drop the foreign keys, then the keys, then the indexes; those that no longer exist are skipped.

    Their definitions must be in the ledger, committed (:func:`bulkseed.deferral.save`). Waits ``lock_timeout``
    seconds for all locks together, ``tries`` times at most: an app is blocked for no longer, and can continue between
    the tries. Raises TargetError, with nothing dropped, where a lock is not available (the message names the holders),
    where a definition has changed since it was captured, or where an object has become dependent on one; RunError or
    ConnectionLostError for other errors of the server. ``before`` is awaited first in the same transaction: if it
    raises, nothing is dropped.
    https://www.postgresql.org/docs/current/explicit-locking.html
    """
    if not deferred:
        return
    tables = sorted(
        {definition.table for definition in deferred}
        | {definition.parent for definition in deferred if definition.parent}
    )
    limits = Limits(lock_timeout, tries)

    async def drop_once() -> None:
        async with step_transaction(connection, limits):
            if before is not None:
                await before()
            await drop_all(connection, deferred, Budget(lock_timeout))

    began = perf_counter()
    try:
        await run_with_retries(connection, DOING, tables, limits, drop_once)
        logger.info("%s indexes and keys are dropped in %.3f s", len(deferred), perf_counter() - began)
    except NoLockError as error:
        raise TargetError(f"{error}\nnothing was dropped", code=error.code) from error


class Budget:
    """Seconds to wait for all locks together: locks already held block others while we wait for the next."""

    def __init__(self, seconds: float) -> None:
        self.deadline = anyio.current_time() + seconds

    def limit(self, statement: SQL) -> SQL:
        """Return the statement with the remaining time as its lock_timeout (0 ms would mean no limit)."""
        remaining = max(1, round((self.deadline - anyio.current_time()) * 1000))
        return compose("SET LOCAL lock_timeout = '{ms}ms'; {statement}", ms=remaining, statement=statement)


async def drop_all(connection: Connection, deferred: Sequence[Deferred], budget: Budget) -> None:
    # all locks first, so that the definitions read below cannot change before they are dropped
    for table in sorted({definition.table for definition in deferred}):
        await connection.execute(budget.limit(compose("LOCK TABLE ONLY {table}", table=table)))
    async with qualified_names(connection):
        existing = [definition for definition in deferred if await exists(connection, definition)]
    constraints = [definition for definition in existing if definition.kind == "foreign key"]
    constraints += [definition for definition in existing if definition.kind in KEYS]
    try:
        for constraint in constraints:
            # for a foreign key this also locks the referenced table, which may not be among ours
            statement = compose(
                "ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}",
                table=constraint.table,
                name=identifier(constraint.name),
            )
            logger.debug("%s", statement)
            await connection.execute(budget.limit(statement))
        for definition in existing:
            # of keys too: an interrupted rebuild leaves the index of a key without its constraint
            if definition.kind != "foreign key":
                statement = compose("DROP INDEX IF EXISTS {index}", index=definition.index)
                logger.debug("%s", statement)
                await connection.execute(statement)
    except asyncpg.DependentObjectsStillExistError as error:
        raise TargetError(
            f"{DOING}: another object now depends on one of them ({server_message(error)}), so nothing was dropped: "
            "try again",
            code="new-dependent",
        ) from error


async def exists(connection: Connection, deferred: Deferred) -> bool:
    state = await index_state(connection, deferred) if deferred.kind != "foreign key" else "absent"
    if deferred.kind != "index" and state != "other":
        constraint = await constraint_state(connection, deferred)
        state = constraint if constraint != "absent" else state
    if state == "other":
        raise TargetError(
            f"{DOING}: {deferred} has changed since it was read, so nothing was dropped: try again",
            code="changed-definition",
        )
    return state == "same"
