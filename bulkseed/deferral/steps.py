"""A step: one short transaction that waits for its locks so long and no longer, and can be tried again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

import anyio
import asyncpg

from bulkseed.errors import RunError
from bulkseed.postgres.connection import Connection, translate_errors
from bulkseed.postgres.transaction import safe_transaction

__all__ = ["LOCK_SECONDS", "Limits", "Lock", "NoLock", "Task", "Work", "holders", "step", "tried"]

LOCK_SECONDS: Final = 0.8
"""Who asks for a strong lock stands in the queue before all that come after: so long an app may stand still. It is less
than the server's deadlock_timeout of a second: where an app and we wait for each other, it is we who give way."""
LONGEST_PAUSE: Final = 2.0

SETTINGS: Final = """
SELECT set_config('lock_timeout', $1, true),
       set_config('maintenance_work_mem', greatest(setting::bigint, $2::bigint) || 'kB', true),
       set_config('max_parallel_maintenance_workers',
                  coalesce($3, current_setting('max_parallel_maintenance_workers')), true),
       set_config('synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'local'), true)
FROM pg_settings WHERE name = 'maintenance_work_mem'
"""
"""With synchronous_commit off, VACUUM could not mark rows as visible to all, since their commit may yet be lost; the
next commit that waits for its own record makes all before it safe too."""

HOLDERS: Final = """
SELECT coalesce(format('process %s of %s%s', a.pid, a.usename,
                       CASE WHEN a.application_name <> '' THEN ' (' || a.application_name || ')' END)
                || coalesce(', since ' || to_char(a.xact_start AT TIME ZONE 'UTC', 'HH24:MI:SS') || ' UTC', ''),
                'a prepared transaction') AS told
FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid() AND l.pid <> ALL ($2::int[])
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.relation IN (SELECT to_regclass(name) FROM unnest($1::text[]) AS name)
GROUP BY told, l.pid ORDER BY bool_and(l.mode IN ('AccessShareLock', 'RowShareLock')), min(a.xact_start) LIMIT 3
"""
"""Who has locks on the tables $1, but for the processes $2: those that write first, the longest first.

``pg_blocking_pids`` says it while a statement waits; what has timed out no longer waits, so the locks themselves
are read: https://www.postgresql.org/docs/current/view-pg-locks.html.
"""


class NoLock(RunError):
    """A lock could not be had in time; the message says who has it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a step may take: seconds for a lock, how often it is tried, KiB of memory, workers of an index build.

    ``workers`` is None for the server's own setting.
    """

    lock_timeout: float = LOCK_SECONDS
    tries: int = 5
    memory: int = 0
    workers: int | None = None
    ours: tuple[int, ...] = ()
    """The server's processes that work for us: they are not named as who holds a lock."""


@asynccontextmanager
async def step(connection: Connection, limits: Limits) -> AsyncIterator[None]:
    """A transaction with ``limits`` set for it alone; rolled back where the block raises or is cancelled."""
    async with safe_transaction(connection):
        workers = None if limits.workers is None else str(limits.workers)
        timeout = f"{round(limits.lock_timeout * 1000)}ms"
        await connection.fetchrow(SETTINGS, timeout, limits.memory, workers)
        yield


async def tried(
    connection: Connection, doing: str, tables: Sequence[str], limits: Limits, once: Callable[[], Awaitable[None]]
) -> None:
    """Await ``once()``, again after a lock that could not be had or a deadlock, ``limits.tries`` times at most.

    In between are pauses as long as the wait, and longer, in which whoever queued behind us has its turn.
    Raises NoLock, which names the holders of locks on ``tables`` (qualified), and the errors of ``translate_errors``.
    """
    pause = min(limits.lock_timeout, LONGEST_PAUSE)
    with translate_errors(connection, doing):
        for left in reversed(range(limits.tries)):
            try:
                return await once()
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
                if not left:
                    raise NoLock(await no_lock(connection, doing, tables, limits)) from error
            await anyio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
    return None


async def no_lock(connection: Connection, doing: str, tables: Sequence[str], limits: Limits) -> str:
    names = ", ".join(dict.fromkeys(tables))
    waited = f"{limits.tries} times {limits.lock_timeout:g} s" if limits.tries > 1 else f"{limits.lock_timeout:g} s"
    who = await holders(connection, tables, limits.ours)
    return f"{doing}: no lock on {names} in {waited}: {who} has it; end that transaction, and try again"


async def holders(connection: Connection, tables: Sequence[str], ours: Sequence[int] = ()) -> str:
    """Who has locks on any of ``tables`` (qualified), in words."""
    rows = await connection.fetch(HOLDERS, list(tables), list(ours))
    return "; ".join(row["told"] for row in rows) or "a transaction that has just ended"


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
