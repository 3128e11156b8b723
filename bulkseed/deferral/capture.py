"""Reading from the catalogue which indexes, keys and foreign keys can be deferred, and their exact definitions."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

from bulkseed.deferral.definitions import KEYS, Captured, Deferred, Kind, NotDeferred, add_foreign_key
from bulkseed.postgres.connection import Connection
from bulkseed.sql import SQL, compose, identifier, join, trusted

__all__ = [
    "DEPENDENTS",
    "EXTENSIONS",
    "FOREIGN_KEYS",
    "INDEXES",
    "Catalogue",
    "State",
    "capture",
    "choose",
    "constraint_state",
    "find_missing",
    "index_state",
    "is_order_kept",
    "is_valid",
    "qualified_names",
    "read_catalogue",
]

State = Literal["absent", "same", "other"]

INDEXES: Final = """
SELECT i.indexrelid AS index_oid, coalesce(k.oid, 0::oid) AS constraint_oid, c.relname AS name, n.nspname AS schema,
       t.relname AS relation, coalesce(k.contype::text, '') AS contype,
       pg_get_indexdef(i.indexrelid) AS definition,
       t.relkind <> 'r' OR t.relispartition AS partitioned,
       pg_has_role(t.relowner, 'USAGE') AS owned,
       has_schema_privilege(n.oid, 'CREATE') AND has_schema_privilege(n.oid, 'USAGE') AS may_create,
       c.reltablespace = 0 OR has_tablespace_privilege(c.reltablespace, 'CREATE') AS may_use_tablespace,
       coalesce(ts.spcname, '') AS tablespace,
       i.indisvalid AND i.indisready AND i.indislive AS valid,
       coalesce(to_jsonb(k) ->> 'conperiod', 'false') = 'true' AS temporal,
       coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true' AS enforced,
       coalesce(k.condeferrable, false) AS deferrable, coalesce(k.condeferred, false) AS deferred,
       i.indisclustered AS clustered, i.indisreplident AS replica_identity,
       i.indisreplident OR (t.relreplident = 'd' AND i.indisprimary) AS identifies,
       EXISTS (SELECT FROM pg_publication_tables AS v JOIN pg_publication AS p ON p.pubname = v.pubname
               WHERE v.schemaname = n.nspname AND v.tablename = t.relname AND (p.pubupdate OR p.pubdelete))
       OR EXISTS (SELECT FROM pg_replication_slots AS s
                  WHERE s.slot_type = 'logical' AND s.database = current_database()) AS replicated,
       NOT (i.indisprimary AND i.indnullsnotdistinct)
       AND NOT EXISTS (
           SELECT FROM unnest(i.indkey::int2[], i.indoption::int2[], i.indclass::oid[], i.indcollation::oid[])
                       WITH ORDINALITY AS u (number, sorting, family, coll, position)
           JOIN pg_opclass AS o ON o.oid = u.family
           LEFT JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = u.number
           WHERE u.position <= i.indnkeyatts
             AND (u.sorting <> 0 OR NOT o.opcdefault OR u.coll IS DISTINCT FROM a.attcollation)) AS attachable,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS u (number, position)
             JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = u.number
             WHERE i.indisunique AND i.indexprs IS NULL AND i.indpred IS NULL AND u.position <= i.indnkeyatts
             ORDER BY u.position) AS columns,
       i.indisprimary AND EXISTS (SELECT FROM pg_constraint AS n WHERE n.conrelid = t.oid AND n.contype = 'n'
                                  AND NOT n.conislocal AND n.conkey && i.indkey::int2[]) AS inherits,
       EXISTS (SELECT FROM pg_depend AS d LEFT JOIN pg_operator AS o
                   ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
               JOIN pg_proc AS f ON f.oid = o.oprcode OR d.refclassid = 'pg_proc'::regclass AND f.oid = d.refobjid
               WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND f.provolatile <> 'i') AS mutable,
       quote_literal(obj_description(i.indexrelid, 'pg_class')) AS index_comment,
       quote_literal(obj_description(k.oid, 'pg_constraint')) AS constraint_comment,
       ARRAY(SELECT format('ALTER COLUMN %s SET STATISTICS %s', a.attnum, a.attstattarget) FROM pg_attribute AS a
             WHERE a.attrelid = i.indexrelid AND a.attstattarget >= 0 ORDER BY a.attnum) AS statistics
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
JOIN pg_class AS t ON t.oid = i.indrelid
JOIN pg_namespace AS n ON n.oid = t.relnamespace
LEFT JOIN pg_tablespace AS ts ON ts.oid = c.reltablespace
LEFT JOIN pg_constraint AS k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x') AND k.conrelid = t.oid
WHERE n.nspname = $1 AND t.relname = ANY ($2::text[])
ORDER BY i.indexrelid
"""
"""The indexes of the tables $2 of schema $1, each with the key that it implements, if any."""

TRIGGER_ORDER: Final = """
SELECT n.nspname AS schema, c.relname AS relation, k.conname AS name,
       array_agg(g.tgname::text ORDER BY g.tgtype) AS triggers
