"""Reading which indexes, keys and foreign keys can be put off, exactly as they are, and which must stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bulkseed.deferral.catalogue import DEPENDENTS, EXTENSIONS, FOREIGN_KEYS, INDEXES, full_names
from bulkseed.deferral.definitions import Captured, Deferred, Kept, Kind, add_foreign_key
from bulkseed.identifiers import qualified, quoted
from bulkseed.postgres.connection import Connection

__all__ = ["capture"]

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
    kept: list[Kept] = []
    for row in indexes:
        if reason := index_reasons[row["index_oid"]]:
            kind = KINDS.get(row["contype"], "exclusion constraint")
            kept.append(Kept(kind, qualified(row["schema"], row["relation"]), row["name"], reason))
        else:
            deferred.append(index_of(row))
    for row in foreign:
        if reason := foreign_reasons[row["oid"]]:
            kept.append(Kept("foreign key", qualified(row["schema"], row["relation"]), row["name"], reason))
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
    table, index = qualified(row["schema"], row["relation"]), qualified(row["schema"], row["name"])
    attach = ""
    if kind != "index":
        attach = (
            f"ALTER TABLE {table} ADD CONSTRAINT {quoted(row['name'])} {KEYWORDS[row['contype']]} "
            f"USING INDEX {quoted(row['name'])}{' DEFERRABLE' * row['deferrable']}"
            f"{' INITIALLY DEFERRED' * row['deferred']}"
        )
    attributes = [f"ALTER INDEX {index} {change}" for change in row["statistics"]]
    if row["clustered"]:
        attributes.append(f"ALTER TABLE {table} CLUSTER ON {quoted(row['name'])}")
    if row["replica_identity"]:
        attributes.append(f"ALTER TABLE {table} REPLICA IDENTITY USING INDEX {quoted(row['name'])}")
    if row["index_comment"] is not None:
        attributes.append(f"COMMENT ON INDEX {index} IS {row['index_comment']}")
    if row["constraint_comment"] is not None:
        attributes.append(f"COMMENT ON CONSTRAINT {quoted(row['name'])} ON {table} IS {row['constraint_comment']}")
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
    table = qualified(row["schema"], row["relation"])
    comment = f"COMMENT ON CONSTRAINT {quoted(row['name'])} ON {table} IS {row['comment']}"
    return Deferred(
        "foreign key",
        row["schema"],
        row["relation"],
        row["name"],
        create=add_foreign_key(table, row["name"], row["definition"]),
        attributes=(comment,) if row["comment"] is not None else (),
        parent=qualified(row["parent_schema"], row["parent_relation"]),
        validate=f"ALTER TABLE {table} VALIDATE CONSTRAINT {quoted(row['name'])}" if row["validated"] else "",
        columns=tuple(row["columns"]),
        keys=tuple(row["keys"]),
        lets_go=row["lets_go"],
    )
