"""The trial before a load: a few rows of each table go into temporary copies, to find all that the tables refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import asyncpg
import pyarrow as pa
from anyio import to_thread

from bulkseed.copy.writer import CopyPlan, copy_batches
from bulkseed.errors import ConnectionLostError, InputError, RunError, TargetError
from bulkseed.fields import Distinct, distinct
from bulkseed.generators import Context
from bulkseed.generators.shard_context import fields_of
from bulkseed.plan.activity import expected_rows
from bulkseed.plan.plan import Placement, Plan
from bulkseed.plan.tables import WITH_IDS, Table
from bulkseed.postgres.connection import Connection, translate_errors
from bulkseed.postgres.transaction import RollBack, trial_transaction
from bulkseed.sql import SQL, compose, identifier, join, trusted
from bulkseed.target.copy_plan import with_keys
from bulkseed.target.ids import find_id_range, read_system_reactions
from bulkseed.target.target import Problem, Target, raise_problems
from bulkseed.target.trial_copy import equal_columns
from bulkseed.target.trial_keys import find_key_problems
from bulkseed.target.trial_sample import Samples, generate_samples
from bulkseed.text.names import Corpus

__all__ = ["make_samples", "run_trial"]

COPY: Final = "bulkseed_trial"
"""The name of the temporary copy of a table."""
PLAIN: Final = {"int4", "int8", "text", "varchar", "bool", "timestamp", "timestamptz"}
"""Types that accept every value of the built-in tables."""

NOT_NULL: Final = """
SELECT attname AS name, NOT atthasdef AND attidentity = '' AND typdefault IS NULL AS is_unfilled
FROM pg_attribute JOIN pg_type AS t ON t.oid = atttypid
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attnotnull AND attgenerated = ''
  AND attname <> ALL ($2::text[])
"""

CHECKS: Final = """
SELECT conname AS name, pg_get_expr(conbin, conrelid) AS holds FROM pg_constraint
WHERE conrelid = $1::text::regclass AND contype = 'c' AND convalidated ORDER BY conname
"""

UNIQUE: Final = """
SELECT c.relname AS name, i.indisprimary AS is_primary,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k (number, position)
             JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
             WHERE position <= i.indnkeyatts ORDER BY position) AS columns
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE i.indrelid = $1::text::regclass AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL ORDER BY c.relname
"""
"""Unique indexes and keys over plain columns: neither partial nor with expressions."""

CHECKED: Final = """
SELECT EXISTS (
    SELECT FROM pg_constraint WHERE conrelid = ANY ($1::text[]::regclass[]) AND contype IN ('c', 'x')
    UNION ALL
    SELECT FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = ANY ($1::text[]::regclass[]) AND t.typtype = 'd'
    UNION ALL
    SELECT FROM pg_trigger WHERE tgrelid = ANY ($1::text[]::regclass[]) AND tgtype & 7 = 7 AND NOT tgisinternal
)
"""
"""Whether the tables have constraints on values beyond their types: CHECK and EXCLUDE constraints, or domains; or
triggers before INSERT, which may fill columns."""

TRIGGERS: Final = """
SELECT replace(pg_get_triggerdef(t.oid), format(' ON %I.%I ', n.nspname, c.relname), ' ON pg_temp.' || $2 || ' ') AS sql
FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = tgrelid JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE tgrelid = $1::text::regclass AND tgtype & 7 = 7 AND tgenabled IN ('O', 'A') AND NOT tgisinternal ORDER BY tgname
"""
"""The triggers before INSERT of a table, as SQL that makes them for its copy."""


async def run_trial(
    connection: Connection, target: Target, copy_plans: Mapping[str, CopyPlan], plan: Plan, corpus: Corpus
) -> None:
    """Check the rows of a load against the target's constraints, with a few rows in temporary copies of its tables.

    Nothing remains of the copies. Raises TargetError with a line for each problem: values that a column's type cannot
    take, CHECK constraints, unique columns in which values repeat, foreign keys of the app's own. Raises InputError for
    errors of the user's code.
    """
    problems: list[Problem] = []
    per_run: dict[str, list[Any]] = {}
    for table in target.model.tables:
        for row in await connection.fetch(UNIQUE, target.sql_name(table.name)):
            scope = distinct_scope(target, table, plan, row)
            if scope is None:
                problems.append(repeating_values(target, table, row))
            elif scope == "run":
                per_run.setdefault(table.name, []).append(row)
    scenario = plan.scenario
    types = {mapping.kind for copy_plan in copy_plans.values() for mapping in copy_plan.mappings}
    plain = types <= PLAIN and not (scenario.tables or scenario.columns or scenario.fields or scenario.extras)
    if not plain or await connection.fetchval(CHECKED, target.sql_tables()):
        samples = await make_samples(connection, target, plan, corpus)
        for name, batches in samples.batches.items():
            table = target.model.by_name[name]
            copy_plan = with_keys(copy_plans[name], table, samples.keys)
            problems += await try_batches(connection, target, table, copy_plan, batches, per_run.get(name, ()))
        problems += await find_key_problems(connection, target, copy_plans, samples)
    raise_problems(problems)


async def make_samples(connection: Connection, target: Target, plan: Plan, corpus: Corpus) -> Samples:
    """Return rows of the load, with the ids that are free now. Raises InputError for errors of the user's code."""
    reactions = await read_system_reactions(connection, target)
    expected = expected_rows(plan)
    first_ids = {
        name: await next_id(connection, target, name, round(expected[name]))
        for name in WITH_IDS
        if name in target.columns
    }
    try:
        # generators are pure Python and NumPy for a moment: in a thread
        return await to_thread.run_sync(partial(generate, target, plan, corpus, reactions, first_ids))
    except RunError as error:
        # nothing has been written yet, so that for the user it is an error of the input
        raise TargetError(str(error), code=error.code) from error


