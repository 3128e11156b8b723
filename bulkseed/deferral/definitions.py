"""Definitions of indexes and keys: saved in the ledger before the first drop, so that no crash can lose one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal, get_args

from bulkseed.errors import TargetError
from bulkseed.postgres.connection import Connection
from bulkseed.sql import SQL, compose, identifier, literal, trusted

__all__ = [
    "DDL",
    "KEYS",
    "Captured",
    "Deferred",
    "Kind",
    "NotDeferred",
    "add_foreign_key",
    "find_foreign_owners",
    "find_unfinished_runs",
    "forget_rebuilt",
    "has_same_columns",
    "mark_rebuilt",
    "read_unfinished",
    "save",
]

Kind = Literal["index", "primary key", "unique", "foreign key"]

KEYS: Final = ("primary key", "unique")
"""The kinds that are a constraint with an index of the same name."""

LIST_FIELDS: Final = ("attributes", "columns", "keys")
SQL_FIELDS: Final = ("create", "attach", "parent", "validate")
SETS_NULL: Final = "lets_go"
"""The name of ``on_delete_sets_null`` in JSON, as ledgers have always had it."""

ACTIONS: Final = re.compile(" ON (DELETE|UPDATE) (CASCADE|SET )")
NOT_VALID: Final = " NOT VALID"
EMPTY: Final = compose("")


@dataclass(frozen=True, slots=True)
class Deferred:
    """The definition of an index, a key or a foreign key that can be dropped and rebuilt unchanged.

    All names in the statements are qualified and quoted, so that ``search_path`` does not change their meaning.
    Executed by hand in the order of :attr:`statements`, they rebuild it too.
    """

    kind: Kind
    schema: str
    """The schema of the table, not quoted; an index is always in the schema of its table."""
    relation: str
    """The name of the table, not quoted."""
    name: str
    """The name of the index or constraint, not quoted."""
    create: SQL
    """``CREATE INDEX …``, or ``ALTER TABLE … ADD CONSTRAINT … FOREIGN KEY … NOT VALID``."""
    tablespace: str = ""
    """The tablespace of the index: ``default_tablespace`` while ``create`` runs; empty for the database's default."""
    attach: SQL = EMPTY
    """For a key: ``ALTER TABLE … ADD CONSTRAINT … USING INDEX …``."""
    attributes: tuple[SQL, ...] = ()
    """Statements for properties outside ``create``: statistics targets, CLUSTER, REPLICA IDENTITY, comments."""
    parent: SQL = EMPTY
    """For a foreign key: the table that it references, qualified and quoted."""
    validate: SQL = EMPTY
    """For a foreign key that was valid: ``ALTER TABLE … VALIDATE CONSTRAINT …``."""
    columns: tuple[str, ...] = ()
    """The columns of a foreign key, or of a unique index that one can reference: not quoted, in definition order."""
    keys: tuple[str, ...] = ()
    """For a foreign key: the columns of ``parent`` that ``columns`` reference, in the order of ``columns``."""
    on_delete_sets_null: bool = False
    """For a foreign key: whether it is ON DELETE SET NULL or SET DEFAULT."""

    @property
    def table(self) -> SQL:
        """The name of the table, qualified and quoted."""
        return identifier(self.schema, self.relation)

    @property
    def index(self) -> SQL:
        """The name of the index (for a key: of the index of the constraint), qualified and quoted."""
        return identifier(self.schema, self.name)

    @property
    def is_unique(self) -> bool:
        """Return whether this is a unique index or a key."""
        return self.create.startswith("CREATE UNIQUE INDEX ")

    @property
    def acts(self) -> bool:
        """Return whether a foreign key changes rows at DELETE or UPDATE: CASCADE, SET NULL, SET DEFAULT.

        The names of columns may contain these words; for such a key that changes no rows it is True as well.
        """
        return ACTIONS.search(self.create) is not None

    @property
    def required_attributes(self) -> tuple[SQL, ...]:
        """Those of :attr:`attributes` without which the database would behave otherwise: REPLICA IDENTITY.

        Without it, a publication refuses UPDATE and DELETE on the table. The others are hints or text: statistics
        targets, the mark of CLUSTER, comments. A rebuild goes on without them. All that ``create`` and ``attach`` say
        is required, with the tablespace, which is where the administrator has room for the index.
        """
        return tuple(attribute for attribute in self.attributes if self.is_required(attribute))

    def is_required(self, attribute: SQL) -> bool:
        """Return whether an attribute is one of :attr:`required_attributes`."""
        return attribute.startswith(compose("ALTER TABLE {table} REPLICA IDENTITY ", table=self.table))

    @property
    def statements(self) -> tuple[SQL, ...]:
        """The statements that rebuild it, in order."""
        tablespace = identifier(self.tablespace) if self.tablespace else literal("")
        settings = EMPTY if self.kind == "foreign key" else compose("SET default_tablespace = {name}", name=tablespace)
        return tuple(filter(None, (settings, self.create, self.attach, self.validate, *self.attributes)))

    def to_json(self) -> str:
        """Return the definition as a JSON object, with the names that ledgers have always had."""
        values = asdict(self)
        values[SETS_NULL] = values.pop("on_delete_sets_null")
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> Deferred:
        """Return the definition that :meth:`to_json` wrote. Raises ValueError or TypeError for any other text."""
        fields = json.loads(text)
        if not isinstance(fields, dict) or fields.get("kind") not in get_args(Kind):
            raise ValueError(f"not a deferred definition: {text:.100}")
        for name, value in fields.items():
            if name in LIST_FIELDS:
                is_valid = isinstance(value, list) and all(isinstance(element, str) for element in value)
            else:
                is_valid = isinstance(value, bool if name == SETS_NULL else str)
            if not is_valid:
                raise TypeError(f"not a deferred definition: {name} is {value!r}")
        values = {"on_delete_sets_null" if name == SETS_NULL else name: value for name, value in fields.items()}
        values |= {name: tuple(values[name]) for name in LIST_FIELDS if name in values}
        values |= {name: trusted(values[name]) for name in SQL_FIELDS if name in values}
        return cls(**values | {"attributes": tuple(map(trusted, values.get("attributes", ())))})

    def __str__(self) -> str:
        return f"{self.kind} {self.name} of {self.table}"


