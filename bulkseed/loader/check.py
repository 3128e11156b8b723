"""The checks before a load, run alone: whether the load would start, and what it would do. Nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import asyncpg
from anyio import to_thread

from bulkseed.copy.writer import CopyFormat, CopyPlan
from bulkseed.ledger import SCHEMA, Ledger, describe_lock_holder
from bulkseed.listeners import NullListener, Phase, ProgressListener
from bulkseed.load_options import Defer, FirstIds, Format
from bulkseed.loader.complete import choose_deferred, describe_locks, make_pools
from bulkseed.loader.first_ids import place_rows
from bulkseed.loader.load import useful_workers
from bulkseed.loader.preflight import run_preflight
from bulkseed.plan.activity import expected_rows
from bulkseed.plan.plan import Plan
from bulkseed.plan.shards import ROWS_PER_SHARD, shard_counts
from bulkseed.plan.tables import WITH_IDS
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, check_errors, open_connection
from bulkseed.postgres.transaction import trial_transaction
from bulkseed.target.copy_plan import format_reason
from bulkseed.target.counter_triggers import describe_counter_triggers, find_counter_triggers
from bulkseed.target.guard import Disk, estimate_rows, production_names, survey_with
from bulkseed.target.ids import find_left_out_tables, find_unlogged_tables
from bulkseed.target.reference_schema import create_in_transaction
from bulkseed.target.target import Target
from bulkseed.text.faker_source import make_corpus

__all__ = ["CheckReport", "TableCheck", "check"]

FREE_CONNECTIONS: Final = """
SELECT current_setting('max_connections')::int - (SELECT sum(numbackends)::int FROM pg_stat_database) + 1
       - CASE WHEN current_setting('is_superuser') = 'on' THEN 0
              ELSE current_setting('superuser_reserved_connections')::int
                   + coalesce(current_setting('reserved_connections', true), '0')::int END
"""
"""The connections that the user could open, the present one included; ``reserved_connections`` exists since 16."""


@dataclass(frozen=True, slots=True)
class TableCheck:
    """A table to load: its name in SQL, the rows in it as the planner estimates them, and the expected new rows.

    ``reason`` says why ``format`` is not binary; it is empty if it is.
    """

    name: str
    existing: int
    rows: int
    format: CopyFormat
    reason: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a load would do. Nothing of it was done.

    - ``tables``: by bulkseed's names; ``created`` are those that are missing and would be made first, as the embedded
      database has them.
    - ``dropped``: the indexes, keys and foreign keys that would be dropped and rebuilt; ``kept`` is the reason if none.
    - ``ids``: the first and the last id of each table whose ids are numbers, unless other commands use ids meanwhile.
    - ``connections``: how many the load would open; ``free_connections``: how many the user could.
    - ``disks``: bytes needed and free, if the server's disks are visible from here.
    - ``production``: the names that look like production, for which the command ``load`` needs ``--allow`` with
      ``title``; ``asks``: whether it asks for confirmation, since the server is on another machine.
    - ``notes``: what a load would tell, and other remarks.
    """

    plan: Plan
    server: str
    version: str
    database: str
    user: str
    schema: str
    tables: Mapping[str, TableCheck]
    created: tuple[str, ...]
    dropped: tuple[str, ...]
    kept: str
    ids: Mapping[str, tuple[int, int]]
    shards: int
    workers: int
    connections: int
    free_connections: int
    disks: tuple[Disk, ...]
    title: str
    production: tuple[str, ...]
    asks: bool
    notes: tuple[str, ...]


