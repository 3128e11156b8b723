"""Definitions of indexes and keys, saved in the ledger before the first is dropped, so that no crash can lose one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal, get_args

from bulkseed.postgres.connection import Connection
from bulkseed.sql import identifier

__all__ = [
    "DDL",
    "KEYS",
    "Captured",
    "Deferred",
    "Kind",
    "NotDeferred",
    "add_foreign_key",
    "forget_rebuilt",
    "has_same_columns",
    "mark_rebuilt",
    "not_owned",
    "save",
    "unfinished",
]

Kind = Literal["index", "primary key", "unique", "foreign key"]

KEYS: Final = ("primary key", "unique")
"""The kinds that are a constraint with an index behind it, of the same name."""

LISTS: Final = ("attributes", "columns", "keys")
SETS_NULL: Final = "lets_go"
"""The name of ``on_delete_sets_null`` in JSON, as ledgers have always had it."""

NOT_VALID: Final = " NOT VALID"


@dataclass(frozen=True, slots=True)
class Deferred:
    """An index, a key or a foreign key that can be dropped and made again exactly as it was.

    Every name in its statements is qualified and quoted, so that they mean the same whatever ``search_path`` is;
    run by hand in the order of :attr:`statements`, they make it again too.
    """

    kind: Kind
    schema: str
    """The schema of its table, as the catalogue has it (not quoted); an index is always in its table's schema."""
    relation: str
    """Its table's name, not quoted."""
    name: str
    """Its own name, not quoted."""
    create: str
    """``CREATE INDEX …``, or ``ALTER TABLE … ADD CONSTRAINT … FOREIGN KEY … NOT VALID``."""
    tablespace: str = ""
    """Where the index lies: ``default_tablespace`` while ``create`` runs; empty for the database's own."""
    attach: str = ""
    """For a key: ``ALTER TABLE … ADD CONSTRAINT … USING INDEX …``."""
    attributes: tuple[str, ...] = ()
    """What ``create`` does not say: statistics targets, marks of CLUSTER and REPLICA IDENTITY, comments."""
    parent: str = ""
    """For a foreign key: the table that it points at, qualified and quoted."""
    validate: str = ""
    """For a foreign key that was valid: ``ALTER TABLE … VALIDATE CONSTRAINT …``."""
    columns: tuple[str, ...] = ()
    """Its columns, not quoted, in its order: of a foreign key, and of a unique index at which one can point."""
    keys: tuple[str, ...] = ()
    """For a foreign key: the columns of ``parent`` at which ``columns`` point, each at its own."""
    on_delete_sets_null: bool = False
    """For a foreign key: whether it says ON DELETE SET NULL or SET DEFAULT."""

    @property
    def table(self) -> str:
        """The name of its table, qualified and quoted."""
        return identifier(self.schema, self.relation)

    @property
    def index(self) -> str:
        """The name of the index (also that behind a key), qualified and quoted."""
        return identifier(self.schema, self.name)

    @property
    def is_unique(self) -> bool:
        """Whether it is a unique index or a key."""
        return self.create.startswith("CREATE UNIQUE INDEX ")

    @property
    def statements(self) -> tuple[str, ...]:
        """All that makes it again, in order."""
        place = identifier(self.tablespace) if self.tablespace else "''"
        tablespace = f"SET default_tablespace = {place}" if self.kind != "foreign key" else ""
        return tuple(filter(None, (tablespace, self.create, self.attach, self.validate, *self.attributes)))

    def to_json(self) -> str:
        """Return the definition as a JSON object, with the names that ledgers have always had."""
        values = asdict(self)
        values[SETS_NULL] = values.pop("on_delete_sets_null")
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> Deferred:
        """What :meth:`to_json` wrote. Raises ValueError or TypeError for anything else."""
        fields = json.loads(text)
        if not isinstance(fields, dict) or fields.get("kind") not in get_args(Kind):
            raise ValueError(f"not a deferred definition: {text:.100}")
        for name, value in fields.items():
            if name in LISTS:
                right = isinstance(value, list) and all(isinstance(each, str) for each in value)
            else:
                right = isinstance(value, bool if name == SETS_NULL else str)
            if not right:
                raise TypeError(f"not a deferred definition: {name} is {value!r}")
        given = {"on_delete_sets_null" if name == SETS_NULL else name: value for name, value in fields.items()}
        return cls(**given | {name: tuple(given[name]) for name in LISTS if name in given})

    def __str__(self) -> str:
        return f"{self.kind} {self.name} of {self.table}"


