"""The indexes and keys of a database: captured as for a deferred load, and the reasons of those that stay."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from bulkseed.deferral import capture
from bulkseed.deferral.definitions import Captured
from bulkseed.plan.tables import TABLE_NAMES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection

Connect = Callable[[], AbstractAsyncContextManager[Connection]]


def connector(address: Address) -> Connect:
    """Return a function that connects to the database."""
    return lambda: open_connection(address)


async def read(connection: Connection, *tables: str) -> Captured:
    """Capture the indexes and keys of tables in the schema public; those of bulkseed's five without ``tables``."""
    return await capture(connection, "public", tables or TABLE_NAMES)


def stays(captured: Captured) -> dict[str, str]:
    """Return the reasons of the indexes and constraints that stay, by name."""
    return {kept.name: kept.reason for kept in captured.kept}
