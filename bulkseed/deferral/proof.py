"""The proof before the first drop: what could fail to be rebuilt is made on copies of the tables, and rolled back.

There are two trials, each for what can fail in it, so that most databases need neither:

- Indexes that call code of the database (functions, operators, types that are not built in) are built over rows: the
  expressions are evaluated only there. Since PostgreSQL 17 an index is built with the search_path ``pg_catalog,
  pg_temp``, under which a function that calls another one without its schema fails. The copy is a temporary table of
  the same owner, as whom the server calls these functions. It gets rows of the table and rows of the load.
- With event triggers on the commands of a rebuild, all is dropped and rebuilt on empty copies in the schema of the
  table. Their names begin as those of the originals, for event triggers that decide by the name. One that decides by
  the whole name is not met: only the table itself would show that, and dropping and rebuilding an index there takes as
  long as its rows need, under ACCESS EXCLUSIVE. If it refuses the rebuild, the load fails, says what is missing, and
  keeps the definitions.

All else that a rebuild needs, such as ownership and rights, is in the catalogue: see
:func:`bulkseed.deferral.capture.choose`. Not proven: that the disks of tablespaces have room, and that all rows, rather
than a sample, can be indexed.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import asyncpg

from bulkseed.deferral.capture import choose, qualified_names, read_catalogue
from bulkseed.deferral.definitions import KEYS, Captured, Deferred
from bulkseed.deferral.steps import LOCK_SECONDS
from bulkseed.errors import ConnectionLostError, InputError, RunError
from bulkseed.postgres.connection import Connection, server_message
from bulkseed.postgres.transaction import RollBack, trial_transaction
from bulkseed.sql import SQL, compose, identifier, join, trusted

__all__ = ["FillCopies", "capture_proven"]

logger = logging.getLogger(__name__)

FillCopies = Callable[[Mapping[str, str]], Awaitable[None]]
"""Copies a few rows of the load into temporary tables, whose names are given by the name of the table."""

SUFFIX: Final = "_bulkseed"
NAME_BYTES: Final = 40
"""The bytes of a name that its copy has too: with the suffix and a number, less than the 63 of an identifier."""
ROWS: Final = 100
"""The existing rows of a table over which its indexes are tried."""

DOUBTS: Final = """
SELECT ARRAY(SELECT i.indexrelid FROM unnest($1::text[]) AS n (name)
             JOIN pg_index AS i ON i.indexrelid = to_regclass(n.name)
             WHERE i.indexrelid IN (SELECT objid FROM pg_depend WHERE classid = 'pg_class'::regclass
                                    AND refclassid <> ALL ('{pg_class,pg_constraint,pg_collation}'::regclass[]))
                OR i.indexrelid IN (SELECT attrelid FROM pg_attribute WHERE atttypid >= 16384)) AS indexes,
       EXISTS (SELECT FROM pg_event_trigger WHERE evtenabled IN ('O', 'A') AND evtevent <> 'login' AND (
           evttags IS NULL OR evttags && $2::text[])) AS event_triggers
