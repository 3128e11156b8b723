"""Going on with a run that was interrupted: what is not in yet, then indexes, keys and statistics."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

from anyio import to_thread

from bulkseed import ledger
from bulkseed.address import Address
from bulkseed.completion import LoadReport, Undertaking, complete, made_by, recorded, shards_to_come
from bulkseed.connection import Connection, connected, translated
from bulkseed.control import controlled
from bulkseed.errors import InputError, TargetError
from bulkseed.faker_corpus import corpus_of
from bulkseed.generators import Context
from bulkseed.lanes import Format, choose_lanes
from bulkseed.ledger import Claim, Ledger, Run
from bulkseed.orm import orm_connected
from bulkseed.patience import Patience
from bulkseed.prose import longest_text
from bulkseed.reservation import check_rights, system_reactions
from bulkseed.stopping import Stop
from bulkseed.stopwatch import Stopwatch
from bulkseed.target import Target, read_target
from bulkseed.transaction import transaction
from bulkseed.undoing import OnError
from bulkseed.watch import Silent, Watcher
from bulkseed.workers import hired

__all__ = ["interrupted_run", "resume"]

OF_BYTES: Final = ("generator", "faker")
"""The versions that make other rows. NumPy's part is only Philox's raw output, which it keeps stable."""


async def interrupted_run(address: Address, number: int | None, *, ledger_schema: str = ledger.SCHEMA) -> Run | None:
    """The run to go on with: the one with ``number``, or the one that is not whole; None where it is whole already.

    Raises InputError where the ledger has no run, or not that one, or it is being undone.
    """
    async with connected(address) as connection:
        with translated(connection, "reading the ledger"):
            return await chosen(connection, Ledger(ledger_schema), number)


async def resume(
    address: Address,
    number: int | None = None,
    *,
    watcher: Watcher | None = None,
    workers: int = 1,
    format: Format = "auto",
    on_error: OnError = "keep",
    patience: Patience | None = None,
    ledger_schema: str = ledger.SCHEMA,
    stop: Stop | None = None,
) -> LoadReport | None:
    """Finish the run ``number``, or the one that was interrupted; None where there is nothing left to do.

    In the end rows, indexes and keys are those of a load that nothing interrupted. Where another command is loading
    it now, waits for that one. Raises what :func:`bulkseed.load.load` raises, and InputError, with nothing changed,
    where there is no such run, it is being undone, or this bulkseed would make other rows.
    """
    book = Ledger(ledger_schema)
    watcher = watcher or Silent()
    stopwatch = Stopwatch()
    token = str(uuid.uuid4())
    async with controlled(address, patience or Patience(), watcher) as control:
        watcher.phase("check")
        with stopwatch.phase("check"):
            with translated(control.connection, "reading the ledger"):
                begun = await chosen(control.connection, book, number)
            if begun is None:
                return None
            check_versions(begun)
            corpus = await to_thread.run_sync(corpus_of, begun.plan.locale)
            async with orm_connected(address) as orm:
                target = await read_target(orm, longest_text(corpus.lorem))
            await check_target(control.connection, target, begun)
            with translated(control.connection, "checking the target"):
                lanes = await choose_lanes(control.connection, target, format)

        async def take(connection: Connection) -> Claim:
            async with transaction(connection):
                with translated(connection, "taking the run over"):
                    await ledger.check_ledger(connection, book)
                    await ledger.make_ledger(connection, book)
                    return await ledger.take_over(connection, book, begun.number, token)

        claim = await control.do("taking the run over", take)
        run, deferred = await control.do("reading the ledger", lambda connection: recorded(connection, book, claim))
        context = await to_thread.run_sync(Context, run.plan, run.placement, corpus)
        count = max(1, min(workers, sum(shard.kind == "channels" for shard in shards_to_come(run))))
        undertaking = Undertaking(control, address, book, target, lanes, stopwatch, stop or Stop(), on_error)
        async with hired(count - 1) as staff:
            return await complete(undertaking, run, deferred, context, staff, builders=workers)


async def chosen(connection: Connection, book: Ledger, number: int | None) -> Run | None:
    found = await ledger.chosen_runs(connection, book, None if number is None else [number])
    broken = [run for run in found if not run.whole]
    loading = [run for run in broken if run.state == "loading"]
    if broken and not loading:
        raise InputError(
            f"run {broken[0].number} is being undone, so it cannot be resumed: "
            f"finish that with `bulkseed cleanup {broken[0].number}`"
        )
    return loading[0] if loading else None


def check_versions(run: Run) -> None:
    """Raises InputError where the rest of the run's rows would not be those that it began with."""
    ours = made_by()
    for name in OF_BYTES:
        if run.made_by[name] != ours[name]:
            raise InputError(
                f"run {run.number} was begun with {name} {run.made_by[name]}, and this is {ours[name]}, which makes "
                f"other rows: resume it with that version, or undo it with `bulkseed cleanup {run.number}`"
            )


async def check_target(connection: Connection, target: Target, run: Run) -> None:
    """Raises TargetError where the run's tables, rights or catalogue are not what they were when it began."""
    if target.schema != run.schema:
        raise TargetError(
            f"run {run.number} goes into the schema {run.schema!r}, and this login's search_path finds the tables in "
            f"{target.schema!r}: set it as it was"
        )
    with translated(connection, "checking the target"):
        async with transaction(connection):
            await check_rights(connection, target)
            missing = missing_reactions(run.placement.reactions, await system_reactions(connection, target))
    if missing:
        raise TargetError(
            f"the catalogue lacks the reactions {missing}, which run {run.number} began with: put them back, "
            f"or undo the run with `bulkseed cleanup {run.number}`"
        )


def missing_reactions(wanted: Sequence[int], there: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(set(wanted) - set(there))))
