"""Two commands in one database: the second waits and names the first; both end well."""

from __future__ import annotations

import asyncio
import json
import re
import signal

import pytest

from bulkseed.cleaner.cleanup import cleanup
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from chaos.commands import PLAN, WAIT_SECONDS, Command, Ended, begun, bulkseed
from chaos.world import UNRECORDED, World, recorded, state

HOLDER = r"process \d+\b.*\b\d{4}-\d\d-\d\d [\d:]+ UTC"
"""The process that holds the lock, and since when."""
WAITING = re.compile(HOLDER)
LOCKED = """
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""


async def run_second_while_first_holds_the_lock(
    address: Address, first: Command, second: tuple[str, ...]
) -> list[Ended]:
    """Start the second command while the first holds the lock; let the first go on when the second waits."""
    async with open_connection(address) as connection:
        while not await connection.fetchval(LOCKED):
            assert first.running
            await asyncio.sleep(0.001)
    first.child.send_signal(signal.SIGSTOP)
    with begun(address, *second) as other:
        while other.running and other.age < WAIT_SECONDS and not WAITING.search(other.said.read_text()):
            await asyncio.sleep(0.01)
        first.child.send_signal(signal.SIGCONT)
        return [await first.end(), await other.end()]


async def interrupt_load(world: World, address: Address) -> None:
    """Load, and kill the command while it loads or rebuilds."""
    with begun(address, *PLAN, "--workers", "2", "--defer", "always") as load:
        while load.running and await world.moment(address) in {UNRECORDED, "recorded, no shard in"}:
            await asyncio.sleep(0.01)
        load.kill_parent()
    assert await world.moment(address) not in {UNRECORDED, "whole"}


async def test_two_resumes_at_once(world: World) -> None:
    async with world.database() as address:
        await interrupt_load(world, address)
        with begun(address, "resume", "--workers", "2") as one:
            ended = await run_second_while_first_holds_the_lock(address, one, ("resume", "--workers", "2", "--json"))
        assert [command.status for command in ended] == [0, 0], ended
        assert WAITING.search(ended[1].said), ended[1]
        assert json.loads(ended[1].out) == {"run": None}, ended[1]
        await world.is_loaded(address)


@pytest.mark.parametrize("defer", ["always", pytest.param("never", marks=pytest.mark.long)])
async def test_a_load_beside_a_load(world: World, defer: str) -> None:
    async with world.database() as address:
        with begun(address, *PLAN, "--defer", defer) as one:
            ended = await run_second_while_first_holds_the_lock(address, one, ("--scale", "3x", "--defer", defer))
        assert [command.status for command in ended] == [0, 0], ended
        assert WAITING.search(ended[1].said), ended[1]
        assert await recorded(address) == {1: "whole", 2: "whole"}
        await cleanup(address, [2])
        found = await state(world.server, address)
        assert found.tables == world.after.tables
        assert found.schema == world.before.schema


async def test_a_cleanup_beside_a_resume(world: World) -> None:
    async with world.database() as address:
        await interrupt_load(world, address)
        with begun(address, "resume", "1") as one:
            ended = await run_second_while_first_holds_the_lock(address, one, ("cleanup", "1", "--yes"))
        assert [command.status for command in ended] == [0, 2], ended
        assert re.search(f"run 1\\b.*{HOLDER}", ended[1].said), ended[1]
        await world.is_loaded(address)


async def test_a_resume_beside_a_cleanup(world: World) -> None:
    async with world.database() as address:
        await interrupt_load(world, address)
        with begun(address, "cleanup", "1", "--yes") as one:
            ended = await run_second_while_first_holds_the_lock(address, one, ("resume", "1"))
        # the run was removed while the resume waited
        assert [command.status for command in ended] == [0, 2], ended
        assert WAITING.search(ended[1].said), ended[1]
        await world.is_as_before(address, sequences=False)


@pytest.mark.long
async def test_an_interrupted_run_blocks_a_load(world: World) -> None:
    async with world.database() as address:
        await interrupt_load(world, address)
        refused = await bulkseed(address, *PLAN)
        assert refused.status == 2, refused
        assert "bulkseed resume 1" in refused.said
        assert "bulkseed cleanup 1" in refused.said
        resumed = await bulkseed(address, "resume", "1")
        assert resumed.status == 0, resumed
        await world.is_loaded(address)
