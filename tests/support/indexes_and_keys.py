"""The indexes and keys of a database: read as for a deferred load, and which of them stay, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from bulkseed.deferral import capture
from bulkseed.deferral.definitions import Captured
from bulkseed.plan.tables import TABLE_NAMES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, connected

Connect = Callable[[], AbstractAsyncContextManager[Connection]]


def connector(address: Address) -> Connect:
    return lambda: connected(address)


async def read(connection: Connection, *tables: str) -> Captured:
    return await capture(connection, "public", tables or TABLE_NAMES)


def stays(captured: Captured) -> dict[str, str]:
    return {each.name: each.reason for each in captured.kept}
