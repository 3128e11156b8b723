"""Making again what was dropped, in parallel: which step follows which, and which goes first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import Final

import anyio

from bulkseed.deferral.definitions import Deferred, is_twin
from bulkseed.deferral.making import Making
from bulkseed.deferral.steps import LOCK_SECONDS, Limits, Lock, Task, Work
from bulkseed.errors import DiskFull, RunError, first_cause
from bulkseed.postgres.connection import Connection, translated

__all__ = ["rebuild"]

MEMORY: Final = 256 * 1024
"""KiB: what an index build sorts in, and VALIDATE hashes in, where the server's own maintenance_work_mem is less."""

BUILD: Final = 5
"""How many times as long as the VALIDATE of a foreign key an index build over the same rows takes, about."""

TRIES: Final = 20
"""How often a lock is tried for: with the pauses, a minute."""


async def rebuild(
    connect: Callable[[], AbstractAsyncContextManager[Connection]],
    deferred: Sequence[Deferred],
    *,
    full: Mapping[str, anyio.Event] | None = None,
    lanes: int = 1,
    on_step: Callable[[str, float], None] = lambda name, seconds: None,
    cores: int | None = None,
    memory: int = MEMORY,
    lock_timeout: float = LOCK_SECONDS,
    tries: int = TRIES,
) -> None:
    """Make everything in ``deferred`` again that is not there, over ``lanes`` connections from ``connect``.

    A table's indexes begin when its event in ``full`` (by qualified name, :attr:`Deferred.table`) is set; at once
    where it has none. Set it after the commit: a build waits for whoever still writes to the table, and what not all
    transactions can see yet is slower to validate. ``on_step`` is told each step and its seconds, from the event loop.
    ``cores``: lanes x (1 + parallel workers of a build) stay within it (None: as many workers as the server gives).
    ``memory``: KiB of maintenance_work_mem of each lane at least. Each step waits ``lock_timeout`` seconds for a lock,
    ``tries`` times at most; after that no other step on its table is tried.

    Every step looks before it does, and is a transaction (but VACUUM, which can be done again): after a crash anywhere,
    or an error, the same call with the same definitions does what is left. Raises RunError where rows break a
    constraint or a lock cannot be had, DiskFull where the disk is (all that can be made is made first; it names what
    is not), ConnectionLost or ConnectError at once.
    https://www.postgresql.org/docs/current/populate.html, https://www.postgresql.org/docs/current/sql-altertable.html
    """
    if not deferred:
        return
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connect()) for _ in range(max(1, lanes))]
        limits = Limits(
            lock_timeout,
            tries,
            memory,
            None if cores is None else max(0, cores // len(connections) - 1),
            tuple([await backend_of(each) for each in connections]),
        )
        making = Making(limits, on_step)
        try:
            await Schedule(making, deferred, full or {}).run(connections)
        except BaseExceptionGroup as group:
            raise first_cause(group) from group
    if making.failures:
        raise (DiskFull if making.full else RunError)(making.summary(len(deferred)))


async def backend_of(connection: Connection) -> int:
    """The server's process: behind a pooler not the one that the login was told."""
    with translated(connection, "beginning to rebuild"):
        found: int = await connection.fetchval("SELECT pg_backend_pid()")
    return found


class Schedule:
    """Which step follows which, and what is to be done first.

    A table's index builds when it is full; after the last its keys and statistics; a foreign key when both its
    tables have come so far; then its VALIDATE. What has most to come after it goes first.
    """

    def __init__(self, making: Making, deferred: Sequence[Deferred], full: Mapping[str, anyio.Event]) -> None:
        self.making = making
        self.full = full
        self.work = Work()
        self.sizes: dict[str, int] = {}
        self.indexes: dict[str, list[Deferred]] = {table: [] for table in full}
        self.unadded: list[Deferred] = []
        self.unvalidated: dict[str, set[Deferred]] = defaultdict(set)
        """By child: also those that are not yet there."""
        self.pointing: dict[str, set[str]] = defaultdict(set)
        """By parent: the tables that point at it."""
        for each in dict.fromkeys(deferred):
            if each.kind != "foreign key":
                self.indexes.setdefault(each.table, []).append(each)
                continue
            self.unadded.append(each)
            self.pointing[each.parent].add(each.table)
            if each.validate:
                self.unvalidated[each.table].add(each)
        self.unbuilt = {table: set(its) for table, its in self.indexes.items()}
        """By table that is not finished: the indexes to build."""

    async def run(self, connections: Sequence[Connection]) -> None:
        """Make everything."""
        later = []
        for table in self.indexes:
            job = Task(partial(self.open_table, table))
            if table in self.full:
                later.append((self.full[table], job))
            else:
                self.work.add(job)
        self.add_what_can_be()
        await self.work.run(connections, later)

    async def open_table(self, table: str, connection: Connection) -> None:
        its = self.indexes[table]
        if not await self.measured(connection, table, its):
            del self.unbuilt[table]
            self.add_what_can_be()
            return
        for place, each in enumerate(its):
            if not any(is_twin(other, each) for other in its[:place]):
                self.build_next(each)
        if not its:
            self.work.add(Task(partial(self.finish, table), {table: Lock.ACCESS_EXCLUSIVE}))

    def build_next(self, each: Deferred) -> None:
        self.work.add(Task(partial(self.build, each), {each.table: Lock.SHARE}, partial(self.rest, each.table)))

    async def measured(self, connection: Connection, table: str, its: Sequence[Deferred]) -> bool:
        """Find a table's size, if it is not known; false where the table is gone."""
        if table not in self.sizes:
            size = await self.making.size(connection, table, its)
            if size is None:
                return False
            self.sizes[table] = size
        return True

    def rest(self, table: str) -> float:
        """How long an index of the table and what has to wait for it take, as bytes that VALIDATE reads meanwhile."""
        return BUILD * self.sizes[table] + max(map(self.validating, {table} | self.pointing[table]))

    def validating(self, child: str) -> float:
        """The same of what is to be validated of a table, one after the other."""
        return sum(self.sizes.get(child, 0) + self.sizes.get(each.parent, 0) for each in self.unvalidated[child])

    async def build(self, each: Deferred, connection: Connection) -> None:
        await self.making.index(connection, each)
        unbuilt = self.unbuilt[each.table]
        unbuilt.remove(each)
        if twin := next(
            (other for other in self.indexes[each.table] if other in unbuilt and is_twin(each, other)), None
        ):
            self.build_next(twin)
        if not unbuilt:
            self.work.add(Task(partial(self.finish, each.table), {each.table: Lock.ACCESS_EXCLUSIVE}))

    async def finish(self, table: str, connection: Connection) -> None:
        await self.making.keys(connection, table, self.indexes[table])
        await self.making.vacuum(connection, table)
        await self.making.analyze(connection, table)
        del self.unbuilt[table]
        self.add_what_can_be()

    def add_what_can_be(self) -> None:
        """Add the foreign keys whose tables are finished.

        Those between the same two tables are added in the order in which they were made, since their triggers fire
        in that order: a row that the first deletes (ON DELETE CASCADE) does not offend the second.
        """
        for each in self.unadded[:]:
            if each.table not in self.unbuilt and each.parent not in self.unbuilt:
                self.unadded.remove(each)
                locks = dict.fromkeys((each.table, each.parent), Lock.SHARE_ROW_EXCLUSIVE)
                self.work.add(Task(partial(self.add, each), locks))

    async def add(self, each: Deferred, connection: Connection) -> None:
        there = [await self.measured(connection, table, [each]) for table in (each.table, each.parent)]
        if all(there):
            await self.making.foreign_key(connection, each)
        if each not in self.unvalidated[each.table]:
            return
        if each in self.making.broken:
            self.unvalidated[each.table].remove(each)
            return
        locks = {each.parent: Lock.ROW_SHARE} | {each.table: Lock.SHARE_UPDATE_EXCLUSIVE}
        self.work.add(Task(partial(self.validate, each), locks, partial(self.validating, each.table)))

    async def validate(self, each: Deferred, connection: Connection) -> None:
        await self.making.validate(connection, each)
        self.unvalidated[each.table].remove(each)
