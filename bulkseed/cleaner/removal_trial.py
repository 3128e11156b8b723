"""A trial of the triggers on DELETE: a few rows are loaded and removed in a transaction that is rolled back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

import asyncpg

from bulkseed.cleaner.delete_rows import delete_in_order, disabling, translate_violations
from bulkseed.cleaner.find_rows import DeletionSet, Listing
from bulkseed.cleaner.references import references
from bulkseed.cleaner.triggers import DeleteTrigger, find_delete_triggers
from bulkseed.copy.writer import CopyPlan, copy_batches
from bulkseed.errors import BulkseedError, ConnectionLostError, RunError
from bulkseed.generators import shard_tables
from bulkseed.plan.plan import Plan
from bulkseed.plan.shards import ROWS_PER_SHARD, split_into_shards, uuids_of
from bulkseed.postgres.connection import Connection, server_message
from bulkseed.postgres.transaction import RollBack, trial_transaction
from bulkseed.sql import SQL, compose, identifier, join
from bulkseed.target.copy_plan import with_keys
from bulkseed.target.ids import allocate_ids
from bulkseed.target.target import Problem, Target
from bulkseed.text.names import Corpus

__all__ = ["find_trigger_problems"]

USERS: Final = 6
CHANNELS: Final = 3
MESSAGES: Final = 8
"""The most users, channels and messages of a channel that are tried."""
SEED: Final = 0x72656D6F76616C
"""Of the trial, so that its UUIDs and e-mail addresses are others than those of loads."""
LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '2s'"


async def find_trigger_problems(
    connection: Connection, target: Target, copy_plans: Mapping[str, CopyPlan], plan: Plan, corpus: Corpus
) -> list[Problem]:
    """Return a problem if the app's triggers on DELETE would prevent the removal of loaded rows; none without triggers.

    Rows that the tables refuse are no problem of the removal: then nothing is found. Raises the errors of asyncpg and
    ConnectionLostError.
    """
    triggers = await find_delete_triggers(connection, target.sql_tables())
    if not triggers:
        return []
    problems: list[Problem] = []
    async with trial_transaction(connection):
        await connection.execute(LOCK_TIMEOUT)
        try:
            await load_few_rows(connection, target, copy_plans, plan, corpus)
            deletions = await list_rows(connection, target)
        except ConnectionLostError:
            raise
        except (BulkseedError, asyncpg.PostgresError) as error:
            raise RollBack from error
        known = [
            reference
            for reference in await references(connection, [target])
            if reference.declared or {reference.child, reference.parent} <= deletions.seeded.keys()
        ]
        try:
            deleted = await delete_in_order(connection, deletions, known, triggers)
            with translate_violations(triggers):
                await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        except ConnectionLostError:
            raise
        except RunError as error:
            if error.code in {"rows-kept", "trigger-changes-rows"}:
                problems = [trigger_problem(error.code, [trigger for trigger in triggers if trigger.is_before_row])]
            raise RollBack from error
        except (asyncpg.LockNotAvailableError, asyncpg.TransactionRollbackError, asyncpg.ForeignKeyViolationError):
            raise RollBack from None  # of rows of others, perhaps
        except asyncpg.PostgresError as error:
            problems = [trigger_problem("rows-kept", triggers, server_message(error))]
            raise RollBack from error
        for table in deletions.seeded:
            kept = await connection.fetchval(
                compose("SELECT EXISTS (SELECT {rows})", rows=listed_rows(deletions, table))
            )
            guilty = [trigger for trigger in triggers if trigger.table == table and trigger.is_before_row]
            if kept and guilty and table in deleted:
                problems.append(trigger_problem("rows-kept", guilty))
    return problems


def trigger_problem(code: str, triggers: Iterable[DeleteTrigger], message: str = "") -> Problem:
    """Return the problem of triggers, one of which prevents the removal of rows, with the server's message if any."""
    triggers = list(triggers)
    names = ", ".join(map(str, triggers))
    guilty = f"the trigger {names}" if len(triggers) == 1 else f"one of the triggers {names}"
    enabling = disabling(triggers).replace(" DISABLE ", " ENABLE ")
    return Problem(
        code,
        f"{guilty} prevents the removal of loaded rows{f' ({message})' if message else ''}: run this command while it "
        f"is disabled, with {disabling(triggers)} before and {enabling} after it",
    )


async def load_few_rows(
    connection: Connection, target: Target, copy_plans: Mapping[str, CopyPlan], plan: Plan, corpus: Corpus
) -> None:
    """Load a small plan like ``plan``, in the transaction of the caller; no sequence is moved."""
    small = replace(
        plan,
        users=min(plan.users, USERS),
        channels=min(plan.channels, CHANNELS),
        messages_per_channel=min(plan.messages_per_channel, MESSAGES),
        seed=SEED,
    )
    context = await allocate_ids(connection, target, small, corpus, reserve=False)
    keys = uuids_of(small, context.placement, context.layout.messages)
    for shard in split_into_shards(small, ROWS_PER_SHARD):
        for name, batches in shard_tables(context, shard):
            copy_plan = with_keys(copy_plans[name], target.model.by_name[name], keys)
            await copy_batches(connection, copy_plan, batches, lambda _: None)


async def list_rows(connection: Connection, target: Target) -> DeletionSet:
    """Return the rows that the present transaction has written, whose keys go into temporary tables."""
    deletions = DeletionSet()
    for number, name in enumerate(target.model.names):
        table, temporary = target.sql_name(name), identifier(f"bulkseed_removal_{number}")
        key = tuple(target.model.column(name, column) for column in target.model.by_name[name].key)
        await connection.execute(
            compose(
                "CREATE TEMP TABLE {temporary} ON COMMIT DROP AS SELECT {key} FROM {table} "
                "WHERE xmin = pg_current_xact_id()::xid",
                temporary=temporary,
                key=join(", ", map(identifier, key)),
                table=table,
            )
        )
        rows = compose("{temporary} AS k", temporary=temporary)
        deletions.add(Listing(name, (), table, rows, key, (), None, frozenset(key[1:]), frozenset()))
    return deletions


def listed_rows(deletions: DeletionSet, table: SQL) -> SQL:
    """Return FROM and WHERE clauses for the rows of a table that are to be deleted."""
    return compose("FROM {table} AS t WHERE {listed}", table=table, listed=deletions.condition(table, "t"))
