"""The trial of foreign keys before a load: its rows are looked for among existing rows and among rows of the load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from bulkseed.copy.writer import CopyPlan
from bulkseed.errors import ConnectionLostError, InputError, RunError
from bulkseed.plan.tables import Table
from bulkseed.postgres.connection import Connection
from bulkseed.postgres.transaction import RollBack, trial_transaction
from bulkseed.sql import SQL, compose, identifier, join, trusted
from bulkseed.target.database_code import FILLS
from bulkseed.target.target import Problem, Target
from bulkseed.target.trial_copy import copy_samples, equal_columns, make_copy
from bulkseed.target.trial_sample import Samples

__all__ = ["find_key_problems"]

FOREIGN: Final = """
SELECT k.conname AS name, k.confrelid::bigint AS parent, k.confrelid::regclass::text AS parent_name,
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


async def find_key_problems(
    connection: Connection, target: Target, copy_plans: Mapping[str, CopyPlan], samples: Samples
) -> list[Problem]:
    """Return a problem for each foreign key for whose values neither the tables nor the load have rows.

    A reference to a row of the load that is not among the samples counts as found, unless their ids tell otherwise.
    """
    rows = await connection.fetch(OIDS, target.sql_tables())
    tables = {row["oid"]: table for row, table in zip(rows, target.model.tables, strict=True)}
    problems: list[Problem] = []
    for table in target.model.tables:
        found = [key_of(row, tables) for row in await connection.fetch(FOREIGN, target.sql_name(table.name))]
        filled = set(copy_plans[table.name].columns)
        keys = [key for key in found if set(key.columns) <= filled and not holds_by_construction(target, table, key)]
        if keys and samples.batches.get(table.name):
            problems += await try_keys(connection, target, copy_plans, samples, table, keys)
    return problems


def key_of(row: Any, tables: Mapping[int, Table]) -> ForeignKey:
    return ForeignKey(
        row["name"], tables.get(row["parent"]), trusted(row["parent_name"]), tuple(row["columns"]), tuple(row["keys"])
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
) -> list[Problem]:
    if await connection.fetchval(FILLS, target.sql_name(table.name)):
        return []
    parents = {key.parent.name: key.parent for key in keys if key.parent is not None}
    copies = {name: f"bulkseed_trial_{number}" for number, name in enumerate({table.name: table} | parents)}
    problems: list[Problem] = []
    async with trial_transaction(connection):
        # the server looks for referenced rows as the owner of their table, whom no policy hides rows from
        await connection.execute("SET LOCAL row_security = off")
        try:
            for each in ({table.name: table} | parents).values():
                await make_copy(connection, target, each, copy_plans[each.name].columns, copies[each.name])
                await copy_samples(connection, target, each, copy_plans[each.name], samples, copies[each.name])
        except asyncpg.InsufficientPrivilegeError:
            raise RollBack from None  # without the privilege TEMPORARY the load itself finds the problems
        except ConnectionLostError:
            raise
        except (RunError, InputError) as error:
            raise RollBack from error  # told by the trial of the table's values
        for key in keys:
            if key.parent is not None and not set(key.keys) <= set(copy_plans[key.parent.name].columns):
                continue  # filled by defaults, which the copies do not have
            try:
                async with connection.transaction():
                    missing = await count_missing(connection, target, samples, copies, table, key)
            except asyncpg.InsufficientPrivilegeError:
                continue  # the server may read the table
            if missing:
                problems.append(
                    Problem(
                        "foreign-key",
                        f"the foreign key {key.name} of {target.model.name(table.name)} ({', '.join(key.columns)}) "
                        f"finds no row of {key.parent_name} for the values of its columns: fill them with existing "
                        f"values{' or values of the load' if key.parent else ''}",
                    )
                )
    return problems


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
    conditions += [
        compose("{column} IS NOT NULL", column=identifier("t", column)) for column in dict.fromkeys(key.columns)
    ]
    conditions += [
        compose(
            "NOT EXISTS (SELECT FROM {parent} AS p WHERE {equal})",
            parent=parent,
            equal=equal_columns(key.keys, key.columns),
        )
        for parent in tables
    ]
    return int(
        await connection.fetchval(
            compose(
                "SELECT count(*) FROM {copy} AS t WHERE {conditions}",
                copy=identifier("pg_temp", copies[table.name]),
                conditions=join(" AND ", conditions),
            )
        )
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
            conditions.append(
                compose(
                    "EXISTS (SELECT FROM {copy} AS p WHERE {key} = {column})",
                    copy=identifier("pg_temp", copies[parent.name]),
                    key=identifier("p", actual),
                    column=column,
                )
            )
    return compose("({conditions})", conditions=any_of(conditions))


def any_of(conditions: Iterable[SQL]) -> SQL:
    return join(" OR ", conditions)
