"""The tables to fill, the built-in five and further ones: columns, references, stages and the app's names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal, get_args

from bulkseed.plan.scenario import PluginTable, Scenario
from bulkseed.sql import SQL, identifier

__all__ = [
    "CATALOGUE",
    "ROOTS",
    "STAGES",
    "TABLES",
    "TABLE_NAMES",
    "WITH_IDS",
    "Column",
    "Kind",
    "Model",
    "Names",
    "Root",
    "Stage",
    "Table",
]

Kind = Literal["integer", "text", "boolean", "timestamp", "any"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column that bulkseed fills: the kind of its values, and the characters of the longest one (None: no limit).

    ``kind`` is ``any`` where only the code that generates the rows knows the kind. An ``optional`` column is filled
    only where a scenario names the app's column for it.
    """

    name: str
    kind: Kind = "any"
    longest: int | None = None
    nullable: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table that bulkseed fills.

    ``serial`` is the column whose ids come from the table's sequence. The rows are generated with those of the table
    that it ``follows``. ``references`` are pairs of a column that holds ids and the table that they are ids of, also
    where a schema declares no foreign key; in a table without ``serial``, the first one tells which run a row belongs
    to. ``unique`` are the sets of columns, beside the key, whose values no two rows share.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    serial: str | None = None
    follows: str | None = None
    references: tuple[tuple[str, str], ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()

    @property
    def holds(self) -> dict[str, str]:
        """The columns that hold ids, each with the table that they are ids of; the table's own ids are included."""
        own = {} if self.serial is None else {self.serial: self.name}
        return dict(self.references) | own

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of the columns, in the order of a batch."""
        return tuple(column.name for column in self.columns)


def timestamp(name: str) -> Column:
    return Column(name, "timestamp")


def integer(name: str, *, nullable: bool = False) -> Column:
    return Column(name, "integer", nullable=nullable)


TABLES: Final = (
    Table(
        "users",
        (
            integer("id"),
            Column("auth0_id", "text", 42),
            Column("email", "text", 80),
            Column("is_active", "boolean"),
            timestamp("created_at"),
            Column("name", "text", 120),
            Column("picture", "text", 80),
            Column("bio", "text", 200),
        ),
        key=("id",),
        serial="id",
        unique=(("auth0_id",), ("email",)),
    ),
    Table(
        "channels",
        (
            integer("id"),
            Column("name", "text", 120),
            Column("description", "text", 100, nullable=True),
            integer("owner_id"),
            timestamp("created_at"),
            Column("is_private", "boolean"),
            Column("is_dm", "boolean"),
            Column("join_code", "text", 8, nullable=True),
        ),
        key=("id",),
        serial="id",
        references=(("owner_id", "users"),),
        unique=(("join_code",),),
    ),
    Table(
        "user_channels",
        (integer("user_id"), integer("channel_id"), Column("joined", "timestamp", optional=True)),
        key=("user_id", "channel_id"),
        follows="channels",
        references=(("channel_id", "channels"), ("user_id", "users")),
    ),
    Table(
        "messages",
        (
            integer("id"),
            Column("content", "text"),
            timestamp("created_at"),
            timestamp("updated_at"),
            integer("user_id"),
            integer("channel_id"),
            integer("parent_id", nullable=True),
        ),
        key=("id",),
        serial="id",
        references=(("user_id", "users"), ("channel_id", "channels"), ("parent_id", "messages")),
    ),
    Table(
        "message_reactions",
        (integer("message_id"), integer("reaction_id"), integer("user_id"), timestamp("created_at")),
        key=("message_id", "reaction_id", "user_id"),
        follows="messages",
        references=(("message_id", "messages"), ("reaction_id", "reactions"), ("user_id", "users")),
    ),
)
"""The built-in tables; a table comes after those that its rows reference."""

WITH_IDS: Final = tuple(table.name for table in TABLES if table.serial is not None)
"""The built-in tables whose rows have ids of their own, which other tables reference."""

TABLE_NAMES: Final = tuple(table.name for table in TABLES)

CATALOGUE: Final = Table(
    "reactions",
    (integer("id"), Column("is_system", "boolean")),
    key=("id",),
    serial="id",
)
"""The catalogue of reactions, which a load reads and never writes (rule R0)."""


Root = Literal["users", "channels", "messages"]
ROOTS: Final[tuple[Root, ...]] = get_args(Root)
"""The tables that follow no other: with their rows those of all other tables are generated."""

Stage = Literal[Root, "late"]
STAGES: Final[tuple[Stage, ...]] = (*ROOTS, "late")
"""In the order in which they are loaded."""


@dataclass(frozen=True)
class Model:
    """The tables of a scenario, by bulkseed's own names.

    :meth:`name` and :meth:`column` return the app's names as plain text, which is not SQL: a statement needs the
    quoted names of :attr:`sql_names` or of :class:`Names`.
    """

    scenario: Scenario

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """The tables to fill, with the columns that the app has, in dependency order."""
        return tuple(self.with_columns_of_app(table) for table in self.all_tables() if self.has(table.name))

    @cached_property
    def by_name(self) -> Mapping[str, Table]:
        """The tables to fill and the catalogue, if any, by name."""
        return {table.name: table for table in (*self.tables, *filter(None, [self.catalogue]))}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tables to fill."""
        return tuple(table.name for table in self.tables)

    @property
    def catalogue(self) -> Table | None:
        """The catalogue of reactions; None where the app has no reactions."""
        return self.with_columns_of_app(CATALOGUE) if self.has("message_reactions") else None

    @cached_property
    def extras(self) -> Mapping[str, PluginTable]:
        """The descriptions of the tables beyond the built-in five, by name."""
        return {extra.name: extra for extra in self.scenario.extras}

    def has(self, table: str) -> bool:
        """Return whether the app has the table, which is None in the scenario where it does not."""
        return self.scenario.tables.get(table, table) is not None

    def name(self, table: str) -> str:
        """Return the app's name of the table: plain text, not SQL."""
        return self.scenario.tables.get(table) or table

    def column(self, table: str, column: str) -> str:
        """Return the app's name of the column: plain text, not SQL."""
        return self.scenario.columns.get(table, {}).get(column) or column

    def is_needed(self, table: str, column: str) -> bool:
        """Return whether bulkseed identifies the rows of the table by the column, so that it cannot be left out."""
        known = self.by_name[table]
        if extra := self.extras.get(table):
            return column in extra.key or column in dict(extra.references)
        return column == known.serial or column in dict(known.references).keys() - {"owner_id", "parent_id"}

    def field_source(self, table: str, column: str) -> str:
        """Return the name in batches of the column that a field fills: the app's, unless the generators use it."""
        generated = next(known.column_names for known in self.all_tables() if known.name == table)
        return f"fields.{column}" if column in generated else column

    def stage(self, table: str) -> Stage:
        """Return the stage of a load in which the rows of the table are generated."""
        if table in self.extras and self.extras[table].late:
            return "late"
        return self.root(table)

    def root(self, table: str) -> Root:
        """Return the table at the end of the chain of ``follows``."""
        follows = next(known.follows for known in self.all_tables() if known.name == table)
        return next(root for root in ROOTS if root == table) if follows is None else self.root(follows)

    @property
    def sql_names(self) -> Mapping[str, SQL]:
        """The SQL names of the tables to fill: quoted, and qualified where the scenario names a schema."""
        schema = self.scenario.schema
        return {
            name: identifier(self.name(name)) if schema is None else identifier(schema, self.name(name))
            for name in self.names
        }

    def references(self) -> Iterator[tuple[str, str, str]]:
        """Yield each reference by id: a table to fill, its column, and the table that the column holds ids of."""
        for table in self.tables:
            for column, parent in table.references:
                if column in table.column_names and parent in self.by_name:
                    yield table.name, column, parent

    def belonging(self, table: str) -> tuple[str, str]:
        """Return the column that tells which run a row of the table belongs to, and the table that it holds ids of."""
        known = self.by_name[table]
        if known.serial is not None:
            return known.serial, table
        return known.references[0]

    def all_tables(self) -> Iterator[Table]:
        """Yield the built-in tables and the further ones in dependency order, whether the app has them or not."""
        remaining = list(self.scenario.extras)
        yielded = set()
        for table in TABLES:
            yield table
            yielded.add(table.name)

        def order(extra: PluginTable) -> tuple[bool, bool]:
            return extra.follows not in yielded, not yielded.issuperset(referenced_tables(extra))

        while remaining:
            # tables whose references are all yielded come first; in a cycle of references any table may come first
            extra = min(remaining, key=order)
            remaining.remove(extra)
            yielded.add(extra.name)
            yield table_of(extra)

    def with_columns_of_app(self, table: Table) -> Table:
        named = self.scenario.columns.get(table.name, {})
        missing = {column for column, name in named.items() if name is None}
        missing |= {column.name for column in table.columns if column.optional and column.name not in named}
        return replace(table, columns=tuple(column for column in table.columns if column.name not in missing))


@dataclass(frozen=True)
class Names:
    """The SQL names of a model's tables and columns: quoted; tables are qualified with their schema."""

    schema: str
    model: Model

    def sql_name(self, table: str) -> SQL:
        """Return the qualified name of the table."""
        return identifier(self.schema, self.model.name(table))

    def sql_column(self, table: str, column: str) -> SQL:
        """Return the name of the column, without its table."""
        return identifier(self.model.column(table, column))

    def sql_tables(self) -> list[SQL]:
        """Return the qualified names of all tables to fill, in dependency order."""
        return [self.sql_name(table) for table in self.model.names]


def referenced_tables(extra: PluginTable) -> set[str]:
    return {extra.follows, *dict(extra.references).values()} - {extra.name}


def table_of(extra: PluginTable) -> Table:
    return Table(
        extra.name,
        tuple(Column(name, "integer" if name in dict(extra.references) else "any") for name in extra.columns),
        key=extra.key,
        follows=extra.follows,
        references=extra.references,
    )
