"""Jobs for a few lanes, each with a connection of its own: none waits for a lock that another lane has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

import anyio

from bulkseed.postgres.connection import Connection

__all__ = ["Lock", "Task", "Work"]


class Lock(Enum):
    """What a job takes on a table (https://www.postgresql.org/docs/current/explicit-locking.html)."""

    ROW_SHARE = auto()
    SHARE_UPDATE_EXCLUSIVE = auto()
    SHARE = auto()
    SHARE_ROW_EXCLUSIVE = auto()
    ACCESS_EXCLUSIVE = auto()


TOGETHER: Final = frozenset(
    frozenset(pair)
    for pair in (
        {Lock.ROW_SHARE},
        {Lock.ROW_SHARE, Lock.SHARE_UPDATE_EXCLUSIVE},
        {Lock.ROW_SHARE, Lock.SHARE},
        {Lock.ROW_SHARE, Lock.SHARE_ROW_EXCLUSIVE},
        {Lock.SHARE},
    )
)
"""Which two can be had on a table at once."""


@dataclass(frozen=True, eq=False, slots=True)
class Task:
    """Something to do, the lock that it takes on each table, and how urgent it is when a lane is free."""

    do: Callable[[Connection], Awaitable[None]]
    locks: Mapping[str, Lock] = field(default_factory=dict)
    urgency: Callable[[], float] = lambda: float("inf")

    def excludes(self, other: Task) -> bool:
        """Whether one of the two would wait for the other."""
        return any(
            table in other.locks and frozenset({lock, other.locks[table]}) not in TOGETHER
            for table, lock in self.locks.items()
        )


class Work:
    """Jobs yet to be done. It ends when none is left, none is running and none is awaited."""

    def __init__(self) -> None:
        self.waiting: list[Task] = []
        self.running: list[Task] = []
        self.awaited = 0
        self.changed = anyio.Event()

    def add(self, *jobs: Task) -> None:
        """Jobs for the next free lanes; of those equally urgent the one that was added first."""
        self.waiting += jobs
        self.wake()

    def wake(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()

    async def run(self, connections: Sequence[Connection], later: Sequence[tuple[anyio.Event, Task]] = ()) -> None:
        """Do all jobs, those of ``later`` once their events are set. Raises what a job raises, in a group."""
        self.awaited = len(later)
        async with anyio.create_task_group() as tasks:
            for event, job in later:
                tasks.start_soon(self.await_event, event, job)
            for connection in connections:
                tasks.start_soon(self.lane, connection)

    async def await_event(self, event: anyio.Event, job: Task) -> None:
        await event.wait()
        self.awaited -= 1
        self.add(job)

    async def lane(self, connection: Connection) -> None:
        while self.waiting or self.running or self.awaited:
            job = self.best()
            if job is None:
                await self.changed.wait()
                continue
            self.waiting.remove(job)
            self.running.append(job)
            try:
                await job.do(connection)
            finally:
                self.running.remove(job)
            self.wake()

    def best(self) -> Task | None:
        """The most urgent job that need not wait for one that is running, nor keeps a more urgent one waiting.

        Rather than none, one that does keep another waiting: an idle lane helps nobody.
        """
        second: Task | None = None
        blocked: list[Task] = []
        for job in sorted(self.waiting, key=lambda job: -job.urgency()):
            if any(job.excludes(other) for other in self.running):
                blocked.append(job)
            elif any(job.excludes(other) for other in blocked):
                second = second or job
            else:
                return job
        return second
