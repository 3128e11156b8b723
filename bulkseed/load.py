"""Loading: from a plan to rows in the target, as one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from anyio import to_thread

from bulkseed import ledger
from bulkseed.address import Address
from bulkseed.connection import Connection, connected, translated
from bulkseed.estimate import expected_rows
from bulkseed.faker_corpus import FAKER_VERSION, corpus_of
from bulkseed.generators import Context
from bulkseed.lanes import choose_lanes
from bulkseed.orm import orm_connected
from bulkseed.pipeline import copy_shard
from bulkseed.placing import place
from bulkseed.plan import Placement, Plan
from bulkseed.prose import longest_text
from bulkseed.reservation import check_rights
from bulkseed.shards import ROWS_PER_SHARD, cut
from bulkseed.stopwatch import Stopwatch
from bulkseed.streams import GENERATOR_VERSION
from bulkseed.tables import TABLE_NAMES
from bulkseed.target import read_target
from bulkseed.transaction import take_turn, transaction
from bulkseed.watch import Silent, Watcher

__all__ = ["LoadReport", "load", "made_by"]


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a load did: its number in the ledger, rows by table, and seconds by phase with ``total``."""

    run: int
    plan: Plan
    placement: Placement
    rows: Mapping[str, int]
    seconds: Mapping[str, float]


def made_by() -> dict[str, str]:
    """The versions that a run's bytes depend on, by name."""
    return {
        "bulkseed": version("bulkseed"),
        "generator": str(GENERATOR_VERSION),
        "faker": FAKER_VERSION,
        "numpy": np.__version__,
    }


async def load(
    plan: Plan, address: Address, *, watcher: Watcher | None = None, rows_per_shard: int = ROWS_PER_SHARD
) -> LoadReport:
    """Load ``plan`` into the database at ``address``, as one transaction.

    Raises InputError (ConnectError, TargetError) before anything is written, and RunError (ConnectionLost) for
    a failure after that. Then, and when it is cancelled or killed, the tables are as they were.
    """
    watcher = watcher or Silent()
    stopwatch = Stopwatch()
    watcher.phase("check")
    with stopwatch.phase("check"):
        corpus = await to_thread.run_sync(corpus_of, plan.locale)
        async with orm_connected(address) as orm:
            target = await read_target(orm, longest_text(corpus.lorem))
    async with connected(address) as connection, transaction(connection):
        with stopwatch.phase("check"), translated(connection, "checking the target"):
            await take_turn(connection, watcher)
            await check_rights(connection, target)
            await ledger.check_ledger(connection)
            await encode_citext(connection)
            lanes = await choose_lanes(connection, target, "auto")
        watcher.phase("reserve")
        with stopwatch.phase("reserve"), translated(connection, "reserving ids"):
            context = await place(connection, target, plan, corpus)
            run = await ledger.begin_run(connection, target.schema, plan, context.placement, made_by())
        watcher.expect(counts(context))
        watcher.phase("copy")
        rows = dict.fromkeys(TABLE_NAMES, 0)
        for shard in cut(plan, rows_per_shard):
            loaded = await copy_shard(connection, lanes, context, shard, stopwatch, watcher)
            for table, count in loaded.items():
                rows[table] += count
        watcher.phase("analyze")
        with stopwatch.phase("analyze"), translated(connection, "ANALYZE"):
            # fresh statistics, so that a load test's first queries are planned for the rows that are there
            await connection.execute(f"ANALYZE {', '.join(target.name(table) for table in TABLE_NAMES)}")
        watcher.phase("commit")
        with translated(connection, "recording the run"):
            await ledger.finish_run(connection, run, rows, stopwatch.report())
    return LoadReport(run, plan, context.placement, rows, stopwatch.report())


def counts(context: Context) -> dict[str, int]:
    """Rows to come: exact where the plan fixes them, expected where draws decide."""
    rows = {table: round(count) for table, count in expected_rows(context.plan).items()}
    return rows | {"messages": context.layout.messages}


async def encode_citext(connection: Connection) -> None:
    """Asyncpg has no codec for citext, an extension's type; its wire format is text's."""
    schema = await connection.fetchval(
        "SELECT n.nspname FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace WHERE t.typname = 'citext'"
    )
    if schema is not None:
        await connection.set_builtin_type_codec("citext", schema=schema, codec_name="text")
