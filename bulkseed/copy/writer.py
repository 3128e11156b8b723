"""COPY of rows from a bounded stream into one table, as records or in the binary format, with asyncpg."""

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
from bulkseed.copy.encoders import WIRE_TYPES, Chunk, Record, Type, base_types, encode_binary, encode_records
from bulkseed.errors import RunError, reraise_first
from bulkseed.generators import Context, shard_tables
from bulkseed.listeners import ProgressListener, Stopwatch
from bulkseed.plan.shards import Shard
from bulkseed.postgres.connection import Connection, lost_error, translate_errors

__all__ = ["BATCHES_AHEAD", "CopyFormat", "CopyPlan", "copy_batches", "copy_binary", "copy_records", "copy_shard"]

BATCHES_AHEAD: Final = 2
"""Batches that wait between the generator and COPY: enough that neither waits for the other without need."""

SETTLE_SECONDS: Final = 0.1

CopyFormat = Literal["records", "binary"]
"""The format in which rows are sent: tuples that asyncpg encodes, or COPY's binary format."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """The table, columns and format of a COPY: plain data, which can be sent to another process.

    Without a ``schema`` the table is found by the connection's search_path. ``columns`` are in the order of the COPY;
    ``types`` are their base types by name, below any domain, without those that the binary format does not support.
    ``mappings`` convert the columns of a batch; without any, a batch has the table's columns already.
    """

    table: str
    columns: tuple[str, ...]
    schema: str | None = None
    format: CopyFormat = "records"
    types: Mapping[str, Type] = field(default_factory=dict)
    mappings: tuple[ColumnMapping, ...] = ()

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}" if self.schema else self.table


@dataclass(slots=True)
class SentRows:
    """The number of rows handed to the driver, and the callback that is told of each batch."""

    on_rows: Callable[[int], None]
    rows: int = 0

    def add(self, count: int) -> None:
        if count:
            self.rows += count
            self.on_rows(count)


async def copy_records(
    connection: Connection,
    plan: CopyPlan,
    batches: MemoryObjectReceiveStream[Sequence[Record]],
    on_rows: Callable[[int], None],
) -> int:
    """COPY the batches of the stream with one command, until the stream ends, and return the number of rows.

    ``on_rows`` is called with the number of rows of each batch handed to the driver. Raises RunError for a row that the
    driver or the server refuses, and where the server stores fewer rows than were sent; ConnectionLostError where the
    connection ends.
    """
    bases = {base for type_ in plan.types.values() for base in base_types(type_)}
    if "citext" in bases:
        with translate_errors(connection, "looking for citext"):
            await encode_citext(connection)
    if wire_types := bases & {*WIRE_TYPES}:
        with translate_errors(connection, "preparing the codecs"):
            await pass_octets(connection, sorted(wire_types))
    sent = SentRows(on_rows)
    last: Record = ()

    async def rows() -> AsyncIterator[Record]:
        nonlocal last
        async for batch in made(connection, batches):
            for record in batch:
                last = record
                yield record
            sent.add(len(batch))

    command = connection.copy_records_to_table(
        plan.table, records=rows(), columns=plan.columns, schema_name=plan.schema
    )
    try:
        return await finish_copy(connection, plan, command, sent)
    except (asyncpg.InternalClientError, OverflowError, TypeError, ValueError) as error:
        # asyncpg names the problem with a value, but not its row
        values = ", ".join(f"{name} {value!r:.40}" for name, value in list(zip(plan.columns, last, strict=False))[:3])
        row = f"; the row begins with {values}" if values else ""
        raise RunError(
            f"a row cannot be sent to {plan} ({error}{row}): change the value, or give its column a type that takes it",
            code="value-not-encodable",
        ) from error


Piece = TypeVar("Piece")


async def made(connection: Connection, pieces: MemoryObjectReceiveStream[Piece]) -> AsyncIterator[Piece]:
    """Yield the pieces of the stream; while one is being made, the connection is not waiting for the server."""
    while True:
        try:
            with connection.making_rows():
                piece = await pieces.receive()
        except anyio.EndOfStream:
            return
        yield piece


async def encode_citext(connection: Connection) -> None:
    # asyncpg has no codec for citext, the type of an extension; its binary format is that of text
    schema = await connection.fetchval(
        "SELECT n.nspname FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace WHERE t.typname = 'citext'"
    )
    await connection.set_builtin_type_codec("citext", schema=schema, codec_name="text")


async def pass_octets(connection: Connection, types: Sequence[str]) -> None:
    """Let asyncpg send octets as the values of ``types``: it has no codec for some of them.

    It also returns them so, for as long as the connection lasts.
    """
    for type_ in types:
        await connection.set_type_codec(type_, schema="pg_catalog", encoder=bytes, decoder=bytes, format="binary")


async def copy_binary(
    connection: Connection,
    plan: CopyPlan,
    chunks: MemoryObjectReceiveStream[Chunk],
    on_rows: Callable[[int], None],
) -> int:
    """COPY the chunks of the stream, which make up COPY's binary format, with one command; return the number of rows.

    ``on_rows`` is called with the number of rows of each chunk handed to the driver. Raises as copy_records does.
    """
    sent = SentRows(on_rows)

    async def data() -> AsyncIterator[bytes | memoryview]:
        async for chunk in made(connection, chunks):
            yield chunk.data
            sent.add(chunk.rows)

    command = connection.copy_to_table(
        plan.table, source=data(), columns=plan.columns, schema_name=plan.schema, format="binary"
    )
    return await finish_copy(connection, plan, command, sent)


async def finish_copy(connection: Connection, plan: CopyPlan, command: Awaitable[str], sent: SentRows) -> int:
    """Await ``command`` and return the number of rows stored.

    Raises RunError where these are fewer than were sent, and the errors of translate_errors.
    """
    doing = f"loading {plan}"
    with translate_errors(connection, doing):
        tag = await await_while_connected(connection, doing, command)
    rows = int(tag.split()[-1])
    if rows != sent.rows:
        raise RunError(
            f"{plan} took {rows:,} of {sent.rows:,} rows: a trigger or rule of the table discards some: disable it",
            code="rows-dropped",
        )
    return rows


async def await_while_connected(connection: Connection, doing: str, command: Awaitable[Result]) -> Result:
    """Return the result of ``command``. Raises ConnectionLostError where the connection ends meanwhile.

    asyncpg waits for ever when the server dies while the writes of a COPY are paused, so the command is cancelled
    when the connection is terminated.
    """
    with anyio.CancelScope() as scope:

        def ended(_: Connection) -> None:
            scope.cancel()

        connection.add_termination_listener(ended)
        try:
            return await command
        except Exception:
            # a connection that is being lost refuses a command first, and is marked as closed a moment later
            await anyio.sleep(0 if connection.is_closed() else SETTLE_SECONDS)
            raise
        finally:
            connection.remove_termination_listener(ended)
    raise lost_error(connection, doing)


Encoded = TypeVar("Encoded")


async def copy_shard(
    connection: Connection,
    copy_plans: Mapping[str, CopyPlan],
    context: Context,
    shard: Shard,
    stopwatch: Stopwatch,
    listener: ProgressListener,
) -> dict[str, int]:
    """Generate the rows of ``shard`` and COPY them, table by table in dependency order; return their number by table.

    ``copy_plans`` are by bulkseed's names of the tables. Raises the errors of copy_batches and the generators.
    """
    rows: dict[str, int] = {}
    tables = shard_tables(context, shard)
    while (table := await to_thread.run_sync(next, tables, None)) is not None:
        name, batches = table
        with stopwatch.phase(name):
            rows[name] = await copy_batches(connection, copy_plans[name], batches, partial(listener.rows, name))
    return rows


async def copy_batches(
    connection: Connection, plan: CopyPlan, batches: Iterator[pa.RecordBatch], on_rows: Callable[[int], None]
) -> int:
    """COPY ``batches``, generated and encoded in a thread while earlier ones are sent, and return the number of rows.

    Raises the errors of copy_records, the encoders and ``batches``.
    """
    if plan.mappings:
        batches = (convert_batch(batch, plan.mappings, str(plan)) for batch in batches)
    if plan.format == "binary":
        types = {name: plan.types[name] for name in plan.columns}
        return await stream(connection, plan, encode_binary(batches, types, str(plan)), copy_binary, on_rows)
    zoned = [name for name, type_ in plan.types.items() if str(type_).removesuffix("[]") == "timestamptz"]
    # selected by name, since COPY goes by position and asyncpg ignores surplus values of a record
    records = (encode_records(batch.select(plan.columns), zoned, str(plan)) for batch in batches)
    return await stream(connection, plan, records, copy_records, on_rows)


async def stream(
    connection: Connection,
    plan: CopyPlan,
    encoded: Iterator[Encoded],
    copy: Callable[[Connection, CopyPlan, MemoryObjectReceiveStream[Encoded], Callable[[int], None]], Awaitable[int]],
    on_rows: Callable[[int], None],
) -> int:
    send, receive = anyio.create_memory_object_stream[Encoded](BATCHES_AHEAD)
    try:
        async with send, receive, anyio.create_task_group() as tasks:
            tasks.start_soon(produce, encoded, send)
            return await copy(connection, plan, receive, on_rows)
    except BaseExceptionGroup as group:
        reraise_first(group)
    raise AssertionError("a task group ends by returning or raising")


async def produce(encoded: Iterator[Encoded], send: MemoryObjectSendStream[Encoded]) -> None:
    while (piece := await to_thread.run_sync(next, encoded, None)) is not None:
        await send.send(piece)
    # only without an error, which must not look like the end of the rows
    send.close()
