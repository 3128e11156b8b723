"""A trial of the triggers on DELETE: a few rows are loaded and removed in a transaction that is rolled back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import asyncpg
import pyarrow as pa
from anyio import to_thread

from bulkseed.cleaner.delete_rows import delete_in_order, disabling, translate_violations
from bulkseed.cleaner.find_rows import DeletionSet, Listing
from bulkseed.cleaner.references import references
from bulkseed.cleaner.triggers import DeleteTrigger, find_delete_triggers
from bulkseed.copy.writer import CopyPlan, copy_batches
from bulkseed.errors import BulkseedError, ConnectionLostError, RunError
from bulkseed.generators import Context, shard_tables
from bulkseed.plan.plan import Plan
from bulkseed.plan.shards import ROWS_PER_SHARD, split_into_shards, uuids_of
from bulkseed.postgres.connection import Connection, server_message
from bulkseed.postgres.transaction import trial_transaction
from bulkseed.randomness.uuids import Uuids
from bulkseed.sql import SQL, compose, identifier, join
from bulkseed.target.copy_plan import plan_copy, with_keys
from bulkseed.target.database_code import read_code
from bulkseed.target.ids import allocate_ids, id_ranges
from bulkseed.target.target import Problem, Target
from bulkseed.target.trial_limits import NotTriedError, TrialLimit, keep_sequences, translate_waits, wait_error
from bulkseed.text.names import Corpus

__all__ = ["find_trigger_problems"]

USERS: Final = 6
CHANNELS: Final = 3
MESSAGES: Final = 8
"""The most users, channels and messages of a channel that are tried."""
SEED: Final = 0x72656D6F76616C
"""Of the trial, so that its UUIDs and e-mail addresses are others than those of loads."""

Rows = Mapping[str, Sequence[pa.RecordBatch]]


async def find_trigger_problems(
    connection: Connection, target: Target, copy_plans: Mapping[str, CopyPlan], plan: Plan, corpus: Corpus
) -> tuple[list[Problem], str]:
    """Return a problem if the app's triggers on DELETE would prevent the removal of loaded rows; none without triggers.

    Also return why this could not be tried, if so. Rows that the tables refuse are no problem of the removal: then
    nothing is found. Nothing remains of the trial, and no sequence is moved that the text of functions tells. Raises
    the errors of asyncpg and ConnectionLostError.
    """
    triggers = await find_delete_triggers(connection, target.sql_tables())
    if not triggers:
        return [], ""
    try:
        code = await read_code(connection, target, copy_plans, removal=True)
        code.check_sequences()
        try:
            context = await small_context(connection, target, plan, corpus)
            rows = await to_thread.run_sync(generate_rows, context)
        except ConnectionLostError:
            raise
        except BulkseedError:
            return [], ""
        trial = RemovalTrial(connection, target, copy_plans, context, rows, triggers)
        with translate_waits():
            async with trial_transaction(connection):
                return await trial.run(code.sequences), ""
    except NotTriedError as error:
        names = ", ".join(map(str, triggers))
        return [], f"the removal of loaded rows could not be tried with the triggers {names}: {error}"


@dataclass(frozen=True, slots=True)
class RemovalTrial:
    """A few rows like those of a load, to be loaded and removed."""

    connection: Connection
    target: Target
    copy_plans: Mapping[str, CopyPlan]
    context: Context
    rows: Rows
    triggers: Sequence[DeleteTrigger]

    async def run(self, sequences: Iterable[int]) -> list[Problem]:
        """Load the rows, remove them, and return what the triggers prevent.

        Raises NotTriedError, ConnectionLostError, and asyncpg's errors.
        """
        connection, triggers = self.connection, self.triggers
        keys = uuids_of(self.context.plan, self.context.placement, self.context.layout.messages)
        try:
            # all that needs no lock comes first
            deletions = await self.list_rows(keys)
            known = [
                reference
                for reference in await references(connection, [self.target])
                if reference.declared or {reference.child, reference.parent} <= deletions.seeded.keys()
            ]
            limit = await TrialLimit.begin(connection)
            numbered = [last for table, (_, last) in id_ranges(self.context).items() if table not in keys]
            await keep_sequences(connection, sequences, max(numbered, default=0), limit)
            for name, batches in self.rows.items():
                await limit.apply(connection)
                copy_plan = with_keys(self.copy_plans[name], self.target.model.by_name[name], keys)
                await copy_batches(connection, copy_plan, iter(batches), lambda _: None)
        except ConnectionLostError:
            raise
        except (BulkseedError, asyncpg.PostgresError) as error:
            if (reason := wait_error(error) or wait_error(error.__cause__)) is not None:
                raise reason from error
            return []
        await limit.apply(connection)
        try:
            deleted = await delete_in_order(connection, deletions, known, triggers)
            with translate_violations(triggers):
                await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        except ConnectionLostError:
            raise
        except RunError as error:
            if error.code in {"rows-kept", "trigger-changes-rows"}:
                return [trigger_problem(error.code, [trigger for trigger in triggers if trigger.is_before_row])]
            return []
        except asyncpg.ForeignKeyViolationError:
            return []  # of rows of others, perhaps
        except asyncpg.PostgresError as error:
            if (reason := wait_error(error)) is not None:
                raise reason from error
            return [trigger_problem("rows-kept", triggers, server_message(error))]
        problems = []
        for table in deletions.seeded:
            await limit.apply(connection)
            kept = await connection.fetchval(
                compose("SELECT EXISTS (SELECT {rows})", rows=listed_rows(deletions, table))
            )
            guilty = [trigger for trigger in triggers if trigger.table == table and trigger.is_before_row]
            if kept and guilty and table in deleted:
                problems.append(trigger_problem("rows-kept", guilty))
        return problems

    async def list_rows(self, keys: Mapping[str, Uuids]) -> DeletionSet:
        """Put the keys of the rows into temporary tables, and return these listings."""
        deletions, model = DeletionSet(), self.target.model
        for number, name in enumerate(model.names):
            table, temporary = self.target.sql_name(name), f"bulkseed_removal_{number}"
            columns = {column: model.column(name, column) for column in model.by_name[name].key}
            key = tuple(columns.values())
            await self.connection.execute(
                compose(
                    "CREATE TEMP TABLE {temporary} ON COMMIT DROP AS SELECT {key} FROM {table} WITH NO DATA",
                    temporary=identifier(temporary),
                    key=join(", ", map(identifier, key)),
                    table=table,
                )
            )
            into = with_keys(await plan_copy(self.connection, temporary, columns), model.by_name[name], keys)
            await copy_batches(self.connection, into, iter(self.rows.get(name, ())), lambda _: None)
            # few rows, so that they are looked up by the indexes of the table
            await self.connection.execute(compose("ANALYZE {temporary}", temporary=identifier(temporary)))
            listed = compose("{temporary} AS k", temporary=identifier(temporary))
            deletions.add(Listing(name, (), table, listed, key, (), None, frozenset(key[1:]), frozenset()))
        return deletions


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


async def small_context(connection: Connection, target: Target, plan: Plan, corpus: Corpus) -> Context:
    """Return the context of a small plan like ``plan``; no sequence is moved."""
    small = replace(
        plan,
        users=min(plan.users, USERS),
        channels=min(plan.channels, CHANNELS),
        messages_per_channel=min(plan.messages_per_channel, MESSAGES),
        seed=SEED,
    )
    return await allocate_ids(connection, target, small, corpus, reserve=False)


def generate_rows(context: Context) -> dict[str, list[pa.RecordBatch]]:
    """Return all rows of the context, by table, in the order of a load."""
    rows: dict[str, list[pa.RecordBatch]] = {}
    for shard in split_into_shards(context.plan, ROWS_PER_SHARD):
        for name, batches in shard_tables(context, shard):
            rows.setdefault(name, []).extend(batches)
    return rows


def listed_rows(deletions: DeletionSet, table: SQL) -> SQL:
    """Return FROM and WHERE clauses for the rows of a table that are to be deleted."""
    return compose("FROM {table} AS t WHERE {listed}", table=table, listed=deletions.condition(table, "t"))