"""
"""Those of the indexes $1 (qualified names) that depend on what is not built in, or have a column of such a type; and
whether event triggers see the commands $2. Objects that initdb makes, with OIDs below 16384, are not in pg_depend."""

COMMANDS: Final = ("ALTER INDEX", "ALTER TABLE", "COMMENT", "CREATE INDEX", "CREATE TABLE", "DROP INDEX")
"""The commands that drop and rebuild, and that make the copies."""

CALLING: Final = """
SELECT i.indexrelid AS oid FROM pg_index AS i WHERE i.indexrelid = ANY ($1::oid[]) AND (
    EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
            AND d.refclassid <> ALL ('{pg_class,pg_constraint,pg_collation,pg_opclass}'::regclass[]))
    OR EXISTS (SELECT FROM pg_opclass AS o JOIN pg_amproc AS a ON a.amprocfamily = o.opcfamily
               JOIN pg_proc AS f ON f.oid = a.amproc JOIN pg_language AS l ON l.oid = f.prolang
               WHERE o.oid = ANY (i.indclass::oid[]) AND o.oid >= 16384 AND l.lanname NOT IN ('internal', 'c'))
    OR EXISTS (SELECT FROM pg_opclass AS o JOIN pg_amop AS a ON a.amopfamily = o.opcfamily
               JOIN pg_operator AS p ON p.oid = a.amopopr
               JOIN pg_proc AS f ON f.oid = p.oprcode JOIN pg_language AS l ON l.oid = f.prolang
               WHERE o.oid = ANY (i.indclass::oid[]) AND o.oid >= 16384 AND l.lanname NOT IN ('internal', 'c'))
    OR EXISTS (SELECT FROM pg_attribute AS a JOIN pg_type AS y ON y.oid = a.atttypid
               LEFT JOIN pg_type AS e ON e.oid = y.typelem
               WHERE a.attrelid = i.indexrelid AND y.oid >= 16384
                 AND (y.typtype IN ('c', 'r', 'm') OR e.typtype IN ('c', 'd', 'r', 'm'))))
"""
"""Those of the indexes $1 of which building one calls code of the database: by what its expressions depend on, by its
operator classes, or by those of the types that its arrays, ranges and composites consist of. The functions of an
extension's operator classes in C need no search_path."""

BODIES: Final = """
SELECT n.name, c.oid, pg_get_indexdef(c.oid) AS definition,
       format('CREATE %sINDEX %s ON %s.%s ', CASE WHEN i.indisunique THEN 'UNIQUE ' END, quote_ident(c.relname),
              quote_ident(s.nspname), quote_ident(t.relname)) AS beginning
FROM unnest($1::text[]) AS n (name) JOIN pg_class AS c ON c.oid = to_regclass(n.name)
JOIN pg_index AS i ON i.indexrelid = c.oid JOIN pg_class AS t ON t.oid = i.indrelid
JOIN pg_namespace AS s ON s.oid = t.relnamespace
"""

COLUMNS: Final = """
SELECT n.name, quote_ident(pg_get_userbyid(c.relowner)) AS owner, pg_get_userbyid(c.relowner) = current_user AS owned,
       (SELECT array_agg(quote_ident(a.attname) ORDER BY a.attnum) FILTER (WHERE a.attgenerated = '') FROM pg_attribute
        AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS filled,
       (SELECT array_agg(quote_ident(a.attname) ORDER BY a.attnum) FILTER (WHERE a.attnotnull) FROM pg_attribute
        AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS not_null
FROM unnest($1::text[]) AS n (name) JOIN pg_class AS c ON c.oid = to_regclass(n.name)
"""

SETTINGS: Final = "SELECT set_config('lock_timeout', $1, true), set_config('default_tablespace', '', true)"


async def capture_proven(
    connection: Connection, schema: str, tables: Sequence[str], fill: FillCopies | None = None
) -> Captured:
    """Return which indexes, keys and foreign keys of ``tables`` in ``schema`` can be dropped and rebuilt by this login.

    As :func:`bulkseed.deferral.capture.capture`, but what the server refuses to make on a copy of its table stays too,
    with the server's message. ``fill`` adds rows of the load to those existing rows over which an index is tried.
    Nothing remains of the copies. Raises the errors of asyncpg.
    """
    catalogue = await read_catalogue(connection, schema, tables)
    captured = choose(catalogue)
    began = perf_counter()
    refused = await find_refused(connection, captured.deferred, fill)
    logger.info("indexes and keys are proven in %.3f s: %s refused", perf_counter() - began, len(refused))
    for definition, reason in refused.items():
        logger.info("%s stays: %s", definition, reason)
    return choose(catalogue, refused) if refused else captured


