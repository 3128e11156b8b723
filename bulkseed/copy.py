"""COPY: record batches from a bounded stream into one table, over asyncpg."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import anyio
import asyncpg
from anyio.streams.memory import MemoryObjectReceiveStream

from bulkseed.connection import LOST, Connection, translated
from bulkseed.encoders import Record
from bulkseed.errors import ConnectionLost, RunError

__all__ = ["BATCHES_AHEAD", "CopyInto", "copy_records"]

BATCHES_AHEAD: Final = 2
"""Batches that wait between the generator and COPY: enough that neither waits for nothing."""

SETTLE_SECONDS: Final = 0.1

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class CopyInto:
    """Where a COPY goes: a table (of the connection's search_path without a schema), its columns, which are zoned."""

    table: str
    columns: tuple[str, ...]
    schema: str | None = None
    zoned: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}" if self.schema else self.table


async def copy_records(
    connection: Connection,
    into: CopyInto,
    batches: MemoryObjectReceiveStream[Sequence[Record]],
    on_rows: Callable[[int], None],
) -> int:
    """COPY the batches that arrive as one command, until the stream ends; returns the number of rows.

    ``on_rows`` is told of each batch that has gone to the driver. Raises RunError for a row that the driver or
    the server refuses, and where the server takes fewer rows than it was sent; ConnectionLost where it goes away.
    """
    sent = 0
    last: Record = ()

    async def rows() -> AsyncIterator[Record]:
        nonlocal sent, last
        async for batch in batches:
            for record in batch:
                last = record
                yield record
            sent += len(batch)
            on_rows(len(batch))

    with translated(connection, f"loading {into}"):
        try:
            tag = await while_connected(
                connection,
                connection.copy_records_to_table(
                    into.table, records=rows(), columns=into.columns, schema_name=into.schema
                ),
            )
        except (asyncpg.InternalClientError, OverflowError, TypeError, ValueError) as error:
            if connection.is_closed():
                raise
            # asyncpg says what is wrong with a value, but not whose it is
            values = ", ".join(
                f"{name} {value!r:.40}" for name, value in list(zip(into.columns, last, strict=False))[:3]
            )
            raise RunError(
                f"a row cannot be sent to {into} ({error}; the row begins {values or 'nowhere'}): "
                "give the column a type that takes it"
            ) from error
    copied = int(tag.split()[-1])
    if copied != sent:
        raise RunError(
            f"{into} took {copied:,} of {sent:,} rows: a trigger or rule of the table drops some; switch it off"
        )
    return copied


async def while_connected(connection: Connection, command: Awaitable[Result]) -> Result:
    """The result of ``command``. Raises ConnectionLost where the connection ends meanwhile.

    asyncpg waits for ever when the server dies while a COPY's writes are paused, so the command is cancelled
    when the connection says that it has ended.
    """
    with anyio.CancelScope() as scope:

        def ended(_: Connection) -> None:
            scope.cancel()

        connection.add_termination_listener(ended)
        try:
            return await command
        except Exception:
            # a connection that is just dying refuses a command first, and says that it is dead a moment later
            await anyio.sleep(0 if connection.is_closed() else SETTLE_SECONDS)
            raise
        finally:
            connection.remove_termination_listener(ended)
    raise ConnectionLost(LOST)
