"""From a shard to COPY: generators and encoder in a thread, a bounded stream, and one COPY for each table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import TypeVar

import anyio
import pyarrow as pa
from anyio import to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bulkseed.copy.column_mapping import fitted_batch
from bulkseed.copy.encoders import binary, records
from bulkseed.copy.writer import BATCHES_AHEAD, CopyInto, copy_binary, copy_records
from bulkseed.errors import first_cause
from bulkseed.generators import Context, shard_tables
from bulkseed.plan.shards import Shard
from bulkseed.postgres.connection import Connection
from bulkseed.stopwatch import Stopwatch
from bulkseed.watch import Watcher

__all__ = ["copy_batches", "copy_shard"]

Encoded = TypeVar("Encoded")


async def copy_shard(
    connection: Connection,
    lanes: Mapping[str, CopyInto],
    context: Context,
    shard: Shard,
    stopwatch: Stopwatch,
    watcher: Watcher,
) -> dict[str, int]:
    """Make the rows of ``shard`` and COPY them, table by table in dependency order; returns the rows of each."""
    rows: dict[str, int] = {}
    made = shard_tables(context, shard)
    while (table := await to_thread.run_sync(next, made, None)) is not None:
        name, batches = table
        with stopwatch.phase(name):
            rows[name] = await copy_batches(connection, lanes[name], batches, partial(watcher.rows, name))
    return rows


async def copy_batches(
    connection: Connection, into: CopyInto, batches: Iterator[pa.RecordBatch], on_rows: Callable[[int], None]
) -> int:
    """COPY ``batches``, made and encoded in a thread while the server takes those before; returns the rows.

    Raises what copy_records and the encoders raise.
    """
    if into.fits:
        batches = (fitted_batch(batch, into.fits, str(into)) for batch in batches)
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
