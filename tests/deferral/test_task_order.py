"""The steps of a rebuild: the most urgent goes first, and none waits for a lock that another step has."""

from __future__ import annotations

import itertools
from typing import cast

import anyio
import anyio.lowlevel
import asyncpg
import pytest

from bulkseed.deferral.steps import Lock, Task, TaskQueue
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection
from bulkseed.sql import identifier


async def run_tasks(queue: TaskQueue, count: int) -> None:
    """Run the tasks of ``queue`` over ``count`` connections, which are None."""
    with anyio.fail_after(5):
        await queue.run([cast(Connection, None)] * count)


class Tasks:
    """Tasks that log when they begin and end, and take some turns of the event loop."""

    def __init__(self) -> None:
        self.queue = TaskQueue()
        self.log: list[str] = []

    def add(self, name: str, urgency: float = 0, moments: int = 3, **locks: Lock) -> None:
        """Add a task that takes ``locks``, by table."""

        async def do(_: Connection) -> None:
            self.log.append(f"+{name}")
            for _moment in range(moments):
                await anyio.lowlevel.checkpoint()
            self.log.append(f"-{name}")

        self.queue.add(Task(do, {identifier(table): lock for table, lock in locks.items()}, lambda: urgency))


async def test_the_most_urgent_goes_first() -> None:
    tasks = Tasks()
    tasks.add("a", 1)
    tasks.add("b", 3)
    tasks.add("c", 2)
    tasks.add("d", 3)
    await run_tasks(tasks.queue, 1)
    assert [entry for entry in tasks.log if entry.startswith("+")] == ["+b", "+d", "+c", "+a"]


async def test_no_connection_waits_for_a_lock_of_another() -> None:
    tasks = Tasks()
    tasks.add("validate", 9, t=Lock.SHARE_UPDATE_EXCLUSIVE, u=Lock.ROW_SHARE)
    tasks.add("validate too", 8, t=Lock.SHARE_UPDATE_EXCLUSIVE)
    tasks.add("index", 7, u=Lock.SHARE)
    tasks.add("index too", 6, u=Lock.SHARE)
    await run_tasks(tasks.queue, 3)
    assert tasks.log[:3] == ["+validate", "+index", "+index too"]
    assert tasks.log.index("-validate") < tasks.log.index("+validate too")


async def test_tasks_that_delay_an_urgent_one_come_after_those_that_do_not() -> None:
    tasks = Tasks()
    tasks.add("running", 9, t=Lock.SHARE)
    tasks.add("urgent", 8, t=Lock.SHARE_ROW_EXCLUSIVE, u=Lock.SHARE_ROW_EXCLUSIVE)
    tasks.add("in its way", 7, u=Lock.SHARE)
    tasks.add("beside", 1, v=Lock.SHARE)
    await run_tasks(tasks.queue, 2)
    assert tasks.log[:2] == ["+running", "+beside"]
    assert tasks.log.index("+urgent") < tasks.log.index("+in its way")
    tasks.log.clear()
    tasks.add("running", 9, t=Lock.SHARE)
    tasks.add("urgent", 8, t=Lock.SHARE_ROW_EXCLUSIVE, u=Lock.SHARE_ROW_EXCLUSIVE)
    tasks.add("in its way", 7, u=Lock.SHARE)
    await run_tasks(tasks.queue, 2)
    assert tasks.log[:2] == ["+running", "+in its way"], "an idle connection helps nobody"


@pytest.mark.core
async def test_locks_are_those_of_the_server(database: Address) -> None:
    async def do(_: Connection) -> None:
        raise AssertionError

    users = identifier("users")
    async with open_connection(database) as first, open_connection(database) as second:
        for one, other in itertools.product(Lock, Lock):
            try:
                async with first.transaction(), second.transaction():
                    await first.execute(f"LOCK TABLE users IN {one.name.replace('_', ' ')} MODE")
                    await second.execute(f"LOCK TABLE users IN {other.name.replace('_', ' ')} MODE NOWAIT")
                together = True
            except asyncpg.LockNotAvailableError:
                together = False
            assert Task(do, {users: one}).conflicts_with(Task(do, {users: other})) is not together
