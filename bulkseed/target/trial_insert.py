"""The trial of triggers, and of CHECK constraints that read tables: rows go into the tables, and are rolled back.

What code of the database accepts depends on rows of other tables, so that only the tables themselves show it. All else
is tried on temporary copies, since rows in the tables have effects that a rollback does not undo: an app that inserts
the same key waits, and sequences move. The rows are closed: what they reference is among them. Not tried are tables
whose rows are locked, code that takes long, and code that may move sequences of other owners, or any sequence; the load
itself then meets what they refuse.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import asyncpg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bulkseed.copy.writer import CopyPlan, copy_batches
from bulkseed.errors import BulkseedError, ConnectionLostError, InputError, RunError, TransientError
from bulkseed.plan.tables import STAGES, WITH_IDS, Table
from bulkseed.postgres.connection import Connection, server_message, translate_errors
from bulkseed.postgres.transaction import RollBack, trial_transaction
from bulkseed.sql import SQL, identifier
from bulkseed.target.copy_plan import with_keys
from bulkseed.target.database_code import DatabaseCode
from bulkseed.target.target import HAS_TRIGGERS, Problem, Target
from bulkseed.target.trial_limits import NotTriedError, TrialLimit, keep_sequences, translate_waits, wait_error
from bulkseed.target.trial_sample import Samples

__all__ = ["try_in_tables"]

logger = logging.getLogger(__name__)

FOREIGN: Final = """
SELECT k.confrelid = ANY ($3::text[]::regclass[]) AS is_of_load,
       ARRAY(SELECT a.attname::text FROM pg_attribute AS a WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey))
       AS columns
FROM pg_constraint AS k WHERE k.conrelid = $1::text::regclass AND k.conname = $2 AND k.contype = 'f'
"""

OF_TABLE: Final = """
SELECT coalesce(pg_partition_root(c.oid), c.oid) = $3::text::regclass
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2
"""
"""Whether the relation $2 of the schema $1 is the table $3 or a partition of it. By its names: to_regclass() raises an
error if the user may not use the schema."""

PLAIN_INDEX: Final = """
SELECT i.indpred IS NULL AND i.indexprs IS NULL FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE i.indrelid = $1::text::regclass AND c.relname = $2
"""


@dataclass(slots=True)
class InsertTrial:
    """A trial of the tables of a load with a few rows of it."""

    connection: Connection
    target: Target
    copy_plans: Mapping[str, CopyPlan]
    samples: Samples
    problems: list[Problem] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    limit: TrialLimit = field(init=False)

    async def run(self, code: DatabaseCode) -> None:
        """Insert the rows, in the order of a load. Raises NotTriedError, and asyncpg's errors."""
        connection, model = self.connection, self.target.model
        # made before anything is locked
        batches = closed(self.target, self.samples)
        last_id = max((ids[1] for table in WITH_IDS if (ids := self.samples.id_range(table))), default=0)
        self.limit = await TrialLimit.begin(connection)
        # as the load does
        await connection.execute("SET LOCAL row_security = off")
        await keep_sequences(connection, code.sequences, last_id, self.limit)
        for stage in STAGES:
            tables = [table for table in model.tables if model.stage(table.name) == stage]
            for table in tables:
                needed = {table.follows, *(parent for _, parent in table.references)} - {table.name}
                if table.name in self.failed or needed & self.failed:
                    self.failed.add(table.name)
                elif table.name in batches:
                    await self.insert(table, batches[table.name])
            if not self.failed.intersection(table.name for table in tables):
                await self.check_deferred()

    async def insert(self, table: Table, batches: Sequence[pa.RecordBatch]) -> None:
        """Insert rows of a table, or note a problem. Raises NotTriedError, ConnectionLostError."""
        copy_plan = with_keys(self.copy_plans[table.name], table, self.samples.keys)
        # each repetition leaves out the rows with values in the columns of one foreign key
        while any(batch.num_rows for batch in batches):
            error = await self.copy(copy_plan, batches)
            if error is None:
                return
            columns = await self.columns_to_leave_out(table, error.__cause__)
            if not columns:
                self.failed.add(table.name)
                if problem := await self.problem(table, error):
                    self.problems.append(problem)
                return
            sources = [mapping.source for mapping in copy_plan.mappings if mapping.name in columns]
            kept = [without_values(batch, sources) for batch in batches]
            if sum(batch.num_rows for batch in kept) == sum(batch.num_rows for batch in batches):
                break
            batches = kept
        self.failed.add(table.name)

    async def copy(self, copy_plan: CopyPlan, batches: Sequence[pa.RecordBatch]) -> BulkseedError | None:
        doing = f"trying {copy_plan}"
        await self.limit.apply(self.connection)
        try:
            async with self.connection.transaction():
                with translate_errors(self.connection, doing):
                    await copy_batches(self.connection, copy_plan, iter(batches), lambda _: None)
        except (ConnectionLostError, BaseExceptionGroup):
            raise
        except TransientError as error:
            raise NotTriedError(str(error)) from error
        except (RunError, InputError) as error:
            if (reason := wait_error(error.__cause__)) is not None:
                raise reason from error
            return error
        return None

    async def columns_to_leave_out(self, table: Table, cause: BaseException | None) -> set[str]:
        """Return the columns of a foreign key that misses rows of the load, where these may just not be sampled."""
        if not isinstance(cause, asyncpg.ForeignKeyViolationError) or not await self.is_of(table, cause):
            return set()
        key = await self.connection.fetchrow(
            FOREIGN, relation_of(cause), cause.constraint_name, self.target.sql_tables()
        )
        return set(key["columns"]) if key is not None and key["is_of_load"] else set()

    async def problem(self, table: Table, error: BulkseedError) -> Problem | None:
        """Return the problem that the server's ``error`` for rows of the table is; None if the copies tell it."""
        cause, name = error.__cause__, self.target.model.name(table.name)
        of_table = isinstance(cause, asyncpg.PostgresError) and await self.is_of(table, cause)
        fills = await self.connection.fetchval(HAS_TRIGGERS, self.target.sql_name(table.name))
        match cause:
            case asyncpg.NotNullViolationError() if of_table and cause.column_name:
                if cause.column_name in self.copy_plans[table.name].columns:
                    return refused_row(name, cause)
                return Problem(
                    "unfilled-column",
                    f"nothing fills the NOT NULL column {name}.{cause.column_name}, and its triggers do not either: "
                    f"give it a default, or a field in the scenario's [fields.{table.name}]",
                )
            case asyncpg.UniqueViolationError() if of_table:
                plain = await self.connection.fetchval(PLAIN_INDEX, relation_of(cause), cause.constraint_name)
                return refused_row(name, cause) if fills and plain is False else None
            case asyncpg.ForeignKeyViolationError() if of_table:
                return refused_row(name, cause, "foreign-key") if fills else None
            case asyncpg.CheckViolationError() if cause.constraint_name:
                return refused_row(name, cause, "check-constraint")
            case asyncpg.PostgresError():
                return refused_row(name, cause)
        return Problem(error.code, str(error))

    async def is_of(self, table: Table, cause: asyncpg.PostgresError) -> bool:
        """Return whether an error is about the table or a partition of it, and not about one that triggers write to."""
        if not cause.table_name:
            return False
        name = self.target.sql_name(table.name)
        return bool(await self.connection.fetchval(OF_TABLE, cause.schema_name, cause.table_name, name))

    async def check_deferred(self) -> None:
        """Check what a load checks at the end of each transaction. Raises NotTriedError."""
        await self.limit.apply(self.connection)
        try:
            with translate_waits(), suppress(RollBack):
                async with self.connection.transaction():
                    await self.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
                    # what was deferred is to be deferred again for the next tables
                    raise RollBack
        except asyncpg.PostgresError as error:
            if self.connection.is_closed():
                raise
            names = {self.target.model.name(table): table for table in self.target.model.names}
            if isinstance(error, asyncpg.ForeignKeyViolationError) and error.table_name in names:
                return  # told by the trial of keys
            self.problems.append(refused_row(error.table_name or "a deferred trigger or constraint", error))


