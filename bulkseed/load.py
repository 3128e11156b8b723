"""Loading: from a plan to rows in the target, shard by shard, undone again where it fails."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Final

import anyio
import numpy as np
from anyio import to_thread

from bulkseed import ledger
from bulkseed.address import Address
from bulkseed.cleanup import undone
from bulkseed.connection import Connection, connected, translated
from bulkseed.deferral import Deferred, drop, mark_rebuilt, rebuild, save, unfinished
from bulkseed.deferring import Defer, captured
from bulkseed.errors import TargetError
from bulkseed.estimate import expected_rows
from bulkseed.faker_corpus import FAKER_VERSION, corpus_of
from bulkseed.generators import Context
from bulkseed.job import Endpoint, Job
from bulkseed.lanes import Format, choose_lanes
from bulkseed.orm import orm_connected
from bulkseed.pipeline import first_cause
from bulkseed.placing import place
from bulkseed.plan import Placement, Plan
from bulkseed.prose import longest_text
from bulkseed.reservation import check_rights
from bulkseed.shard_load import load_shard, loading_connection
from bulkseed.shards import ROWS_PER_SHARD, Shard, cut, shard_counts
from bulkseed.stopwatch import Stopwatch
from bulkseed.streams import GENERATOR_VERSION
from bulkseed.tables import TABLE_NAMES
from bulkseed.target import Target, read_target
from bulkseed.transaction import take_turn, transaction
from bulkseed.watch import Silent, Watcher
from bulkseed.workers import Worker, hired, load_shards

__all__ = ["LoadReport", "load", "made_by", "useful_workers"]

LOCK_SECONDS: Final = 10.0
"""How long a deferred load waits for the app's transactions to let go of a table."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a load did: its number in the ledger, rows by table, and seconds by phase with ``total``.

    The seconds of a table are those of its COPYs, over all workers; ``copy`` is the wall time of all of them.
    ``deferred`` says whether indexes and keys were dropped and rebuilt, ``workers`` how many loaded.
    """

    run: int
    plan: Plan
    placement: Placement
    rows: Mapping[str, int]
    seconds: Mapping[str, float]
    deferred: bool
    workers: int


def made_by() -> dict[str, str]:
    """The versions that a run's bytes depend on, by name."""
    return {
        "bulkseed": version("bulkseed"),
        "generator": str(GENERATOR_VERSION),
        "faker": FAKER_VERSION,
        "numpy": np.__version__,
    }


def useful_workers(plan: Plan, most: int, rows_per_shard: int = ROWS_PER_SHARD) -> int:
    """How many of ``most`` workers find something to do: no more than there are shards of channels."""
    return max(1, min(most, shard_counts(plan, rows_per_shard)["channels"]))


async def load(
    plan: Plan,
    address: Address,
    *,
    watcher: Watcher | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    workers: int = 1,
    defer: Defer = "auto",
    format: Format = "auto",
) -> LoadReport:
    """Load ``plan`` into the database at ``address``: each shard is a transaction, recorded in the ledger.

    ``workers`` processes do so, each over a connection of its own; one is this process itself. ``defer`` says
    whether indexes and keys are dropped meanwhile and rebuilt after it, ``format`` how rows are sent. None of them
    touches the rows.

    Raises InputError (ConnectError, TargetError) before anything is written, and RunError (ConnectionLost) for
    a failure after that. Then, and when it is cancelled, what was loaded is taken out again and what was dropped
    is rebuilt. When it is killed, or cancelled a second time, :func:`bulkseed.cleanup.cleanup` does so.
    """
    count = useful_workers(plan, workers, rows_per_shard)
    async with hired(count if count > 1 else 0) as staff:
        return await Loading(plan, address, watcher or Silent(), rows_per_shard, count, staff).run(defer, format)


