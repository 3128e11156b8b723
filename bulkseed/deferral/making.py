"""The steps of a rebuild: each looks in the catalogue and does what is not yet done; failures are kept for the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

import asyncpg

from bulkseed.deferral.catalogue import constraint_state, full_names, index_state, is_valid
from bulkseed.deferral.definitions import KEYS, Deferred
from bulkseed.deferral.steps import Limits, NoLock, step, tried
from bulkseed.errors import DiskFull, RunError, TransientError
from bulkseed.postgres.connection import Connection, told, translated

__all__ = ["Making"]

SHOWN: Final = 3
"""How many failures a message tells in full."""

IN_ORDER: Final = "SELECT set_config('random_page_cost', current_setting('seq_page_cost'), true)"
"""The pages of an index just built lie in order. The planner, who does not know, would hash both tables, and not
merge two indexes, which takes a third of the time once VACUUM has found all rows visible."""


@dataclass(slots=True)
class Making:
    """One rebuild: what limits it, who is told of it, and what has failed so far."""

    limits: Limits
    on_step: Callable[[str, float], None]
    failures: list[str] = field(default_factory=list)
    broken: set[Deferred] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
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
        with translated(connection, f"measuring {table}"):
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
        if not self.stuck.isdisjoint(tables):
            self.broken.update(what)  # the lock that it would wait for was not to be had for another step
            return
        begun = perf_counter()
        try:
            await tried(connection, f"making again: {name} of {tables[0]}" if what else name, tables, self.limits, once)
        except TransientError:
            raise  # with all that is left, it is tried again
        except NoLock as error:
            self.stuck.add(tables[0])
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
            self.on_step(name, perf_counter() - begun)


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
            f"{deferred} cannot be made again, since rows have the same values ({told(error)}): "
            "remove or change all but one of them"
        ) from error


@contextmanager
def orphans_told(deferred: Deferred) -> Iterator[None]:
    try:
        yield
    except asyncpg.ForeignKeyViolationError as error:
        raise RunError(
            f"{deferred} holds for new rows, but cannot be validated, since a row of {deferred.table} points at "
            f"none of {deferred.parent} ({told(error)}): remove or change that row"
        ) from error
