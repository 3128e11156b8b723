"""Creation of the reference tables and of the catalogue of reactions where a database lacks them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import asyncpg

from bulkseed.errors import DiskFullError, RunError, TargetError, TransientError
from bulkseed.listeners import NullListener, ProgressListener
from bulkseed.plan.tables import CATALOGUE, TABLE_NAMES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection, server_message, translate_errors
from bulkseed.postgres.transaction import transaction
from bulkseed.sql import compose, identifier

__all__ = ["TABLE_KINDS", "create_in_transaction", "create_missing", "describe_kind"]

TABLE_KINDS: Final = {"r", "p"}
"""The values of ``pg_class.relkind`` for tables and partitioned tables."""

OTHERS: Final = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
    "c": "a type",
    "i": "an index",
    "I": "an index",
}

STATEMENTS: Final = Path(__file__).with_suffix(".sql")
ROWS: Final = "catalogue"
"""The name of the rows of the catalogue in :data:`STATEMENTS`; the tables have their own names there."""

RELATIONS: Final = """
SELECT name, relkind::text AS kind FROM unnest($1::text[]) AS name JOIN pg_class AS c ON c.oid = to_regclass(name)
"""
"""The relations that the search_path finds by the names of the tables, in whichever schema."""

HAS_SYSTEM: Final = compose(
    "SELECT EXISTS (SELECT FROM {reactions} WHERE {reactions}.is_system)", reactions=identifier(CATALOGUE.name)
)


def describe_kind(kind: str) -> str:
    """Return the kind of a relation other than a table as text, by ``pg_class.relkind``: ``a view``."""
    return OTHERS.get(kind, "a relation of another kind")


async def create_missing(address: Address, *, listener: ProgressListener | None = None) -> list[str]:
    """Create the missing reference tables and catalogue rows, and return a description of each.

    A table is created with its indexes; existing tables are not changed, so that a second call does nothing. Concurrent
    calls wait for each other, and a failure leaves nothing behind. Raises ConnectError, ConnectionLostError,
    TransientError, DiskFullError, and TargetError where the existing tables do not fit the missing ones, or the user
    lacks a privilege.
    """
    async with open_connection(address) as connection:
        if not await find_missing(connection, address):
            return []
        # most databases have the tables, and the ledger takes NumPy along
        from bulkseed.ledger import acquire_load_lock  # noqa: PLC0415

        await acquire_load_lock(connection, listener or NullListener())
        async with transaction(connection):
            return await create_in_transaction(connection, address)


async def create_in_transaction(connection: Connection, address: Address) -> list[str]:
    """Do the same as :func:`create_missing` in the caller's transaction."""
    return await create(connection, address, await find_missing(connection, address))


async def find_missing(connection: Connection, address: Address) -> set[str]:
    """Return the names, as in :func:`read_statements`, of the missing tables and rows. Raises TargetError."""
    names = [*TABLE_NAMES, CATALOGUE.name]
    problem = f"the tables at {address.server} cannot be read"
    with translate_refusals(connection, "unreadable-tables", problem, "correct them, or grant the user the privilege"):
        kinds = {row["name"]: row["kind"] for row in await connection.fetch(RELATIONS, names)}
        if others := {name: kind for name, kind in sorted(kinds.items()) if kind not in TABLE_KINDS}:
            raise TargetError(
                "\n".join(
                    f"the relation {name} is {describe_kind(kind)} and not a table: drop or rename it"
                    for name, kind in others.items()
                ),
                code="not-a-table",
            )
        absent = {name for name in names if name not in kinds}
        if CATALOGUE.name in absent or not await connection.fetchval(HAS_SYSTEM):
            absent.add(ROWS)
        return absent


async def create(connection: Connection, address: Address, missing: set[str]) -> list[str]:
    """Create the ``missing`` tables and rows in the caller's transaction, and return a description of each."""
    created = []
    problem = f"the reference tables cannot be created at {address.server}"
    with translate_refusals(
        connection,
        "cannot-create-tables",
        problem,
        "grant the user the privilege, or create the tables with your migrations",
    ):
        for name, statements in read_statements().items():
            if name not in missing:
                continue
            tag = await connection.execute(statements)
            if name != ROWS:
                created.append(f"table {name}")
                continue
            rows = int(tag.split()[-1])  # of "INSERT 0 12"
            if not rows:
                raise TargetError(
                    f"the catalogue {CATALOGUE.name} has all the usual codes, but no row with is_system true: "
                    "set is_system on those that messages may get",
                    code="no-system-reactions",
                )
            created.append(f"{rows} reactions in the catalogue")
    return created


def read_statements() -> dict[str, str]:
    """Return the statements of reference_schema.sql, in its order, by the names in its "-- make NAME" lines."""
    parts = STATEMENTS.read_text("utf-8").split("\n-- make ")[1:]
    return {name: statements for name, _, statements in (part.partition("\n") for part in parts)}


@contextmanager
def translate_refusals(connection: Connection, code: str, problem: str, fix: str) -> Iterator[None]:
    """Translate errors as :func:`translate_errors`, with a TargetError of this ``code`` for lasting refusals."""
    try:
        with translate_errors(connection, "making the reference tables"):
            yield
    except (TransientError, DiskFullError):
        raise
    except RunError as error:
        reason = server_message(error.__cause__) if isinstance(error.__cause__, asyncpg.PostgresError) else str(error)
        raise TargetError(f"{problem} ({reason}): {fix}", code=code) from error