class Loading:
    """One load, from its checks to its report."""

    def __init__(
        self,
        plan: Plan,
        address: Address,
        watcher: Watcher,
        rows_per_shard: int,
        workers: int,
        staff: Sequence[Worker],
    ) -> None:
        self.plan = plan
        self.address = address
        self.watcher = watcher
        self.rows_per_shard = rows_per_shard
        self.workers = workers
        self.staff = staff
        self.stopwatch = Stopwatch()
        self.rows = dict.fromkeys(TABLE_NAMES, 0)

    async def run(self, defer: Defer, format: Format) -> LoadReport:
        """Load; undo what was begun where that fails."""
        self.watcher.phase("check")
        with self.stopwatch.phase("check"):
            corpus = await to_thread.run_sync(corpus_of, self.plan.locale)
            async with orm_connected(self.address) as orm:
                target = await read_target(orm, longest_text(corpus.lorem))
        async with loading_connection(self.address) as connection:
            await take_turn(connection, self.watcher)
            async with transaction(connection):
                with self.stopwatch.phase("check"), translated(connection, "checking the target"):
                    await check_rights(connection, target)
                    await ledger.check_ledger(connection)
                    await check_unfinished(connection)
                    lanes = await choose_lanes(connection, target, format)
                    found = await captured(connection, target, self.plan, defer, self.watcher)
                self.watcher.phase("reserve")
                with self.stopwatch.phase("reserve"), translated(connection, "reserving ids"):
                    context = await place(connection, target, self.plan, corpus)
                    expected = counts(context)
                    run = await ledger.begin_run(
                        connection,
                        target.schema,
                        self.plan,
                        context.placement,
                        made_by(),
                        expected,
                        self.rows_per_shard,
                    )
                    deferred = found.deferred if found else ()
                    await save(connection, run, deferred)
            job = Job(Endpoint.of(self.address), run, self.plan, context.placement, corpus, lanes)
            async with undone(connection, self.address, run, self.watcher):
                if deferred:
                    self.watcher.phase("drop")
                    with self.stopwatch.phase("drop"):
                        await drop(connection, deferred, lock_timeout=LOCK_SECONDS)
                self.watcher.expect(expected)
                await self.fill(connection, target, job, context, deferred)
                self.watcher.phase("commit")
                async with transaction(connection):
                    with translated(connection, "recording the run"):
                        await mark_rebuilt(connection, run, deferred)
                        await ledger.finish_run(connection, run, self.rows, self.stopwatch.report())
        return LoadReport(
            run,
            self.plan,
            context.placement,
            self.rows,
            self.stopwatch.report(),
            bool(deferred),
            self.workers,
        )

    async def fill(
        self, connection: Connection, target: Target, job: Job, context: Context, deferred: Sequence[Deferred]
    ) -> None:
        """COPY all shards and make again what was dropped, each table's as soon as it is full; ANALYZE all tables."""
        full = {target.name(table): anyio.Event() for table in TABLE_NAMES}
        try:
            async with anyio.create_task_group() as tasks:
                rebuilt = anyio.Event()
                if deferred:
                    tasks.start_soon(self.make_again, deferred, full, rebuilt)
                self.watcher.phase("copy")
                with self.stopwatch.phase("copy"):
                    await self.copy(connection, job, context, full[target.name("users")])
                for event in full.values():
                    event.set()
                if deferred:
                    self.watcher.phase("rebuild")
                    with self.stopwatch.phase("rebuild"):
                        await rebuilt.wait()
                else:
                    # fresh statistics, so that a load test's first queries are planned for the rows that are there
                    self.watcher.phase("analyze")
                    with self.stopwatch.phase("analyze"), translated(connection, "ANALYZE"):
                        await connection.execute(f"ANALYZE {', '.join(full)}")
        except BaseExceptionGroup as group:
            raise first_cause(group) from group

    async def copy(self, connection: Connection, job: Job, context: Context, users_full: anyio.Event) -> None:
        left = shard_counts(self.plan, self.rows_per_shard)

        def done(shard: Shard, rows: Mapping[str, int], seconds: Mapping[str, float]) -> None:
            for table, count in rows.items():
                self.rows[table] += count
            self.stopwatch.add(seconds)
            left[shard.kind] -= 1
            if not left["users"]:
                users_full.set()

        shards = cut(self.plan, self.rows_per_shard)
        if self.staff:
            await load_shards(self.staff, job, shards, self.watcher, done)
            return
        for shard in shards:
            stopwatch = Stopwatch()
            done(shard, await load_shard(connection, job, context, shard, stopwatch, self.watcher), stopwatch.seconds)

    async def make_again(
        self, deferred: Sequence[Deferred], full: Mapping[str, anyio.Event], rebuilt: anyio.Event
    ) -> None:
        steps = itertools.count(1)

        def told(_: str, __: float) -> None:
            step = next(steps)
            if all(event.is_set() for event in full.values()):
                self.watcher.phase(f"rebuild, step {step}")

        await rebuild(
            partial(connected, self.address),
            deferred,
            full=full,
            lanes=self.workers,
            cores=self.workers,
            on_step=told,
        )
        rebuilt.set()


async def check_unfinished(connection: Connection) -> None:
    """Raises TargetError where another load was cut off: what it has dropped cannot be seen in the catalogue."""
    broken = {run.number for run in await ledger.runs(connection) if not run.whole}
    broken |= (await unfinished(connection)).keys()
    if broken:
        number = min(broken)
        raise TargetError(
            f"run {number} was interrupted, and what it loaded and dropped has not been put right: "
            f"undo it first, with `bulkseed cleanup {number}`"
        )


def counts(context: Context) -> dict[str, int]:
    """Rows to come: exact where the plan fixes them, expected where draws decide."""
    rows = {table: round(count) for table, count in expected_rows(context.plan).items()}
    return rows | {"messages": context.layout.messages}
