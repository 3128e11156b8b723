"""One shard into the target, as one transaction with its row in the ledger: when that commits, it is in, once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bulkseed import ledger
from bulkseed.connection import Connection, Place, connected, translated
from bulkseed.errors import RunError
from bulkseed.generators import Context
from bulkseed.job import Job
from bulkseed.pipeline import copy_shard
from bulkseed.shards import Shard
from bulkseed.stopwatch import Stopwatch
from bulkseed.transaction import transaction
from bulkseed.watch import Watcher

__all__ = ["load_shard", "loading_connection"]


@asynccontextmanager
async def loading_connection(place: Place) -> AsyncIterator[Connection]:
    """A connection that can send what both lanes make. Raises ConnectError."""
    async with connected(place) as connection:
        with translated(connection, "looking for citext"):
            await encode_citext(connection)
        yield connection


async def load_shard(
    connection: Connection, job: Job, context: Context, shard: Shard, stopwatch: Stopwatch, watcher: Watcher
) -> dict[str, int]:
    """Make the rows of ``shard`` and COPY them, and record it; returns the rows of each table.

    Raises RunError (ConnectionLost) with nothing of the shard loaded.
    """
    async with transaction(connection):
        with translated(connection, "reading the ledger"):
            if not await ledger.share_run(connection, job.run):
                raise RunError(f"run {job.run.number} is being undone by another command")
        rows = await copy_shard(connection, job.lanes, context, shard, stopwatch, watcher)
        with translated(connection, "recording a shard"):
            await ledger.record_shard(connection, job.run.number, shard.number, rows)
    return rows


async def encode_citext(connection: Connection) -> None:
    # asyncpg has no codec for citext, an extension's type; its wire format is text's
    schema = await connection.fetchval(
        "SELECT n.nspname FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace WHERE t.typname = 'citext'"
    )
    if schema is not None:
        await connection.set_builtin_type_codec("citext", schema=schema, codec_name="text")
