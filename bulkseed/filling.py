"""Filling the tables: all shards of a run, by this process or by workers, while what was dropped is rebuilt."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial

import anyio

from bulkseed.connection import Connection, connected, kept_alive
from bulkseed.deferral import Deferred, rebuild
from bulkseed.errors import first_cause
from bulkseed.generators import Context
from bulkseed.job import Job
from bulkseed.shard_load import load_shard
from bulkseed.shards import Shard, cut, shard_counts
from bulkseed.stopwatch import Stopwatch
from bulkseed.tables import TABLE_NAMES
from bulkseed.target import Target
from bulkseed.watch import Watcher
from bulkseed.workers import Done, Turns, Worker, load_shards

__all__ = ["Filling"]


class Filling:
    """One run's way into the tables. ``rows`` has what is in so far, by table.

    ``staff`` are the worker processes beside this one, which is a worker too.
    """

    def __init__(
        self, job: Job, rows_per_shard: int, staff: Sequence[Worker], stopwatch: Stopwatch, watcher: Watcher
    ) -> None:
        self.job = job
        self.rows_per_shard = rows_per_shard
        self.staff = staff
        self.stopwatch = stopwatch
        self.watcher = watcher
        self.rows = dict.fromkeys(TABLE_NAMES, 0)
        self.users_full = anyio.Event()

    async def fill(self, connection: Connection, context: Context) -> None:
        """Load all shards. Raises RunError (ConnectionLost); what is in stays in."""
        left = shard_counts(self.job.plan, self.rows_per_shard)
        turns = Turns(cut(self.job.plan, self.rows_per_shard))

        def on_done(shard: Shard, said: Done) -> None:
            for table, count in said.rows.items():
                self.rows[table] += count
            self.stopwatch.add(said.seconds)
            left[shard.kind] -= 1
            if not left["users"]:
                self.users_full.set()

        async def own() -> None:
            while (shard := await turns.following()) is not None:
                spent = Stopwatch()
                rows = await load_shard(connection, self.job, context, shard, spent, self.watcher)
                on_done(shard, Done(shard.number, rows, spent.seconds))
                turns.done(shard)

        self.watcher.phase("copy")
        with self.stopwatch.phase("copy"):
            await load_shards(self.staff, self.job, turns, self.watcher, on_done, own)

    async def fill_and_rebuild(
        self, connection: Connection, context: Context, target: Target, deferred: Sequence[Deferred]
    ) -> None:
        """Load all shards, rebuild what was dropped, each table's as soon as it is full, and ANALYZE all tables.

        Raises what fill() raises, and RunError where something cannot be rebuilt.
        """
        full = {target.name(table): anyio.Event() for table in TABLE_NAMES}
        full[target.name("users")] = self.users_full
        rebuilt = anyio.Event()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.rebuild, deferred, full, rebuilt)
                await self.fill(connection, context)
                self.watcher.phase("rebuild")
                for event in full.values():
                    event.set()
                with self.stopwatch.phase("rebuild"):
                    async with kept_alive(connection):
                        await rebuilt.wait()
        except BaseExceptionGroup as group:
            raise first_cause(group) from group

    async def rebuild(
        self, deferred: Sequence[Deferred], full: Mapping[str, anyio.Event], rebuilt: anyio.Event
    ) -> None:
        steps = itertools.count(1)

        def told(_: str, __: float) -> None:
            step = next(steps)
            if all(event.is_set() for event in full.values()):
                self.watcher.phase(f"rebuild, step {step}")

        lanes = 1 + len(self.staff)
        await rebuild(
            partial(connected, self.job.endpoint), deferred, full=full, lanes=lanes, cores=lanes, on_step=told
        )
        rebuilt.set()
