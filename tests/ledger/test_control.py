"""The control connection: errors of the server during a block that keeps it alive; and waits for the ledger."""

from __future__ import annotations

import asyncpg
import pytest

from bulkseed.errors import RunError, TransientError
from bulkseed.ledger import Ledger, limit_wait, read_runs, share_run
from bulkseed.ledger.control import Control, open_control
from bulkseed.listeners import NullListener
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection, translate_errors
from bulkseed.postgres.transaction import RetryPolicy, transaction
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


async def test_a_wait_for_the_ledger_is_limited_and_names_who_holds_it(
    seeded: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkseed.ledger.locks.WRITE_SECONDS", 1)
    ledger = Ledger()
    async with open_connection(seeded) as holder, open_connection(seeded) as waiting:
        (run,) = await read_runs(waiting, ledger)
        await holder.execute("BEGIN; LOCK TABLE bulkseed.runs IN EXCLUSIVE MODE")
        with raises("ledger-locked", holder.get_server_pid(), kind=TransientError):
            async with transaction(waiting), limit_wait(waiting, ledger):
                await share_run(waiting, ledger, run.claim)
        await holder.execute("ROLLBACK")
        async with transaction(waiting), limit_wait(waiting, ledger):
            pass
        async with transaction(waiting):
            assert await waiting.fetchval("SHOW lock_timeout") == "0"
