"""Filling the tables: this process and workers load the missing shards while dropped keys are rebuilt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial

import anyio

from bulkseed.deferral import Deferred, count_steps, rebuild
from bulkseed.errors import StoppedError, reraise_first
from bulkseed.generators import Context
from bulkseed.ledger.control import Control
from bulkseed.listeners import Phase, ProgressListener, Stop, Stopwatch
from bulkseed.loader.load_shard import Job, ShardLoader
from bulkseed.loader.worker_pool import Done, ShardQueue, Worker, load_shards
from bulkseed.plan.shards import Shard
from bulkseed.plan.tables import ROOTS, Stage
from bulkseed.postgres.transaction import open_with_retry, retry
from bulkseed.sql import SQL
from bulkseed.target.target import Target

__all__ = ["TableFiller"]


class TableFiller:
    """The filling of the tables by one run. ``rows`` are the loaded rows, by table; ``shards`` the missing shards.

    ``pool`` are the worker processes beside this one, which is a worker too; ``rebuild_connections`` is the number of
    connections that rebuild indexes and keys. The shards of the stages ``alone`` are loaded one at a time.
    """

    def __init__(
        self,
        job: Job,
        shards: Sequence[Shard],
        rows: Mapping[str, int],
        pool: Sequence[Worker],
        rebuild_connections: int,
        stopwatch: Stopwatch,
        listener: ProgressListener,
        stop: Stop,
        alone: Collection[Stage] = (),
    ) -> None:
        self.job = job
        self.alone = alone
        self.shards = shards
        self.rows = dict(rows)
        self.shards_left = Counter(shard.stage for shard in shards)
        self.pool = pool
        self.rebuild_connections = rebuild_connections
        self.stopwatch = stopwatch
        self.listener = listener
        self.stop = stop
        self.steps_done = self.steps = 0
        """The steps of the rebuilding."""
        self.rows_complete: dict[Stage, anyio.Event] = {root: anyio.Event() for root in ROOTS}

    async def fill(self, control: Control, context: Context) -> None:
        """Load the shards. Raises StoppedError if that was asked for, and RunError; loaded shards stay loaded."""
        queue = ShardQueue(self.shards, self.alone)
        self.set_rows_complete()

        def on_done(shard: Shard, done: Done) -> None:
            for table, count in done.rows.items():
                self.rows[table] += count
            self.stopwatch.add(done.seconds)
            self.shards_left[shard.stage] -= 1
            self.set_rows_complete()

        async def load_here() -> None:
            async with ShardLoader(self.job, context, self.listener) as loader:
                while (shard := await queue.next_shard()) is not None:
                    stopwatch = Stopwatch()
                    rows = await loader.load(shard, stopwatch)
                    on_done(shard, Done(shard.number, rows, stopwatch.seconds))
                    queue.mark_done()

        self.listener.phase(Phase.COPY)
        with self.stopwatch.phase("copy"), self.stop.graceful_section():
            async with control.held(), anyio.create_task_group() as tasks:
                tasks.start_soon(self.close_when_asked, queue)
                await load_shards(self.pool, self.job, queue, self.listener, on_done, load_here)
                tasks.cancel_scope.cancel()
        if self.stop.asked.is_set():
            raise StoppedError("the shards in progress are loaded", code="stopped")

    def set_rows_complete(self) -> None:
        # that of the last stage is set by fill_and_rebuild(), after the phase of the rebuilding has begun
        for stage, event in self.rows_complete.items():
            if not self.shards_left[stage] and self.shards_left.total():
                event.set()

    async def close_when_asked(self, queue: ShardQueue) -> None:
        await self.stop.asked.wait()
        queue.close()
        self.listener.note("stopping after the shards in progress; press Ctrl-C again to stop at once")

    async def fill_and_rebuild(
        self, control: Control, context: Context, target: Target, deferred: Sequence[Deferred]
    ) -> None:
        """Load the shards, rebuild the indexes and keys of each table as soon as its rows are complete, and ANALYZE.

        Raises the errors of fill(), and RunError if something cannot be rebuilt.
        """
        model = target.model
        rows_complete: dict[SQL, anyio.Event] = {
            target.sql_name(table): self.rows_complete.get(model.stage(table), anyio.Event()) for table in model.names
        }
        self.steps = count_steps(deferred, rows_complete)
        rebuilt = anyio.Event()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.rebuild, deferred, rows_complete, rebuilt)
                if self.shards:
                    await self.fill(control, context)
                self.listener.phase(Phase.REBUILD, self.steps_done, self.steps)
                for event in rows_complete.values():
                    event.set()
                with self.stopwatch.phase("rebuild"):
                    async with control.held():
                        await rebuilt.wait()
        except BaseExceptionGroup as group:
            reraise_first(group)

    async def rebuild(
        self, deferred: Sequence[Deferred], rows_complete: Mapping[SQL, anyio.Event], rebuilt: anyio.Event
    ) -> None:
        def on_step(_name: str, _seconds: float) -> None:
            self.steps_done += 1
            # before that the phase is still COPY
            if all(event.is_set() for event in rows_complete.values()):
                self.listener.phase(Phase.REBUILD, self.steps_done, self.steps)

        connect = partial(open_with_retry, self.job.endpoint, self.job.retry_policy, self.listener)

        async def once() -> None:
            # a repetition goes quickly through what an earlier attempt has rebuilt
            self.steps_done = 0
            count = self.rebuild_connections
            await rebuild(
                connect,
                deferred,
                rows_complete=rows_complete,
                connections=count,
                cores=count,
                on_step=on_step,
                on_note=self.listener.note,
            )

        await retry(self.job.retry_policy, self.listener, "rebuilding indexes and keys", once)
        rebuilt.set()
