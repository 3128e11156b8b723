"""A trial before a load: some rows of each table into temporary copies, to find all that the tables would refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, Final

import asyncpg
import pyarrow as pa
from anyio import to_thread

from bulkseed.copy.column_mapping import Keys
from bulkseed.copy.writer import CopyInto, copy_batches
from bulkseed.errors import ConnectionLost, InputError, RunError, TargetError
from bulkseed.fields import distinct
from bulkseed.generators import Context, shard_tables
from bulkseed.generators.part import fields_of
from bulkseed.plan.activity import expected_rows
from bulkseed.plan.plan import Placement, Plan
from bulkseed.plan.shards import Shard, uuids_of
from bulkseed.plan.tables import WITH_IDS, Table
from bulkseed.postgres.connection import Connection, translate_errors
from bulkseed.postgres.transaction import safe_transaction
from bulkseed.sql import identifier
from bulkseed.target.copy_plan import with_keys
from bulkseed.target.ids import find_id_range, system_reactions
from bulkseed.target.target import Target
from bulkseed.text.names import Corpus

__all__ = ["try_out"]

COPY: Final = "bulkseed_trial"
PLAIN: Final = {"int4", "int8", "text", "varchar", "bool", "timestamp", "timestamptz"}
"""Types that take what the built-in tables get, whatever it is."""

ROWS: Final = 500
"""Rows of each table that are tried."""
USERS: Final = 100
CHANNELS: Final = 10

NOT_NULL: Final = """
SELECT attname AS name FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attnotnull AND attgenerated = ''
  AND attname <> ALL ($2::text[])
"""

CHECKS: Final = """
SELECT conname AS name, pg_get_expr(conbin, conrelid) AS holds FROM pg_constraint
WHERE conrelid = $1::text::regclass AND contype = 'c' AND convalidated ORDER BY conname
"""

UNIQUE: Final = """
SELECT c.relname AS name, i.indisprimary AS is_primary,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k (number, place)
             JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
             WHERE place <= i.indnkeyatts ORDER BY place) AS columns
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE i.indrelid = $1::text::regclass AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL ORDER BY c.relname
"""
"""Unique indexes and keys of whole columns."""

FOREIGN: Final = """
SELECT k.conname AS name, k.confrelid::regclass::text AS parent,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u (number, place)
             JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.place) AS columns,
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u (number, place)
             JOIN pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = u.number ORDER BY u.place) AS keys
FROM pg_constraint AS k WHERE k.conrelid = $1::text::regclass AND k.contype = 'f' AND k.conparentid = 0
"""


CHECKED: Final = """
SELECT EXISTS (
    SELECT FROM pg_constraint WHERE conrelid = ANY ($1::text[]::regclass[]) AND contype IN ('c', 'x')
    UNION ALL
    SELECT FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = ANY ($1::text[]::regclass[]) AND t.typtype = 'd'
)
"""
"""Whether the tables judge values by more than their types."""


class Undone(Exception):
    """Ends a trial's transaction."""


async def try_out(
    connection: Connection, target: Target, lanes: Mapping[str, CopyInto], plan: Plan, corpus: Corpus
) -> None:
    """Judge what a load would bring by the constraints of the target, with some rows in temporary copies of its tables.

    Nothing is left of it. Raises TargetError, which names all that the tables would refuse: values that do not fit
    their types, CHECK constraints, unique columns in which values repeat, foreign keys of the app's own.
    """
    problems: list[str] = []
    for table in target.model.tables:
        for row in await connection.fetch(UNIQUE, target.name(table.name)):
            problems += repeated(target, table, plan, row)
    scenario = plan.scenario
    types = {fit.kind for into in lanes.values() for fit in into.mappings}
    plain = types <= PLAIN and not (scenario.tables or scenario.columns or scenario.fields or scenario.extras)
    if not plain or await connection.fetchval(CHECKED, target.tables()):
        reactions = await system_reactions(connection, target)
        # generators are pure Python and NumPy for a moment: in a thread
        expected = expected_rows(plan)
        firsts = {
            name: await next_id(connection, target, name, round(expected[name]))
            for name in WITH_IDS
            if name in target.columns
        }
        try:
            keys, made = await to_thread.run_sync(partial(samples, target, plan, corpus, reactions, firsts))
        except RunError as error:
            # nothing has run yet: to the user it is wrong input
            raise TargetError(str(error)) from error
        for name, batch in made.items():
            table = target.model.by_name[name]
            problems += await refusals(connection, target, table, with_keys(lanes[name], table, keys), batch)
    if problems:
        raise TargetError("; ".join(problems))


async def next_id(connection: Connection, target: Target, table: str, count: int) -> int:
    """About the id that the first of ``count`` rows would have. Raises TargetError where there are not so many left."""
    if target.has_uuids(table):
        return 1
    room = await find_id_range(connection, target, table, "id", count)
    return room.highest + room.gap + 1


