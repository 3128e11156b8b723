"""Transactions that a cancellation cannot leave open, and a command's turn among other commands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
import asyncpg

from bulkseed import ledger
from bulkseed.connection import Connection, translated
from bulkseed.errors import ConnectionLost
from bulkseed.watch import Watcher

__all__ = ["take_turn", "transaction"]

ROLLBACK_SECONDS: Final = 5


async def take_turn(connection: Connection, watcher: Watcher) -> None:
    """Hold the load lock until the connection ends, waiting for, and naming, who has it.

    It comes before anything else: who waits must not hold a lock that the other one needs.
    """
    if not await ledger.try_load_lock(connection):
        holder = await ledger.load_lock_holder(connection)
        watcher.note(f"waiting for another bulkseed in this database ({holder or 'just ending'}) to finish")
        await ledger.hold_load_lock(connection)


@asynccontextmanager
async def transaction(connection: Connection) -> AsyncIterator[None]:
    """A transaction that is rolled back when the block raises or is cancelled.

    Each statement sees what was committed before it, whatever the login's default. Row security raises an error
    instead of hiding rows. The rollback is shielded from a cancellation, and bounded: a server too busy to hear of
    it finds the connection closed, which rolls back as well. So is the commit, which cannot be taken back.
    """
    begun = connection.transaction(isolation="read_committed")
    await begun.start()
    try:
        await connection.execute("SET LOCAL row_security = off")
        yield
    except BaseException:
        with anyio.move_on_after(ROLLBACK_SECONDS, shield=True) as limit:
            try:
                await begun.rollback()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()
        if limit.cancelled_caught:
            connection.terminate()
        raise
    try:
        with anyio.CancelScope(shield=True), translated(connection, "committing"):
            await begun.commit()
    except ConnectionLost as error:
        raise ConnectionLost(
            "the connection was lost while committing, so it is not known whether that was done: "
            "look with `bulkseed verify`"
        ) from error
