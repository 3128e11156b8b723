"""The tables to fill: the five of the rules and further ones, with columns, references, stages and the app's names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal

from bulkseed.plan.scenario import PluginTable, Scenario
from bulkseed.sql import SQL, identifier

__all__ = ["CATALOGUE", "TABLES", "TABLE_NAMES", "WITH_IDS", "Column", "Kind", "Model", "Names", "Stage", "Table"]

Kind = Literal["integer", "text", "boolean", "timestamp", "any"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column that bulkseed fills: its kind of value, and the most characters that it needs (None: any).

    ``kind`` is ``any`` where only the code that makes the rows knows.
    """

    name: str
    kind: Kind = "any"
    longest: int | None = None
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table that bulkseed fills. ``serial`` is the column whose ids the table's own sequence hands out.

    ``follows`` is the table beside whose rows its own are made. ``references`` are its columns that hold ids of other
    tables, with those: also in a schema that declares no foreign key. A table without ``serial`` has rows of the run to
    which the first of them leads. ``unique`` are sets of columns in which no two rows agree, beside the key.
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
        """The tables whose ids columns hold, its own among them, by column."""
        own = {} if self.serial is None else {self.serial: self.name}
        return dict(self.references) | own

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of the columns, in the order of a batch's."""
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
        (integer("user_id"), integer("channel_id")),
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
        follows="channels",
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
"""Every table that a load fills; a table comes after those that its rows point at."""

WITH_IDS: Final = tuple(table.name for table in TABLES if table.serial is not None)
"""Those whose rows have ids of their own, at which others point."""

TABLE_NAMES: Final = tuple(table.name for table in TABLES)

CATALOGUE: Final = Table(
    "reactions",
    (integer("id"), Column("is_system", "boolean")),
    key=("id",),
    serial="id",
)
"""The catalogue of reactions: read by a load, never written (rule R0)."""


Stage = Literal["users", "channels", "late"]


@dataclass(frozen=True)
class Model:
    """The tables of a scenario. All names are bulkseed's own, but for what name() and column() give."""

    scenario: Scenario

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """The tables to fill with the columns that the app has, in dependency order."""
        return tuple(self.kept(table) for table in self.all_tables() if self.has(table.name))

    @cached_property
    def by_name(self) -> Mapping[str, Table]:
        """The tables to fill, and the catalogue where there is one."""
        return {table.name: table for table in (*self.tables, *filter(None, [self.catalogue]))}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tables to fill."""
        return tuple(table.name for table in self.tables)

    @property
    def catalogue(self) -> Table | None:
        """The catalogue of reactions; None where no table has any."""
        return self.kept(CATALOGUE) if self.has("message_reactions") else None

    @cached_property
    def extras(self) -> Mapping[str, PluginTable]:
        """What is known of the tables beyond the built-in five, by name."""
        return {extra.name: extra for extra in self.scenario.extras}

    def has(self, table: str) -> bool:
        """Whether the app has the table; it is None in the scenario where not."""
        return self.scenario.tables.get(table, table) is not None

    def name(self, table: str) -> str:
        """What the app calls the table."""
        return self.scenario.tables.get(table) or table

    def column(self, table: str, column: str) -> str:
        """What the app calls the column."""
        return self.scenario.columns.get(table, {}).get(column) or column

    def stage(self, table: str) -> Stage:
        """The stage of a load in which its rows are made: with the users, with the channels, or late."""
        if table in self.extras and self.extras[table].late:
            return "late"
        return "users" if self.root(table) == "users" else "channels"

    def root(self, table: str) -> str:
        """The table that is followed at last: ``users`` or ``channels``."""
        follows = next(each.follows for each in self.all_tables() if each.name == table)
        return table if follows is None else self.root(follows)

    @property
    def sql_names(self) -> Mapping[str, str]:
        """The tables to fill as a connection finds them: qualified where the scenario names a schema."""
        schema = self.scenario.schema
        return {
            name: identifier(self.name(name)) if schema is None else identifier(schema, self.name(name))
            for name in self.names
        }

    def references(self) -> Iterator[tuple[str, str, str]]:
        """What points at what by id: a table that is filled, its column, the table that it holds ids of."""
        for table in self.tables:
            for column, parent in table.references:
                if column in table.column_names and parent in self.by_name:
                    yield table.name, column, parent

    def belonging(self, table: str) -> tuple[str, str]:
        """The column by which a row of the table is a run's, and the table whose id that is."""
        found = self.by_name[table]
        if found.serial is not None:
            return found.serial, table
        return found.references[0]

    def all_tables(self) -> Iterator[Table]:
        left = list(self.scenario.extras)
        placed = set()
        for table in TABLES:
            yield table
            placed.add(table.name)
        while left:
            # first those whose rows have all that they point at; with a circle of keys one must be the first
            extra = min(left, key=lambda each: (each.follows not in placed, not placed.issuperset(wanted_by(each))))
            left.remove(extra)
            placed.add(extra.name)
            yield table_of(extra)

    def kept(self, table: Table) -> Table:
        lacking = {name for name, there in self.scenario.columns.get(table.name, {}).items() if there is None}
        return replace(table, columns=tuple(each for each in table.columns if each.name not in lacking))


@dataclass(frozen=True)
class Names:
    """What the tables and columns of a model are called in SQL: quoted, and tables qualified with their schema."""

    schema: str
    model: Model

    def name(self, table: str) -> SQL:
        """The table."""
        return identifier(self.schema, self.model.name(table))

    def column(self, table: str, column: str) -> SQL:
        """The column, without its table."""
        return identifier(self.model.column(table, column))

    def tables(self) -> list[SQL]:
        """All tables that are filled, in dependency order."""
        return [self.name(table) for table in self.model.names]


def wanted_by(extra: PluginTable) -> set[str]:
    return {extra.follows, *dict(extra.references).values()} - {extra.name}


def table_of(extra: PluginTable) -> Table:
    return Table(
        extra.name,
        tuple(Column(name, "integer" if name in dict(extra.references) else "any") for name in extra.columns),
        key=extra.key,
        follows=extra.follows,
        references=extra.references,
    )
