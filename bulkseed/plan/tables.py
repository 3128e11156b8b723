"""The five tables of rules.md with their columns, in dependency order, as bulkseed calls them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["CATALOGUE", "TABLES", "TABLE_NAMES", "WITH_IDS", "Column", "Kind", "Table"]

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
