"""Reading from the catalogue which indexes, keys and foreign keys can be deferred, exactly as they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

from bulkseed.deferral.definitions import KEYS, Captured, Deferred, Kind, NotDeferred, add_foreign_key
from bulkseed.postgres.connection import Connection
from bulkseed.sql import identifier

__all__ = [
    "DEPENDENTS",
    "EXTENSIONS",
    "FOREIGN_KEYS",
    "INDEXES",
    "State",
    "capture",
    "constraint_state",
    "full_names",
    "index_state",
    "is_valid",
]

State = Literal["absent", "same", "other"]

INDEXES: Final = """
SELECT i.indexrelid AS index_oid, coalesce(k.oid, 0::oid) AS constraint_oid, c.relname AS name, n.nspname AS schema,
       t.relname AS relation, coalesce(k.contype::text, '') AS contype,
       pg_get_indexdef(i.indexrelid) AS definition,
       t.relkind <> 'r' OR t.relispartition AS partitioned,
       pg_has_role(t.relowner, 'USAGE') AS owned,
       has_schema_privilege(n.oid, 'CREATE') AND has_schema_privilege(n.oid, 'USAGE') AS may_create,
       c.reltablespace = 0 OR has_tablespace_privilege(c.reltablespace, 'CREATE') AS may_place,
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
       NOT (i.indisprimary AND coalesce(to_jsonb(i) ->> 'indnullsnotdistinct', 'false') = 'true')
       AND NOT EXISTS (
           SELECT FROM unnest(i.indkey::int2[], i.indoption::int2[], i.indclass::oid[], i.indcollation::oid[])
                       WITH ORDINALITY AS u (number, sorting, family, coll, place)
           JOIN pg_opclass AS o ON o.oid = u.family
           LEFT JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = u.number
           WHERE u.place <= i.indnkeyatts
             AND (u.sorting <> 0 OR NOT o.opcdefault OR u.coll IS DISTINCT FROM a.attcollation)) AS attachable,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS u (number, place)
             JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = u.number
             WHERE i.indisunique AND i.indexprs IS NULL AND i.indpred IS NULL AND u.place <= i.indnkeyatts
             ORDER BY u.place) AS columns,
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
"""Every index of the tables $2 of schema $1, with the key behind which it stands."""

FOREIGN_KEYS: Final = """
SELECT k.oid, k.conname AS name, cn.nspname AS schema, c.relname AS relation, pn.nspname AS parent_schema,
       p.relname AS parent_relation, k.conindid AS index_oid, pg_get_constraintdef(k.oid) AS definition,
       k.convalidated AS validated, quote_literal(obj_description(k.oid, 'pg_constraint')) AS comment,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u (number, place)
             JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.place) AS columns,
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u (number, place)
             JOIN pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = u.number ORDER BY u.place) AS keys,
       k.confdeltype IN ('n', 'd') AS lets_go,
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
"""Every foreign key of the tables $2 of schema $1, and every one from any table that points at them."""

DEPENDENTS: Final = """
SELECT d.refobjid AS oid, d.classid = 'pg_constraint'::regclass AS by_constraint, d.objid AS by,
       pg_describe_object(d.classid, d.objid, d.objsubid) AS told
FROM pg_depend AS d
WHERE d.deptype <> 'i' AND (d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY ($1::oid[])
                            OR d.refclassid = 'pg_constraint'::regclass AND d.refobjid = ANY ($2::oid[]))
ORDER BY d.objid
"""
"""What depends on the indexes $1 and the constraints $2, but for their own parts (deptype ``i``):
https://www.postgresql.org/docs/current/catalog-pg-depend.html."""

EXTENSIONS: Final = """
SELECT d.objid AS oid, e.extname AS extension
FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype IN ('e', 'x')
  AND (d.classid = 'pg_class'::regclass AND d.objid = ANY ($1::oid[])
       OR d.classid = 'pg_constraint'::regclass AND d.objid = ANY ($2::oid[]))
"""
"""Which of the indexes $1 and the constraints $2 belong to an extension, or were made to depend on one."""

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
async def full_names(connection: Connection) -> AsyncIterator[None]:
    """The catalogue's functions qualify each name that is not PostgreSQL's own, and write constants as pg_dump does.

    Within a transaction of the caller's, or else one of its own; ``search_path`` is as it was afterwards.
    """
    async with connection.transaction():
        before = await connection.fetchval(
            "SELECT current_setting('search_path'), set_config('datestyle', 'ISO', true), "
            "set_config('intervalstyle', 'postgres', true), set_config('extra_float_digits', '3', true), "
            "set_config('bytea_output', 'hex', true), set_config('quote_all_identifiers', 'off', true), "
            "set_config('search_path', '', true)"
        )
        yield
        await connection.execute("SELECT set_config('search_path', $1, true)", before)


