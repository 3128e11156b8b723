"""From a shard to COPY: generators and encoder in a thread, a bounded stream, and one COPY for each table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import anyio
import pyarrow as pa
from anyio import to_thread
from anyio.streams.memory import MemoryObjectSendStream

from bulkseed.connection import Connection
from bulkseed.copy import BATCHES_AHEAD, CopyInto, copy_records
from bulkseed.encoders import Record, records
from bulkseed.errors import BulkseedError
from bulkseed.generators import Context, shard_tables
from bulkseed.shards import Shard
from bulkseed.stopwatch import Stopwatch
from bulkseed.tables import TABLES
from bulkseed.target import Target
from bulkseed.watch import Watcher

__all__ = ["copy_batches", "copy_shard", "first_cause"]


async def copy_shard(
    connection: Connection, target: Target, context: Context, shard: Shard, stopwatch: Stopwatch, watcher: Watcher
) -> dict[str, int]:
    """Make the rows of ``shard`` and COPY them, table by table in dependency order; returns the rows of each."""
    columns = {table.name: table.column_names for table in TABLES}
    rows: dict[str, int] = {}
    made = shard_tables(context, shard)
    while (table := await to_thread.run_sync(next, made, None)) is not None:
        name, batches = table
        into = CopyInto(name, columns[name], target.schema, target.zoned(name))
        with stopwatch.phase(name):
            rows[name] = await copy_batches(connection, into, batches, partial(watcher.rows, name))
    return rows


async def copy_batches(
    connection: Connection, into: CopyInto, batches: Iterator[pa.RecordBatch], on_rows: Callable[[int], None]
) -> int:
    """COPY ``batches``, made and encoded in a thread while the server takes those before; returns the rows.

    Raises what copy_records raises.
    """
    send, receive = anyio.create_memory_object_stream[Sequence[Record]](BATCHES_AHEAD)
    try:
        async with receive, anyio.create_task_group() as tasks:
            tasks.start_soon(produce, batches, into, send)
            return await copy_records(connection, into, receive, on_rows)
    except BaseExceptionGroup as group:
        raise first_cause(group) from group
    raise AssertionError("a task group ends by returning or raising")


async def produce(
    batches: Iterator[pa.RecordBatch], into: CopyInto, send: MemoryObjectSendStream[Sequence[Record]]
) -> None:
    def following() -> list[Record] | None:
        batch = next(batches, None)
        # by name: COPY goes by position, and asyncpg drops what a record has too much
        return None if batch is None else records(batch.select(into.columns), into.zoned)

    async with send:
        while (encoded := await to_thread.run_sync(following)) is not None:
            await send.send(encoded)


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error of a task group that says what happened: one of ours if there is one, else the first."""
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves.append(first_cause(error) if isinstance(error, BaseExceptionGroup) else error)
    return next((error for error in leaves if isinstance(error, BulkseedError)), leaves[0])
