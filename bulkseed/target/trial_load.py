"""The trial before a load: a few rows of each table go into temporary copies, to find all that the tables refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import asyncpg
import pyarrow as pa
from anyio import to_thread

from bulkseed.copy.writer import CopyPlan
from bulkseed.errors import RunError, TargetError
from bulkseed.fields import Distinct, distinct
from bulkseed.generators import Context
from bulkseed.generators.shard_context import fields_of
from bulkseed.plan.activity import expected_rows
from bulkseed.plan.plan import Placement, Plan
from bulkseed.plan.tables import WITH_IDS, Table
from bulkseed.postgres.connection import Connection, server_message
from bulkseed.postgres.transaction import RollBack, trial_transaction
from bulkseed.sql import compose, identifier, join, trusted
from bulkseed.target.copy_plan import with_keys
from bulkseed.target.database_code import DatabaseCode, read_code
from bulkseed.target.ids import allocate_ids, find_id_range, read_system_reactions
from bulkseed.target.target import HAS_TRIGGERS, Problem, Target, raise_problems
from bulkseed.target.trial_copy import equal_columns, fill_copy
from bulkseed.target.trial_insert import try_in_tables
from bulkseed.target.trial_keys import Waiting, find_key_problems
from bulkseed.target.trial_limits import limit_queries
from bulkseed.target.trial_rows import find_row_problems, needs_many_rows
from bulkseed.target.trial_sample import Samples, generate_samples
from bulkseed.text.names import Corpus

__all__ = ["TrialResult", "make_samples", "run_trial"]

COPY: Final = "bulkseed_trial"
"""The name of the temporary copy of a table."""
PLAIN: Final = {"int4", "int8", "text", "varchar", "bool", "timestamp", "timestamptz"}
"""Types that accept every value of the built-in tables."""

CHECKS: Final = """
SELECT oid::bigint AS oid, conname AS name, pg_get_expr(conbin, conrelid) AS holds FROM pg_constraint AS c
WHERE conrelid = $1::text::regclass AND contype = 'c' AND coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true)
ORDER BY conname
"""
"""The CHECK constraints of a table; one that is NOT VALID holds for new rows, NOT ENFORCED (since 18) for none."""

UNIQUE: Final = """
SELECT c.relname AS name, i.indisprimary AS is_primary,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k (number, position)
             JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
             WHERE position <= i.indnkeyatts ORDER BY position) AS columns
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE i.indrelid = $1::text::regclass AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
  AND NOT i.indisexclusion ORDER BY c.relname
"""
"""Unique indexes and keys over plain columns: neither partial nor with expressions."""

CHECKED: Final = """
SELECT EXISTS (
    SELECT FROM pg_constraint WHERE conrelid = ANY ($1::text[]::regclass[])
      AND (contype = 'c' OR contype = 'f' AND (cardinality(conkey) > 1 OR confrelid <> ALL ($2::text[]::regclass[])))
    UNION ALL
    SELECT FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = ANY ($1::text[]::regclass[]) AND t.typtype = 'd'
    UNION ALL
    SELECT FROM pg_trigger WHERE tgrelid = ANY ($1::text[]::regclass[]) AND tgtype & 4 = 4 AND NOT tgisinternal
)
"""
"""Whether the tables have constraints on values beyond their types: CHECK constraints, domains, foreign keys of several
columns or to other tables than $2; or triggers on INSERT."""


class TrialResult(NamedTuple):
    """Sentences on what could not be tried, and foreign keys that rows satisfy only when all are loaded."""

    notes: tuple[str, ...] = ()
    waiting: tuple[Waiting, ...] = ()


async def run_trial(
    connection: Connection,
    target: Target,
    copy_plans: Mapping[str, CopyPlan],
    plan: Plan,
    corpus: Corpus,
    last_ids: Mapping[str, int],
) -> TrialResult:
    """Check rows of a load against the target's constraints, triggers and types.

    The rows go into temporary copies of the tables, and where code of the database judges them, into the tables
    themselves, in transactions that are rolled back. ``last_ids`` are as :func:`bulkseed.target.ids.allocate_ids` takes
    them.

    Raises TargetError with a line for each problem: values that a column's type cannot take, CHECK constraints, unique
    columns in which values repeat, foreign keys of the app's own, triggers that refuse rows. Raises InputError for
    errors of the user's code.
    """
    problems: list[Problem] = []
    notes: list[str] = []
    waiting: list[Waiting] = []
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
    known = [target.sql_name(name) for name in target.model.by_name]
    many = await needs_many_rows(connection, target)
    if many or not plain or await connection.fetchval(CHECKED, target.sql_tables(), known):
        code = await read_code(connection, target, copy_plans)
        if code.runs or many:
            # the very ids of the load, as the rows go among existing ones
            context = await allocate_ids(connection, target, plan, corpus, last_ids=last_ids, reserve=False)
            samples = await in_thread(generate_samples, context)
        else:
            samples = await make_samples(connection, target, plan, corpus)
        refused: set[str] = set()
        for name, batches in samples.batches.items():
            table = target.model.by_name[name]
            copy_plan = with_keys(copy_plans[name], table, samples.keys)
            found = await try_batches(connection, target, table, copy_plan, batches, per_run.get(name, ()), code, notes)
            problems += found
            refused |= {name} if found else set()
        if many:
            problems += await find_row_problems(connection, target, copy_plans, samples, refused, notes)
        found, waiting = await find_key_problems(connection, target, copy_plans, samples, notes)
        problems += found
        if code.runs:
            found, reason = await try_in_tables(connection, target, copy_plans, samples, code, refused)
            problems += found
            notes += [reason] if reason else []
    raise_problems(problems)
    return TrialResult(tuple(notes), tuple(waiting))


async def make_samples(connection: Connection, target: Target, plan: Plan, corpus: Corpus) -> Samples:
    """Return rows of the load, with the ids that are free now. Raises InputError for errors of the user's code."""
    reactions = await read_system_reactions(connection, target)
    expected = expected_rows(plan)
    first_ids = {
        name: await next_id(connection, target, name, round(expected[name]))
        for name in WITH_IDS
        if name in target.columns
    }
    placement = Placement(
        first_user=first_ids["users"],
        first_channel=first_ids["channels"],
        first_message=first_ids.get("messages", 1),
        reactions=reactions,
        uuids=tuple(name for name in first_ids if target.has_uuids(name)),
    )
    return await in_thread(generate_samples, Context(plan, placement, corpus))


