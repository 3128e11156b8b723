"""Cleanup: removing the rows of runs, also where the disk is full, and rebuilding what loads had dropped."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import anyio

from bulkseed import ledger
from bulkseed.choices import available_cores
from bulkseed.cleaner.removal import check_owner, check_rights, remove_rows
from bulkseed.deferral import Deferred, drop, mark_rebuilt, rebuild, unfinished
from bulkseed.errors import BulkseedError, ConnectError, ConnectionLost, DiskFull, InputError, RunError, TargetError
from bulkseed.ledger import SCHEMA, Claim, Ledger, Run
from bulkseed.ledger.control import controlled
from bulkseed.listeners import NullListener, ProgressListener
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, connected, preflight_errors, translate_errors
from bulkseed.postgres.transaction import RetryPolicy, transaction

__all__ = ["CleanupReport", "cleanup", "make_room", "recorded_runs", "remove_in_batches", "remove_runs", "vacuum"]

LOCK_SECONDS: Final = 10
ROWS_AT_ONCE: Final = 1_000_000
"""Some 40 bytes of the session's memory each."""


async def make_room(
    connection: Connection, runs: Sequence[Run], dropped: Mapping[int, Sequence[Deferred]], listener: ProgressListener
) -> None:
    """Give back what can be made again: the indexes that were rebuilt already, and what was rolled back.

    ``dropped`` are the definitions that are in the ledger still, by run. Raises ConnectionLost.
    """
    listener.note("the server's disk is full: what is undone is undone in parts, and takes longer")
    for its in dropped.values():
        try:
            await drop(connection, its)
        except ConnectionLost:
            raise
        except BulkseedError:
            continue  # an app has the table, say
    await vacuum(connection, (name for run in runs for name in reversed(run.names.tables())))


async def vacuum(connection: Connection, tables: Iterable[str]) -> None:
    """Cut off the ends of tables in which no row is; what cannot be is left. Raises ConnectionLost."""
    for table in dict.fromkeys(tables):
        try:
            with translate_errors(connection, f"VACUUM {table}"):
                # that it waits keeps nobody waiting but another VACUUM or DDL, and autovacuum makes way
                await connection.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
                await connection.execute(f"VACUUM (PARALLEL 0) {table}")
        except ConnectionLost:
            raise
        except BulkseedError:
            continue
        finally:
            if not connection.is_closed():
                await connection.execute("SET lock_timeout = 0")


