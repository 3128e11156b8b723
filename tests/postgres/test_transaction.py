"""Transactions of ours."""

from __future__ import annotations

import anyio

from bulkseed.postgres.connection import Connection
from bulkseed.postgres.transaction import safe_transaction


async def test_a_begin_that_is_cut_off_leaves_no_transaction(connection: Connection) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with safe_transaction(connection):
            raise AssertionError
    assert connection.is_closed()
