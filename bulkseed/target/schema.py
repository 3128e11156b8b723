"""The reference schema: the tables of rules.md as SQLAlchemy metadata, and the catalogue of reactions."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    inspect,
    select,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from bulkseed.errors import TargetError

__all__ = ["METADATA", "REACTION_CODES", "create_missing", "missing"]

METADATA: Final = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)

REACTION_CODES: Final = (
    "thumbs_up",
    "thumbs_down",
    "heart",
    "joy",
    "tada",
    "eyes",
    "fire",
    "rocket",
    "pray",
    "clap",
    "thinking",
    "check",
)
"""The system reactions that ``init`` puts into an empty catalogue."""

SYSTEM_REACTIONS: Final = f"{len(REACTION_CODES)} reactions in the catalogue"


def key() -> Column[int]:
    return Column("id", BigInteger, Identity(), primary_key=True)


def moment(name: str) -> Column[object]:
    return Column(name, DateTime, nullable=False)


def reference(name: str, target: str, *, index: bool = False, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, ForeignKey(f"{target}.id"), nullable=nullable, index=index)


Table(
    "users",
    METADATA,
    key(),
    Column("auth0_id", String(64), nullable=False, unique=True),
    Column("email", String(255), nullable=False, unique=True),
    Column("is_active", Boolean, nullable=False),
    moment("created_at"),
    Column("name", String(255), nullable=False),
    Column("picture", String(255)),
    Column("bio", String(200)),
)
Table(
    "channels",
    METADATA,
    key(),
    Column("name", String(255), nullable=False),
    Column("description", String(100)),
    reference("owner_id", "users", index=True),
    moment("created_at"),
    Column("is_private", Boolean, nullable=False),
    Column("is_dm", Boolean, nullable=False),
    Column("join_code", String(8), unique=True),
)
Table(
    "user_channels",
    METADATA,
    reference("user_id", "users"),
    reference("channel_id", "channels", index=True),
    PrimaryKeyConstraint("user_id", "channel_id"),
)
MESSAGES: Final = Table(
    "messages",
    METADATA,
    key(),
    Column("content", Text, nullable=False),
    moment("created_at"),
    moment("updated_at"),
    reference("user_id", "users", index=True),
    reference("channel_id", "channels"),
    reference("parent_id", "messages", nullable=True),
    Index(None, "channel_id", "created_at"),
)
Index(None, MESSAGES.c.parent_id, postgresql_where=MESSAGES.c.parent_id.is_not(None))
REACTIONS: Final = Table(
    "reactions",
    METADATA,
    key(),
    Column("code", String(32), nullable=False, unique=True),
    Column("is_system", Boolean, nullable=False),
)
Table(
    "message_reactions",
    METADATA,
    reference("message_id", "messages"),
    reference("reaction_id", "reactions"),
    reference("user_id", "users", index=True),
    moment("created_at"),
    PrimaryKeyConstraint("message_id", "reaction_id", "user_id"),
)


async def missing(connection: AsyncConnection) -> list[str]:
    """What :func:`create_missing` would make, in words. Raises TargetError where a view has the name of a table."""
    views = await connection.run_sync(
        lambda sync: {*inspect(sync).get_view_names(), *inspect(sync).get_materialized_view_names()}
    )
    if named := views.intersection(METADATA.tables):
        raise TargetError(f"{', '.join(sorted(named))} should be a table, and is a view: drop or rename it")
    there = set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))
    found = [f"table {table.name}" for table in METADATA.sorted_tables if table.name not in there]
    has_system = select(REACTIONS.c.is_system).where(REACTIONS.c.is_system).limit(1)
    if REACTIONS.name not in there or (await connection.execute(has_system)).first() is None:
        found.append(SYSTEM_REACTIONS)
    return found


async def create_missing(connection: AsyncConnection) -> list[str]:
    """Make the tables that are missing, and the catalogue where no system reaction is in it.

    Nothing that is there is changed; returns what was made, in words. The caller commits.
    """
    wanted = await missing(connection)
    await connection.run_sync(METADATA.create_all)
    if SYSTEM_REACTIONS in wanted:
        rows = [{"code": code, "is_system": True} for code in REACTION_CODES]
        result = await connection.execute(insert(REACTIONS).on_conflict_do_nothing().returning(REACTIONS.c.id), rows)
        if not result.all():
            raise TargetError(
                "the catalogue reactions has all the usual codes, but no row with is_system true: "
                "set is_system on those that messages may get"
            )
    return wanted