async def find_refused(
    connection: Connection, deferred: Sequence[Deferred], fill: FillCopies | None
) -> dict[Deferred, str]:
    """Return those of ``deferred`` that the server refuses to make on a copy of the table, with its message."""
    if not deferred:
        return {}
    indexes = {definition.index: definition for definition in deferred if definition.kind != "foreign key"}
    doubts = await connection.fetchrow(DOUBTS, list(indexes), list(COMMANDS))
    calling_oids = (
        {row["oid"] for row in await connection.fetch(CALLING, doubts["indexes"])} if doubts["indexes"] else ()
    )
    if not (calling_oids or doubts["event_triggers"]):
        return {}
    async with qualified_names(connection):
        rows = await connection.fetch(BODIES, list(indexes))
    bodies = {indexes[row["name"]]: read_body(row) for row in rows}
    refused: dict[Deferred, str] = {}
    if calling_oids:
        calling = {
            index: bodies[index] for index in (indexes[row["name"]] for row in rows if row["oid"] in calling_oids)
        }
        refused |= await in_rolled_back_transaction(connection, calling, ValueTrial(calling, fill))
    if doubts["event_triggers"]:
        rest = [definition for definition in deferred if definition not in refused]
        refused |= await in_rolled_back_transaction(connection, rest, CommandTrial(rest, bodies))
    return refused


def read_body(row: Any) -> SQL:
    """Return the part of an index definition behind the name of the table: ``USING btree (…) …``."""
    return trusted(row["definition"].removeprefix(row["beginning"]))


Trial = Callable[[Connection], Awaitable[dict[Deferred, str]]]


async def in_rolled_back_transaction(
    connection: Connection, tried: Iterable[Deferred], trial: Trial
) -> dict[Deferred, str]:
    """Return what a trial refuses; all that is ``tried`` if the trial itself fails. Nothing remains of it."""
    refused: dict[Deferred, str] = {}
    try:
        async with trial_transaction(connection):
            await connection.fetchrow(SETTINGS, f"{round(LOCK_SECONDS * 1000)}ms")
            refused = await trial(connection)
    except asyncpg.PostgresError as error:
        if connection.is_closed():
            raise
        reason = f"whether it could be rebuilt cannot be tried ({server_message(error)})"
        return dict.fromkeys(tried, reason)
    return refused


async def refusal(connection: Connection, statements: Iterable[SQL]) -> str:
    """Return the server's message if it refuses one of the statements, which are rolled back in any case."""
    try:
        with suppress(RollBack):
            async with connection.transaction():
                await connection.execute(join("; ", statements))
                raise RollBack
    except asyncpg.PostgresError as error:
        if connection.is_closed():
            raise
        return server_message(error)
    return ""


@dataclass(frozen=True, slots=True)
class ValueTrial:
    """Builds indexes over rows; ``calling`` are their definitions behind the name of the table.

    None of them is UNIQUE on the copy: whether values repeat is for the trial of the load to judge.
    """

    calling: Mapping[Deferred, SQL]
    fill: FillCopies | None

    async def __call__(self, connection: Connection) -> dict[Deferred, str]:
        copies = {table: identifier("pg_temp", name) for table, name in self.names().items()}
        rows = await connection.fetch(COLUMNS, list(copies))
        statements = [statement for row in rows for statement in make_copy(trusted(row["name"]), copies, row)]
        await connection.execute(join("; ", statements))
        await self.add_rows_of_the_load(connection)
        owners = [
            compose("ALTER TABLE {copy} OWNER TO {owner}", copy=copies[row["name"]], owner=trusted(row["owner"]))
            for row in rows
            if not row["owned"]
        ]
        if owners:
            await connection.execute(join("; ", owners))
        builds = {
            index: compose(
                "CREATE INDEX {name} ON {copy} {body}",
                name=identifier(f"bulkseed_{number}"),
                copy=copies[index.table],
                body=body,
            )
            for number, (index, body) in enumerate(self.calling.items())
        }
        if not await refusal(connection, builds.values()):
            return {}
        refused = {}
        for index, build in builds.items():
            if message := await refusal(connection, [build]):
                refused[index] = f"it could not be rebuilt: {message}{search_path_advice(connection)}"
        return refused

    async def add_rows_of_the_load(self, connection: Connection) -> None:
        if self.fill is None:
            return
        relations = {index.table: index.relation for index in self.calling}
        try:
            async with connection.transaction():
                await self.fill({relations[table]: name for table, name in self.names().items()})
        except ConnectionLostError:
            raise
        except (InputError, RunError) as error:
            logger.info("indexes are tried without rows of the load: %s", error)  # the trial of the load judges those

    def names(self) -> dict[SQL, str]:
        """Return the name of the copy of each table."""
        tables = dict.fromkeys(index.table for index in self.calling)
        return {table: f"bulkseed_copy_{number}" for number, table in enumerate(tables)}