async def in_thread(generate: Callable[[Context], Samples], context: Context) -> Samples:
    """Return what a generator makes, which is pure Python and NumPy for a moment. Raises InputError."""
    try:
        return await to_thread.run_sync(generate, context)
    except RunError as error:
        # nothing has been written yet, so that for the user it is an error of the input
        raise TargetError(str(error), code=error.code) from error


async def next_id(connection: Connection, target: Target, table: str, count: int) -> int:
    """Return roughly the first of ``count`` new ids. Raises TargetError where fewer than ``count`` are left."""
    if target.has_uuids(table):
        return 1
    id_range = await find_id_range(connection, target, table, "id", count)
    return id_range.first


async def try_batches(
    connection: Connection,
    target: Target,
    table: Table,
    copy_plan: CopyPlan,
    batches: Sequence[pa.RecordBatch],
    indexes: Sequence[Any],
    code: DatabaseCode,
    notes: list[str],
) -> list[Problem]:
    """Return a problem for each reason why the table would refuse rows of ``batches``, its triggers apart.

    ``indexes`` are unique indexes whose values are known to differ within a run only. ``notes`` gets what takes too
    long to be tried.
    """
    problems: list[Problem] = []
    # what triggers change is tried in the table itself
    fills = bool(await connection.fetchval(HAS_TRIGGERS, target.sql_name(table.name)))
    async with trial_transaction(connection):
        _, refused = await fill_copy(connection, target, table, copy_plan, batches, COPY, not_null=not fills)
        problems += refused
        if refused or fills:
            raise RollBack
        for index in indexes:
            tried = f"the index {index['name']} of {target.model.name(table.name)}"
            async with limit_queries(connection, tried, notes):
                problems += [problem async for problem in find_taken_values(connection, target, table, index)]
        problems += [problem async for problem in check_constraints(connection, target, table, code, notes)]
    return problems


async def check_constraints(
    connection: Connection, target: Target, table: Table, code: DatabaseCode, notes: list[str]
) -> AsyncIterator[Problem]:
    """Yield a problem for each CHECK constraint of the table that rows of its copy violate."""
    name, actual = target.sql_name(table.name), target.model.name(table.name)
    for row in await connection.fetch(CHECKS, name):
        if row["oid"] in code.reading_checks:
            continue
        judge = compose(
            "SELECT count(*) AS number, min(t::text) AS example FROM {copy} AS t WHERE NOT ({condition})",
            copy=identifier(COPY),
            condition=trusted(row["holds"]),
        )
        try:
            refused = None
            async with limit_queries(connection, f"the CHECK constraint {row['name']} of {actual}", notes):
                refused = await connection.fetchrow(judge)
        except asyncpg.PostgresError as error:
            if connection.is_closed():
                raise
            yield Problem(
                "check-constraint",
                f"the CHECK constraint {row['name']} of {actual} fails for rows of the load ({server_message(error)}): "
                "correct the functions that it calls, or change the fields of its columns",
            )
            continue
        if refused is not None and refused["number"]:
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
