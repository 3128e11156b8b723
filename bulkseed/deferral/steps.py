"""Steps: short transactions with a limited wait for locks, which can be retried; and the queue of a rebuild's tasks."""

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
from bulkseed.sql import SQL

__all__ = [
    "LOCK_SECONDS",
    "Limits",
    "Lock",
    "NoLockError",
    "Task",
    "TaskQueue",
    "describe_holders",
    "run_with_retries",
    "step_transaction",
]

LOCK_SECONDS: Final = 0.8
"""A request for a strong lock blocks all later requests on the table, so an app may be blocked for this long. It is
less than the server's deadlock_timeout, one second by default: in a deadlock with an app our transaction fails."""
LONGEST_PAUSE: Final = 2.0

SETTINGS: Final = """
SELECT set_config('lock_timeout', $1, true),
       set_config('maintenance_work_mem', greatest(setting::bigint, $2::bigint) || 'kB', true),
       set_config('max_parallel_maintenance_workers',
                  coalesce($3, current_setting('max_parallel_maintenance_workers')), true),
       set_config('synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'local'), true)
FROM pg_settings WHERE name = 'maintenance_work_mem'
"""
"""With synchronous_commit off, VACUUM could not mark rows as visible to all, since their commit could still be lost. A
commit that waits for its WAL record to be flushed makes all earlier commits durable too."""

HOLDERS: Final = """
SELECT coalesce(format('process %s of %s%s', a.pid, a.usename,
                       CASE WHEN a.application_name <> '' THEN ' (' || a.application_name || ')' END)
                || coalesce(', since ' || to_char(a.xact_start AT TIME ZONE 'UTC', 'HH24:MI:SS') || ' UTC', ''),
                'a prepared transaction') AS holder
FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid() AND l.pid <> ALL ($2::int[])
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.relation IN (SELECT to_regclass(name) FROM unnest($1::text[]) AS name)
GROUP BY holder, l.pid ORDER BY bool_and(l.mode IN ('AccessShareLock', 'RowShareLock')), min(a.xact_start) LIMIT 3
"""
"""The holders of locks on the tables $1, except the processes $2: writers first, then the oldest transactions.

``pg_blocking_pids`` works only while a statement waits. After a timeout nothing waits any more, so the locks themselves
are read: https://www.postgresql.org/docs/current/view-pg-locks.html.
"""


class NoLockError(RunError):
    """A lock was not available in time; the message names its holders."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a step: seconds to wait for a lock, number of tries, KiB of memory, workers of an index build.

    ``workers`` is None for the server's own setting.
    """

    lock_timeout: float = LOCK_SECONDS
    tries: int = 5
    memory: int = 0
    workers: int | None = None
    own_backends: tuple[int, ...] = ()
    """The server processes of our own connections, which are not named as holders of a lock."""


@asynccontextmanager
async def step_transaction(connection: Connection, limits: Limits) -> AsyncIterator[None]:
    """Open a transaction with ``limits`` as its local settings; roll it back if the block raises or is cancelled."""
    async with safe_transaction(connection):
        workers = None if limits.workers is None else str(limits.workers)
        timeout = f"{round(limits.lock_timeout * 1000)}ms"
        await connection.fetchrow(SETTINGS, timeout, limits.memory, workers)
        yield


async def run_with_retries(
    connection: Connection, doing: str, tables: Sequence[str], limits: Limits, once: Callable[[], Awaitable[None]]
) -> None:
    """Await ``once()``, and retry after a lock timeout or deadlock, up to ``limits.tries`` tries in all.

    The pauses between tries, at first as long as the wait for the lock and then longer, let the transactions that
    queued behind us proceed. Raises NoLockError, which names the holders of locks on ``tables`` (qualified), and the
    errors of ``translate_errors``.
    """
    pause = min(limits.lock_timeout, LONGEST_PAUSE)
    with translate_errors(connection, doing):
        for left in reversed(range(limits.tries)):
            try:
                return await once()
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
                if not left:
                    raise NoLockError(await describe_lock(connection, doing, tables, limits), code="no-lock") from error
            await anyio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
    return None