FROM pg_constraint AS k JOIN pg_trigger AS g ON g.tgconstraint = k.oid AND g.tgrelid = k.confrelid
JOIN pg_class AS c ON c.oid = k.conrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE k.contype = 'f' AND k.confrelid = to_regclass($1) AND g.tgname LIKE 'RI\\_ConstraintTrigger\\_a\\_%'
GROUP BY n.nspname, c.relname, k.conname
"""
"""The foreign keys that reference the table $1, and the names of their triggers there, as in SIBLINGS."""

FOREIGN_KEYS: Final = """
SELECT k.oid, k.conname AS name, cn.nspname AS schema, c.relname AS relation, pn.nspname AS parent_schema,
       p.relname AS parent_relation, p.oid AS parent_oid, k.conindid AS index_oid,
       pg_get_constraintdef(k.oid) AS definition,
       k.convalidated AS validated, quote_literal(obj_description(k.oid, 'pg_constraint')) AS comment,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u (number, position)
             JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.position) AS columns,
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u (number, position)
             JOIN pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = u.number ORDER BY u.position) AS keys,
       k.confdeltype IN ('n', 'd') AS sets_null,
       cn.nspname = $1 AND c.relname = ANY ($2::text[]) AS inside,
       k.conparentid <> 0 OR c.relkind <> 'r' OR c.relispartition OR p.relkind <> 'r' OR p.relispartition
           AS partitioned,
       pg_has_role(c.relowner, 'USAGE') AS owned,
       has_schema_privilege(cn.oid, 'USAGE') AND has_schema_privilege(pn.oid, 'USAGE')
       AND (SELECT bool_and(has_column_privilege(p.oid, number, 'REFERENCES')) FROM unnest(k.confkey) AS number)
           AS may_refer,
       coalesce(to_jsonb(k) ->> 'conperiod', 'false') = 'true' AS temporal,
       coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true' AS enforced,
       EXISTS (SELECT FROM pg_trigger AS g WHERE g.tgconstraint = k.oid AND g.tgenabled <> 'O') AS switched
FROM pg_constraint AS k
JOIN pg_class AS c ON c.oid = k.conrelid JOIN pg_namespace AS cn ON cn.oid = c.relnamespace
JOIN pg_class AS p ON p.oid = k.confrelid JOIN pg_namespace AS pn ON pn.oid = p.relnamespace
WHERE k.contype = 'f' AND (cn.nspname = $1 AND c.relname = ANY ($2::text[])
                           OR pn.nspname = $1 AND p.relname = ANY ($2::text[]))
ORDER BY k.oid
"""
"""The foreign keys of the tables $2 of schema $1, and those of any table that reference them."""

SIBLINGS: Final = """
SELECT k.oid, k.confrelid AS parent_oid,
       k.confdeltype NOT IN ('a', 'r') OR k.confupdtype NOT IN ('a', 'r') AS acts,
       array_agg(g.tgname::text ORDER BY g.tgtype) AS triggers