def relation_of(cause: asyncpg.PostgresError) -> SQL:
    return identifier(cause.schema_name or "", cause.table_name or "")


def refused_row(name: str, cause: asyncpg.PostgresError, code: str = "refused-row") -> Problem:
    constraint = f" (constraint {cause.constraint_name})" if cause.constraint_name else ""
    return Problem(
        code,
        f"{name}{constraint} refuses rows of the load: {server_message(cause)}: correct the trigger, the constraint or "
        "the function, or fill the columns that it reads with other values",
    )


async def try_in_tables(
    connection: Connection,
    target: Target,
    copy_plans: Mapping[str, CopyPlan],
    samples: Samples,
    code: DatabaseCode,
    refused: Iterable[str],
) -> tuple[list[Problem], str]:
    """Return a problem for each table whose code refuses rows of the load, and why tables could not be tried, if so.

    Those that are ``refused`` already, and tables that reference them, are not tried. Nothing remains of it, and no
    sequence is moved that the text of functions tells. Raises asyncpg's errors.
    """
    trial = InsertTrial(connection, target, copy_plans, samples, failed=set(refused))
    try:
        code.check_sequences()
        with translate_waits():
            async with trial_transaction(connection):
                await trial.run(code)
    except NotTriedError as error:
        reason = f"the triggers and functions of the tables could not be tried with rows of the load: {error}"
        logger.info(reason)
        return trial.problems, reason
    return trial.problems, ""


def closed(target: Target, samples: Samples) -> dict[str, list[pa.RecordBatch]]:
    """Return those of the samples whose references by id, at any remove, lead to rows of them."""
    kept: dict[str, list[pa.RecordBatch]] = {}
    ids: dict[str, pa.Array] = {}
    for table in target.model.tables:
        batches = list(samples.batches.get(table.name, ()))
        has_members = table.name == "messages" or table.follows in {"channels", "messages"}
        if not batches or ("user_channels" in samples.partial and has_members):
            # authors may be members that are not sampled, for code that asks for membership
            continue
        own = [(column, parent) for column, parent in table.references if parent == table.name]
        for column, parent in table.references:
            if parent in WITH_IDS and parent != table.name:
                batches = [having(batch, column, ids.get(parent)) for batch in batches]
        if table.name in WITH_IDS:
            count = -1
            while count != (count := sum(batch.num_rows for batch in batches)):
                ids[table.name] = pa.concat_arrays([batch.column("id") for batch in batches])
                for column, _ in own:
                    batches = [having(batch, column, ids[table.name]) for batch in batches]
        kept[table.name] = batches
    return kept


def having(batch: pa.RecordBatch, column: str, ids: pa.Array | None) -> pa.RecordBatch:
    """Return the rows of a batch whose ``column`` is null or one of ``ids``."""
    if column not in batch.schema.names:
        return batch
    values = batch.column(column)
    if ids is None:
        return batch.filter(pc.is_null(values))
    return batch.filter(pc.or_kleene(pc.is_null(values), pc.is_in(values, value_set=ids.cast(values.type))))


def without_values(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    """Return the rows of a batch of which one of ``columns`` is null."""
    mask = np.zeros(batch.num_rows, dtype=np.bool_)
    for column in columns:
        mask |= np.asarray(pc.is_null(batch.column(column)))
    return batch.filter(pa.array(mask))
