"""The trial of foreign keys before a load: its rows are looked for among existing rows and among rows of the load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import asyncpg

from bulkseed.copy.writer import CopyPlan
from bulkseed.plan.tables import STAGES, Stage, Table
from bulkseed.postgres.connection import Connection
from bulkseed.postgres.transaction import RollBack, trial_transaction
from bulkseed.sql import SQL, compose, identifier, join, trusted
from bulkseed.target.copy_plan import with_keys
from bulkseed.target.target import HAS_TRIGGERS, Problem, Target
from bulkseed.target.trial_copy import equal_columns, fill_copy
from bulkseed.target.trial_limits import limit_queries
from bulkseed.target.trial_sample import Samples

__all__ = ["Waiting", "find_key_problems"]

FOREIGN: Final = """
SELECT k.conname AS name, k.confrelid::bigint AS parent, k.confrelid::regclass::text AS parent_name,
       k.condeferrable AND k.condeferred AS is_deferred,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u (number, position)
             JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.position) AS columns,
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u (number, position)
             JOIN pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = u.number ORDER BY u.position) AS keys
FROM pg_constraint AS k WHERE k.conrelid = $1::text::regclass AND k.contype = 'f' AND k.conparentid = 0
  AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true) ORDER BY k.conname
"""
"""The foreign keys of a table; those that are NOT ENFORCED, since PostgreSQL 18, refuse nothing."""

OIDS: Final = "SELECT to_regclass(name)::oid::bigint AS oid, name FROM unnest($1::text[]) AS n (name)"


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key of a table to load: ``parent`` is the table of the load that it references, if it is one."""

    name: str
    parent: Table | None
    parent_name: SQL
    columns: tuple[str, ...]
    keys: tuple[str, ...]
    is_deferred: bool


class Waiting(NamedTuple):
    """A foreign key that rows of the load satisfy, but not all in the order in which they are loaded.

    ``stage`` is that of its rows; with ``in_parts`` they all satisfy it if they are loaded in one shard.
    """

    table: str
    name: str
    problem: Problem
    stage: Stage
    in_parts: bool


async def find_key_problems(
    connection: Connection, target: Target, copy_plans: Mapping[str, CopyPlan], samples: Samples, notes: list[str]
) -> tuple[list[Problem], list[Waiting]]:
    """Return a problem for each foreign key for whose values neither the tables nor the load have rows.

    Also return the keys whose rows reference others that are loaded after them. A reference to a row of the load that
    is not among the samples counts as found, unless their ids tell otherwise. ``notes`` gets the keys that take too
    long to be tried.
    """
    rows = await connection.fetch(OIDS, target.sql_tables())
    tables = {row["oid"]: table for row, table in zip(rows, target.model.tables, strict=True)}
    problems: list[Problem] = []
    waiting: list[Waiting] = []
    for table in target.model.tables:
        found = [key_of(row, tables) for row in await connection.fetch(FOREIGN, target.sql_name(table.name))]
        keys = [key for key in found if not holds_by_construction(target, table, key)]
        if keys and samples.batches.get(table.name):
            refused, early = await try_keys(connection, target, copy_plans, samples, table, keys, notes)
            problems += refused
            waiting += early
    return problems, waiting


def key_of(row: Any, tables: Mapping[int, Table]) -> ForeignKey:
    return ForeignKey(
        row["name"],
        tables.get(row["parent"]),
        trusted(row["parent_name"]),
        tuple(row["columns"]),
        tuple(row["keys"]),
        row["is_deferred"],
    )


def holds_by_construction(target: Target, table: Table, key: ForeignKey) -> bool:
    """Return whether the key is one by which the generators make their rows: from a column of ids to these ids."""
    model, parent = target.model, key.parent
    return parent is not None and any(
        key.columns == (model.column(table.name, column),)
        and holds == parent.name
        and key.keys == (model.column(parent.name, parent.serial or ""),)
        for column, holds in table.references
    )


async def try_keys(
    connection: Connection,
    target: Target,
    copy_plans: Mapping[str, CopyPlan],
    samples: Samples,
    table: Table,
    keys: Sequence[ForeignKey],
    notes: list[str],
) -> tuple[list[Problem], list[Waiting]]:
    problems: list[Problem] = []
    waiting: list[Waiting] = []
    if await connection.fetchval(HAS_TRIGGERS, target.sql_name(table.name)):
        return problems, waiting
    tried = {table.name: table}
    for key in keys:
        if key.parent is not None:
            anchor = target.model.by_name[target.model.belonging(key.parent.name)[1]]
            tried |= {key.parent.name: key.parent, anchor.name: anchor}
    copies = {name: f"bulkseed_trial_{number}" for number, name in enumerate(tried)}
    async with trial_transaction(connection):
        # the server looks for referenced rows as the owner of their table, whom no policy hides rows from
        await connection.execute("SET LOCAL row_security = off")
        filled: dict[str, set[str]] = {}
        for each in tried.values():
            copy_plan = with_keys(copy_plans[each.name], each, samples.keys)
            batches = samples.batches.get(each.name, ())
            defaults, refused = await fill_copy(connection, target, each, copy_plan, batches, copies[each.name])
            if refused:
                raise RollBack  # told by the trial of the table's values
            filled[each.name] = {*copy_plan.columns, *defaults}
        for key in keys:
            if not filled[table.name].issuperset(key.columns):
                continue  # filled by defaults that the copies do not have, or not at all
            if key.parent is not None and not filled[key.parent.name].issuperset(key.keys):
                continue
            missing, early = 0, None
            tried_key = f"the foreign key {key.name} of {target.model.name(table.name)}"
            try:
                async with limit_queries(connection, tried_key, notes):
                    missing = await count_missing(connection, target, samples, copies, table, key)
                    early = None if missing else await find_waiting(connection, target, copies, table, key)
            except asyncpg.InsufficientPrivilegeError:
                continue  # the server may read the table
            if missing:
                problems.append(
                    Problem(
                        "foreign-key",
                        f"{tried_key} ({', '.join(key.columns)}) finds no row of {key.parent_name} for the values of "
                        f"its columns: fill them with existing values{' or values of the load' if key.parent else ''}",
                    )
                )
            waiting += [early] if early else []
    return problems, waiting