@dataclass(frozen=True, slots=True)
class NotDeferred:
    """An index or constraint that stays in place during a load, and the reason."""

    kind: str
    table: str
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name} of {self.table} stays: {self.reason}"


@dataclass(frozen=True, slots=True)
class Captured:
    """The definitions to drop for a load and rebuild after it, and the indexes and constraints that stay."""

    deferred: tuple[Deferred, ...]
    kept: tuple[NotDeferred, ...]


def has_same_columns(one: Deferred, other: Deferred) -> bool:
    """Return whether a foreign key could reference either of two unique indexes: it uses the one created first."""
    return one.table == other.table and one.columns != () and set(one.columns) == set(other.columns)


def add_foreign_key(table: SQL, name: str, definition: str) -> SQL:
    """Return the statement that adds a foreign key NOT VALID, with the ``definition`` of ``pg_get_constraintdef``."""
    return compose(
        "ALTER TABLE {table} ADD CONSTRAINT {name} {body} NOT VALID",
        table=table,
        name=identifier(name),
        body=trusted(definition.removesuffix(NOT_VALID)),
    )


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
"""Creates the table of definitions, in the ledger's existing schema; ``{table}`` stands for its qualified name.

It has no foreign key to the runs on purpose: definitions must outlive a run whose row is gone.
"""


async def save(connection: Connection, table: SQL, run: int, deferred: Iterable[Deferred]) -> None:
    """Write the definitions under the number of a run into ``table`` (qualified: :attr:`bulkseed.ledger.Ledger`).

    The caller commits *before* the first drop.

    Raises the errors of asyncpg; a second save under the same run is a UniqueViolationError.
    """
    texts = [definition.to_json() for definition in deferred]
    await connection.execute(
        compose(
            "INSERT INTO {table} (run, place, definition) "
            "SELECT $1, place, definition::jsonb FROM unnest($2::text[]) WITH ORDINALITY AS u (definition, place)",
            table=table,
        ),
        run,
        texts,
    )


async def find_unfinished_runs(connection: Connection, table: SQL) -> set[int]:
    """Return the runs with definitions that have yet to be rebuilt; none if ``table`` does not exist.

    A load must check this first: the catalogue does not show the indexes that another command has dropped.
    """
    if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
        return set()
    query = compose("SELECT DISTINCT run FROM {table} WHERE rebuilt_at IS NULL", table=table)
    return {row["run"] for row in await connection.fetch(query)}


async def read_unfinished(
    connection: Connection, table: SQL, runs: Iterable[int] | None = None
) -> dict[int, tuple[Deferred, ...]]:
    """Return the definitions that have yet to be rebuilt, by run, in the order in which they were saved.

    Only those of ``runs``, or of all. Empty where none are left, or ``table`` does not exist. Raises TargetError for a
    definition that this version of bulkseed does not understand.
    """
    if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
        return {}
    definitions: dict[int, tuple[Deferred, ...]] = {}
    query = compose(
        "SELECT run, definition::text AS definition FROM {table} "
        "WHERE rebuilt_at IS NULL AND ($1::bigint[] IS NULL OR run = ANY ($1)) ORDER BY run, place",
        table=table,
    )
    for row in await connection.fetch(query, None if runs is None else list(runs)):
        try:
            definition = Deferred.from_json(row["definition"])
        except (TypeError, ValueError) as error:
            raise TargetError(
                f"an index or key that run {row['run']} has dropped cannot be read from {table} ({error}): "
                "use a newer bulkseed if one made it, or restore it if it was changed by hand",
                code="unreadable-run",
            ) from error
        definitions[row["run"]] = (*definitions.get(row["run"], ()), definition)
    return definitions


async def mark_rebuilt(connection: Connection, table: SQL, run: int, deferred: Iterable[Deferred]) -> None:
    """Record that these definitions of a run are in place again. The caller commits."""
    await connection.execute(
        compose(
            "UPDATE {table} SET rebuilt_at = clock_timestamp() "
            "WHERE run = $1 AND rebuilt_at IS NULL AND definition = ANY ($2::text[]::jsonb[])",
            table=table,
        ),
        run,
        [definition.to_json() for definition in deferred],
    )


async def forget_rebuilt(connection: Connection, table: SQL, run: int) -> None:
    """Delete the definitions of a run that are in place again, where ``table`` exists."""
    if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
        await connection.execute(
            compose("DELETE FROM {table} WHERE run = $1 AND rebuilt_at IS NOT NULL", table=table), run
        )


OWNERS: Final = """
SELECT n.name, quote_ident(pg_get_userbyid(c.relowner)) AS owner
FROM unnest($1::text[]) AS n (name) JOIN pg_class AS c ON c.oid = to_regclass(n.name)
WHERE NOT pg_has_role(c.relowner, 'USAGE') ORDER BY n.name
"""


async def find_foreign_owners(connection: Connection, deferred: Sequence[Deferred]) -> dict[str, str]:
    """Return the existing tables whose indexes and keys the user may not rebuild, with the owners (quoted names).

    Raises the errors of asyncpg.
    """
    tables = sorted({definition.table for definition in deferred})
    return {row["name"]: row["owner"] for row in await connection.fetch(OWNERS, tables)}