async def next_id(connection: Connection, target: Target, table: str, count: int) -> int:
    """Return roughly the first of ``count`` new ids. Raises TargetError where fewer than ``count`` are left."""
    if target.has_uuids(table):
        return 1
    id_range = await find_id_range(connection, target, table, "id", count)
    return id_range.first


def generate(
    target: Target, plan: Plan, corpus: Corpus, reactions: tuple[int | str, ...], first_ids: Mapping[str, int]
) -> Samples:
    """Return rows of the load. Raises InputError and RunError for errors of the user's code."""
    placement = Placement(
        first_user=first_ids["users"],
        first_channel=first_ids["channels"],
        first_message=first_ids.get("messages", 1),
        reactions=reactions,
        uuids=tuple(name for name in first_ids if target.has_uuids(name)),
    )
    return generate_samples(Context(plan, placement, corpus))


async def try_batches(
    connection: Connection,
    target: Target,
    table: Table,
    copy_plan: CopyPlan,
    batches: Sequence[pa.RecordBatch],
    indexes: Sequence[Any] = (),
) -> list[Problem]:
    """Return a problem for each reason why the table would refuse rows of ``batches``.

    ``indexes`` are unique indexes whose values are known to differ within a run only.
    """
    name, to_copy = target.sql_name(table.name), replace(copy_plan, table=COPY, schema="pg_temp")
    problems: list[Problem] = []
    async with trial_transaction(connection):
        try:
            await connection.execute(
                compose(
                    "CREATE TEMP TABLE {copy} (LIKE {table} INCLUDING GENERATED) ON COMMIT DROP",
                    copy=identifier(COPY),
                    table=name,
                )
            )
        except asyncpg.InsufficientPrivilegeError:
            # without the privilege TEMPORARY the load itself finds the problems; nobody sees this exception
            raise RollBack from None
        not_null = await connection.fetch(NOT_NULL, name, list(copy_plan.columns))
        unfilled = [row["name"] for row in not_null if row["is_unfilled"]]
        if unfilled and not await make_triggers(connection, name):
            unfilled = []
        for row in not_null:
            if row["name"] in unfilled:
                continue
            # filled by a default, which the copy does not have
            await connection.execute(
                compose(
                    "ALTER TABLE {copy} ALTER {column} DROP NOT NULL",
                    copy=identifier(COPY),
                    column=identifier(row["name"]),
                )
            )
        try:
            with translate_errors(connection, f"trying {name}"):
                await copy_batches(connection, to_copy, iter(batches), lambda _: None)
        except ConnectionLostError:
            raise
        except (RunError, InputError) as error:
            message = str(error).replace(str(to_copy), target.model.name(table.name))
            cause = error.__cause__
            if isinstance(cause, asyncpg.NotNullViolationError) and cause.column_name in unfilled:
                problems.append(unfilled_column(target, table, cause.column_name))
            else:
                problems.append(Problem(error.code, message))
            raise RollBack from error
        for index in indexes:
            problems += [problem async for problem in find_taken_values(connection, target, table, index)]
        problems += [problem async for problem in check_constraints(connection, target, table)]
    return problems


