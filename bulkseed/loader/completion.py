"""Completing a run: the shards that are not in yet, then indexes and keys, statistics, and the ledger's word for it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

import numpy as np
import pyarrow as pa
from anyio import to_thread

from bulkseed import ledger
from bulkseed.choices import OnError
from bulkseed.copy.writer import CopyInto
from bulkseed.deferral import LOCK_SECONDS, Deferred, drop, mark_rebuilt, unfinished
from bulkseed.errors import RunError
from bulkseed.generators import Context
from bulkseed.ledger import Claim, Ledger, Run
from bulkseed.ledger.control import Control
from bulkseed.listeners import Stopwatch, Watcher
from bulkseed.loader.deferring import what_is_locked
from bulkseed.loader.filling import Filling
from bulkseed.loader.shard_load import Endpoint, Job
from bulkseed.loader.stopping import Stop
from bulkseed.loader.undoing import answered_for
from bulkseed.loader.worker_pool import Worker
from bulkseed.plan.ids import uuids_of
from bulkseed.plan.plan import Placement, Plan
from bulkseed.plan.shards import Shard, cut
from bulkseed.plan.tables import Model
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, translated
from bulkseed.postgres.transaction import transaction
from bulkseed.randomness.streams import GENERATOR_VERSION
from bulkseed.target.copy_plan import with_keys
from bulkseed.target.target import Target, read_target
from bulkseed.text.corpus import Corpus
from bulkseed.text.faker_corpus import FAKER_VERSION, corpus_of

__all__ = ["LoadReport", "Undertaking", "complete", "made_by", "shards_to_come", "target_of"]


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a load did: its number in the ledger, rows by table, and seconds by phase with ``total``.

    The seconds of a table are those of its COPYs, over all workers; ``copy`` is the wall time of all of them.
    ``deferred`` says whether indexes and keys were dropped and rebuilt, ``workers`` how many loaded. ``rows`` has all
    of the run's, ``loaded`` those that this command loaded: a resumed run has some from before.
    """

    run: int
    plan: Plan
    placement: Placement
    rows: Mapping[str, int]
    seconds: Mapping[str, float]
    deferred: bool
    workers: int
    loaded: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Undertaking:
    """What a load and what goes on with one have in common: where rows go and how, and what is done about trouble."""

    control: Control
    address: Address
    book: Ledger
    target: Target
    lanes: Mapping[str, CopyInto]
    stopwatch: Stopwatch
    stop: Stop
    on_error: OnError


async def target_of(control: Control, plan: Plan) -> tuple[Corpus, Target]:
    """The corpus of a plan's locale, and its tables, checked to take what is made. Raises ConnectError, TargetError."""
    corpus = await to_thread.run_sync(corpus_of, plan.locale)
    target = await control.do("reading the tables", lambda connection: read_target(connection, plan.model))
    return corpus, target


def made_by() -> dict[str, str]:
    """The versions of all that a run's bytes depend on, by name.

    ``anyascii`` writes the names in e-mail addresses. ``pyarrow`` joins texts, and writes numbers and moments as text
    in templates. ``python`` draws Faker's values and the ``random`` of rows, and writes JSON.
    """
    return {
        "bulkseed": version("bulkseed"),
        "generator": str(GENERATOR_VERSION),
        "faker": FAKER_VERSION,
        "anyascii": version("anyascii"),
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
        "python": platform.python_version(),
    }


def shards_to_come(run: Run) -> list[Shard]:
    """The shards of a run that are not in."""
    assert run.rows_per_shard is not None
    return [shard for shard in cut(run.plan, run.rows_per_shard) if shard.number not in (run.shards or ())]


async def recorded(connection: Connection, book: Ledger, claim: Claim) -> tuple[Run, tuple[Deferred, ...]]:
    """A run that is ours as the ledger has it, and what has yet to be rebuilt after it.

    Raises RunError where it is not ours any more.
    """
    with translated(connection, "reading the ledger"):
        (run,) = await ledger.chosen_runs(connection, book, [claim.number])
        if run.claim != claim:
            raise RunError(f"run {claim.number} is not this command's any more: another command goes on with it")
        return run, (await unfinished(connection, book.deferred)).get(run.number, ())


