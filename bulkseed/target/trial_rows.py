"""The trial of what needs many rows of a table: indexes of expressions or of some rows, exclusion, partitions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any, Final

import asyncpg
import pyarrow as pa

from bulkseed.copy.writer import CopyPlan
from bulkseed.generators import Context, shard_tables
from bulkseed.plan.activity import expected_rows
from bulkseed.plan.plan import Plan
from bulkseed.plan.shards import Shard, split_into_shards
from bulkseed.plan.tables import Table
from bulkseed.postgres.connection import Connection, server_message
from bulkseed.postgres.transaction import RollBack, trial_transaction
from bulkseed.sql import SQL, compose, identifier, join, trusted
from bulkseed.target.copy_plan import with_keys
from bulkseed.target.target import HAS_TRIGGERS, Problem, Target
from bulkseed.target.trial_copy import fill_copy, make_copy
from bulkseed.target.trial_limits import limit_queries
from bulkseed.target.trial_sample import Samples

__all__ = ["find_row_problems", "needs_many_rows"]

ROWS: Final = 50_000
"""The rows of a table that are tried: all of most loads, in half a second; of larger ones a part that is spread over
the load, in which more values repeat than a user would want to find out about later."""
PARTS: Final = 100
COPY: Final = "bulkseed_trial"
WITH_INDEX: Final = "bulkseed_trial_index"

INDEXES: Final = """
SELECT c.relname AS name, pg_get_indexdef(c.oid) AS definition, pg_get_constraintdef(k.oid) AS constraint_definition,
       pg_get_expr(i.indpred, i.indrelid) AS predicate, i.indisexclusion AS excludes,
       format('CREATE UNIQUE INDEX %s ON %s%s.%s ', quote_ident(c.relname), CASE WHEN t.relkind = 'p' THEN 'ONLY ' END,
              quote_ident(s.nspname), quote_ident(t.relname)) AS beginning,
       ARRAY(SELECT pg_get_indexdef(c.oid, n::int, false) FROM generate_series(1, i.indnkeyatts) AS n) AS expressions,
       i.indnullsnotdistinct AS nulls_are_equal,
       ARRAY(
           WITH used AS (
               SELECT unnest(i.indkey::int2[]) AS number
               UNION SELECT d.refobjsubid FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
               AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid
           )
           SELECT a.attname::text FROM pg_attribute AS a
           WHERE a.attrelid = t.oid AND a.attnum > 0 AND a.attgenerated = '' AND (
               a.attnum IN (SELECT number FROM used) OR EXISTS (
                   SELECT FROM pg_attrdef AS g JOIN pg_depend AS d ON d.classid = 'pg_attrdef'::regclass
                   AND d.objid = g.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid
                   AND d.refobjsubid = a.attnum
                   WHERE g.adrelid = t.oid AND g.adnum IN (SELECT number FROM used)))
       ) AS columns
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_class AS t ON t.oid = i.indrelid
JOIN pg_namespace AS s ON s.oid = t.relnamespace
LEFT JOIN pg_constraint AS k ON k.conindid = c.oid AND k.conrelid = t.oid AND k.contype IN ('p', 'u', 'x')
WHERE i.indrelid = $1::text::regclass AND (i.indisunique OR i.indisexclusion)
  AND (i.indpred IS NOT NULL OR i.indexprs IS NOT NULL OR i.indisexclusion OR i.indnullsnotdistinct OR EXISTS (
      SELECT FROM pg_attribute AS a WHERE a.attrelid = t.oid AND a.attnum = ANY (i.indkey::int2[]) AND a.atthasdef
      AND a.attname <> ALL ($2::text[])))