async def check_constraints(connection: Connection, target: Target, table: Table) -> AsyncIterator[Problem]:
    """Yield a problem for each CHECK constraint of the table that rows of its copy violate."""
    name, actual = target.sql_name(table.name), target.model.name(table.name)
    for row in await connection.fetch(CHECKS, name):
        refused = await connection.fetchrow(
            compose(
                "SELECT count(*) AS number, min(t::text) AS example FROM {copy} AS t WHERE NOT ({condition})",
                copy=identifier(COPY),
                condition=trusted(row["holds"]),
            )
        )
        if refused["number"]:
            example = " ".join(refused["example"].split())
            yield Problem(
                "check-constraint",
                f"the CHECK constraint {row['name']} of {actual} refuses rows such as {example:.80} "
                f"({' '.join(row['holds'].split())}): change the constraint or the fields of these columns",
            )


def distinct_scope(target: Target, table: Table, plan: Plan, index: Any) -> Distinct | None:
    """Return the scope in which the values of a unique index differ in each row: ``always`` or within a ``run``.

    None where values repeat, as far as it is known.
    """
    model, columns = target.model, set(index["columns"])
    actual = {column.name: model.column(table.name, column.name) for column in table.columns}
    fields = fields_of(plan).get(table.name, {})
    if table.name in model.extras or not columns <= {*actual.values(), *fields}:
        return "always"  # not known, or filled by a default
    # a copy of a column stands for the column
    columns |= {actual.get(spec.copies, "") for name, spec in fields.items() if name in columns and spec.copies}
    unique = [{actual[name] for name in key} for key in (table.key, *table.unique) if set(key) <= set(actual)]
    scopes = {distinct(spec) for name, spec in fields.items() if name in columns}
    if any(key <= columns for key in unique) or "always" in scopes:
        return "always"
    return "run" if "run" in scopes else None


def repeating_values(target: Target, table: Table, index: Any) -> Problem:
    return Problem(
        "values-repeat",
        f"{target.model.name(table.name)} has the unique index {index['name']} over {', '.join(index['columns'])}, in "
        "which values would repeat: fill one of them with a field of its own, such as "
        f"{{ template = {unique_text(table)} }}, or drop the index",
    )


def unique_text(table: Table) -> str:
    """Return a template whose texts differ in every row of every run, as TOML."""
    return '"name-{id}"' if "id" in table.column_names else '"name-{uuid}"'


def unfilled_column(target: Target, table: Table, column: str) -> Problem:
    return Problem(
        "unfilled-column",
        f"nothing fills the NOT NULL column {target.model.name(table.name)}.{column}, and its triggers do not either: "
        f"give it a default, or a field in the scenario's [fields.{table.name}]",
    )


async def make_triggers(connection: Connection, table: SQL) -> bool:
    """Give the copy of ``table`` its triggers before INSERT; return whether it has any and this login may make them."""
    statements = [row["sql"] for row in await connection.fetch(TRIGGERS, table, COPY)]
    try:
        async with connection.transaction():
            for statement in statements:
                await connection.execute(trusted(statement))
    except asyncpg.PostgresError:  # without the right to their functions, for example
        return False
    return bool(statements)


async def find_taken_values(connection: Connection, target: Target, table: Table, index: Any) -> AsyncIterator[Problem]:
    """Yield a problem where existing rows have values of the copy in a unique index."""
    taken = await connection.fetchrow(
        compose(
            "SELECT {shown} AS shown FROM {copy} AS t JOIN {table} AS p ON {equal} LIMIT 1",
            shown=join(" || ', ' || ", (compose("{t}::text", t=identifier("t", name)) for name in index["columns"])),
            copy=identifier(COPY),
            table=target.sql_name(table.name),
            equal=equal_columns(index["columns"], index["columns"]),
        )
    )
    if taken is not None:
        yield Problem(
            "values-taken",
            f"{target.model.name(table.name)} has the unique index {index['name']} over {', '.join(index['columns'])}, "
            f"and existing rows have values of the new ones, such as {taken['shown']:.40}, as the fields begin anew in "
            f"each run: fill one of the columns otherwise, such as with {{ template = {unique_text(table)} }}, let a "
            "sequence start above these values, or remove the earlier runs with `bulkseed cleanup`",
        )
