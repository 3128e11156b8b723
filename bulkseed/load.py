"""Loading: from a plan to rows in the target, shard by shard, undone again where it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

import numpy as np
from anyio import to_thread

from bulkseed import ledger
from bulkseed.address import Address
from bulkseed.cleanup import undone
from bulkseed.connection import Connection, translated
from bulkseed.deferral import drop, mark_rebuilt, save, unfinished
from bulkseed.deferring import Defer, to_defer
from bulkseed.errors import TargetError
from bulkseed.estimate import expected_rows
from bulkseed.faker_corpus import FAKER_VERSION, corpus_of
from bulkseed.filling import Filling
from bulkseed.generators import Context
from bulkseed.job import Endpoint, Job
from bulkseed.lanes import Format, choose_lanes
from bulkseed.orm import orm_connected
from bulkseed.placing import place
from bulkseed.plan import Placement, Plan
from bulkseed.prose import longest_text
from bulkseed.reservation import check_rights
from bulkseed.shard_load import loading_connection
from bulkseed.shards import ROWS_PER_SHARD, shard_counts
from bulkseed.stopwatch import Stopwatch
from bulkseed.streams import GENERATOR_VERSION
from bulkseed.tables import TABLE_NAMES
from bulkseed.target import Target, read_target
from bulkseed.transaction import transaction
from bulkseed.watch import Silent, Watcher
from bulkseed.workers import hired

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
    watcher = watcher or Silent()
    stopwatch = Stopwatch()
    async with hired(count - 1) as staff:
        watcher.phase("check")
        with stopwatch.phase("check"):
            corpus = await to_thread.run_sync(corpus_of, plan.locale)
            async with orm_connected(address) as orm:
                target = await read_target(orm, longest_text(corpus.lorem))
        async with loading_connection(address) as connection:
            await ledger.take_turn(connection, watcher)
            async with transaction(connection):
                with stopwatch.phase("check"), translated(connection, "checking the target"):
                    await check_rights(connection, target)
                    await ledger.check_ledger(connection)
                    await check_unfinished(connection)
                    lanes = await choose_lanes(connection, target, format)
                    deferred = await to_defer(connection, target, plan, defer, watcher)
                watcher.phase("reserve")
                with stopwatch.phase("reserve"), translated(connection, "reserving ids"):
                    context = await place(connection, target, plan, corpus)
                    expected = counts(context)
                    run = await ledger.begin_run(
                        connection, target.schema, plan, context.placement, made_by(), expected, rows_per_shard
                    )
                    await save(connection, run.number, deferred)
            async with undone(connection, address, run, watcher):
                if deferred:
                    watcher.phase("drop")
                    with stopwatch.phase("drop"):
                        await drop(connection, deferred, lock_timeout=LOCK_SECONDS)
                watcher.expect(expected)
                job = Job(Endpoint.of(address), run, plan, context.placement, corpus, lanes)
                filling = Filling(job, rows_per_shard, staff, stopwatch, watcher)
                if deferred:
                    await filling.fill_and_rebuild(connection, context, target, deferred)
                else:
                    await filling.fill(connection, context)
                    await analyze(connection, target, stopwatch, watcher)
                watcher.phase("commit")
                async with transaction(connection):
                    with translated(connection, "recording the run"):
                        await mark_rebuilt(connection, run.number, deferred)
                        await ledger.finish_run(connection, run, filling.rows, stopwatch.report())
    return LoadReport(
        run.number, plan, context.placement, filling.rows, stopwatch.report(), deferred=bool(deferred), workers=count
    )


async def analyze(connection: Connection, target: Target, stopwatch: Stopwatch, watcher: Watcher) -> None:
    # fresh statistics, so that a load test's first queries are planned for the rows that are there
    watcher.phase("analyze")
    with stopwatch.phase("analyze"), translated(connection, "ANALYZE"):
        await connection.execute(f"ANALYZE {', '.join(map(target.name, TABLE_NAMES))}")


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