def make_copy(table: SQL, copies: Mapping[SQL, SQL], row: Any) -> list[SQL]:
    """Return the statements that make a copy of a table with a few of its rows, without NOT NULL.

    It has no defaults, as those of a load would move sequences.
    """
    copy = copies[table]
    filled = join(", ", map(trusted, row["filled"] or ()))
    nullable = [compose("ALTER {column} DROP NOT NULL", column=trusted(column)) for column in row["not_null"] or ()]
    statements = [compose("CREATE TEMP TABLE {copy} (LIKE {table} INCLUDING GENERATED)", copy=copy, table=table)]
    if nullable:
        statements.append(compose("ALTER TABLE {copy} {nullable}", copy=copy, nullable=join(", ", nullable)))
    if filled:
        statements.append(
            compose(
                "INSERT INTO {copy} ({filled}) SELECT {filled} FROM {table} LIMIT {rows}",
                copy=copy,
                filled=filled,
                table=table,
                rows=ROWS,
            )
        )
    return statements


MAINTENANCE_SEARCH_PATH: Final = 17
"""The first version of PostgreSQL whose maintenance commands have a search_path of their own."""


def search_path_advice(connection: Connection) -> str:
    if connection.get_server_version().major < MAINTENANCE_SEARCH_PATH:
        return ""
    return (
        "; the server builds indexes with the search_path pg_catalog, pg_temp: qualify the names in the function, or "
        "give it a search_path (ALTER FUNCTION … SET search_path)"
    )


@dataclass(frozen=True, slots=True)
class CommandTrial:
    """Runs the commands of a drop and a rebuild on empty copies, for event triggers to refuse.

    ``bodies`` are the definitions of the indexes behind the name of the table.
    """

    deferred: Sequence[Deferred]
    bodies: Mapping[Deferred, SQL]

    async def __call__(self, connection: Connection) -> dict[Deferred, str]:
        scripts = {definition: self.script(number, definition) for number, definition in enumerate(self.deferred)}
        copies = {(definition.schema, definition.relation) for definition in self.deferred}
        creations = [self.create_copy(schema, relation) for schema, relation in sorted(copies)]
        if not await refusal(connection, [*creations, *(step for script in scripts.values() for step in script)]):
            return {}
        refused = {}
        for definition, script in scripts.items():
            creation = self.create_copy(definition.schema, definition.relation)
            if message := await refusal(connection, [creation, *script]):
                refused[definition] = f"an event trigger, or a missing right, keeps it from being rebuilt: {message}"
        return refused

    def create_copy(self, schema: str, relation: str) -> SQL:
        return compose(
            "CREATE TABLE {copy} (LIKE {table})",
            copy=identifier(schema, copy_name(relation)),
            table=identifier(schema, relation),
        )

    def script(self, number: int, definition: Deferred) -> list[SQL]:
        """Return the statements that make a definition on the copy of its table, and drop it again."""
        copy = identifier(definition.schema, copy_name(definition.relation))
        if definition.kind == "foreign key":
            return foreign_key_script(number, definition, copy)
        name = copy_name(definition.name, number)
        unique = compose("UNIQUE ") if definition.is_unique else compose("")
        statements = [
            compose(
                "CREATE {unique}INDEX {name} ON {copy} {body}",
                unique=unique,
                name=identifier(name),
                copy=copy,
                body=self.bodies.get(definition, compose("")),
            )
        ]
        if definition.kind in KEYS:
            kind = compose("PRIMARY KEY") if definition.kind == "primary key" else compose("UNIQUE")
            statements.append(
                compose(
                    "ALTER TABLE {copy} ADD CONSTRAINT {name} {kind} USING INDEX {name}",
                    copy=copy,
                    name=identifier(name),
                    kind=kind,
                )
            )
        statements += [attribute_of_copy(attribute, definition, copy, name) for attribute in definition.attributes]
        if definition.kind in KEYS:
            statements.append(compose("ALTER TABLE {copy} DROP CONSTRAINT {name}", copy=copy, name=identifier(name)))
        statements.append(compose("DROP INDEX IF EXISTS {name}", name=identifier(definition.schema, name)))
        return statements