async def count_missing(
    connection: Connection,
    target: Target,
    samples: Samples,
    copies: Mapping[str, str],
    table: Table,
    key: ForeignKey,
) -> int:
    """Return the number of sampled rows for which the key surely finds no row when all are loaded."""
    tables = [key.parent_name]
    conditions = []
    if key.parent is not None:
        tables.append(identifier("pg_temp", copies[key.parent.name]))
        if key.parent.name not in samples.complete:
            conditions.append(surely_missing(target, samples, copies, key, key.parent))
    return await count_unmatched(connection, identifier("pg_temp", copies[table.name]), key, tables, conditions)


async def count_unmatched(
    connection: Connection, rows: SQL, key: ForeignKey, parents: Sequence[SQL], conditions: Sequence[SQL] = ()
) -> int:
    """Return the number of ``rows`` under the conditions whose key has values, and finds no row in ``parents``."""
    not_null = [compose("{column} IS NOT NULL", column=identifier("t", name)) for name in dict.fromkeys(key.columns)]
    unmatched = [
        compose(
            "NOT EXISTS (SELECT FROM {parent} AS p WHERE {equal})",
            parent=parent,
            equal=equal_columns(key.keys, key.columns),
        )
        for parent in parents
    ]
    return int(
        await connection.fetchval(
            compose(
                "SELECT count(*) FROM {rows} AS t WHERE {conditions}",
                rows=rows,
                conditions=join(" AND ", [*conditions, *not_null, *unmatched]),
            )
        )
    )


async def find_waiting(
    connection: Connection, target: Target, copies: Mapping[str, str], table: Table, key: ForeignKey
) -> Waiting | None:
    """Return whether the key may reference rows that are loaded later than its own."""
    if key.parent is None:
        return None
    model, parent = target.model, key.parent
    stage, parent_stage = model.stage(table.name), model.stage(parent.name)
    order = {each.name: (STAGES.index(model.stage(each.name)), place) for place, each in enumerate(model.tables)}
    if STAGES.index(parent_stage) < STAGES.index(stage):
        return None
    sampled = identifier("pg_temp", copies[parent.name])
    # a row that is sampled with the one that references it is loaded in the same shard
    is_later = order[parent.name] > order[table.name] and (stage != parent_stage or not key.is_deferred)
    parents = [key.parent_name] if is_later else [key.parent_name, sampled]
    if not await count_unmatched(connection, identifier("pg_temp", copies[table.name]), key, parents):
        return None
    name = model.name(table.name)
    return Waiting(
        name,
        key.name,
        Problem(
            "foreign-key",
            f"rows of {name} reference rows of {key.parent_name} that are loaded after them ({key.name}): load with "
            "--defer always, fill its columns otherwise, or drop the foreign key for the load",
        ),
        stage,
        in_parts=not is_later,
    )


def surely_missing(target: Target, samples: Samples, copies: Mapping[str, str], key: ForeignKey, parent: Table) -> SQL:
    """Return the condition that the row which t references is not among the rows of the load that are not sampled.

    An id of the key tells this: it is not one of the load, or the rows with this id are sampled.
    """
    conditions: list[SQL] = [compose("false")]
    belonging, anchor = target.model.belonging(parent.name)
    for name, holds in parent.holds.items():
        actual = target.model.column(parent.name, name)
        if actual not in key.keys:
            continue
        column = identifier("t", key.columns[key.keys.index(actual)])
        if (id_range := samples.id_range(holds)) is not None:
            first, last = id_range
            conditions.append(compose("{column} NOT BETWEEN {first} AND {last}", column=column, first=first, last=last))
        if name == parent.serial or (name == belonging and anchor == holds and parent.name not in samples.partial):
            # all rows that belong to a sampled one are sampled
            conditions.append(
                compose(
                    "EXISTS (SELECT FROM {copy} AS p WHERE {key} = {column})",
                    copy=identifier("pg_temp", copies[holds]),
                    key=identifier("p", target.model.column(holds, "id")),
                    column=column,
                )
            )
    return compose("({conditions})", conditions=join(" OR ", conditions))
