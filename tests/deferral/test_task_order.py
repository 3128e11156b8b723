"""The steps of a rebuild: the most urgent goes first, and none waits for a lock that another step has."""

from __future__ import annotations

import itertools
from typing import cast

import anyio
import anyio.lowlevel
import asyncpg
import pytest

from bulkseed.deferral.steps import Lock, Task, Work
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, connected


async def lanes_of(work: Work, count: int) -> None:
    """Do the jobs of ``work`` over lanes that have no connection."""
    with anyio.fail_after(5):
        await work.run([cast(Connection, None)] * count)


class Jobs:
    """Jobs that note when they begin and end, and end in their own time."""

    def __init__(self) -> None:
        self.work = Work()
        self.log: list[str] = []

    def add(self, name: str, urgency: float = 0, moments: int = 3, **locks: Lock) -> None:
        """A job that takes ``locks``, by table."""

        async def do(_: Connection) -> None:
            self.log.append(f"+{name}")
            for _moment in range(moments):
                await anyio.lowlevel.checkpoint()
            self.log.append(f"-{name}")

        self.work.add(Task(do, locks, lambda: urgency))


async def test_the_most_urgent_goes_first() -> None:
    jobs = Jobs()
    jobs.add("a", 1)
    jobs.add("b", 3)
    jobs.add("c", 2)
    jobs.add("d", 3)
    await lanes_of(jobs.work, 1)
    assert [each for each in jobs.log if each.startswith("+")] == ["+b", "+d", "+c", "+a"]


async def test_no_lane_waits_for_a_lock_of_another() -> None:
    jobs = Jobs()
    jobs.add("validate", 9, t=Lock.SHARE_UPDATE_EXCLUSIVE, u=Lock.ROW_SHARE)
    jobs.add("validate too", 8, t=Lock.SHARE_UPDATE_EXCLUSIVE)
    jobs.add("index", 7, u=Lock.SHARE)
    jobs.add("index too", 6, u=Lock.SHARE)
    await lanes_of(jobs.work, 3)
    assert jobs.log[:3] == ["+validate", "+index", "+index too"]
    assert jobs.log.index("-validate") < jobs.log.index("+validate too")


async def test_what_keeps_the_urgent_waiting_comes_after_what_does_not() -> None:
    jobs = Jobs()
    jobs.add("running", 9, t=Lock.SHARE)
    jobs.add("urgent", 8, t=Lock.SHARE_ROW_EXCLUSIVE, u=Lock.SHARE_ROW_EXCLUSIVE)
    jobs.add("in its way", 7, u=Lock.SHARE)
    jobs.add("beside", 1, v=Lock.SHARE)
    await lanes_of(jobs.work, 2)
    assert jobs.log[:2] == ["+running", "+beside"]
    assert jobs.log.index("+urgent") < jobs.log.index("+in its way")
    jobs.log.clear()
    jobs.add("running", 9, t=Lock.SHARE)
    jobs.add("urgent", 8, t=Lock.SHARE_ROW_EXCLUSIVE, u=Lock.SHARE_ROW_EXCLUSIVE)
    jobs.add("in its way", 7, u=Lock.SHARE)
    await lanes_of(jobs.work, 2)
    assert jobs.log[:2] == ["+running", "+in its way"], "an idle lane helps nobody"


@pytest.mark.core
async def test_locks_are_those_of_the_server(database: Address) -> None:
    async def do(_: Connection) -> None:
        raise AssertionError

    async with connected(database) as first, connected(database) as second:
        for one, other in itertools.product(Lock, Lock):
            try:
                async with first.transaction(), second.transaction():
                    await first.execute(f"LOCK TABLE users IN {one.name.replace('_', ' ')} MODE")
                    await second.execute(f"LOCK TABLE users IN {other.name.replace('_', ' ')} MODE NOWAIT")
                together = True
            except asyncpg.LockNotAvailableError:
                together = False
            assert Task(do, {"users": one}).excludes(Task(do, {"users": other})) is not together