async def complete(
    undertaking: Undertaking,
    claim: Claim,
    corpus: Corpus,
    staff: Sequence[Worker],
    builders: int,
    context: Context | None = None,
) -> LoadReport:
    """Bring a run that is recorded, and ours, to its end; what was dropped for it is rebuilt over ``builders``
    connections. ``context`` is what its plan and placement make, where the caller has that already.

    Raises RunError (ConnectionLost) for what does not pass, when the run is undone, or kept if ``on_error`` is so; and
    Stopped, when it is kept.
    """
    control, book, target = undertaking.control, undertaking.book, undertaking.target
    stopwatch, watcher, stop = undertaking.stopwatch, control.watcher, undertaking.stop
    address, on_error = undertaking.address, undertaking.on_error
    async with answered_for(control, address, book, claim, on_error, stop) as outcome:
        run, deferred = await control.do("reading the ledger", lambda connection: recorded(connection, book, claim))
        outcome.deferred = bool(deferred)
        if context is None or context.placement != run.placement:
            context = await to_thread.run_sync(Context, run.plan, run.placement, corpus)
        shards = shards_to_come(run)
        endpoint = Endpoint.of(address)
        keys = uuids_of(run.plan, run.placement, run.expected.get("messages", 0))
        tables = run.plan.model.by_name
        lanes = {name: with_keys(into, tables[name], keys) for name, into in undertaking.lanes.items()}
        job = Job(endpoint, book, claim, run.plan, run.placement, corpus, lanes, control.patience, path_of(run.plan))
        filling = Filling(job, shards, run.rows, staff, builders, stopwatch, watcher, stop)
        filled = tables_of(shards, run.plan.model)
        in_the_way = dropped_for(filled, deferred, target)

        async def clear(connection: Connection) -> None:
            # a run that another has finished or undone meanwhile has its indexes and keys, to the last
            ours = partial(ledger.share_run, connection, book, claim)
            await drop(connection, in_the_way, lock_timeout=LOCK_SECONDS, before=ours)

        if in_the_way:
            watcher.phase("drop")
            watcher.note(what_is_locked(in_the_way))
            with stopwatch.phase("drop"):
                await control.do("dropping indexes and keys", clear)
        if shards:
            watcher.expect({name: max(0, run.expected[name] - run.rows[name]) for name in filled})
        if deferred:
            await filling.fill_and_rebuild(control, context, target, deferred)
        else:
            await filling.fill(control, context)
            await analyze(control, target, stopwatch, watcher)
        watcher.phase("commit")

        async def record(connection: Connection) -> None:
            async with transaction(connection):
                await check_all_in(connection, book, run.claim)
                with translated(connection, "recording the run"):
                    await mark_rebuilt(connection, book.deferred, run.number, deferred)
                    await ledger.finish_run(connection, book, run.claim, filling.rows, stopwatch.report())

        await control.do("recording the run", record)
    return LoadReport(
        run.number,
        run.plan,
        run.placement,
        filling.rows,
        stopwatch.report(),
        deferred=bool(deferred),
        workers=1 + len(staff),
        loaded={table: rows - run.rows[table] for table, rows in filling.rows.items()},
    )


async def check_all_in(connection: Connection, book: Ledger, claim: Claim) -> None:
    """Raises RunError where a shard that was committed is not in any more: a server may come back with less."""
    found, _ = await recorded(connection, book, claim)
    if gone := len(shards_to_come(found)):
        raise RunError(
            f"run {claim.number} has lost shards that were in ({gone} of them): "
            "the server came back without what it had committed (from a copy that was behind?)"
        )


def path_of(plan: Plan) -> tuple[str, ...]:
    """Where a worker is to look for the code of a scenario: nowhere where there is none."""
    return tuple(sys.path) if plan.scenario.extras or plan.scenario.fields else ()


def tables_of(shards: Iterable[Shard], model: Model) -> list[str]:
    stages = {shard.stage for shard in shards}
    return [table for table in model.names if model.stage(table) in stages]


def dropped_for(filled: Sequence[str], deferred: Sequence[Deferred], target: Target) -> list[Deferred]:
    """What of ``deferred`` is to be out of the way while the tables ``filled`` get rows."""
    names = {target.name(table) for table in filled}
    return [each for each in deferred if each.table in names or each.parent in names]


async def analyze(control: Control, target: Target, stopwatch: Stopwatch, watcher: Watcher) -> None:
    # fresh statistics, so that a load test's first queries are planned for the rows that are there
    watcher.phase("analyze")

    async def once(connection: Connection) -> None:
        with translated(connection, "ANALYZE"):
            await connection.execute(f"ANALYZE {', '.join(target.tables())}")

    with stopwatch.phase("analyze"):
        await control.do("ANALYZE", once)