async def index_state(connection: Connection, deferred: Deferred) -> State:
    """Whether the index (also that behind a key) is there; ``other`` where its name is taken by something else.

    To be called within :func:`full_names`.
    """
    row = await connection.fetchrow(INDEX, deferred.schema, deferred.name)
    if row is None:
        return "absent"
    return "same" if row["definition"] == deferred.create else "other"


async def constraint_state(connection: Connection, deferred: Deferred) -> State:
    """The same of the constraint of a key or of a foreign key, whether validated or not."""
    row = await connection.fetchrow(CONSTRAINT, deferred.schema, deferred.relation, deferred.name)
    if row is None:
        return "absent"
    if row["contype"] != CONTYPE[deferred.kind]:
        return "other"
    if deferred.kind in KEYS:
        return await index_state(connection, deferred)
    added = add_foreign_key(deferred.table, deferred.name, row["definition"])
    return "same" if added == deferred.create else "other"


async def is_valid(connection: Connection, deferred: Deferred) -> bool:
    """Whether a foreign key is there and validated."""
    row = await connection.fetchrow(CONSTRAINT, deferred.schema, deferred.relation, deferred.name)
    return row is not None and bool(row["validated"])


KINDS: Final[dict[str, Kind]] = {"": "index", "p": "primary key", "u": "unique"}
KEYWORDS: Final = {"p": "PRIMARY KEY", "u": "UNIQUE"}


async def capture(connection: Connection, schema: str, tables: Sequence[str]) -> Captured:
    """All indexes, keys and foreign keys of ``tables`` in ``schema``, and the foreign keys that point at them.

    Nothing is changed. What could not be made again exactly as it is, or what something else depends on, is
    among ``kept`` with the reason; ``deferred`` is in the order in which PostgreSQL had made them.
    Raises what asyncpg raises.
    """
    async with full_names(connection):
        indexes = await connection.fetch(INDEXES, schema, list(tables))
        foreign = await connection.fetch(FOREIGN_KEYS, schema, list(tables))
        oids = (
            [row["index_oid"] for row in indexes],
            [row["constraint_oid"] for row in indexes if row["constraint_oid"]] + [row["oid"] for row in foreign],
        )
        dependents = await connection.fetch(DEPENDENTS, *oids)
        owners = {row["oid"]: row["extension"] for row in await connection.fetch(EXTENSIONS, *oids)}

    foreign_reasons = {row["oid"]: foreign_key_stays(row, owners, dependents) for row in foreign}
    index_reasons = {row["index_oid"]: index_stays(row, owners, dependents, foreign_reasons) for row in indexes}
    for row in foreign:
        # inserting into the table that is pointed at costs nothing: only a key that goes makes these go
        if not row["inside"] and not foreign_reasons[row["oid"]] and index_reasons.get(row["index_oid"]):
            foreign_reasons[row["oid"]] = "the key that it points at stays, and a load does not write its table"

    deferred: list[Deferred] = []
    kept: list[NotDeferred] = []
    for row in indexes:
        if reason := index_reasons[row["index_oid"]]:
            kind = KINDS.get(row["contype"], "exclusion constraint")
            kept.append(NotDeferred(kind, identifier(row["schema"], row["relation"]), row["name"], reason))
        else:
            deferred.append(index_of(row))
    for row in foreign:
        if reason := foreign_reasons[row["oid"]]:
            kept.append(NotDeferred("foreign key", identifier(row["schema"], row["relation"]), row["name"], reason))
        else:
            deferred.append(foreign_key_of(row))
    return Captured(tuple(deferred), tuple(kept))


def foreign_key_stays(row: Any, owners: dict[int, str], dependents: Sequence[Any]) -> str:
    """Why a foreign key stays; empty where it need not."""
    owner = owners.get(row["oid"])
    reasons = (
        (owner is not None, f"it belongs to the extension {owner}"),
        (row["partitioned"], "one of its tables is partitioned"),
        (row["temporal"], "it is temporal (PERIOD)"),
        (not row["enforced"], "it is NOT ENFORCED, and costs nothing"),
        (row["switched"], "its triggers are switched off or made ALWAYS or REPLICA, which a new one's would not be"),
        (not row["owned"], "this login is not the owner of its table"),
        (not row["may_refer"], "this login may not make it again: it lacks REFERENCES on the table that it points at"),
    )
    for holds, reason in reasons:
        if holds:
            return reason
    others = [each["told"] for each in dependents if each["oid"] == row["oid"]]
    return f"{others[0]} depends on it" if others else ""


