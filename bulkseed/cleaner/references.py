"""The references between tables: the foreign keys of a database, and the references of rules.md, declared or not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from bulkseed.deferral import Deferred
from bulkseed.plan.tables import Names
from bulkseed.postgres.connection import Connection
from bulkseed.sql import SQL, compose, identifier, join

__all__ = ["Reference", "references"]

FOREIGN_KEYS: Final = """
SELECT cn.nspname AS child_schema, c.relname AS child, pn.nspname AS parent_schema, p.relname AS parent,
       k.confdeltype IN ('n', 'd') AS sets_null, k.confdeltype = 'c' AS cascades,
       coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true) AS enforced,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u (number, position)
             JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.position) AS columns,
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u (number, position)
             JOIN pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = u.number ORDER BY u.position) AS keys
FROM pg_constraint AS k
JOIN pg_class AS c ON c.oid = k.conrelid JOIN pg_namespace AS cn ON cn.oid = c.relnamespace
JOIN pg_class AS p ON p.oid = k.confrelid JOIN pg_namespace AS pn ON pn.oid = p.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0
ORDER BY k.oid
"""

HAS_COLUMNS: Final = """
SELECT $2::text[] <@ ARRAY(SELECT attname::text FROM pg_attribute
                           WHERE attrelid = to_regclass($1) AND NOT attisdropped)
"""
"""Whether the table $1 (qualified) exists and has the columns $2."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference: the ``columns`` of ``child`` hold values of the ``keys`` of ``parent``.

    The tables are qualified and quoted, the columns not. ``on_delete_sets_null``: the foreign key is ON DELETE SET NULL
    or SET DEFAULT, so that rows of the child stay when their parents are deleted. ``declared``: a foreign key exists,
    not only a rule about the tables. ``on_delete_cascades``: it is ON DELETE CASCADE. ``enforced``: it is in place now,
    so that the server keeps it.
    """

    child: SQL
    columns: tuple[str, ...]
    parent: SQL
    keys: tuple[str, ...]
    on_delete_sets_null: bool = False
    declared: bool = True
    on_delete_cascades: bool = field(default=False, compare=False)
    enforced: bool = field(default=True, compare=False)

    def join_condition(self, child: str, parent: str) -> SQL:
        """Return the SQL condition under which the row ``child`` references the row ``parent`` (two aliases)."""
        return join(
            " AND ",
            (
                compose("{column} = {key}", column=identifier(child, column), key=identifier(parent, key))
                for column, key in zip(self.columns, self.keys, strict=True)
            ),
        )

    def __str__(self) -> str:
        return f"{self.child} ({', '.join(self.columns)}) -> {self.parent}"


async def references(
    connection: Connection, loaded: Iterable[Names], absent: Iterable[Deferred] = ()
) -> list[Reference]:
    """Return all foreign keys of the database, and the references of rules.md among the tables of each of
    ``loaded``.

    The foreign keys among ``absent``, which a load has dropped for its duration, count as existing ones
    (:func:`bulkseed.deferral.read_unfinished` returns them). No reference is returned twice. Raises the errors of
    asyncpg.
    """
    result = [
        Reference(
            identifier(row["child_schema"], row["child"]),
            tuple(row["columns"]),
            identifier(row["parent_schema"], row["parent"]),
            tuple(row["keys"]),
            row["sets_null"],
            on_delete_cascades=row["cascades"],
            enforced=row["enforced"],
        )
        for row in await connection.fetch(FOREIGN_KEYS)
    ]
    for definition in absent:
        if definition.kind != "foreign key":
            continue
        dropped = Reference(
            definition.table,
            definition.columns,
            definition.parent,
            definition.keys,
            definition.on_delete_sets_null,
            enforced=False,
        )
        # an existing one has been rebuilt, but is not yet marked as rebuilt; a dropped table has no rows
        if (
            dropped not in result
            and await connection.fetchval(HAS_COLUMNS, dropped.child, list(dropped.columns))
            and await connection.fetchval(HAS_COLUMNS, dropped.parent, list(dropped.keys))
        ):
            result.append(dropped)
    declared = {(reference.child, reference.columns, reference.parent) for reference in result}
    for names in loaded:
        for child, column, parent in names.model.references():
            key = names.model.by_name[parent].key[0]
            implied = Reference(
                names.sql_name(child),
                (names.model.column(child, column),),
                names.sql_name(parent),
                (names.model.column(parent, key),),
                declared=False,
                enforced=False,
            )
            if (implied.child, implied.columns, implied.parent) not in declared:
                declared.add((implied.child, implied.columns, implied.parent))
                result.append(implied)
    return result