def samples(
    target: Target, plan: Plan, corpus: Corpus, reactions: tuple[int | str, ...], firsts: Mapping[str, int]
) -> tuple[Mapping[str, Keys], dict[str, pa.RecordBatch]]:
    """The UUIDs that stand for ids, and some rows of each table.

    Raises InputError and RunError for what code of the user's does wrong.
    """
    placement = Placement(
        first_user=firsts["users"],
        first_channel=firsts["channels"],
        first_message=firsts.get("messages", 1),
        reactions=reactions,
        uuids=tuple(name for name in firsts if target.has_uuids(name)),
    )
    context = Context(plan, placement, corpus)
    keys = uuids_of(plan, placement, context.layout.messages)
    users, channels = min(USERS, plan.users), min(CHANNELS, plan.channels)
    shards = [
        Shard(0, "users", 0, users),
        Shard(1, "channels", 0, channels),
        Shard(2, "users", 0, users, late=True),
        Shard(3, "channels", 0, channels, late=True),
    ]
    found: dict[str, pa.RecordBatch] = {}
    for name, batches in chain.from_iterable(shard_tables(context, shard) for shard in shards):
        batch = next(batches, None)
        if batch is not None:
            found[name] = batch.slice(0, ROWS)
    return keys, found


async def refusals(
    connection: Connection, target: Target, table: Table, into: CopyInto, batch: pa.RecordBatch
) -> list[str]:
    """What the target's table would refuse of some rows, in words."""
    name, copy = target.name(table.name), replace(into, table=COPY, schema="pg_temp")
    problems: list[str] = []
    with suppress(Undone):
        async with safe_transaction(connection):
            try:
                await connection.execute(f"CREATE TEMP TABLE {COPY} (LIKE {name} INCLUDING GENERATED) ON COMMIT DROP")
            except asyncpg.InsufficientPrivilegeError:
                raise Undone from None  # who may make no temporary tables learns it from the load
            for row in await connection.fetch(NOT_NULL, name, list(into.columns)):
                # what a default fills there is not what is tried here
                await connection.execute(f"ALTER TABLE {COPY} ALTER {identifier(row['name'])} DROP NOT NULL")
            try:
                with translate_errors(connection, f"trying {name}"):
                    await copy_batches(connection, copy, iter([batch]), lambda _: None)
            except ConnectionLost:
                raise
            except (RunError, InputError) as error:
                problems.append(str(error).replace(str(copy), target.model.name(table.name)))
                raise Undone from error
            problems += [each async for each in judged(connection, target, table, into)]
            raise Undone
    return problems


async def judged(connection: Connection, target: Target, table: Table, into: CopyInto) -> AsyncIterator[str]:
    """What constraints of the table refuse of the rows that are in its copy."""
    name, actual = target.name(table.name), target.model.name(table.name)
    for row in await connection.fetch(CHECKS, name):
        found = await connection.fetchrow(
            f"SELECT count(*) AS number, min(t::text) AS example FROM {COPY} AS t WHERE NOT ({row['holds']})"
        )
        if found["number"]:
            yield (
                f"the CHECK constraint {row['name']} of {actual} refuses rows such as {found['example']:.80} "
                f"({row['holds']}): change it, or what fills its columns"
            )
    ours = {target.model.column(table.name, column) for column, _ in table.references}
    for row in await connection.fetch(FOREIGN, name):
        if not set(row["columns"]) <= set(into.columns) or set(row["columns"]) <= ours:
            continue
        pairs = zip(row["columns"], row["keys"], strict=True)
        equal = " AND ".join(f"p.{identifier(key)} = t.{identifier(column)}" for column, key in pairs)
        there = " AND ".join(f"t.{identifier(column)} IS NOT NULL" for column in row["columns"])
        number = await connection.fetchval(
            f"SELECT count(*) FROM {COPY} AS t WHERE {there} "
            f"AND NOT EXISTS (SELECT FROM {row['parent']} AS p WHERE {equal})"
        )
        if number:
            yield (
                f"the foreign key {row['name']} of {actual} ({', '.join(row['columns'])}) finds no row of "
                f"{row['parent']} for what fills it: fill it with values that are there"
            )


def repeated(target: Target, table: Table, plan: Plan, index: Any) -> Iterator[str]:
    """Why rows would break a unique index of the table: no column of it is known to differ from row to row."""
    model, columns = target.model, set(index["columns"])
    actual = {column.name: model.column(table.name, column.name) for column in table.columns}
    fields = fields_of(plan).get(table.name, {})
    if not columns <= {*actual.values(), *fields}:
        return  # a default fills the rest
    known = [{actual[name] for name in key} for key in (table.key, *table.unique) if set(key) <= set(actual)]
    known += [{name} for name, spec in fields.items() if distinct(spec) is not None]
    if any(each <= columns for each in known) or table.name in model.extras:
        return
    listed = ", ".join(index["columns"])
    yield (
        f"{model.name(table.name)} has the unique index {index['name']} over {listed}, in which values would repeat: "
        f'fill one of them with a field of its own, such as {{ template = "name-{{n}}" }}, or drop the index'
    )
