"""Commands that meet locks on the ledger: they wait for a limited time, and name who holds them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from bulkseed.cleaner.cleanup import cleanup, find_removable_runs
from bulkseed.errors import BulkseedError, TransientError
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.postgres.transaction import RetryPolicy
from bulkseed.verifier.verify import verify
from support.errors import raises
from support.plans import plan_of
from support.queries import digest


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulkseed.ledger.runs.READ_SECONDS", 1)
    monkeypatch.setattr("bulkseed.ledger.claims.WRITE_SECONDS", 3)
    monkeypatch.setattr("bulkseed.ledger.locks.WRITE_SECONDS", 1)


@pytest.mark.parametrize("command", ["list", "verify", "cleanup", "load"])
async def test_the_holder_of_a_locked_ledger_is_named(seeded: Address, command: str) -> None:
    before = await digest(seeded)
    async with open_connection(seeded) as holder:
        await holder.execute("BEGIN; LOCK TABLE bulkseed.runs")
        commands: dict[str, Callable[[], Awaitable[object]]] = {
            "list": lambda: find_removable_runs(seeded),
            "verify": lambda: verify(seeded),
            "cleanup": lambda: cleanup(seeded, [1]),
            "load": lambda: load(plan_of(), seeded, retry_policy=RetryPolicy(seconds=0)),
        }
        with raises("ledger-locked", holder.get_server_pid(), kind=BulkseedError):
            await commands[command]()
        await holder.execute("COMMIT")
    assert await digest(seeded) == before
    assert [run.number for run in await find_removable_runs(seeded)] == [1]


async def test_a_run_that_someone_holds_is_not_forgotten(seeded: Address) -> None:
    before = await digest(seeded)
    async with open_connection(seeded) as holder:
        await holder.execute("BEGIN; SELECT FROM bulkseed.runs FOR UPDATE")
        with raises("ledger-locked", holder.get_server_pid(), kind=TransientError):
            await cleanup(seeded, [1])
        await holder.execute("COMMIT")
    assert await digest(seeded) == before
    assert [run.number for run in await find_removable_runs(seeded)] == [1]
