"""Filling the tables: the shards that are not in yet, by this process and workers, while dropped keys are rebuilt."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

import anyio

from bulkseed.deferral import Deferred, rebuild
from bulkseed.errors import Stopped, first_cause
from bulkseed.generators import Context
from bulkseed.ledger.control import Control
from bulkseed.listeners import ProgressListener, Stop, Stopwatch
from bulkseed.loader.shard_load import Job, ShardLoader
from bulkseed.loader.worker_pool import Done, ShardQueue, Worker, load_shards
from bulkseed.plan.shards import Shard
from bulkseed.plan.tables import Stage
from bulkseed.postgres.transaction import open_with_retry, retry
from bulkseed.target.target import Target

__all__ = ["Filling"]


class Filling:
    """One run's way into the tables. ``rows`` has what is in so far, by table; ``shards`` what is to come.

    ``pool`` are the worker processes beside this one, which is a worker too; ``rebuild_lanes`` how many connections
    rebuild what was dropped.
    """

    def __init__(
        self,
        job: Job,
        shards: Sequence[Shard],
        rows: Mapping[str, int],
        pool: Sequence[Worker],
        rebuild_lanes: int,
        stopwatch: Stopwatch,
        listener: ProgressListener,
        stop: Stop,
    ) -> None:
        self.job = job
        self.shards = shards
        self.rows = dict(rows)
        self.left = Counter(shard.stage for shard in shards)
        self.pool = pool
        self.rebuild_lanes = rebuild_lanes
        self.stopwatch = stopwatch
        self.listener = listener
        self.stop = stop
        self.full: dict[Stage, anyio.Event] = {"users": anyio.Event(), "channels": anyio.Event()}

    async def fill(self, control: Control, context: Context) -> None:
        """Load the shards. Raises Stopped where that was asked for, and RunError; what is in stays in."""
        turns = ShardQueue(self.shards)
        self.tell_full()

        def on_done(shard: Shard, said: Done) -> None:
            for table, count in said.rows.items():
                self.rows[table] += count
            self.stopwatch.add(said.seconds)
            self.left[shard.stage] -= 1
            self.tell_full()

        async def own() -> None:
            async with ShardLoader(self.job, context, self.listener) as loader:
                while (shard := await turns.next_shard()) is not None:
                    spent = Stopwatch()
                    rows = await loader.load(shard, spent)
                    on_done(shard, Done(shard.number, rows, spent.seconds))
                    turns.done(shard)

        self.listener.phase("copy")
        with self.stopwatch.phase("copy"), self.stop.graceful_section():
            async with control.held(), anyio.create_task_group() as tasks:
                tasks.start_soon(self.obey, turns)
                await load_shards(self.pool, self.job, turns, self.listener, on_done, own)
                tasks.cancel_scope.cancel()
        if self.stop.asked.is_set():
            raise Stopped("the shards in hand are in")

    def tell_full(self) -> None:
        # those of channels too only where late ones follow: the end of all shards is told by who rebuilds
        for stage, event in self.full.items():
            if not self.left[stage] and self.left.total():
                event.set()

    async def obey(self, turns: ShardQueue) -> None:
        await self.stop.asked.wait()
        turns.close()
        self.listener.note("stopping when the shards in hand are in; Ctrl-C again stops at once")

    async def fill_and_rebuild(
        self, control: Control, context: Context, target: Target, deferred: Sequence[Deferred]
    ) -> None:
        """Load the shards, rebuild what was dropped, each table's as soon as it is full, and ANALYZE all tables.

        Raises what fill() raises, and RunError where something cannot be rebuilt.
        """
        model = target.model
        full: dict[str, anyio.Event] = {
            target.name(table): self.full.get(model.stage(table), anyio.Event()) for table in model.names
        }
        rebuilt = anyio.Event()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.rebuild, deferred, full, rebuilt)
                if self.shards:
                    await self.fill(control, context)
                self.listener.phase("rebuild")
                for event in full.values():
                    event.set()
                with self.stopwatch.phase("rebuild"):
                    async with control.held():
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
                self.listener.phase(f"rebuild, step {step}")

        connect = partial(open_with_retry, self.job.endpoint, self.job.retry_policy, self.listener)

        async def once() -> None:
            # what is there already it passes over
            await rebuild(
                connect, deferred, full=full, lanes=self.rebuild_lanes, cores=self.rebuild_lanes, on_step=told
            )

        await retry(self.job.retry_policy, self.listener, "rebuilding indexes and keys", once)
        rebuilt.set()
