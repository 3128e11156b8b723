"""Limited waits for locks on the ledger's tables and rows, with errors that name who holds them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import asyncpg

from bulkseed.deferral import describe_holders
from bulkseed.errors import TransientError
from bulkseed.ledger.tables import TABLES, Ledger
from bulkseed.postgres.connection import Connection
from bulkseed.postgres.transaction import safe_transaction
from bulkseed.sql import compose, literal

__all__ = ["READ_SECONDS", "WRITE_SECONDS", "limit_read", "limit_wait"]

READ_SECONDS: Final = 10
WRITE_SECONDS: Final = 60
"""A server notices within this time that the client of a transaction is gone for good."""


@asynccontextmanager
async def limit_wait(connection: Connection, ledger: Ledger, seconds: float | None = None) -> AsyncIterator[None]:
    """Limit each wait for a lock in the block, which is part of the present transaction or a transaction of its own.

    Blocks may be nested: the limit of the outer one is restored.

    ``seconds`` defaults to WRITE_SECONDS. Raises TransientError, naming who holds locks on the ledger.
    """
    seconds = WRITE_SECONDS if seconds is None else seconds
    limit = compose("SET LOCAL lock_timeout = '{ms}ms'", ms=round(seconds * 1000))
    is_part = connection.is_in_transaction()
    try:
        if is_part:
            limit_before = await connection.fetchval("SELECT current_setting('lock_timeout')")
            await connection.execute(compose("SAVEPOINT ledger; {limit}", limit=limit))
            yield
            await connection.execute(
                compose("SET LOCAL lock_timeout = {before}; RELEASE SAVEPOINT ledger", before=literal(limit_before))
            )
        else:
            async with safe_transaction(connection):
                await connection.execute(limit)
                yield
    except asyncpg.LockNotAvailableError as error:
        if is_part:
            await connection.execute("ROLLBACK TO SAVEPOINT ledger")
        holders = await describe_holders(connection, [ledger.table(name) for name in TABLES])
        raise TransientError(
            f"the ledger in schema {ledger.schema} is locked, and was not released in {seconds:g} s: "
            f"held by {holders}; end that transaction, and try again",
            code="ledger-locked",
        ) from error


def limit_read(connection: Connection, ledger: Ledger) -> AbstractAsyncContextManager[None]:
    """Limit each wait for a lock in the block, as :func:`limit_wait` does, to READ_SECONDS."""
    return limit_wait(connection, ledger, READ_SECONDS)
