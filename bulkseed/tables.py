"""The tables that bulkseed fills, with the columns that rules.md names, in dependency order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["BY_RULES", "CATALOGUE", "TABLES", "TABLE_NAMES", "Column", "Kind", "Table"]

Kind = Literal["integer", "text", "boolean", "timestamp"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column that bulkseed fills: its kind of value, and the most characters that it needs (None: any)."""

    name: str
    kind: Kind
    longest: int | None = None
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table that bulkseed fills. ``serial`` is the column whose ids the table's own sequence hands out."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    serial: str | None = None

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
    ),
    Table(
        "user_channels",
        (integer("user_id"), integer("channel_id")),
        key=("user_id", "channel_id"),
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
    ),
    Table(
        "message_reactions",
        (integer("message_id"), integer("reaction_id"), integer("user_id"), timestamp("created_at")),
        key=("message_id", "reaction_id", "user_id"),
    ),
)
"""Every table that a load fills; a table comes after those that its rows point at."""

TABLE_NAMES: Final = tuple(table.name for table in TABLES)

CATALOGUE: Final = Table(
    "reactions",
    (integer("id"), Column("is_system", "boolean")),
    key=("id",),
    serial="id",
)
"""The catalogue of reactions: read by a load, never written (rule R0)."""

BY_RULES: Final = (
    ("channels", "owner_id", "users"),
    ("user_channels", "user_id", "users"),
    ("user_channels", "channel_id", "channels"),
    ("messages", "user_id", "users"),
    ("messages", "channel_id", "channels"),
    ("messages", "parent_id", "messages"),
    ("message_reactions", "message_id", "messages"),
    ("message_reactions", "user_id", "users"),
)
"""What points at what among the tables of a load, by id: also in a schema that does not declare it."""
