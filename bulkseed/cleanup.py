"""Cleaning up: the rows of a run out of the target again, and nothing else; what a load dropped is rebuilt."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Final

import anyio

from bulkseed import ledger
from bulkseed.address import Address
from bulkseed.connection import Connection, connected, translated
from bulkseed.deferral import Deferred, mark_rebuilt, rebuild, unfinished
from bulkseed.errors import BulkseedError, ConnectError, ConnectionLost, RunError
from bulkseed.ledger import Claim, Run
from bulkseed.machine import available_cores
from bulkseed.removal import check_rights, remove_rows
from bulkseed.transaction import transaction
from bulkseed.watch import Silent, Watcher

__all__ = ["CleanupReport", "cleanup", "recorded_runs", "undone"]

MOST_LANES: Final = 4
PATIENCE_SECONDS: Final = 20.0
"""How long an undo tries to reach a server that is restarting."""
PAUSE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class CleanupReport:
    """The runs that were removed, how many of their rows by table, and how many others with them (``--cascade``).

    ``rebuilt`` is how many indexes and keys were made again that an interrupted load had dropped.
    """

    runs: tuple[int, ...]
    removed: Mapping[str, int]
    others: Mapping[str, int]
    rebuilt: int = 0


async def recorded_runs(address: Address, number: int | None = None) -> list[Run]:
    """The runs that the ledger of the target has: all, or the one with ``number``.

    Raises InputError where there is none, or not that one.
    """
    async with connected(address) as connection:
        with translated(connection, "reading the ledger"):
            return await ledger.chosen_runs(connection, None if number is None else [number])


async def cleanup(
    address: Address, numbers: Sequence[int], *, cascade: bool = False, watcher: Watcher | None = None
) -> CleanupReport:
    """Remove the rows of the runs ``numbers``, in one transaction; rebuild what a load of theirs had dropped.

    Raises RunError, with nothing removed, where other rows point at them, unless ``cascade`` lets those go too (what
    was dropped is rebuilt all the same); InputError where there is no such run, or the login may not remove rows;
    RunError where an index or a key cannot be rebuilt: the run then stays in the ledger until a cleanup can do that.
    So it does where the rebuilding is cancelled, and ``watcher`` is told so.
    """
    watcher = watcher or Silent()
    async with connected(address) as connection:
        await ledger.take_turn(connection, watcher)
        return await taken_out(connection, address, numbers, cascade=cascade, watcher=watcher)


async def taken_out(
    connection: Connection, address: Address, numbers: Sequence[int], *, cascade: bool, watcher: Watcher
) -> CleanupReport:
    """Do what :func:`cleanup` says, on a connection that holds the load lock."""
    with translated(connection, "reading the ledger"):
        for run in await ledger.chosen_runs(connection, numbers):
            if not run.whole:
                await ledger.mark_undoing(connection, run.number)
        # read again: a shard may have come in until then
        runs = await ledger.chosen_runs(connection, numbers)
        dropped = {number: its for number, its in (await unfinished(connection)).items() if number in numbers}
        await check_rights(connection, runs)
    absent = [each for its in dropped.values() for each in its]
    if cascade:
        # a foreign key that lets its rows go must be there to do that
        await put_back(connection, address, dropped, watcher)
        dropped = {}
    missing = absent if dropped else []
    try:
        async with transaction(connection):
            removed, others = await remove_rows(connection, runs, missing, cascade=cascade, watcher=watcher)
            with translated(connection, "forgetting the run"):
                for run in runs:
                    await (ledger.empty_run if run.number in dropped else ledger.forget_run)(connection, run.number)
    except RunError as refusal:
        if not dropped or isinstance(refusal, ConnectionLost):
            raise
        await put_back(connection, address, dropped, watcher)
        raise RunError(f"{refusal}; the indexes and keys of the run are rebuilt") from refusal
    try:
        await put_back(connection, address, dropped, watcher)
    except anyio.get_cancelled_exc_class():
        watcher.note(
            f"the rows are out, but not all indexes and keys are rebuilt: `bulkseed cleanup {min(dropped)}` goes on"
        )
        raise
    async with transaction(connection):
        with translated(connection, "forgetting the run"):
            for number in dropped:
                await ledger.forget_run(connection, number)
    return CleanupReport(tuple(run.number for run in runs), removed, others, len(absent))


async def put_back(
    connection: Connection, address: Address, dropped: Mapping[int, Sequence[Deferred]], watcher: Watcher
) -> None:
    """Rebuild what loads have dropped, and record that."""
    steps = itertools.count(1)
    for number, its in dropped.items():
        watcher.phase("rebuild")
        on_step = partial(told, watcher, steps)
        try:
            lanes = min(MOST_LANES, available_cores())
            await rebuild(partial(connected, address), its, lanes=lanes, on_step=on_step)
        except ConnectError:
            # no more connections to be had than this one
            await rebuild(lambda: nullcontext(connection), its, on_step=on_step)
        async with transaction(connection):
            with translated(connection, "recording what is rebuilt"):
                await mark_rebuilt(connection, number, its)


def told(watcher: Watcher, steps: Iterator[int], _: str, __: float) -> None:
    watcher.phase(f"rebuild, step {next(steps)}")


@asynccontextmanager
async def undone(connection: Connection, address: Address, claim: Claim, watcher: Watcher) -> AsyncIterator[None]:
    """Takes a run out again where the block raises or is cancelled.

    ``connection`` holds the load lock. Errors of ours become RunError (or what they are below that), and say what
    came of it; where the undoing fails after anything else, RunError is raised. It is shielded from anyio's
    cancellation; one of the event loop's own kind (``Task.cancel``) ends it.
    """
    try:
        yield
    except BaseException as error:
        watcher.phase("undo")
        failed = False
        with anyio.CancelScope(shield=True):
            try:
                said = await undo(connection, address, claim, watcher)
            except Exception as another:
                failed = True
                said = (
                    f"run {claim.number} could not be undone ({another}): `bulkseed cleanup {claim.number}` does that"
                )
        if isinstance(error, RunError):
            raise type(error)(f"{error}; {said}") from error
        if isinstance(error, BulkseedError):
            # not as wrong input any more: something was touched
            raise RunError(f"{error}; {said}") from error
        if failed:
            began = repr(error) if isinstance(error, Exception) else "interrupted"
            raise RunError(f"{began}; {said}") from error
        watcher.note(said)
        raise


async def undo(connection: Connection, address: Address, claim: Claim, watcher: Watcher) -> str:
    """Take out a run that failed; says what came of it. Raises what :func:`cleanup` raises.

    Where the server goes away it is tried again, for a while: it may be restarting.
    """
    until = anyio.current_time() + PATIENCE_SECONDS
    while True:
        try:
            if not connection.is_closed():
                return await undo_over(connection, address, claim, watcher)
            async with connected(address) as another:
                await ledger.take_turn(another, watcher)
                return await undo_over(another, address, claim, watcher)
        except (ConnectionLost, ConnectError):
            if anyio.current_time() > until:
                raise
            await anyio.sleep(PAUSE_SECONDS)


async def undo_over(connection: Connection, address: Address, claim: Claim, watcher: Watcher) -> str:
    with translated(connection, "reading the ledger"):
        found = [run for run in await ledger.runs(connection) if run.claim == claim]
    if found and found[0].whole:
        return f"but run {claim.number} is whole: only the answer to its last commit was lost"
    if found:
        await taken_out(connection, address, [claim.number], cascade=False, watcher=watcher)
    return "what had begun was undone"