async def remove_in_batches(
    connection: Connection, book: Ledger, run: Run, absent: Sequence[Deferred], listener: ProgressListener
) -> Counter[str]:
    """Remove the rows of a run that is not whole by a few shards at a time, whose list needs no disk; returns how many.

    Each part is out for good. Raises RunError where rows of others point at those of a part: that is left, with what
    was loaded before it.
    """
    assert run.rows_per_shard is not None
    removed: Counter[str] = Counter()
    left = sorted(run.shards or ())
    most = max(1, ROWS_AT_ONCE // run.rows_per_shard)
    while left:
        # the last that were loaded first: users, at whom all point, at last
        left, part = left[:-most], left[-most:]
        async with transaction(connection):
            some = replace(run, shards=frozenset(part))
            found, _ = await remove_rows(connection, [some], absent, cascade=False, listener=listener, diskless=True)
            with translate_errors(connection, "forgetting shards"):
                await ledger.forget_shards(connection, book, run.number, part)
        removed.update(found)
    return removed


MOST_LANES: Final = 4
ROOM_TRIES: Final = 3
ROOM_PAUSE: Final = 1.0
"""How often room is made on a full disk, and seconds in between."""


@dataclass(frozen=True, slots=True)
class CleanupReport:
    """The runs that were removed, how many of their rows by table, and how many others with them (``--cascade``).

    ``rebuilt`` is how many indexes and keys were made again that an interrupted load had dropped.
    """

    runs: tuple[int, ...]
    removed: Mapping[str, int]
    others: Mapping[str, int]
    rebuilt: int = 0


async def recorded_runs(address: Address, number: int | None = None, *, ledger_schema: str = SCHEMA) -> list[Run]:
    """The runs that a cleanup may take out: the one with ``number``, or all that no other command is loading now.

    Raises InputError where there is none, or not that one.
    """
    async with connected(address) as connection:
        with preflight_errors(connection, "reading the ledger"):
            found = await ledger.chosen_runs(connection, Ledger(ledger_schema), None if number is None else [number])
            who = await ledger.holder(connection)
    busy = [run for run in found if run.state == "loading"] if who is not None else []
    if busy and len(busy) == len(found):
        raise InputError(
            f"run {busy[0].number} is being loaded by another bulkseed ({who}): wait for it, or stop it first"
        )
    return [run for run in found if run not in busy]


async def cleanup(
    address: Address,
    chosen: Sequence[int | Claim],
    *,
    cascade: bool = False,
    listener: ProgressListener | None = None,
    ledger_schema: str = SCHEMA,
) -> CleanupReport:
    """Remove the rows of the ``chosen`` runs, in one transaction; rebuild what a load of theirs had dropped.

    A number is what the run is called; a claim (:attr:`bulkseed.ledger.Run.claim`) stands for it as it was found.
    Raises RunError, with nothing removed, where other rows point at them, unless ``cascade`` lets those go too (what
    was dropped is rebuilt all the same); InputError where there is no such run, or the login may not remove rows;
    RunError where an index or a key cannot be rebuilt: the run then stays in the ledger until a cleanup can do that.
    So it does where the rebuilding is cancelled, and ``listener`` is told so.
    """
    listener = listener or NullListener()
    async with controlled(address, RetryPolicy(), listener) as control:
        return await remove_runs(
            control.connection, address, Ledger(ledger_schema), chosen, cascade=cascade, listener=listener
        )


async def remove_runs(
    connection: Connection,
    address: Address,
    book: Ledger,
    chosen: Sequence[int | Claim],
    *,
    cascade: bool,
    listener: ProgressListener,
) -> CleanupReport:
    """Do what :func:`cleanup` says, on a connection that holds the load lock."""
    with translate_errors(connection, "reading the ledger"):
        runs = await ledger.chosen_runs(connection, book, chosen)
        numbers = {run.number for run in runs}
        waiting = await unfinished(connection, book.deferred)
        dropped = {number: its for number, its in waiting.items() if number in numbers}
        await check_rights(connection, runs)
        absent = [each for its in dropped.values() for each in its]
        await check_owner(connection, absent)
    if cascade:
        # a foreign key that lets its rows go must be there to do that
        await put_back(connection, address, book, dropped, listener)
        dropped = {}
    missing = absent if dropped else []
    if await lacks_an_index(connection, missing):
        # one that is back, while an index of its table is not, would read all of that table for each row that goes
        with suppress(TargetError):  # where a table is held, it takes longer
            await drop(connection, [each for each in missing if each.kind == "foreign key"])
    removing = Removing(connection, book, runs, dropped, missing, cascade, listener)
    try:
        removed, others = await removing.on_any_disk()
    except RunError as refusal:
        if not dropped or isinstance(refusal, ConnectionLost):
            raise
        await put_back(connection, address, book, dropped, listener)
        raise RunError(f"{refusal}; the indexes and keys of the run are rebuilt") from refusal
    try:
        await put_back(connection, address, book, dropped, listener)
    except anyio.get_cancelled_exc_class():
        listener.note(
            "the rows are out, but not all indexes and keys are rebuilt: "
            f"{book.command(f'cleanup {min(dropped)}')} goes on"
        )
        raise
    async with transaction(connection):
        with translate_errors(connection, "forgetting the run"):
            for number in dropped:
                await ledger.forget_run(connection, book, number)
    return CleanupReport(tuple(run.number for run in runs), removed, others, len(absent))


async def lacks_an_index(connection: Connection, deferred: Sequence[Deferred]) -> bool:
    indexes = [each.index for each in deferred if each.kind != "foreign key"]
    with translate_errors(connection, "looking for indexes"):
        return bool(
            await connection.fetchval(
                "SELECT bool_or(to_regclass(name) IS NULL) FROM unnest($1::text[]) AS name", indexes
            )
        )


@dataclass(frozen=True, slots=True)
class Removing:
    """The rows of runs on their way out, and the runs out of the ledger, or, for those of ``dropped``, empty in it."""

    connection: Connection
    book: Ledger
    runs: Sequence[Run]
    dropped: Mapping[int, Sequence[Deferred]]
    missing: Sequence[Deferred]
    cascade: bool
    listener: ProgressListener

    async def on_any_disk(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """All at once; where the disk is full, again with what room can be made, run by run and part by part."""
        try:
            return await self.at_once()
        except DiskFull:
            pass
        for left in reversed(range(ROOM_TRIES)):
            await make_room(self.connection, self.runs, self.dropped, self.listener)
            try:
                return await self.with_room()
            except DiskFull:
                if not left:
                    raise
                # a worker whose COPY was rolled back may still have its table, and VACUUM then cuts nothing off
                await anyio.sleep(ROOM_PAUSE)
        raise AssertionError("the last try returns or raises")

    async def with_room(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """Run by run and part by part, where that can be."""
        if self.cascade or any(run.is_complete for run in self.runs):
            return await self.at_once()
        removed = Counter(dict.fromkeys((name for run in self.runs for name in reversed(run.plan.model.names)), 0))
        async with transaction(self.connection):
            runs = await self.marked()
        for run in runs:
            removed.update(await remove_in_batches(self.connection, self.book, run, self.missing, self.listener))
        async with transaction(self.connection):
            await self.forget()
        return removed, {}

    async def at_once(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        async with transaction(self.connection):
            runs = await self.marked()
            found = await remove_rows(self.connection, runs, self.missing, cascade=self.cascade, listener=self.listener)
            await self.forget()
        return found

    async def marked(self) -> list[Run]:
        """The runs as they are when none of them goes on any more, until the transaction ends and after it."""
        with translate_errors(self.connection, "reading the ledger"):
            claims = [run.claim for run in self.runs]
            going = [run.claim for run in self.runs if not run.is_complete]
            await ledger.mark_undoing(self.connection, self.book, going, self.listener)
            # read again: a shard may have come in until then
            return await ledger.chosen_runs(self.connection, self.book, claims)

    async def forget(self) -> None:
        with translate_errors(self.connection, "forgetting the run"):
            for run in self.runs:
                away = ledger.empty_run if run.number in self.dropped else ledger.forget_run
                await away(self.connection, self.book, run.number)


async def put_back(
    connection: Connection,
    address: Address,
    book: Ledger,
    dropped: Mapping[int, Sequence[Deferred]],
    listener: ProgressListener,
) -> None:
    """Rebuild what loads have dropped, and record that."""
    steps = itertools.count(1)
    for number, its in dropped.items():
        listener.phase("rebuild")
        on_step = partial(told, listener, steps)
        try:
            await rebuild_all(connection, address, its, on_step)
        except DiskFull:
            await vacuum(connection, sorted({each.table for each in its}))
            await rebuild_all(connection, address, its, on_step)
        async with transaction(connection):
            with translate_errors(connection, "recording what is rebuilt"):
                await mark_rebuilt(connection, book.deferred, number, its)


async def rebuild_all(
    connection: Connection, address: Address, its: Sequence[Deferred], on_step: Callable[[str, float], None]
) -> None:
    try:
        lanes = min(MOST_LANES, available_cores())
        await rebuild(partial(connected, address), its, lanes=lanes, on_step=on_step)
    except ConnectError:
        # no more connections to be had than this one
        await rebuild(lambda: nullcontext(connection), its, on_step=on_step)


def told(listener: ProgressListener, steps: Iterator[int], _: str, __: float) -> None:
    listener.phase(f"rebuild, step {next(steps)}")
