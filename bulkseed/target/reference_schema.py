"""The reference tables and the catalogue of reactions: what a database lacks of them is made, in plain SQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import asyncpg

from bulkseed.errors import DiskFull, RunError, TargetError, TransientError
from bulkseed.ledger import acquire_load_lock
from bulkseed.listeners import NullListener, ProgressListener
from bulkseed.plan.tables import CATALOGUE, TABLE_NAMES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, connected, server_message, translate_errors
from bulkseed.postgres.transaction import transaction

__all__ = ["create_missing"]

STATEMENTS: Final = Path(__file__).with_suffix(".sql")
ROWS: Final = "catalogue"
"""What :data:`STATEMENTS` calls the rows of the catalogue; tables have their own names there."""

RELATIONS: Final = """
SELECT name, relkind::text AS kind FROM unnest($1::text[]) AS name JOIN pg_class AS c ON c.oid = to_regclass(name)
"""
"""What the search_path finds by the names of tables, whichever schema it is in."""

HAS_SYSTEM: Final = f"SELECT EXISTS (SELECT FROM {CATALOGUE.name} WHERE {CATALOGUE.name}.is_system)"

OTHERS: Final = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "c": "a type"}
"""Of ``pg_class.relkind``, what else than a table can have the name of one; the rest are indexes."""


async def create_missing(address: Address, *, listener: ProgressListener | None = None) -> list[str]:
    """Make what is missing of the reference tables and the catalogue; returns what was made, in words.

    A table is made with its indexes; what is there stays as it is, so twice is once. Two at a time take turns, and what
    fails leaves nothing behind. Raises ConnectError, ConnectionLost, TransientError, DiskFull, and TargetError where
    the tables that are there do not go with those that are missing, or the login may not read or make them.
    """
    async with connected(address) as connection:
        if not await missing(connection, address):
            return []
        await acquire_load_lock(connection, listener or NullListener())
        async with transaction(connection):
            return await make(connection, address, await missing(connection, address))


async def missing(connection: Connection, address: Address) -> set[str]:
    """What is to be made, as :func:`read_statements` names it."""
    names = [*TABLE_NAMES, CATALOGUE.name]
    problem = f"the tables at {address.server} cannot be read"
    with refused(connection, problem, "correct them, or grant this login what it lacks"):
        kinds = {row["name"]: row["kind"] for row in await connection.fetch(RELATIONS, names)}
        if others := {name: kind for name, kind in sorted(kinds.items()) if kind not in {"r", "p"}}:
            raise TargetError(
                "; ".join(
                    f"{name} should be a table, and is {OTHERS.get(kind, 'an index')}: drop or rename it"
                    for name, kind in others.items()
                )
            )
        absent = {name for name in names if name not in kinds}
        if CATALOGUE.name in absent or not await connection.fetchval(HAS_SYSTEM):
            absent.add(ROWS)
        return absent


async def make(connection: Connection, address: Address, wanted: set[str]) -> list[str]:
    """Make what is ``wanted``, in a transaction of the caller's; returns what was made, in words."""
    made = []
    problem = f"the reference tables cannot be made at {address.server}"
    with refused(connection, problem, "grant the login what it lacks, or make the tables with your migrations"):
        for name, statements in read_statements().items():
            if name not in wanted:
                continue
            done = await connection.execute(statements)
            if name != ROWS:
                made.append(f"table {name}")
                continue
            rows = int(done.split()[-1])  # of "INSERT 0 12"
            if not rows:
                raise TargetError(
                    f"the catalogue {CATALOGUE.name} has all the usual codes, but no row with is_system true: "
                    "set is_system on those that messages may get"
                )
            made.append(f"{rows} reactions in the catalogue")
    return made


def read_statements() -> dict[str, str]:
    """The statements of reference_schema.sql, in its order, by what each "-- make NAME" line names."""
    parts = STATEMENTS.read_text("utf-8").split("\n-- make ")[1:]
    return {name: statements for name, _, statements in (part.partition("\n") for part in parts)}


@contextmanager
def refused(connection: Connection, problem: str, mend: str) -> Iterator[None]:
    """As :func:`translate_errors`, with a TargetError for what the server refuses whenever it is asked."""
    try:
        with translate_errors(connection, "making the reference tables"):
            yield
    except (TransientError, DiskFull):
        raise
    except RunError as error:
        said = server_message(error.__cause__) if isinstance(error.__cause__, asyncpg.PostgresError) else str(error)
        raise TargetError(f"{problem} ({said}): {mend}") from error
