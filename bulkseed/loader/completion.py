"""Completing a run: its missing shards, then indexes and keys, statistics, and its record in the ledger."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Final

import numpy as np
import pyarrow as pa
from anyio import to_thread

from bulkseed import ledger
from bulkseed.choices import Defer, OnError
from bulkseed.copy.writer import CopyPlan
from bulkseed.deferral import LOCK_SECONDS, Deferred, NotDeferred, capture, drop, mark_rebuilt, unfinished
from bulkseed.errors import RunError
from bulkseed.generators import Context
from bulkseed.ledger import Claim, Ledger, Run
from bulkseed.ledger.control import Control
from bulkseed.listeners import ProgressListener, Stop, Stopwatch
from bulkseed.loader.filling import Filling
from bulkseed.loader.shard_load import Endpoint, Job
from bulkseed.loader.undoing import undo_on_error
from bulkseed.loader.worker_pool import Worker
from bulkseed.plan.activity import expected_rows
from bulkseed.plan.plan import Placement, Plan
from bulkseed.plan.shards import Shard, split_into_shards, uuids_of
from bulkseed.plan.tables import Model
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, translate_errors
from bulkseed.postgres.transaction import transaction
from bulkseed.randomness.draws import GENERATOR_VERSION
from bulkseed.target.copy_plan import with_keys
from bulkseed.target.guard import estimated_rows
from bulkseed.target.target import Target, read_target
from bulkseed.text.faker_source import FAKER_VERSION, corpus_of
from bulkseed.text.names import Corpus

__all__ = [
    "LoadReport",
    "LoadSession",
    "complete",
    "is_worth_it",
    "made_by",
    "shards_to_come",
    "target_of",
    "to_defer",
    "what_is_locked",
]

LEAST_ROWS: Final = 20_000
"""Below so many new rows, dropping and rebuilding costs more than it saves (``python -m benchmarks inplace``)."""

MOST_OLD: Final = 5.0
"""So many times the new rows may be there already (``python -m benchmarks inplace``).

