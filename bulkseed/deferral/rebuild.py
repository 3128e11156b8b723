"""Rebuilding what a load had dropped: each table as soon as it is full, over several connections."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Final

import anyio
import asyncpg

from bulkseed.deferral.capture import constraint_state, full_names, index_state, is_valid
from bulkseed.deferral.definitions import KEYS, Deferred, has_same_columns
from bulkseed.deferral.steps import LOCK_SECONDS, Limits, Lock, NoLock, Task, Work, step, tried
from bulkseed.errors import DiskFull, RunError, TransientError, first_cause
from bulkseed.postgres.connection import Connection, server_message, translate_errors

__all__ = ["Rebuilder", "rebuild"]

SHOWN: Final = 3
"""How many failures a message tells in full."""

IN_ORDER: Final = "SELECT set_config('random_page_cost', current_setting('seq_page_cost'), true)"
"""The pages of an index just built lie in order. The planner, who does not know, would hash both tables, and not
merge two indexes, which takes a third of the time once VACUUM has found all rows visible."""


@dataclass(slots=True)
class Rebuilder:
    """One rebuild: what limits it, who is told of it, and what has failed so far."""

    limits: Limits
    on_step: Callable[[str, float], None]
    failures: list[str] = field(default_factory=list)
    broken: set[Deferred] = field(default_factory=set)
    unlockable_tables: set[str] = field(default_factory=set)
    full: bool = False
    """Whether the disk is; that is told once."""

    def summary(self, wanted: int) -> str:
        """What has failed, in one sentence."""
        shown = "; ".join(self.failures[:SHOWN])
        more = f"; and {len(self.failures) - SHOWN} more" if len(self.failures) > SHOWN else ""
        return (
            f"{shown}{more}: {len(self.broken)} of {wanted} indexes, keys and foreign keys are not made again; "
            "their definitions are kept: put right what is said, and rebuild again"
        )

    async def size(self, connection: Connection, table: str, its: Sequence[Deferred]) -> int | None:
        """The bytes of a table; None where it is gone, which ``its`` fail of."""
        with translate_errors(connection, f"measuring {table}"):
            found: int | None = await connection.fetchval("SELECT pg_table_size(to_regclass($1))", table)
        if found is None:
            self.broken.update(its)
            gone = f"the table {table} is gone"
            self.failures += [] if gone in self.failures else [gone]
        return found

    async def index(self, connection: Connection, each: Deferred) -> None:
        """Build an index, or that behind a key."""

        async def once() -> None:
            async with step(connection, self.limits):
                async with full_names(connection):
                    if is_same(await index_state(connection, each), each):
                        return
                    await connection.fetchval("SELECT set_config('default_tablespace', $1, true)", each.tablespace)
                with duplicates_told(each):
                    await connection.execute(each.create)

        await self.make(connection, f"index {each.name}", [each], once)

    async def keys(self, connection: Connection, table: str, its: Sequence[Deferred]) -> None:
        """Make a table's keys of their indexes, and give all its indexes their attributes."""
        made = [each for each in its if each not in self.broken]
        if not any(each.attach or each.attributes for each in made):
            return

        async def once() -> None:
            async with step(connection, self.limits):
                async with full_names(connection):
                    missing = {
                        each
                        for each in made
                        if each.kind in KEYS and not is_same(await constraint_state(connection, each), each)
                    }
                for each in made:
                    if each in missing:
                        await connection.execute(each.attach)
                    for attribute in each.attributes:
                        await connection.execute(attribute)

        await self.make(connection, f"keys {table}", made, once)

    async def vacuum(self, connection: Connection, table: str) -> None:
        """Mark the rows that all can see, so that VALIDATE, and the app, can read indexes and no table.

        Where it is locked, or this login may not, it goes without. It comes after the indexes, when those who can
        not yet see the last rows are fewer.
        """

        async def once() -> None:
            await connection.execute(f"VACUUM (SKIP_LOCKED, TRUNCATE FALSE, PARALLEL 0) {table}")

        await self.make(connection, f"vacuum {table}", [], once, table)

    async def analyze(self, connection: Connection, table: str) -> None:
        """Gather a table's statistics, those of its expression indexes too."""

        async def once() -> None:
            async with step(connection, self.limits):
                await connection.execute(f"ANALYZE {table}")

        await self.make(connection, f"analyze {table}", [], once, table)

    async def foreign_key(self, connection: Connection, each: Deferred) -> None:
        """Add a foreign key, NOT VALID."""
        if any(other.table == each.parent and other.is_unique for other in self.broken):
            self.broken.add(each)  # told as what its parent's key waits for, and not as a failure of its own
            return

        async def once() -> None:
            async with step(connection, self.limits):
                async with full_names(connection):
                    there = is_same(await constraint_state(connection, each), each)
                if not there:
                    await connection.execute(each.create)
                for attribute in each.attributes:
                    await connection.execute(attribute)

        await self.make(connection, f"foreign key {each.table}.{each.name}", [each], once)

    async def validate(self, connection: Connection, each: Deferred) -> None:
        """Validate a foreign key that was valid."""

        async def once() -> None:
            async with step(connection, self.limits):
                if await is_valid(connection, each):
                    return
                await connection.fetchval(IN_ORDER)
                with orphans_told(each):
                    await connection.execute(each.validate)

        await self.make(connection, f"validate {each.table}.{each.name}", [each], once)

    async def make(
        self,
        connection: Connection,
        name: str,
        what: Sequence[Deferred],
        once: Callable[[], Awaitable[None]],
        table: str = "",
    ) -> None:
        """Do a step, time it, and keep its failure for the end unless nothing can go on after it."""
        tables = [table] if table else [what[0].table, *filter(None, [what[0].parent])]
        if not self.unlockable_tables.isdisjoint(tables):
            self.broken.update(what)  # the lock that it would wait for was not to be had for another step
            return
        safe_transaction = perf_counter()
        try:
            await tried(connection, f"making again: {name} of {tables[0]}" if what else name, tables, self.limits, once)
        except TransientError:
            raise  # with all that is left, it is tried again
        except NoLock as error:
            self.unlockable_tables.add(tables[0])
            if what:  # an ANALYZE can be left to autovacuum
                self.failures.append(str(error))
                self.broken.update(what)
        except DiskFull as error:
            if what:
                self.failures += [] if self.full else [str(error)]
                self.broken.update(what)
                self.full = True
        except RunError as error:
            # what else can be made is made: one duplicate must not leave every table without its indexes
            if what:  # and a load is whole without VACUUM and ANALYZE, which autovacuum sees to
                self.failures.append(str(error))
                self.broken.update(what)
        else:
            self.on_step(name, perf_counter() - safe_transaction)


