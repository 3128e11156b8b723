"""Jobs for a few lanes, each with a connection of its own: the weightiest first, new ones as others end."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio

from bulkseed.connection import Connection

__all__ = ["FIRST", "Job", "Work"]

Job = Callable[[Connection], Awaitable[None]]

FIRST: Final = 2**63
"""The weight of a job that goes before all others."""


class Work:
    """Jobs yet to be done. It ends when none is left, none is running and none is awaited."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, int, Job]] = []
        self.order = itertools.count()
        self.left = 0
        self.changed = anyio.Event()

    def add(self, job: Job, weight: int) -> None:
        """A job for the next free lane."""
        self.left += 1
        self.put(job, weight)

    def put(self, job: Job, weight: int) -> None:
        heapq.heappush(self.waiting, (-weight, next(self.order), job))
        self.wake()

    def wake(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()

    async def run(self, connections: Sequence[Connection], later: Sequence[tuple[anyio.Event, Job]] = ()) -> None:
        """Do all jobs, those of ``later`` once their events are set. Raises what a job raises, in a group."""
        self.left += len(later)
        async with anyio.create_task_group() as tasks:
            for event, job in later:
                tasks.start_soon(self.await_event, event, job)
            for connection in connections:
                tasks.start_soon(self.lane, connection)

    async def await_event(self, event: anyio.Event, job: Job) -> None:
        await event.wait()
        self.put(job, FIRST)

    async def lane(self, connection: Connection) -> None:
        while self.left:
            if not self.waiting:
                await self.changed.wait()
                continue
            _, _, job = heapq.heappop(self.waiting)
            await job(connection)
            self.left -= 1
            if not self.left:
                self.wake()
