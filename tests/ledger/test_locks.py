"""Commands that meet locks on the ledger: they wait for a limited time, and name who holds them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import asyncpg
import pytest

from bulkseed.cleaner.cleanup import cleanup, find_removable_runs
from bulkseed.errors import BulkseedError, StoppedError, TransientError
from bulkseed.ledger import Ledger, limit_wait
from bulkseed.ledger.runs import read_history
from bulkseed.ledger.tables import TABLES
from bulkseed.listeners import NullListener, Phase, Stop
from bulkseed.loader.check import check
from bulkseed.loader.load import load, resume
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.postgres.transaction import RetryPolicy
from bulkseed.verifier.verify import verify
from support.errors import raises
from support.listeners import Interfering
from support.plans import plan_of
from support.queries import digest

AT_ONCE = RetryPolicy(seconds=0)
LONGEST = 30
"""Seconds after which a command is said to wait for ever."""

COMMANDS: dict[str, Callable[[Address], Awaitable[object]]] = {
    "list": find_removable_runs,
    "runs": read_history,
    "verify": verify,
    "cleanup": lambda address: cleanup(address, [1]),
    "check": lambda address: check(plan_of(), address),
    "load": lambda address: load(plan_of(), address, retry_policy=AT_ONCE),
}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulkseed.ledger.locks.READ_SECONDS", 0.1)
    monkeypatch.setattr("bulkseed.ledger.locks.WRITE_SECONDS", 0.1)
    monkeypatch.setattr("bulkseed.ledger.claims.WRITE_SECONDS", 0.3)
    monkeypatch.setattr("bulkseed.ledger.claims.SECONDS_BEFORE_NOTE", 0.2)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("command", COMMANDS)
async def test_point_5_no_command_waits_for_ever_for_the_ledger(seeded: Address, command: str, table: str) -> None:
    async with open_connection(seeded) as holder:
        await holder.execute(f"BEGIN; LOCK TABLE bulkseed.{table}")
        if table == "deferred" and command in {"list", "runs", "verify"}:
            # they do not read the definitions of indexes and keys
            await COMMANDS[command](seeded)
            return
        before = await digest(seeded)
        with anyio.fail_after(LONGEST), raises("ledger-locked", holder.get_server_pid(), kind=BulkseedError):
            await COMMANDS[command](seeded)
        await holder.execute("COMMIT")
    assert await digest(seeded) == before
    assert [run.number for run in await find_removable_runs(seeded)] == [1]


@pytest.mark.parametrize("table", TABLES)
async def test_point_5_nor_does_resume(database: Address, table: str) -> None:
    stop = Stop()
    with suppress(StoppedError):
        await load(
            plan_of("3x"), database, listener=Interfering("messages", stop.asked.set), stop=stop, rows_per_shard=700
        )
    async with open_connection(database) as holder:
        await holder.execute(f"BEGIN; LOCK TABLE bulkseed.{table}")
        with anyio.fail_after(LONGEST), raises("ledger-locked", holder.get_server_pid(), kind=BulkseedError):
            await resume(database, retry_policy=AT_ONCE)
        await holder.execute("COMMIT")
    assert await resume(database) is not None
    assert [run.state for run in await read_history(database)] == ["whole"]


class Locker(NullListener):
    """Locks the ledger on a connection of its own when ``phase`` begins, if it can, until :meth:`release`."""

    def __init__(self, address: Address, phase: Phase) -> None:
        self.address, self.at = address, phase
        self.tried, self.released = threading.Event(), threading.Event()
        self.pid: int | None = None
        self.thread: threading.Thread | None = None

    def phase(self, phase: Phase, step: int = 0, steps: int | None = None) -> None:
        if phase == self.at and self.thread is None:
            self.thread = threading.Thread(target=lambda: asyncio.run(self.hold()))
            self.thread.start()
            assert self.tried.wait(10)

    async def hold(self) -> None:
        async with open_connection(self.address) as connection:
            tables = ", ".join(f"bulkseed.{table}" for table in TABLES)
            try:
                await connection.execute(f"BEGIN; SET LOCAL lock_timeout = '100ms'; LOCK TABLE {tables}")
                self.pid = connection.get_server_pid()
            except (asyncpg.LockNotAvailableError, asyncpg.UndefinedTableError):
                await connection.execute("ROLLBACK")
            self.tried.set()
            while not self.released.is_set():
                await asyncio.sleep(0.02)

    def release(self) -> None:
        self.released.set()
        if self.thread is not None:
            self.thread.join(10)


@pytest.mark.parametrize(
    ("command", "phase"),
    [
        *(("load", phase) for phase in (Phase.COPY, Phase.COMMIT)),
        *(("cleanup", phase) for phase in (Phase.FIND, Phase.REMOVE)),
    ],
)
async def test_point_5_nor_if_the_lock_comes_in_its_midst(seeded: Address, command: str, phase: Phase) -> None:
    before = await digest(seeded)
    locker = Locker(seeded, phase)
    options: dict[str, Any] = {"listener": locker}
    ended: BulkseedError | None = None
    try:
        with anyio.fail_after(LONGEST):
            if command == "load":
                await load(plan_of(), seeded, retry_policy=AT_ONCE, defer="always", **options)
            else:
                await cleanup(seeded, [1], **options)
    except BulkseedError as error:
        ended = error
    finally:
        locker.release()
    assert locker.tried.is_set(), "the phase was not reached"
    if ended is not None:
        assert locker.pid is not None
        assert str(locker.pid) in str(ended) or ended.code in {"undo-failed"}
        for run in await find_removable_runs(seeded):
            if not run.is_complete:
                await cleanup(seeded, [run.number])
        assert await digest(seeded) == before


async def test_a_run_that_someone_holds_is_not_forgotten(seeded: Address) -> None:
    before = await digest(seeded)
    async with open_connection(seeded) as holder:
        await holder.execute("BEGIN; SELECT FROM bulkseed.runs FOR UPDATE")
        with raises("ledger-locked", holder.get_server_pid(), kind=TransientError):
            await cleanup(seeded, [1])
        await holder.execute("COMMIT")
    assert await digest(seeded) == before
    assert [run.number for run in await find_removable_runs(seeded)] == [1]


async def test_a_nested_limit_restores_the_outer_one(seeded: Address) -> None:
    async def limit() -> str:
        value: str = await connection.fetchval("SHOW lock_timeout")
        return value

    async with open_connection(seeded) as connection:
        async with limit_wait(connection, Ledger(), 5):
            async with limit_wait(connection, Ledger(), 2):
                assert await limit() == "2s"
            assert await limit() == "5s"
        assert await limit() == "0"