FROM pg_constraint AS k JOIN pg_trigger AS g ON g.tgconstraint = k.oid AND g.tgrelid = k.confrelid
WHERE k.contype = 'f' AND k.confrelid = ANY ($1::oid[]) AND g.tgname LIKE 'RI\\_ConstraintTrigger\\_a\\_%'
GROUP BY k.oid ORDER BY k.oid
"""
"""All foreign keys that reference the tables $1: whether they change rows, and the names of their triggers there, first
that on DELETE, then that on UPDATE. Triggers of one event fire in the order of their names as text."""

DEPENDENTS: Final = """
SELECT d.refobjid AS oid, d.classid = 'pg_constraint'::regclass AS by_constraint, d.objid AS by,
       pg_describe_object(d.classid, d.objid, d.objsubid) AS description
FROM pg_depend AS d
WHERE d.deptype <> 'i' AND (d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY ($1::oid[])
                            OR d.refclassid = 'pg_constraint'::regclass AND d.refobjid = ANY ($2::oid[]))
ORDER BY d.objid
"""
"""The objects that depend on the indexes $1 and the constraints $2, except their internal parts (deptype ``i``):
https://www.postgresql.org/docs/current/catalog-pg-depend.html."""

EXTENSIONS: Final = """
SELECT d.objid AS oid, e.extname AS extension
FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype IN ('e', 'x')
  AND (d.classid = 'pg_class'::regclass AND d.objid = ANY ($1::oid[])
       OR d.classid = 'pg_constraint'::regclass AND d.objid = ANY ($2::oid[]))
"""
"""The extensions to which the indexes $1 and the constraints $2 belong, or on which they depend (DEPENDS ON)."""

INDEX: Final = """
SELECT pg_get_indexdef(i.indexrelid) AS definition
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
WHERE n.nspname = $1 AND c.relname = $2
"""

CONSTRAINT: Final = """
SELECT k.contype::text AS contype, k.convalidated AS validated, pg_get_constraintdef(k.oid) AS definition
FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND k.conname = $3
"""

CONTYPE: Final = {"primary key": "p", "unique": "u", "foreign key": "f"}


@asynccontextmanager
async def qualified_names(connection: Connection) -> AsyncIterator[None]:
    """Have the catalogue's functions qualify all names outside pg_catalog, and write constants as pg_dump does.

    Runs in the caller's transaction, or else in a new one; restores ``search_path`` at the end.
    """
    async with connection.transaction():
        search_path = await connection.fetchval(
            "SELECT current_setting('search_path'), set_config('datestyle', 'ISO', true), "
            "set_config('intervalstyle', 'postgres', true), set_config('extra_float_digits', '3', true), "
            "set_config('bytea_output', 'hex', true), set_config('quote_all_identifiers', 'off', true), "
            "set_config('search_path', '', true)"
        )
        yield
        await connection.execute("SELECT set_config('search_path', $1, true)", search_path)


async def index_state(connection: Connection, deferred: Deferred) -> State:
    """Return the state of the index, or of a key's index; ``other`` where a different object has the name.

    To be called within :func:`qualified_names`.
    """
    row = await connection.fetchrow(INDEX, deferred.schema, deferred.name)
    if row is None:
        return "absent"
    return "same" if row["definition"] == deferred.create else "other"


async def constraint_state(connection: Connection, deferred: Deferred) -> State:
    """Return the state of the constraint of a key or foreign key, validated or not, as :func:`index_state` does."""
    row = await connection.fetchrow(CONSTRAINT, deferred.schema, deferred.relation, deferred.name)
    if row is None:
        return "absent"
    if row["contype"] != CONTYPE[deferred.kind]:
        return "other"
    if deferred.kind in KEYS:
        return await index_state(connection, deferred)
    added = add_foreign_key(deferred.table, deferred.name, row["definition"])
    return "same" if added == deferred.create else "other"


async def find_missing(connection: Connection, deferred: Sequence[Deferred]) -> list[Deferred]:
    """Return those of ``deferred`` that do not exist as they were. Raises the errors of asyncpg."""
    missing = []
    async with qualified_names(connection):
        for definition in deferred:
            state = constraint_state if definition.kind != "index" else index_state
            if await state(connection, definition) != "same":
                missing.append(definition)
    return missing


