"""Transactions that neither an error nor a cancellation can leave open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
import asyncpg

from bulkseed.errors import ConnectionLost
from bulkseed.postgres.connection import Connection, translated

__all__ = ["begun", "transaction"]

ROLLBACK_SECONDS: Final = 5


@asynccontextmanager
async def begun(connection: Connection, *, isolation: str | None = None) -> AsyncIterator[None]:
    """A transaction that is rolled back when the block raises or is cancelled, and else committed.

    The rollback is shielded from a cancellation, and bounded: a server too busy to hear of it finds the connection
    closed, which rolls back as well. So is the commit, which cannot be taken back. Raises what asyncpg raises.
    """
    block = connection.transaction(isolation=isolation)
    try:
        await block.start()
    except BaseException:
        # a BEGIN that was cut off may have been heard: what comes next would be a savepoint in it, never committed
        connection.terminate()
        raise
    try:
        yield
    except BaseException:
        with anyio.move_on_after(ROLLBACK_SECONDS, shield=True) as limit:
            try:
                await block.rollback()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()
        if limit.cancelled_caught:
            connection.terminate()
        raise
    with anyio.CancelScope(shield=True):
        await block.commit()


@asynccontextmanager
async def transaction(connection: Connection) -> AsyncIterator[None]:
    """A transaction, as :func:`begun` has it, for a command's own rows.

    Each statement sees what was committed before it, whatever the login's default. Row security raises an error
    instead of hiding rows. Raises ConnectionLost where it cannot begin, and where it is not known whether it was
    committed.
    """
    done = False
    try:
        async with begun(connection, isolation="read_committed"):
            await connection.execute("SET LOCAL row_security = off")
            yield
            done = True
    except Exception as error:
        doing = "committing" if done else "in a transaction"
        with translated(connection, doing):
            if done and connection.is_closed():
                raise ConnectionLost(
                    "the connection was lost while committing, so it is not known whether that was done"
                ) from error
            raise