@dataclass(frozen=True, slots=True)
class NotDeferred:
    """An index or constraint that stays in place during a load, and why."""

    kind: str
    table: str
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name} of {self.table} stays: {self.reason}"


@dataclass(frozen=True, slots=True)
class Captured:
    """What can be dropped for a load and made again after it, and what must stay."""

    deferred: tuple[Deferred, ...]
    kept: tuple[NotDeferred, ...]


def has_same_columns(one: Deferred, other: Deferred) -> bool:
    """Whether a foreign key could point at either of two unique indexes: it takes the one that was made first."""
    return one.table == other.table and one.columns != () and set(one.columns) == set(other.columns)


def add_foreign_key(table: str, name: str, definition: str) -> str:
    """The statement that adds a foreign key NOT VALID, from what ``pg_get_constraintdef`` says of it."""
    body = definition.removesuffix(NOT_VALID)
    return f"ALTER TABLE {table} ADD CONSTRAINT {identifier(name)} {body}{NOT_VALID}"


DDL: Final = """
CREATE TABLE {table} (
    run bigint NOT NULL,
    place integer NOT NULL,
    definition jsonb NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    rebuilt_at timestamptz,
    PRIMARY KEY (run, place)
);
COMMENT ON TABLE {table} IS
    'indexes, keys and foreign keys dropped for a load; those without rebuilt_at have yet to be made again';
"""
"""Makes the table, whose qualified name is to be put in; its schema, the ledger's, must be there.

It has no foreign key to the runs on purpose: definitions must outlive a run whose row is gone.
"""


async def save(connection: Connection, table: str, run: int, deferred: Iterable[Deferred]) -> None:
    """Write the definitions under the number of a run into ``table`` (qualified), as all of these functions do.

    The caller commits, *before* it drops the first.

    Raises what asyncpg raises; a second save under the same run is a UniqueViolationError.
    """
    texts = [each.to_json() for each in deferred]
    await connection.execute(
        f"INSERT INTO {table} (run, place, definition) "
        "SELECT $1, place, definition::jsonb FROM unnest($2::text[]) WITH ORDINALITY AS u (definition, place)",
        run,
        texts,
    )


async def unfinished(connection: Connection, table: str) -> dict[int, tuple[Deferred, ...]]:
    """The definitions that have yet to be rebuilt, by run, in the order in which they were saved.

    Empty where there are none, or no such table. A load must look here first: what another has dropped
    cannot be seen in the catalogue.
    """
    if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
        return {}
    found: dict[int, tuple[Deferred, ...]] = {}
    for row in await connection.fetch(
        f"SELECT run, definition::text AS definition FROM {table} WHERE rebuilt_at IS NULL ORDER BY run, place"
    ):
        found[row["run"]] = (*found.get(row["run"], ()), Deferred.from_json(row["definition"]))
    return found


async def mark_rebuilt(connection: Connection, table: str, run: int, deferred: Iterable[Deferred]) -> None:
    """Record that these definitions of a run are in place again. The caller commits."""
    await connection.execute(
        f"UPDATE {table} SET rebuilt_at = clock_timestamp() "
        "WHERE run = $1 AND rebuilt_at IS NULL AND definition = ANY ($2::text[]::jsonb[])",
        run,
        [each.to_json() for each in deferred],
    )


async def forget_rebuilt(connection: Connection, table: str, run: int) -> None:
    """Delete the definitions of a run that are in place again; nothing where there is no such table."""
    if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
        await connection.execute(f"DELETE FROM {table} WHERE run = $1 AND rebuilt_at IS NOT NULL", run)


OWNERS = """
SELECT n.name, quote_ident(pg_get_userbyid(c.relowner)) AS owner
FROM unnest($1::text[]) AS n (name) JOIN pg_class AS c ON c.oid = to_regclass(n.name)
WHERE NOT pg_has_role(c.relowner, 'USAGE') ORDER BY n.name
"""


async def not_owned(connection: Connection, deferred: Sequence[Deferred]) -> dict[str, str]:
    """The tables whose indexes and keys this login may not make again, with their owners; those that are gone not.

    Raises what asyncpg raises.
    """
    tables = sorted({each.table for each in deferred})
    return {row["name"]: row["owner"] for row in await connection.fetch(OWNERS, tables)}