async def is_order_kept(connection: Connection, parent: SQL, foreign_keys: Sequence[Deferred]) -> bool:
    """Return whether the triggers of ``foreign_keys``, which reference ``parent``, fire in the order of the keys.

    Those that do not exist are passed over.
    """
    rows = await connection.fetch(TRIGGER_ORDER, parent)
    triggers = {(row["schema"], row["relation"], row["name"]): row["triggers"] for row in rows}
    keys = ((key.schema, key.relation, key.name) for key in foreign_keys)
    existing = [triggers[key] for key in keys if key in triggers]
    return all(earlier[event] < later[event] for earlier, later in itertools.pairwise(existing) for event in (0, -1))


async def is_valid(connection: Connection, deferred: Deferred) -> bool:
    """Return whether a foreign key exists and is validated."""
    row = await connection.fetchrow(CONSTRAINT, deferred.schema, deferred.relation, deferred.name)
    return row is not None and bool(row["validated"])


KINDS: Final[dict[str, Kind]] = {"": "index", "p": "primary key", "u": "unique"}
KEYWORDS: Final = {"p": compose("PRIMARY KEY"), "u": compose("UNIQUE")}


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The rows of the catalogue from which :func:`choose` decides what can be dropped."""

    indexes: Sequence[Any]
    foreign: Sequence[Any]
    siblings: Sequence[Any]
    dependents: Sequence[Any]
    owners: Mapping[int, str]


async def read_catalogue(connection: Connection, schema: str, tables: Sequence[str]) -> Catalogue:
    """Read all indexes, keys and foreign keys of ``tables`` in ``schema``, and the foreign keys that reference them.

    Raises the errors of asyncpg.
    """
    async with qualified_names(connection):
        indexes = await connection.fetch(INDEXES, schema, list(tables))
        foreign = await connection.fetch(FOREIGN_KEYS, schema, list(tables))
        siblings = await connection.fetch(SIBLINGS, list({row["parent_oid"] for row in foreign}))
        oids = (
            [row["index_oid"] for row in indexes],
            [row["constraint_oid"] for row in indexes if row["constraint_oid"]] + [row["oid"] for row in foreign],
        )
        dependents = await connection.fetch(DEPENDENTS, *oids)
        owners = {row["oid"]: row["extension"] for row in await connection.fetch(EXTENSIONS, *oids)}
    triggers = {row["oid"]: row["triggers"] for row in siblings}
    in_firing_order = sorted(foreign, key=lambda row: (triggers.get(row["oid"], []), row["oid"]))
    return Catalogue(indexes, in_firing_order, siblings, dependents, owners)


async def capture(connection: Connection, schema: str, tables: Sequence[str]) -> Captured:
    """Return which indexes, keys and foreign keys the catalogue allows to drop (:func:`choose`); nothing is changed.

    It does not show whether the server would run the statements that rebuild them: see
    :func:`bulkseed.deferral.proof.capture_proven`. Raises the errors of asyncpg.
    """
    return choose(await read_catalogue(connection, schema, tables))


def choose(catalogue: Catalogue, refused: Mapping[Deferred, str] | None = None) -> Captured:
    """Return which indexes, keys and foreign keys can be dropped, and which stay.

    ``kept`` has those that could not be rebuilt exactly, those that are ``refused``, and those on which another object
    depends, with the reason. ``deferred`` has indexes and keys in the order in which PostgreSQL created them, and then
    foreign keys in the order in which their triggers fire.
    """
    indexes, foreign = catalogue.indexes, catalogue.foreign
    refused = refused or {}
    refused_indexes = {(index.schema, index.name): reason for index, reason in refused.items() if not index.parent}
    refused_keys = {(key.table, key.name): reason for key, reason in refused.items() if key.parent}

    def keep_foreign_key(row: Any) -> str:
        refusal = refused_keys.get((identifier(row["schema"], row["relation"]), row["name"]), "")
        return reason_to_keep_foreign_key(row, catalogue.owners, catalogue.dependents) or refusal

    def keep_index(row: Any) -> str:
        refusal = refused_indexes.get((row["schema"], row["name"]), "")
        return refusal or reason_to_keep_index(row, catalogue.owners, catalogue.dependents, foreign_reasons)

    foreign_reasons = {row["oid"]: keep_foreign_key(row) for row in foreign}
    while True:
        index_reasons = {row["index_oid"]: keep_index(row) for row in indexes}
        kept_so_far = {oid for oid, reason in foreign_reasons.items() if reason}
        for row in foreign:
            # an insert into the referenced table does not check these: they need to go only if the referenced key goes
            if not row["inside"] and not foreign_reasons[row["oid"]] and index_reasons.get(row["index_oid"]):
                foreign_reasons[row["oid"]] = "the referenced key stays, and the load does not write to the table"
        for oid in unordered_siblings(catalogue.siblings, foreign_reasons):
            foreign_reasons[oid] = (
                "the foreign keys that reference the same table act in an order that would change, as not all of them "
                "can be rebuilt"
            )
        if kept_so_far == {oid for oid, reason in foreign_reasons.items() if reason}:
            break

    deferred: list[Deferred] = []
    kept: list[NotDeferred] = []
    for row in indexes:
        if reason := index_reasons[row["index_oid"]]:
            kind = KINDS.get(row["contype"], "exclusion constraint")
            kept.append(NotDeferred(kind, identifier(row["schema"], row["relation"]), row["name"], reason))
        else:
            deferred.append(index_definition(row))
    for row in foreign:
        if reason := foreign_reasons[row["oid"]]:
            kept.append(NotDeferred("foreign key", identifier(row["schema"], row["relation"]), row["name"], reason))
        else:
            deferred.append(foreign_key_definition(row))
    return Captured(tuple(deferred), tuple(kept))


def unordered_siblings(siblings: Sequence[Any], reasons: Mapping[int, str]) -> set[int]:
    """Return the foreign keys that could be dropped alone (without one of ``reasons``), but not in their order.

    Where a key changes rows (CASCADE, SET NULL, SET DEFAULT), the result of a DELETE or UPDATE may depend on the order
    in which the keys of the table act, which is that of the names of their triggers: these contain OIDs. All of them
    are rebuilt in their order, or none: new OIDs may sort before or after those of a key that stays.
    """
    by_parent: dict[int, list[Any]] = {}
    for row in siblings:
        by_parent.setdefault(row["parent_oid"], []).append(row)
    unordered: set[int] = set()
    for keys in by_parent.values():
        on_delete, on_update = (sorted(keys, key=lambda row: row["triggers"][event]) for event in (0, -1))
        is_alone = len(keys) == 1 or not any(row["acts"] for row in keys)
        if not is_alone and (on_delete != on_update or any(reasons.get(row["oid"], "other") for row in keys)):
            unordered |= {row["oid"] for row in keys if reasons.get(row["oid"]) == ""}
    return unordered


def reason_to_keep_foreign_key(row: Any, owners: Mapping[int, str], dependents: Sequence[Any]) -> str:
    """Return the reason for which a foreign key stays in place; empty where it can be dropped."""
    owner = owners.get(row["oid"])
    reasons = (
        (owner is not None, f"part of the extension {owner}"),
        (row["partitioned"], "one of its tables is partitioned"),
        (row["temporal"], "temporal (PERIOD)"),
        (not row["enforced"], "NOT ENFORCED, and so no cost to the load"),
        (row["switched"], "the triggers are disabled, ALWAYS or REPLICA, and those of a new foreign key would not be"),
        (not row["owned"], "only the owner of a table can drop and rebuild them"),
        (not row["may_refer"], "a rebuild needs the privilege REFERENCES on the referenced table"),
    )
    for applies, reason in reasons:
        if applies:
            return reason
    others = [dependent["description"] for dependent in dependents if dependent["oid"] == row["oid"]]
    return f"{others[0]} depends on the foreign key" if others else ""


def reason_to_keep_index(
    row: Any, owners: Mapping[int, str], dependents: Sequence[Any], foreign: Mapping[int, str]
) -> str:
    """Return the reason for which an index or key stays in place; empty where it can be dropped."""
    own_oids = (row["index_oid"], row["constraint_oid"])
    owner = next((owners[oid] for oid in own_oids if oid in owners), None)
    reasons = (
        (owner is not None, f"part of the extension {owner}, or dependent on it"),
        (row["partitioned"], "the table is partitioned, or not an ordinary table"),
        (row["contype"] == "x", "an exclusion constraint"),
        (row["temporal"], "temporal (WITHOUT OVERLAPS)"),
        (not row["enforced"], "NOT ENFORCED"),
        (not row["valid"], "the index is invalid: drop it, or REINDEX it"),
        (not row["owned"], "only the owner of a table can drop and rebuild them"),
        (not row["may_create"], "a rebuild needs the privilege CREATE on the schema"),
        (
            not row["may_use_tablespace"],
            f"a rebuild needs the privilege CREATE on the tablespace {row['tablespace']}",
        ),
        # ADD CONSTRAINT … USING INDEX takes default sort orders, operator classes and collations only
        (
            row["contype"] and not row["attachable"],
            "the index is not the one that PostgreSQL would now create for the constraint",
        ),
        # PostgreSQL 18 turns an inherited NOT NULL into the table's own when a key is added USING INDEX
        (row["inherits"], "the columns are NOT NULL by inheritance, and would become NOT NULL by their own definition"),
        (row["mutable"], "the index calls a function that is no longer IMMUTABLE, and could not be rebuilt"),
        (row["identifies"] and row["replicated"], "logical replication identifies the rows of the table by this index"),
    )
    for applies, reason in reasons:
        if applies:
            return reason
    for dependent in dependents:
        if dependent["oid"] not in own_oids:
            continue
        if dependent["by_constraint"] and dependent["by"] in foreign:
            if reason := foreign[dependent["by"]]:
                return f"{dependent['description']} references this key and stays in place too ({reason})"
        else:
            return f"{dependent['description']} depends on this index or key"
    return ""


def index_definition(row: Any) -> Deferred:
    kind = KINDS[row["contype"]]
    table, index = identifier(row["schema"], row["relation"]), identifier(row["schema"], row["name"])
    name = identifier(row["name"])
    attach = compose("")
    if kind != "index":
        parts = [
            compose("ALTER TABLE {table} ADD CONSTRAINT {name}", table=table, name=name),
            KEYWORDS[row["contype"]],
            compose("USING INDEX {name}", name=name),
        ]
        parts += [compose("DEFERRABLE")] if row["deferrable"] else []
        parts += [compose("INITIALLY DEFERRED")] if row["deferred"] else []
        attach = join(" ", parts)
    attributes = [
        compose("ALTER INDEX {index} {change}", index=index, change=trusted(change)) for change in row["statistics"]
    ]
    if row["clustered"]:
        attributes.append(compose("ALTER TABLE {table} CLUSTER ON {name}", table=table, name=name))
    if row["replica_identity"]:
        attributes.append(compose("ALTER TABLE {table} REPLICA IDENTITY USING INDEX {name}", table=table, name=name))
    if row["index_comment"] is not None:
        comment = trusted(row["index_comment"])
        attributes.append(compose("COMMENT ON INDEX {index} IS {comment}", index=index, comment=comment))
    if row["constraint_comment"] is not None:
        attributes.append(comment_on_constraint(table, name, row["constraint_comment"]))
    return Deferred(
        kind,
        row["schema"],
        row["relation"],
        row["name"],
        create=trusted(row["definition"]),
        tablespace=row["tablespace"],
        attach=attach,
        attributes=tuple(attributes),
        columns=tuple(row["columns"]),
    )


def comment_on_constraint(table: SQL, name: SQL, comment: str) -> SQL:
    return compose(
        "COMMENT ON CONSTRAINT {name} ON {table} IS {comment}", name=name, table=table, comment=trusted(comment)
    )


def foreign_key_definition(row: Any) -> Deferred:
    table, name = identifier(row["schema"], row["relation"]), identifier(row["name"])
    validate = compose("ALTER TABLE {table} VALIDATE CONSTRAINT {name}", table=table, name=name)
    return Deferred(
        "foreign key",
        row["schema"],
        row["relation"],
        row["name"],
        create=add_foreign_key(table, row["name"], row["definition"]),
        attributes=(comment_on_constraint(table, name, row["comment"]),) if row["comment"] is not None else (),
        parent=identifier(row["parent_schema"], row["parent_relation"]),
        validate=validate if row["validated"] else compose(""),
        columns=tuple(row["columns"]),
        keys=tuple(row["keys"]),
        on_delete_sets_null=row["sets_null"],
    )