The two ways take as long at 7 (one worker) to 9 times (two); before that, what an app loses meanwhile weighs more.
"""

ACTING: Final = """
SELECT format('the trigger %s of %s', tgname, tgrelid::regclass) FROM pg_trigger
WHERE tgrelid = ANY ($1::text[]::regclass[]) AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype::int & 4 <> 0
UNION ALL
SELECT format('the rule %s of %s', rulename, ev_class::regclass) FROM pg_rewrite
WHERE ev_class = ANY ($1::text[]::regclass[]) AND ev_type = '3' AND ev_enabled <> 'D'
"""
"""What an app does at each INSERT into the tables $1: its ``ON CONFLICT``, say, needs the keys."""


def is_worth_it(new_rows: float, old_rows: float) -> bool:
    """Whether rebuilding the indexes of old and new rows costs less than keeping them up for the new ones."""
    return new_rows >= LEAST_ROWS and old_rows <= MOST_OLD * new_rows


async def to_defer(
    connection: Connection, target: Target, plan: Plan, defer: Defer, listener: ProgressListener
) -> tuple[Deferred, ...]:
    """What is to be dropped and rebuilt; nothing where the load is to keep all of it up. Nothing is changed.

    Raises what asyncpg raises.
    """
    if defer == "never":
        return ()
    if defer == "auto":
        tables = target.tables()
        old_rows = await estimated_rows(connection, tables)
        if not is_worth_it(sum(expected_rows(plan).values()), old_rows):
            return ()
        acting = [row[0] for row in await connection.fetch(ACTING, tables)]
        if acting:
            listener.note(
                f"indexes and keys stay in place during the load, as {', '.join(acting)} may want them: "
                "give --defer always if they do not"
            )
            return ()
    found = await capture(connection, target.schema, [target.model.name(table) for table in target.model.names])
    for said in told(found.kept):
        listener.note(said)
    return found.deferred


def what_is_locked(deferred: Sequence[Deferred]) -> str:
    """What dropping and rebuilding does to who else works with the tables, in a sentence."""
    tables = ", ".join(sorted({each.table for each in deferred} | {each.parent for each in deferred if each.parent}))
    return (
        f"{len(deferred)} indexes and keys are dropped, and rebuilt after the load; {tables} are locked for a moment "
        "at each step, and against writing while an index of theirs is built (--defer never leaves all in place)"
    )


def told(kept: tuple[NotDeferred, ...]) -> list[str]:
    """A sentence for each reason for which something stays in place during the load."""
    reasons = Counter((each.table, each.reason) for each in kept)
    names = {(each.table, each.reason): f"the {each.kind} {each.name}" for each in kept}
    return [
        f"{names[key] if count == 1 else f'{count} indexes and keys'} of {key[0]} "
        f"{'stays' if count == 1 else 'stay'} in place during the load: {key[1]}"
        for key, count in reasons.items()
    ]


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
class LoadSession:
    """What a load and what goes on with one have in common: where rows go and how, and what is done about trouble."""

    control: Control
    address: Address
    book: Ledger
    target: Target
    lanes: Mapping[str, CopyPlan]
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
    return [
        shard for shard in split_into_shards(run.plan, run.rows_per_shard) if shard.number not in (run.shards or ())
    ]


async def recorded(connection: Connection, book: Ledger, claim: Claim) -> tuple[Run, tuple[Deferred, ...]]:
    """A run that is ours as the ledger has it, and what has yet to be rebuilt after it.

    Raises RunError where it is not ours any more.
    """
    with translate_errors(connection, "reading the ledger"):
        (run,) = await ledger.chosen_runs(connection, book, [claim.number])
        if run.claim != claim:
            raise RunError(f"run {claim.number} is not this command's any more: another command goes on with it")
        return run, (await unfinished(connection, book.deferred)).get(run.number, ())


async def complete(
    session: LoadSession,
    claim: Claim,
    corpus: Corpus,
    pool: Sequence[Worker],
    rebuild_lanes: int,
    context: Context | None = None,
) -> LoadReport:
    """Bring a run that is recorded, and ours, to its end; what was dropped for it is rebuilt over ``rebuild_lanes``
    connections. ``context`` is what its plan and placement make, where the caller has that already.

    Raises RunError (ConnectionLost) for what does not pass, when the run is undone, or kept if ``on_error`` is so; and
    Stopped, when it is kept.
    """
    control, book, target = session.control, session.book, session.target
    stopwatch, listener, stop = session.stopwatch, control.listener, session.stop
    address, on_error = session.address, session.on_error
    async with undo_on_error(control, address, book, claim, on_error, stop) as outcome:
        run, deferred = await control.do("reading the ledger", lambda connection: recorded(connection, book, claim))
        outcome.deferred = bool(deferred)
        if context is None or context.placement != run.placement:
            context = await to_thread.run_sync(Context, run.plan, run.placement, corpus)
        shards = shards_to_come(run)
        endpoint = Endpoint.of(address)
        keys = uuids_of(run.plan, run.placement, run.expected.get("messages", 0))
        tables = run.plan.model.by_name
        lanes = {name: with_keys(into, tables[name], keys) for name, into in session.lanes.items()}
        job = Job(
            endpoint, book, claim, run.plan, run.placement, corpus, lanes, control.retry_policy, path_of(run.plan)
        )
        filling = Filling(job, shards, run.rows, pool, rebuild_lanes, stopwatch, listener, stop)
        filled = tables_of(shards, run.plan.model)
        in_the_way = dropped_for(filled, deferred, target)

        async def clear(connection: Connection) -> None:
            # a run that another has finished or undone meanwhile has its indexes and keys, to the last
            ours = partial(ledger.share_run, connection, book, claim)
            await drop(connection, in_the_way, lock_timeout=LOCK_SECONDS, before=ours)

        if in_the_way:
            listener.phase("drop")
            listener.note(what_is_locked(in_the_way))
            with stopwatch.phase("drop"):
                await control.do("dropping indexes and keys", clear)
        if shards:
            listener.expect({name: max(0, run.expected[name] - run.rows[name]) for name in filled})
        if deferred:
            await filling.fill_and_rebuild(control, context, target, deferred)
        else:
            await filling.fill(control, context)
            await analyze(control, target, stopwatch, listener)
        listener.phase("commit")

        async def record(connection: Connection) -> None:
            async with transaction(connection):
                await check_all_in(connection, book, run.claim)
                with translate_errors(connection, "recording the run"):
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
        workers=1 + len(pool),
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


async def analyze(control: Control, target: Target, stopwatch: Stopwatch, listener: ProgressListener) -> None:
    # fresh statistics, so that a load test's first queries are planned for the rows that are there
    listener.phase("analyze")

    async def once(connection: Connection) -> None:
        with translate_errors(connection, "ANALYZE"):
            await connection.execute(f"ANALYZE {', '.join(target.tables())}")

    with stopwatch.phase("analyze"):
        await control.do("ANALYZE", once)