def is_same(state: str, deferred: Deferred) -> bool:
    if state == "other":
        raise RunError(
            f"{deferred} cannot be made again: something else has its name; rename or drop that, and rebuild again"
        )
    return state == "same"


@contextmanager
def duplicates_told(deferred: Deferred) -> Iterator[None]:
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        if error.schema_name == "pg_catalog":  # another has just made what has its name
            raise
        raise RunError(
            f"{deferred} cannot be made again, since rows have the same values ({server_message(error)}): "
            "remove or change all but one of them"
        ) from error


@contextmanager
def orphans_told(deferred: Deferred) -> Iterator[None]:
    try:
        yield
    except asyncpg.ForeignKeyViolationError as error:
        raise RunError(
            f"{deferred} holds for new rows, but cannot be validated, since a row of {deferred.table} points at "
            f"none of {deferred.parent} ({server_message(error)}): remove or change that row"
        ) from error


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
        making = Rebuilder(limits, on_step)
        try:
            await Schedule(making, deferred, full or {}).run(connections)
        except BaseExceptionGroup as group:
            raise first_cause(group) from group
    if making.failures:
        raise (DiskFull if making.full else RunError)(making.summary(len(deferred)))


async def backend_of(connection: Connection) -> int:
    """The server's process: behind a pooler not the one that the login was told."""
    with translate_errors(connection, "beginning to rebuild"):
        found: int = await connection.fetchval("SELECT pg_backend_pid()")
    return found


class Schedule:
    """Which step follows which, and what is to be done first.

    A table's index builds when it is full; after the last its keys and statistics; a foreign key when both its
    tables have come so far; then its VALIDATE. What has most to come after it goes first.
    """

    def __init__(self, making: Rebuilder, deferred: Sequence[Deferred], full: Mapping[str, anyio.Event]) -> None:
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
            if not any(has_same_columns(other, each) for other in its[:place]):
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
            (other for other in self.indexes[each.table] if other in unbuilt and has_same_columns(each, other)), None
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