async def describe_lock(connection: Connection, doing: str, tables: Sequence[str], limits: Limits) -> str:
    names = ", ".join(dict.fromkeys(tables))
    waited = f"{limits.tries} times {limits.lock_timeout:g} s" if limits.tries > 1 else f"{limits.lock_timeout:g} s"
    held_by = await describe_holders(connection, tables, limits.own_backends)
    return f"{doing}: no lock on {names} after waiting {waited} for {held_by}: end that transaction, and try again"


async def describe_holders(connection: Connection, tables: Sequence[str], own_backends: Sequence[int] = ()) -> str:
    """Return a description of the transactions that hold locks on any of ``tables`` (qualified): process, user, age."""
    rows = await connection.fetch(HOLDERS, list(tables), list(own_backends))
    return "; ".join(row["holder"] for row in rows) or "a transaction that has just ended"


class Lock(Enum):
    """The lock that a task takes on a table (https://www.postgresql.org/docs/current/explicit-locking.html)."""

    ROW_SHARE = auto()
    SHARE_UPDATE_EXCLUSIVE = auto()
    SHARE = auto()
    SHARE_ROW_EXCLUSIVE = auto()
    ACCESS_EXCLUSIVE = auto()


COMPATIBLE: Final = frozenset(
    frozenset(pair)
    for pair in (
        {Lock.ROW_SHARE},
        {Lock.ROW_SHARE, Lock.SHARE_UPDATE_EXCLUSIVE},
        {Lock.ROW_SHARE, Lock.SHARE},
        {Lock.ROW_SHARE, Lock.SHARE_ROW_EXCLUSIVE},
        {Lock.SHARE},
    )
)
"""The pairs of locks that two transactions can hold on a table at the same time."""


@dataclass(frozen=True, eq=False, slots=True)
class Task:
    """Work for a connection, the lock that it takes on each table, and its urgency when a connection is free."""

    do: Callable[[Connection], Awaitable[None]]
    locks: Mapping[SQL, Lock] = field(default_factory=dict)
    urgency: Callable[[], float] = lambda: float("inf")

    def conflicts_with(self, other: Task) -> bool:
        """Return whether one of the two would wait for a lock of the other."""
        return any(
            table in other.locks and frozenset({lock, other.locks[table]}) not in COMPATIBLE
            for table, lock in self.locks.items()
        )


class TaskQueue:
    """Tasks to run over several connections, until none is waiting, running, or yet to be added by its event."""

    def __init__(self) -> None:
        self.waiting: list[Task] = []
        self.running: list[Task] = []
        self.awaited_events = 0
        self.changed = anyio.Event()

    def add(self, task: Task) -> None:
        """Add a task for the next free connection; of equally urgent tasks the first added runs first."""
        self.waiting.append(task)
        self.notify()

    def notify(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()

    async def run(self, connections: Sequence[Connection], later: Sequence[tuple[anyio.Event, Task]] = ()) -> None:
        """Run all tasks, those of ``later`` once their events are set. Raises an exception group of a task's error."""
        self.awaited_events = len(later)
        async with anyio.create_task_group() as tasks:
            for event, task in later:
                tasks.start_soon(self.add_after_event, event, task)
            for connection in connections:
                tasks.start_soon(self.run_tasks, connection)

    async def add_after_event(self, event: anyio.Event, task: Task) -> None:
        await event.wait()
        self.awaited_events -= 1
        self.add(task)

    async def run_tasks(self, connection: Connection) -> None:
        while self.waiting or self.running or self.awaited_events:
            task = self.next_task()
            if task is None:
                await self.changed.wait()
                continue
            self.waiting.remove(task)
            self.running.append(task)
            try:
                await task.do(connection)
            finally:
                self.running.remove(task)
            self.notify()

    def next_task(self) -> Task | None:
        """Return the most urgent task that conflicts neither with a running task nor with a more urgent waiting one.

        If there is none, one that delays a more urgent task: an idle connection would not help that one either.
        """
        second_choice: Task | None = None
        blocked: list[Task] = []
        for task in sorted(self.waiting, key=lambda task: -task.urgency()):
            if any(task.conflicts_with(other) for other in self.running):
                blocked.append(task)
            elif any(task.conflicts_with(other) for other in blocked):
                second_choice = second_choice or task
            else:
                return task
        return second_choice
