"""COPY: rows from a bounded stream into one table, as records or in the binary format, over asyncpg."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal, TypeVar

import anyio
import asyncpg
import pyarrow as pa
from anyio import to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bulkseed.copy.column_mapping import ColumnMapping, convert_batch
from bulkseed.copy.encoders import Chunk, Record, Type, binary, records
from bulkseed.errors import ConnectionLost, RunError, first_cause
from bulkseed.generators import Context, shard_tables
from bulkseed.listeners import ProgressListener, Stopwatch
from bulkseed.plan.shards import Shard
from bulkseed.postgres.connection import LOST, Connection, translate_errors

__all__ = ["BATCHES_AHEAD", "CopyFormat", "CopyInto", "copy_batches", "copy_binary", "copy_records", "copy_shard"]

BATCHES_AHEAD: Final = 2
"""Batches that wait between the generator and COPY: enough that neither waits for nothing."""

SETTLE_SECONDS: Final = 0.1

CopyFormat = Literal["records", "binary"]
"""How rows go to the server: as tuples that asyncpg encodes, or in COPY's binary format, which pgpq makes."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class CopyInto:
    """Where a COPY goes, and how: plain data, that another process may be given.

    A table (of the connection's search_path without a schema), its columns in the order of the COPY, and their
    types by name, below any domain, without those that the binary lane does not know; and how
    the columns of a batch become those.
    """

    table: str
    columns: tuple[str, ...]
    schema: str | None = None
    lane: CopyFormat = "records"
    types: Mapping[str, Type] = field(default_factory=dict)
    mappings: tuple[ColumnMapping, ...] = ()

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}" if self.schema else self.table


@dataclass(slots=True)
class Sent:
    """The rows that have gone to the driver, and who is told of them."""

    on_rows: Callable[[int], None]
    rows: int = 0

    def add(self, count: int) -> None:
        if count:
            self.rows += count
            self.on_rows(count)


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
    if "citext" in {str(type_).removesuffix("[]") for type_ in into.types.values()}:
        with translate_errors(connection, "looking for citext"):
            await encode_citext(connection)
    sent = Sent(on_rows)
    last: Record = ()

    async def rows() -> AsyncIterator[Record]:
        nonlocal last
        async for batch in batches:
            for record in batch:
                last = record
                yield record
            sent.add(len(batch))

    command = connection.copy_records_to_table(
        into.table, records=rows(), columns=into.columns, schema_name=into.schema
    )
    try:
        return await copied(connection, into, command, sent)
    except (asyncpg.InternalClientError, OverflowError, TypeError, ValueError) as error:
        # asyncpg says what is wrong with a value, but not whose it is
        values = ", ".join(f"{name} {value!r:.40}" for name, value in list(zip(into.columns, last, strict=False))[:3])
        raise RunError(
            f"a row cannot be sent to {into} ({error}; the row begins {values or 'nowhere'}): "
            "give the column a type that takes it"
        ) from error


async def encode_citext(connection: Connection) -> None:
    # asyncpg has no codec for citext, an extension's type; its wire format is text's
    schema = await connection.fetchval(
        "SELECT n.nspname FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace WHERE t.typname = 'citext'"
    )
    await connection.set_builtin_type_codec("citext", schema=schema, codec_name="text")


async def copy_binary(
    connection: Connection,
    into: CopyInto,
    chunks: MemoryObjectReceiveStream[Chunk],
    on_rows: Callable[[int], None],
) -> int:
    """COPY the chunks that arrive, which make up COPY's binary format, as one command; returns the number of rows.

    ``on_rows`` is told of the rows of each chunk that has gone to the driver. Raises as copy_records does.
    """
    sent = Sent(on_rows)

    async def data() -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield chunk.data
            sent.add(chunk.rows)

    command = connection.copy_to_table(
        into.table, source=data(), columns=into.columns, schema_name=into.schema, format="binary"
    )
    return await copied(connection, into, command, sent)


async def copied(connection: Connection, into: CopyInto, command: Awaitable[str], sent: Sent) -> int:
    """The rows that ``command`` has loaded: all that were sent. Raises RunError and ConnectionLost."""
    with translate_errors(connection, f"loading {into}"):
        tag = await while_connected(connection, command)
    rows = int(tag.split()[-1])
    if rows != sent.rows:
        raise RunError(
            f"{into} took {rows:,} of {sent.rows:,} rows: a trigger or rule of the table drops some; switch it off"
        )
    return rows


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


Encoded = TypeVar("Encoded")


async def copy_shard(
    connection: Connection,
    lanes: Mapping[str, CopyInto],
    context: Context,
    shard: Shard,
    stopwatch: Stopwatch,
    listener: ProgressListener,
) -> dict[str, int]:
    """Make the rows of ``shard`` and COPY them, table by table in dependency order; returns the rows of each."""
    rows: dict[str, int] = {}
    made = shard_tables(context, shard)
    while (table := await to_thread.run_sync(next, made, None)) is not None:
        name, batches = table
        with stopwatch.phase(name):
            rows[name] = await copy_batches(connection, lanes[name], batches, partial(listener.rows, name))
    return rows


async def copy_batches(
    connection: Connection, into: CopyInto, batches: Iterator[pa.RecordBatch], on_rows: Callable[[int], None]
) -> int:
    """COPY ``batches``, made and encoded in a thread while the server takes those before; returns the rows.

    Raises what copy_records and the encoders raise.
    """
    if into.mappings:
        batches = (convert_batch(batch, into.mappings, str(into)) for batch in batches)
    if into.lane == "binary":
        types = {name: into.types[name] for name in into.columns}
        return await streamed(connection, into, binary(batches, types, str(into)), copy_binary, on_rows)
    zoned = [name for name, type_ in into.types.items() if str(type_).removesuffix("[]") == "timestamptz"]
    # by name: COPY goes by position, and asyncpg drops what a record has too much
    tuples = (records(batch.select(into.columns), zoned, str(into)) for batch in batches)
    return await streamed(connection, into, tuples, copy_records, on_rows)


async def streamed(
    connection: Connection,
    into: CopyInto,
    encoded: Iterator[Encoded],
    copy: Callable[[Connection, CopyInto, MemoryObjectReceiveStream[Encoded], Callable[[int], None]], Awaitable[int]],
    on_rows: Callable[[int], None],
) -> int:
    send, receive = anyio.create_memory_object_stream[Encoded](BATCHES_AHEAD)
    try:
        async with send, receive, anyio.create_task_group() as tasks:
            tasks.start_soon(produce, encoded, send)
            return await copy(connection, into, receive, on_rows)
    except BaseExceptionGroup as group:
        raise first_cause(group) from group
    raise AssertionError("a task group ends by returning or raising")


async def produce(encoded: Iterator[Encoded], send: MemoryObjectSendStream[Encoded]) -> None:
    while (piece := await to_thread.run_sync(next, encoded, None)) is not None:
        await send.send(piece)
    # not after an error, which must not look like the end of the rows
    send.close()