def copy_name(name: str, number: int | None = None) -> str:
    """Return the name of a copy: as much of the original as there is room for, and a suffix."""
    beginning = name.encode()[:NAME_BYTES].decode(errors="ignore")
    return beginning + SUFFIX if number is None else f"{beginning}{SUFFIX}_{number}"


def attribute_of_copy(attribute: SQL, definition: Deferred, copy: SQL, name: str) -> SQL:
    """Return the statement for an attribute of a definition with the names of its copy."""

    def beginnings(table: SQL, index: SQL, own_name: SQL) -> list[SQL]:
        return [
            compose("ALTER INDEX {index} ", index=index),
            compose("COMMENT ON INDEX {index} IS ", index=index),
            compose("COMMENT ON CONSTRAINT {name} ON {table} IS ", table=table, name=own_name),
            compose("ALTER TABLE {table} CLUSTER ON {name}", table=table, name=own_name),
            compose("ALTER TABLE {table} REPLICA IDENTITY USING INDEX {name}", table=table, name=own_name),
        ]

    originals = beginnings(definition.table, definition.index, identifier(definition.name))
    copies = beginnings(copy, identifier(definition.schema, name), identifier(name))
    for original, of_copy in zip(originals, copies, strict=True):
        if attribute.startswith(original):
            return join("", [of_copy, trusted(attribute.removeprefix(original))])
    raise ValueError(f"not an attribute of {definition}: {attribute}")


def foreign_key_script(number: int, key: Deferred, copy: SQL) -> list[SQL]:
    parent = identifier(key.schema, copy_name("referenced", number))
    columns, keys = (join(", ", map(identifier, names)) for names in (key.columns, key.keys))
    name = identifier(key.name)
    statements = [
        # a foreign key to the table itself would lock it
        compose("CREATE TABLE {parent} (LIKE {table})", parent=parent, table=key.parent),
        compose("ALTER TABLE {parent} ADD UNIQUE ({keys})", parent=parent, keys=keys),
        compose(
            "ALTER TABLE {copy} ADD CONSTRAINT {name} FOREIGN KEY ({columns}) REFERENCES {parent} ({keys}) NOT VALID",
            copy=copy,
            name=name,
            columns=columns,
            parent=parent,
            keys=keys,
        ),
    ]
    if key.validate:
        statements.append(compose("ALTER TABLE {copy} VALIDATE CONSTRAINT {name}", copy=copy, name=name))
    statements += [attribute_of_copy(attribute, key, copy, key.name) for attribute in key.attributes]
    statements.append(compose("ALTER TABLE {copy} DROP CONSTRAINT {name}", copy=copy, name=name))
    return statements
