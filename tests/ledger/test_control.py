"""The control connection: errors of the server during a block that keeps it alive."""

from __future__ import annotations

import asyncpg

from bulkseed.errors import RunError
from bulkseed.ledger.control import Control, open_control
from bulkseed.listeners import NullListener
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import translate_errors
from bulkseed.postgres.transaction import RetryPolicy
from support.errors import raises


async def divide_by_zero(control: Control) -> None:
    async with control.held():
        with translate_errors(control.connection, "dividing"):
            await control.connection.execute("SELECT 1 / 0")


async def test_an_error_in_the_block_keeps_that_of_the_server_as_its_cause(database: Address) -> None:
    async with open_control(database, RetryPolicy(), NullListener()) as control:
        with raises("server-error", kind=RunError) as caught:
            await divide_by_zero(control)
    assert isinstance(caught.value.__cause__, asyncpg.DivisionByZeroError)
