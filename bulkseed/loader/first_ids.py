"""The first ids of a run: the next free ones, or those that the user gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import asyncpg

from bulkseed.cleaner.count_rows import find_tables_with_rows
from bulkseed.errors import BulkseedError, ConnectionLostError, InputError, TargetError
from bulkseed.generators import Context
from bulkseed.ledger import (
    Ledger,
    Run,
    find_other_ledgers,
    find_runs,
    forget_run,
    highest_ids,
    limit_wait,
    read_records,
    read_runs,
)
from bulkseed.listeners import ProgressListener
from bulkseed.load_options import FirstIds
from bulkseed.plan.plan import Plan, Reservation
from bulkseed.plan.tables import WITH_IDS
from bulkseed.postgres.connection import Connection
from bulkseed.sql import plain_names
from bulkseed.target.ids import ChosenIds, Reserved, allocate_ids, id_ranges, reserve_chosen_ids, return_reserved_ids
from bulkseed.target.target import Target
from bulkseed.text.names import Corpus

__all__ = ["allocate_first_ids", "place_rows", "read_highest_ids", "returned_on_error"]


async def place_rows(
    connection: Connection, ledger: Ledger, target: Target, plan: Plan, corpus: Corpus, first_ids: FirstIds | None
) -> tuple[Context, list[Run]]:
    """Return the context of the run that a load would make now, and the recorded runs that it would replace.

    Nothing is written, and no sequence is moved. A run is replaced if ``first_ids`` are ids of it, and none of its rows
    is left. Raises TargetError as :func:`bulkseed.target.ids.allocate_ids`, and if ids are in use; InputError if
    ``first_ids`` names no recorded run, or not the tables of the plan.
    """
    chosen = await choose_first_ids(connection, ledger, target, first_ids)
    if chosen is not None:
        # before the existing rows: a run is removed with a command, and rows of others are not
        counts = {"users": plan.users, "channels": plan.channels}
        known = {
            name: (chosen.first[name], chosen.first[name] + counts[name] - 1) for name in counts if name in chosen.first
        }
        await find_replaced(connection, ledger, target, known)
    last_ids = await read_highest_ids(connection, ledger)
    context = await allocate_ids(connection, target, plan, corpus, last_ids=last_ids, chosen=chosen, reserve=False)
    return context, [] if chosen is None else await find_replaced(connection, ledger, target, id_ranges(context))


async def allocate_first_ids(
    connection: Connection,
    ledger: Ledger,
    target: Target,
    plan: Plan,
    corpus: Corpus,
    first_ids: FirstIds | None,
    reserved: Reserved,
    listener: ProgressListener,
) -> Context:
    """Reserve the ids of a run that is to be recorded, forget the runs that it replaces, and return its context.

    ``reserved`` is that of :func:`bulkseed.target.ids.allocate_ids`. Raises the errors of :func:`place_rows`, before
    any sequence is moved.
    """
    if first_ids is None:
        last_ids = await read_highest_ids(connection, ledger)
        return await allocate_ids(connection, target, plan, corpus, reserved, last_ids)
    context, replaced = await place_rows(connection, ledger, target, plan, corpus, first_ids)
    ranges, earlier = id_ranges(context), list[Reservation]()
    async with limit_wait(connection, ledger):
        for run in replaced:
            listener.note(f"run {run.number}, which had these ids and has no rows any more, is no longer recorded")
            if {table: run.ids(table) for table in ranges.keys() & set(run.plan.model.names)} == ranges:
                earlier += run.reservations
            await forget_run(connection, ledger, run.number)
    await reserve_chosen_ids(connection, target, context, reserved, earlier)
    return context


@asynccontextmanager
async def returned_on_error(connection: Connection, reserved: Reserved) -> AsyncIterator[None]:
    """Give the ``reserved`` ids back if the block, the transaction that records the run, is rolled back by an error."""
    try:
        yield
    except ConnectionLostError:
        # the transaction may have been committed
        raise
    except BulkseedError:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await return_reserved_ids(connection, reserved)
        raise


async def read_highest_ids(connection: Connection, ledger: Ledger) -> dict[str, int]:
    """Return the highest id of all runs in the ledger, by table."""
    return highest_ids(await read_records(connection, ledger))


async def choose_first_ids(
    connection: Connection, ledger: Ledger, target: Target, first_ids: FirstIds | None
) -> ChosenIds | None:
    if first_ids is None:
        return None
    tables = [table for table in WITH_IDS if table in target.model.names]
    example = ",".join(f"{table}=N" for table in tables)
    if isinstance(first_ids, int):
        (run,) = await find_runs(connection, ledger, [first_ids])
        if missing := [table for table in tables if table not in run.plan.model.names]:
            raise InputError(
                f"run {first_ids} has no {' and no '.join(missing)}: give the first ids, as --first-ids {example}",
                code="invalid-first-ids",
            )
        return ChosenIds({table: run.placement.first(table) for table in tables}, run.placement.variant)
    if set(first_ids) != set(tables):
        raise InputError(
            f"--first-ids names {', '.join(first_ids)}, and this load has {', '.join(tables)}: "
            f"give --first-ids {example}",
            code="invalid-first-ids",
        )
    return ChosenIds(dict(first_ids))


async def find_replaced(
    connection: Connection, ledger: Ledger, target: Target, ranges: Mapping[str, tuple[int, int]]
) -> list[Run]:
    """Return the recorded runs that have ids in ``ranges``. Raises TargetError if one has rows, or another ledger."""
    replaced = [run for run in await read_runs(connection, ledger) if overlaps(run, target, ranges)]
    for run in replaced:
        if names := await find_tables_with_rows(connection, run):
            raise ids_in_use_error(run, ledger, f" and rows in {plain_names(', '.join(names))}")
    for other in await find_other_ledgers(connection, ledger):
        for record in await read_records(connection, other):
            if record.problem is None and overlaps(record.run, target, ranges):
                raise ids_in_use_error(record.run, other, f" and is recorded in the ledger of schema {other.schema}")
    return replaced


def ids_in_use_error(run: Run, ledger: Ledger, reason: str) -> TargetError:
    return TargetError(
        f"run {run.number} has ids that --first-ids gives,{reason}: remove it with "
        f"{ledger.command(f'cleanup {run.number}')}, or give other ids",
        code="ids-in-use",
    )


def overlaps(run: Run, target: Target, ranges: Mapping[str, tuple[int, int]]) -> bool:
    for table, (first, last) in ranges.items():
        if table in run.plan.model.names and run.names.sql_name(table) == target.sql_name(table):
            theirs = run.ids(table)
            if theirs[0] <= last and first <= theirs[1]:
                return True
    return False