async def check(
    plan: Plan,
    address: Address,
    *,
    listener: ProgressListener | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    workers: int = 1,
    defer: Defer = "auto",
    copy_format: Format = "auto",
    first_ids: FirstIds | None = None,
    ledger_schema: str = SCHEMA,
    embedded: bool = False,
) -> CheckReport:
    """Run the checks of :func:`bulkseed.loader.load.load` with its options, and return what it would do.

    Nothing is written. No sequence is moved, unless by code whose text does not tell so. No lock outlives a statement,
    or a trial that is rolled back and ends after about a second. It does not wait for a load that is running.
    ``embedded``: the database is the embedded one, for which a load makes missing reference tables; here they are made
    in a transaction that is rolled back.

    Raises the errors that the load would raise before its first write: InputError (ConnectError, TargetError) with a
    line for each problem.
    """
    listener = listener or NullListener()
    listener.phase(Phase.CHECK)
    inquiry = Inquiry(
        plan, address, rows_per_shard, workers, defer, copy_format, Ledger(ledger_schema), embedded, first_ids
    )
    async with open_connection(address) as connection:
        with check_errors(connection, "checking the target"):
            # the trial, which needs temporary tables, allows writing for its transactions
            await connection.execute("SET default_transaction_read_only = on")
            try:
                if not embedded:
                    return await inquiry.answer(connection, ())
                async with trial_transaction(connection):
                    created = await create_in_transaction(connection, address)
                    return await inquiry.answer(connection, tuple(created))
            finally:
                # a pooler may give this session to an app
                with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    await connection.execute("RESET default_transaction_read_only")


@dataclass(frozen=True, slots=True)
class Inquiry:
    """The options of a check."""

    plan: Plan
    address: Address
    rows_per_shard: int
    workers: int
    defer: Defer
    format: Format
    ledger: Ledger
    embedded: bool
    first_ids: FirstIds | None = None

    async def answer(self, connection: Connection, created: tuple[str, ...]) -> CheckReport:
        """Run the checks and return the report; ``created`` are the tables that are made for the check."""
        plan, ledger = self.plan, self.ledger
        corpus = await to_thread.run_sync(make_corpus, plan.locale)
        await make_pools(plan)
        holder = await describe_lock_holder(connection)
        checked = await run_preflight(
            connection, self.address, plan, corpus, ledger, self.format, busy=holder is not None
        )
        target = checked.target
        deferral = await choose_deferred(connection, target, plan, self.defer, checked.copy_plans, corpus)
        checked.check_order(deferral.deferred, plan, self.rows_per_shard)
        context, replaced = await place_rows(connection, ledger, target, plan, corpus, self.first_ids)
        expected = expected_rows(plan)
        workers = useful_workers(plan, self.workers, self.rows_per_shard)
        free = int(await connection.fetchval(FREE_CONNECTIONS))
        found = await survey_with(connection, self.address, target.sql_tables())
        notes = [f"a load would wait for another bulkseed in this database ({holder}) to finish"] if holder else []
        notes += filter(None, [await find_unlogged_tables(connection, target)])
        notes += filter(None, [await find_left_out_tables(connection, target)])
        notes += [*checked.trial.notes, *deferral.notes]
        notes += [f"run {run.number}, which had these ids and has no rows, would be replaced" for run in replaced]
        notes += [describe_locks(deferral.deferred)] if deferral.deferred else []
        if workers > 1:
            notes += filter(None, [describe_counter_triggers(await find_counter_triggers(connection, target))])
        if workers + 1 > free:
            notes.append(
                f"the load opens {workers + 1} connections, and the server has {max(0, free)} free for the user "
                f"{found.user}: give fewer --workers"
            )
        return CheckReport(
            plan=plan,
            server=found.server,
            version=await connection.fetchval("SHOW server_version"),
            database=found.database,
            user=found.user,
            schema=target.schema,
            tables={
                name: await check_table(connection, target, name, copy_plan, self.format, round(expected[name]))
                for name, copy_plan in checked.copy_plans.items()
            },
            created=created,
            dropped=tuple(map(str, deferral.deferred)),
            kept=deferral.reason,
            ids={
                table: context.ids(table)
                for table in WITH_IDS
                if table in target.columns and not target.has_uuids(table)
            },
            shards=sum(shard_counts(plan, self.rows_per_shard).values()),
            workers=workers,
            connections=workers + 1,
            free_connections=max(0, free),
            disks=checked.disks,
            title=found.title,
            production=() if self.embedded else tuple(production_names(found)),
            asks=not (self.embedded or found.is_here),
            notes=tuple(notes),
        )


async def check_table(
    connection: Connection, target: Target, name: str, copy_plan: CopyPlan, format: Format, expected: int
) -> TableCheck:
    table = target.sql_name(name)
    reason = format_reason(copy_plan, target.columns[name].values(), format)
    return TableCheck(table, round(await estimate_rows(connection, [table])), expected, copy_plan.format, reason)