def index_stays(row: Any, owners: dict[int, str], dependents: Sequence[Any], foreign: dict[int, str]) -> str:
    """Why an index or a key stays; empty where it need not."""
    mine = (row["index_oid"], row["constraint_oid"])
    owner = next((owners[oid] for oid in mine if oid in owners), None)
    reasons = (
        (owner is not None, f"it belongs to, or depends on, the extension {owner}"),
        (row["partitioned"], "its table is partitioned, or not a plain table"),
        (row["contype"] == "x", "it is an exclusion constraint"),
        (row["temporal"], "it is temporal (WITHOUT OVERLAPS)"),
        (not row["enforced"], "it is NOT ENFORCED"),
        (not row["valid"], "it is invalid: drop it, or REINDEX it"),
        (not row["owned"], "this login is not the owner of its table"),
        (not row["may_create"], "this login may not make it again: it lacks CREATE on the schema"),
        (
            not row["may_place"],
            f"this login may not make it again: it lacks CREATE on the tablespace {row['tablespace']}",
        ),
        # ADD CONSTRAINT … USING INDEX takes default sort orders, operator classes and collations only
        (row["contype"] and not row["attachable"], "its index is not one that PostgreSQL would make for it today"),
        # PostgreSQL 18 makes what is inherited the table's own when a key is added USING INDEX
        (row["inherits"], "its columns are NOT NULL by inheritance, and would be by themselves"),
        (row["mutable"], "a function in it is no longer IMMUTABLE, so that it could not be made again"),
        (row["identifies"] and row["replicated"], "logical replication tells its table's rows apart by it"),
    )
    for holds, reason in reasons:
        if holds:
            return reason
    for each in dependents:
        if each["oid"] not in mine:
            continue
        if each["by_constraint"] and each["by"] in foreign:
            if reason := foreign[each["by"]]:
                return f"{each['told']} points at it, and stays: {reason}"
        else:
            return f"{each['told']} depends on it"
    return ""


def index_of(row: Any) -> Deferred:
    kind = KINDS[row["contype"]]
    table, index = identifier(row["schema"], row["relation"]), identifier(row["schema"], row["name"])
    attach = ""
    if kind != "index":
        attach = (
            f"ALTER TABLE {table} ADD CONSTRAINT {identifier(row['name'])} {KEYWORDS[row['contype']]} "
            f"USING INDEX {identifier(row['name'])}{' DEFERRABLE' * row['deferrable']}"
            f"{' INITIALLY DEFERRED' * row['deferred']}"
        )
    attributes = [f"ALTER INDEX {index} {change}" for change in row["statistics"]]
    if row["clustered"]:
        attributes.append(f"ALTER TABLE {table} CLUSTER ON {identifier(row['name'])}")
    if row["replica_identity"]:
        attributes.append(f"ALTER TABLE {table} REPLICA IDENTITY USING INDEX {identifier(row['name'])}")
    if row["index_comment"] is not None:
        attributes.append(f"COMMENT ON INDEX {index} IS {row['index_comment']}")
    if row["constraint_comment"] is not None:
        attributes.append(f"COMMENT ON CONSTRAINT {identifier(row['name'])} ON {table} IS {row['constraint_comment']}")
    return Deferred(
        kind,
        row["schema"],
        row["relation"],
        row["name"],
        create=row["definition"],
        tablespace=row["tablespace"],
        attach=attach,
        attributes=tuple(attributes),
        columns=tuple(row["columns"]),
    )


def foreign_key_of(row: Any) -> Deferred:
    table = identifier(row["schema"], row["relation"])
    comment = f"COMMENT ON CONSTRAINT {identifier(row['name'])} ON {table} IS {row['comment']}"
    return Deferred(
        "foreign key",
        row["schema"],
        row["relation"],
        row["name"],
        create=add_foreign_key(table, row["name"], row["definition"]),
        attributes=(comment,) if row["comment"] is not None else (),
        parent=identifier(row["parent_schema"], row["parent_relation"]),
        validate=f"ALTER TABLE {table} VALIDATE CONSTRAINT {identifier(row['name'])}" if row["validated"] else "",
        columns=tuple(row["columns"]),
        keys=tuple(row["keys"]),
        on_delete_sets_null=row["lets_go"],
    )