ORDER BY c.relname
"""
"""The indexes in which more than the values of the columns $2 decides whether rows exclude each other. ``columns`` are
those from which the values of the index are computed, also by way of generated columns."""

PARTITIONS: Final = """
SELECT coalesce(pg_get_partition_constraintdef(relid), 'true') AS holds
FROM pg_partition_tree($1::text::regclass) WHERE isleaf AND level > 0 ORDER BY relid
"""
IS_PARTITIONED: Final = "SELECT relkind = 'p' FROM pg_class WHERE oid = $1::text::regclass"

MANY: Final = """
SELECT EXISTS (
    SELECT FROM pg_class WHERE oid = ANY ($1::text[]::regclass[]) AND relkind = 'p'
    UNION ALL
    SELECT FROM pg_index WHERE indrelid = ANY ($1::text[]::regclass[]) AND (indisunique OR indisexclusion)
      AND (indpred IS NOT NULL OR indexprs IS NOT NULL OR indisexclusion OR indnullsnotdistinct OR EXISTS (
          SELECT FROM pg_attrdef AS g WHERE g.adrelid = indrelid AND g.adnum = ANY (indkey::int2[]) AND NOT EXISTS (
              SELECT FROM pg_depend AS d JOIN pg_class AS s ON s.oid = d.refobjid AND s.relkind = 'S'
              WHERE d.classid = 'pg_attrdef'::regclass AND d.objid = g.oid AND d.refclassid = 'pg_class'::regclass)))
)
"""


async def needs_many_rows(connection: Connection, target: Target) -> bool:
    """Return whether a table has what :func:`find_row_problems` tries."""
    return bool(await connection.fetchval(MANY, target.sql_tables()))


async def find_row_problems(
    connection: Connection,
    target: Target,
    copy_plans: Mapping[str, CopyPlan],
    samples: Samples,
    refused: Iterable[str],
    notes: list[str],
) -> list[Problem]:
    """Return a problem for each index or set of partitions that refuses rows of the load, or of them and existing ones.

    Tables that are ``refused`` already are not tried. ``notes`` gets what takes too long to be tried. Raises
    InputError and RunError for errors of the user's code.
    """
    problems: list[Problem] = []
    for table in target.model.tables:
        name = target.sql_name(table.name)
        if table.name in refused:
            continue
        partitioned = await connection.fetchval(IS_PARTITIONED, name)
        fills = await connection.fetchval(HAS_TRIGGERS, name)
        # the values that triggers make are tried in the table itself
        indexes = [] if fills else await connection.fetch(INDEXES, name, list(copy_plans[table.name].columns))
        if not (partitioned or indexes):
            continue
        async with trial_transaction(connection):
            copy_plan = with_keys(copy_plans[table.name], table, samples.keys)
            batches = many_rows(samples.context, table.name)
            known, found = await fill_copy(connection, target, table, copy_plan, batches, COPY, not_null=not fills)
            problems += found
            if found:
                raise RollBack
            if partitioned:
                async with limit_queries(connection, f"the partitions of {target.model.name(table.name)}", notes):
                    problems += await try_partitions(connection, target, table)
            filled = {*copy_plan.columns, *known}
            for index in indexes:
                if not filled.issuperset(index["columns"]):
                    continue
                tried = f"the index {index['name']} of {target.model.name(table.name)}"
                async with limit_queries(connection, tried, notes):
                    problems += await try_index(connection, target, table, copy_plan.columns, index)
    return problems


def many_rows(context: Context, table: str) -> Iterator[pa.RecordBatch]:
    """Yield rows of a table in the load: all of them, or a part that is spread over the load."""
    plan = context.plan
    expected = expected_rows(plan)[table]
    if expected <= ROWS:
        for shard in shards_of(plan, table, ROWS):
            yield from batches_of(context, shard, table)
        return
    whole = sum(expected_rows(plan).values())
    shards = list(islice(shards_of(plan, table, max(1, round(whole / PARTS))), 2 * PARTS))
    number = {"users": plan.users, "channels": plan.channels, "messages": plan.top_level_messages}
    few = max(1, round(ROWS / len(shards) / (expected / number[plan.model.root(table)])))
    for shard in (*(first_part(context, shard, few) for shard in shards), last_part(context, shards[-1])):
        missing = ROWS // len(shards)
        for batch in batches_of(context, shard, table):
            yield batch.slice(0, missing)
            missing -= batch.num_rows
            if missing <= 0:
                break


def first_part(context: Context, shard: Shard, few: int) -> Shard:
    """Return the first ``few`` users, channels or messages of a shard, as one."""
    if shard.kind == "messages":
        return replace(shard, stop=context.history.timeline.moment_after(shard.start, few, shard.stop))
    return replace(shard, stop=min(shard.stop, shard.start + few))


def last_part(context: Context, shard: Shard) -> Shard:
    """Return the last user, channel or messages of the shard, as one."""
    if shard.kind == "messages":
        timeline = context.history.timeline
        number = int((timeline.before(shard.stop) - timeline.before(shard.start)).sum())
        return replace(shard, start=timeline.moment_after(shard.start, number, shard.stop) - 1)
    return replace(shard, start=shard.stop - 1)


def shards_of(plan: Plan, table: str, rows: int) -> Iterator[Shard]:
    model = plan.model
    for shard in split_into_shards(plan, rows):
        if model.stage(table) == shard.stage and (not shard.late or model.root(table) == shard.kind):
            yield shard


def batches_of(context: Context, shard: Shard, table: str) -> Iterator[pa.RecordBatch]:
    for name, batches in shard_tables(context, shard):
        if name == table:
            yield from batches


async def try_partitions(connection: Connection, target: Target, table: Table) -> list[Problem]:
    """Return a problem if there is no partition for some rows of the copy."""
    conditions = [trusted(row["holds"]) for row in await connection.fetch(PARTITIONS, target.sql_name(table.name))]
    fits = join(" OR ", (compose("({condition})", condition=condition) for condition in conditions))
    row = await connection.fetchrow(
        compose(
            "SELECT count(*) AS number, pg_get_partkeydef($1::text::regclass) AS key, min(t::text) AS example "
            "FROM {copy} AS t WHERE NOT coalesce({fits}, false)",
            copy=identifier("pg_temp", COPY),
            fits=fits if conditions else compose("false"),
        ),
        target.sql_name(table.name),
    )
    if not row["number"]:
        return []
    example = " ".join(row["example"].split())
    return [
        Problem(
            "missing-partition",
            f"{target.model.name(table.name)} (partitioned by {row['key']}) has no partition for {row['number']:,} of "
            f"the rows tried, such as {example:.80}: create the partitions, or one FOR DEFAULT",
        )
    ]


async def try_index(
    connection: Connection, target: Target, table: Table, columns: Sequence[str], index: Any
) -> list[Problem]:
    """Return a problem if rows of the copy exclude each other in an index, or existing rows exclude them."""
    name, named = target.model.name(table.name), f"the index {index['name']}"
    found: list[Problem] = []
    with suppress(RollBack):
        async with connection.transaction():
            if not await make_index(connection, target, table, index):
                raise RollBack
            try:
                async with connection.transaction():
                    await connection.execute(
                        compose(
                            "INSERT INTO {indexed} ({columns}) SELECT {columns} FROM {copy}",
                            indexed=identifier("pg_temp", WITH_INDEX),
                            columns=join(", ", map(identifier, columns)),
                            copy=identifier("pg_temp", COPY),
                        )
                    )
            except (asyncpg.UniqueViolationError, asyncpg.ExclusionViolationError) as error:
                found.append(
                    Problem(
                        "values-repeat",
                        f"rows of the load exclude each other in {named} of {name} ({server_message(error)}): fill its "
                        "columns with fields whose values differ, or drop the index",
                    )
                )
            except asyncpg.PostgresError as error:
                if connection.is_closed() or isinstance(error, asyncpg.QueryCanceledError):
                    raise
                found.append(
                    Problem(
                        "refused-row",
                        f"{named} of {name} refuses rows of the load ({server_message(error)}): correct the functions "
                        "that it calls, or fill its columns with other values",
                    )
                )
            raise RollBack
    if not found and not index["excludes"] and (taken := await find_taken(connection, target, table, index)):
        found.append(
            Problem(
                "values-taken",
                f"existing rows of {name} have values of the load in {named}, such as {taken:.40}: fill its columns "
                "with fields whose values differ, or drop the index",
            )
        )
    return found


async def make_index(connection: Connection, target: Target, table: Table, index: Any) -> bool:
    """Make an empty copy of the table with the index, and return whether the server lets this user do so."""
    indexed = identifier("pg_temp", WITH_INDEX)
    if index["excludes"]:
        index_sql = compose(
            "ALTER TABLE {copy} ADD {constraint}", copy=indexed, constraint=trusted(index["constraint_definition"])
        )
    elif index["definition"].startswith(index["beginning"]):
        body = trusted(index["definition"].removeprefix(index["beginning"]))
        index_sql = compose("CREATE UNIQUE INDEX ON {copy} {body}", copy=indexed, body=body)
    else:
        return False
    try:
        # empty, so that nothing is evaluated under the search_path of maintenance
        async with connection.transaction():
            await make_copy(connection, target, table, (), WITH_INDEX)
            await connection.execute(index_sql)
    except asyncpg.PostgresError as error:
        if connection.is_closed() or isinstance(error, asyncpg.QueryCanceledError):
            raise
        return False
    return True


async def find_taken(connection: Connection, target: Target, table: Table, index: Any) -> str | None:
    """Return a value of the index that both a row of the copy and an existing one have.

    Where nulls are equal, rows with nulls are compared by INTERSECT, which takes them so: IS NOT DISTINCT FROM is no
    operator by which a join can be hashed, sorted or looked up.
    """
    keys = [identifier(f"key_{number}") for number in range(len(index["expressions"]))]
    selected = join(
        ", ",
        (
            compose("{expression} AS {key}", expression=trusted(expression), key=key)
            for expression, key in zip(index["expressions"], keys, strict=True)
        ),
    )
    condition = trusted(index["predicate"] or "true")
    null = join(" OR ", (compose("{key} IS NULL", key=key) for key in keys))

    def values_of(source: SQL) -> SQL:
        return compose(
            "(SELECT {selected} FROM {source} WHERE {condition})", selected=selected, source=source, condition=condition
        )

    new, old = values_of(identifier("pg_temp", COPY)), values_of(target.sql_name(table.name))
    queries = [
        compose(
            "SELECT {values} FROM {new} AS new JOIN {old} AS old ON {equal}",
            values=join(", ", (compose("new.{key}", key=key) for key in keys)),
            equal=join(" AND ", (compose("new.{key} = old.{key}", key=key) for key in keys)),
            new=new,
            old=old,
        )
    ]
    if index["nulls_are_equal"]:
        queries.append(
            compose(
                "(SELECT * FROM {new} AS new WHERE {null} INTERSECT SELECT * FROM {old} AS old WHERE {null})",
                new=new,
                old=old,
                null=null,
            )
        )
    try:
        async with connection.transaction():
            taken = await connection.fetchval(
                compose(
                    "SELECT concat_ws(', ', {shown}) FROM ({queries}) AS taken LIMIT 1",
                    shown=join(", ", (compose("coalesce({key}::text, 'null')", key=key) for key in keys)),
                    queries=join(" UNION ALL ", queries),
                )
            )
    except asyncpg.PostgresError as error:
        if connection.is_closed() or isinstance(error, asyncpg.QueryCanceledError):
            raise
        return None  # a type without a default equality, or rows that the user may not read
    return None if taken is None else str(taken)
