"""What points at what: the foreign keys of a database, and those of rules.md whether declared or not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from bulkseed.deferral import Deferred
from bulkseed.plan.tables import Names
from bulkseed.postgres.connection import Connection
from bulkseed.sql import identifier

__all__ = ["Reference", "references"]

FOREIGN_KEYS: Final = """
SELECT cn.nspname AS child_schema, c.relname AS child, pn.nspname AS parent_schema, p.relname AS parent,
       k.confdeltype IN ('n', 'd') AS lets_go,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u (number, place)
             JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.place) AS columns,
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u (number, place)
             JOIN pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = u.number ORDER BY u.place) AS keys
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
"""Whether the table $1 (qualified) is there and has the columns $2."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Rows of ``child`` point with ``columns`` at the ``keys`` of ``parent``; names of tables are qualified, quoted.

    ``on_delete_sets_null``: the foreign key says ON DELETE SET NULL or SET DEFAULT, so the child outlives its parent.
    ``declared``: there is a foreign key, and not only a rule that speaks of the tables.
    """

    child: str
    columns: tuple[str, ...]
    parent: str
    keys: tuple[str, ...]
    on_delete_sets_null: bool = False
    declared: bool = True

    def joins(self, child: str, parent: str) -> str:
        """The SQL condition under which the row ``child`` points at the row ``parent`` (two aliases)."""
        return " AND ".join(
            f"{child}.{identifier(column)} = {parent}.{identifier(key)}"
            for column, key in zip(self.columns, self.keys, strict=True)
        )

    def __str__(self) -> str:
        return f"{self.child} ({', '.join(self.columns)}) -> {self.parent}"


async def references(
    connection: Connection, loaded: Iterable[Names], absent: Iterable[Deferred] = ()
) -> list[Reference]:
    """All foreign keys of the database, and those of rules.md among the tables of each of ``loaded``, each once.

    The foreign keys among ``absent``, which a load has dropped for as long as it runs, are as those that are there
    (:func:`bulkseed.deferral.unfinished` has them). Raises what asyncpg raises.
    """
    found = [
        Reference(
            identifier(row["child_schema"], row["child"]),
            tuple(row["columns"]),
            identifier(row["parent_schema"], row["parent"]),
            tuple(row["keys"]),
            row["lets_go"],
        )
        for row in await connection.fetch(FOREIGN_KEYS)
    ]
    for each in absent:
        if each.kind != "foreign key":
            continue
        dropped = Reference(each.table, each.columns, each.parent, each.keys, each.on_delete_sets_null)
        # one that is in both was made again, but is not yet marked so; one whose table is gone holds nothing
        if (
            dropped not in found
            and await connection.fetchval(HAS_COLUMNS, dropped.child, list(dropped.columns))
            and await connection.fetchval(HAS_COLUMNS, dropped.parent, list(dropped.keys))
        ):
            found.append(dropped)
    declared = {(each.child, each.columns, each.parent) for each in found}
    for names in loaded:
        for child, column, parent in names.model.references():
            key = names.model.by_name[parent].key[0]
            implied = Reference(
                names.name(child),
                (names.model.column(child, column),),
                names.name(parent),
                (names.model.column(parent, key),),
                declared=False,
            )
            if (implied.child, implied.columns, implied.parent) not in declared:
                declared.add((implied.child, implied.columns, implied.parent))
                found.append(implied)
    return found
