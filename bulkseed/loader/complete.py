"""Completing a run: missing shards, then indexes and keys, statistics, and the record in the ledger."""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import pyarrow as pa
from anyio import to_thread

from bulkseed.copy.writer import CopyPlan
from bulkseed.deferral import LOCK_SECONDS, Deferred, NotDeferred, capture_proven, drop, mark_rebuilt, read_unfinished
from bulkseed.errors import RunError
from bulkseed.generators import Context
from bulkseed.generators.shard_context import FakerPools, make_faker_pools
from bulkseed.ledger import Claim, Ledger, Run, find_runs, finish_run, limit_read, limit_wait, lost_run_error, share_run
from bulkseed.ledger.control import Control
from bulkseed.listeners import Phase, ProgressListener, Stop, Stopwatch
from bulkseed.load_options import Defer, OnError
from bulkseed.loader.fill_tables import TableFiller
from bulkseed.loader.load_shard import Endpoint, Job
from bulkseed.loader.sample_rows import fill_with_samples
from bulkseed.loader.undo import undo_on_error
from bulkseed.loader.worker_pool import Worker
from bulkseed.plan.activity import expected_rows
from bulkseed.plan.plan import PLAN_VERSION, Placement, Plan
from bulkseed.plan.shards import Shard, split_into_shards, uuids_of
from bulkseed.plan.tables import Model
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, translate_errors
from bulkseed.postgres.optional import execute_optional
from bulkseed.postgres.transaction import transaction
from bulkseed.randomness.draws import GENERATOR_VERSION
from bulkseed.sql import compose, plain_names
from bulkseed.target.copy_plan import with_keys
from bulkseed.target.counter_triggers import (
    CounterTrigger,
    describe_counter_triggers,
    find_counter_triggers,
    stages_of,
)
from bulkseed.target.guard import estimate_rows
from bulkseed.target.target import Target, read_target
from bulkseed.target.thread_keys import describe_thread_key, find_thread_key
from bulkseed.text.faker_source import FAKER_VERSION, make_corpus
from bulkseed.text.fakes import share_faker
from bulkseed.text.names import Corpus

__all__ = [
    "Deferral",
    "LoadReport",
    "LoadSession",
    "choose_deferred",
    "complete_run",
    "current_versions",
    "describe_locks",
    "is_worth_deferring",
    "make_pools",
    "missing_shards",
    "read_corpus_and_target",
]

logger = logging.getLogger(__name__)

LEAST_ROWS: Final = 20_000
"""For fewer new rows, dropping and rebuilding costs more than it saves (``python -m benchmarks inplace``)."""

MOST_EXISTING_PER_NEW: Final = 5.0
"""The largest ratio of existing rows to new rows for which deferral pays (``python -m benchmarks inplace``).

Both ways take equally long at a ratio of 7 (one worker) to 9 (two workers). The limit is lower, because an app does
without the indexes and keys meanwhile.
"""

ANALYZE_SECONDS: Final = 10
"""The wait for a lock before the tables are left to autovacuum's ANALYZE."""

INSERT_ACTIONS: Final = """
SELECT format('the trigger %s of %s', tgname, tgrelid::regclass) FROM pg_trigger
WHERE tgrelid = ANY ($1::text[]::regclass[]) AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype::int & 4 <> 0
UNION ALL
SELECT format('the rule %s of %s', rulename, ev_class::regclass) FROM pg_rewrite
WHERE ev_class = ANY ($1::text[]::regclass[]) AND ev_type = '3' AND ev_enabled <> 'D'
"""
"""The triggers and rules that act at an INSERT into the tables $1: an ``ON CONFLICT`` in them needs the keys."""


def is_worth_deferring(new_rows: float, existing_rows: float) -> bool:
    """Return whether rebuilding the indexes of all rows costs less than maintaining them while new rows are loaded."""
    return new_rows >= LEAST_ROWS and existing_rows <= MOST_EXISTING_PER_NEW * new_rows


@dataclass(frozen=True, slots=True)
class Deferral:
    """The indexes and keys to drop and rebuild, and the reason why all of them stay in place, if none are dropped.

    ``notes`` are sentences for the user on what stays.
    """

    deferred: tuple[Deferred, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()


async def choose_deferred(
    connection: Connection,
    target: Target,
    plan: Plan,
    defer: Defer,
    copy_plans: Mapping[str, CopyPlan],
    corpus: Corpus,
) -> Deferral:
    """Return which indexes and keys to drop and rebuild: those of which it is proven that they can be rebuilt.

    Changes nothing. Raises the errors of asyncpg.
    """
    if defer == "never":
        return Deferral(reason="--defer never")
    if defer == "auto":
        tables = target.sql_tables()
        new, existing = sum(expected_rows(plan).values()), await estimate_rows(connection, tables)
        if not is_worth_deferring(new, existing):
            rows = f"{new:,.0f} new rows and {existing:,.0f} existing ones"
            reason = f"rebuilding them would take longer than it saves, for {rows}"
            return Deferral(reason=reason)
        actions = [row[0] for row in await connection.fetch(INSERT_ACTIONS, tables)]
        if actions:
            named = f"INSERT into the tables runs {', '.join(actions)}, which may need them"
            note = f"indexes and keys stay in place during the load: {named} (--defer always drops them all the same)"
            return Deferral(reason=named, notes=(note,))
    fill = partial(fill_with_samples, connection, target, copy_plans, plan, corpus)
    names = [target.model.name(table) for table in target.model.names]
    captured = await capture_proven(connection, target.schema, names, fill)
    notes = tuple(describe_kept(captured.kept))
    return Deferral(
        captured.deferred, "" if captured.deferred else "none of them can be dropped and rebuilt exactly", notes
    )


def describe_locks(deferred: Sequence[Deferred]) -> str:
    """Return a sentence on the locks that dropping and rebuilding takes, for other users of the tables."""
    names = {definition.table for definition in deferred}
    names |= {definition.parent for definition in deferred if definition.parent}
    return (
        f"{len(deferred)} indexes and keys are dropped, and rebuilt after the load; meanwhile statements on "
        f"{len(names)} table{'s' * (len(names) > 1)} may have to wait (--defer never drops none)"
    )


def describe_kept(kept: tuple[NotDeferred, ...]) -> list[str]:
    """Return a sentence for each reason why indexes or keys stay in place during the load."""
    by_reason: dict[str, list[NotDeferred]] = {}
    for index in kept:
        by_reason.setdefault(index.reason, []).append(index)
    return [
        f"{f'{len(those)} indexes and keys' if len(those) > 1 else f'the {those[0].kind} {those[0].name}'} of "
        f"{plain_names(', '.join(dict.fromkeys(index.table for index in those)))} "
        f"{'stay' if len(those) > 1 else 'stays'} in place during the load: {plain_names(reason)}"
        for reason, those in by_reason.items()
    ]


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The result of a load."""

    run: int
    """The number of the run in the ledger."""
    plan: Plan
    """The plan that was loaded."""
    placement: Placement
    """The first ids of the run."""
    rows: Mapping[str, int]
    """The number of rows of the run, by table."""
    seconds: Mapping[str, float]
    """Wall-clock seconds by phase (:class:`bulkseed.Phase`), and ``total``.

    Tables are among the names too: their seconds are those of their COPYs, added up over all workers.
    """
    deferred: bool
    """Whether indexes and keys were dropped for the load and rebuilt after it."""
    workers: int
    """The number of processes that loaded, this one included."""
    loaded: Mapping[str, int]
    """The number of rows that this load has added, by table: fewer than ``rows`` if it has resumed the run."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as values of JSON, with the plan's ``seed`` and ``as_of``."""
        return {
            "run": self.run,
            "seed": self.plan.seed,
            "as_of": self.plan.as_of.isoformat(),
            "first_ids": self.placement.first_ids(self.plan.model.names),
            "rows": dict(self.rows),
            "loaded": dict(self.loaded),
            "seconds": dict(self.seconds),
            "workers": self.workers,
            "deferred": self.deferred,
        }


@dataclass(frozen=True, slots=True)
class LoadSession:
    """The values that loading and resuming share: the target, how tables are copied, and how errors are handled."""

    control: Control
    address: Address
    ledger: Ledger
    target: Target
    copy_plans: Mapping[str, CopyPlan]
    stopwatch: Stopwatch
    stop: Stop
    on_error: OnError
    pools: FakerPools


async def read_corpus_and_target(control: Control, plan: Plan) -> tuple[Corpus, Target]:
    """Return the corpus of a plan's locale and the plan's tables, whose columns are checked.

    Raises ConnectError, and TargetError if the tables do not fit.
    """
    corpus = await to_thread.run_sync(make_corpus, plan.locale)
    target = await control.do("reading the tables", lambda connection: read_target(connection, plan.model))
    return corpus, target


async def make_pools(plan: Plan) -> FakerPools:
    """Return the values of Faker that the plan's fields draw from. Raises InputError if Faker or a provider fails.

    A cancellation takes effect at once: the end of the process that makes the values ends the thread too.
    """
    with share_faker() as process:
        pools = await to_thread.run_sync(make_faker_pools, plan, abandon_on_cancel=True)
        process.stop()  # a load may take hours, and needs no further values
        return pools


def current_versions() -> dict[str, str]:
    """Return the versions of everything that the bytes of a run depend on, by name.

    ``anyascii`` transliterates the names in e-mail addresses. ``pyarrow`` joins texts, and formats numbers and
    timestamps in templates. ``python`` draws Faker's values and the ``random`` of rows, and writes JSON. ``plan`` is
    the version of the plan's JSON, which the ledger keeps.
    """
    return {
        "bulkseed": version("bulkseed"),
        "generator": str(GENERATOR_VERSION),
        "plan": str(PLAN_VERSION),
        "faker": FAKER_VERSION,
        "anyascii": version("anyascii"),
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
        "python": platform.python_version(),
    }


def missing_shards(run: Run) -> list[Shard]:
    """Return the shards of a run that are not loaded."""
    assert run.rows_per_shard is not None
    return [
        shard for shard in split_into_shards(run.plan, run.rows_per_shard) if shard.number not in (run.shards or ())
    ]


async def read_claimed_run(connection: Connection, ledger: Ledger, claim: Claim) -> tuple[Run, tuple[Deferred, ...]]:
    """Return a run from the ledger, and its indexes and keys that have yet to be rebuilt.

    Raises RunError if this command has lost the run.
    """
    with translate_errors(connection, "reading the ledger"):
        (run,) = await find_runs(connection, ledger, [claim.number])
        if run.claim != claim:
            raise lost_run_error(claim.number, ledger)
        async with limit_read(connection, ledger):
            unfinished = await read_unfinished(connection, ledger.deferred, [run.number])
        return run, unfinished.get(run.number, ())


async def complete_run(
    session: LoadSession,
    claim: Claim,
    corpus: Corpus,
    pool: Sequence[Worker],
    rebuild_connections: int,
    context: Context | None = None,
) -> LoadReport:
    """Load the missing shards of a recorded run and rebuild its indexes and keys, over ``rebuild_connections``.

    ``context`` is the one of the run's plan and placement, if the caller has made it already.

    Raises RunError (ConnectionLostError) for errors that retries do not overcome; the run is then undone, or kept if
    ``on_error`` is ``keep``. Raises StoppedError with the run kept.
    """
    control, ledger, target = session.control, session.ledger, session.target
    stopwatch, listener, stop = session.stopwatch, control.listener, session.stop
    address, on_error = session.address, session.on_error
    async with undo_on_error(control, address, ledger, claim, on_error, stop) as status:
        run, deferred = await control.do(
            "reading the ledger", lambda connection: read_claimed_run(connection, ledger, claim)
        )
        status.deferred = bool(deferred)
        if context is None or context.placement != run.placement:
            context = await to_thread.run_sync(Context, run.plan, run.placement, corpus)
        shards = missing_shards(run)
        logger.info("run %s: %s shards to load with %s workers", run.number, len(shards), 1 + len(pool))
        endpoint = Endpoint.of(address)
        keys = uuids_of(run.plan, run.placement, run.expected.get("messages", 0))
        tables = run.plan.model.by_name
        copy_plans = {name: with_keys(into, tables[name], keys) for name, into in session.copy_plans.items()}
        job = Job(
            endpoint,
            ledger,
            claim,
            run.plan,
            run.placement,
            corpus,
            copy_plans,
            control.retry_policy,
            import_path_for(run.plan),
            session.pools,
            lowest_log_level(),
        )
        counters = await find_shared_writes(control, target) if pool and shards else []
        if counters:
            listener.note(describe_counter_triggers(counters))
        filling = TableFiller(
            job, shards, run.rows, pool, rebuild_connections, stopwatch, listener, stop, stages_of(counters, target)
        )
        names = tables_to_fill(shards, run.plan.model)
        to_drop = definitions_to_drop(names, deferred, target)

        async def drop_definitions(connection: Connection) -> None:
            # not if another command has finished or undone the run, whose indexes and keys are then in place
            check_claim = partial(share_run, connection, ledger, claim)
            await drop(connection, to_drop, lock_timeout=LOCK_SECONDS, before=check_claim)

        if to_drop:
            listener.phase(Phase.DROP)
            listener.note(
                f"{len(to_drop)} indexes and keys are dropped, and rebuilt after the load; until then, other programs "
                "may have to wait for these tables (--defer never keeps all of them in place)"
            )
            with stopwatch.phase("drop"):
                await control.do("dropping indexes and keys", drop_definitions)
        if pool and (key := await control.do("reading foreign keys", partial(find_thread_key, target=target))):
            listener.note(describe_thread_key(key, target))
            filling.alone = {*filling.alone, "messages"}
        if shards:
            listener.expect({name: max(0, run.expected[name] - run.rows[name]) for name in names})
        if deferred:
            await filling.fill_and_rebuild(control, context, target, deferred)
        else:
            await filling.fill(control, context)
            await analyze(control, target, stopwatch, listener)
        listener.phase(Phase.COMMIT)

        async def record(connection: Connection) -> None:
            async with transaction(connection):
                await check_all_shards(connection, ledger, run.claim)
                with translate_errors(connection, "recording the run"):
                    async with limit_wait(connection, ledger):
                        await mark_rebuilt(connection, ledger.deferred, run.number, deferred)
                        await finish_run(connection, ledger, run.claim, filling.rows, stopwatch.report())

        await control.do("recording the run", record)
        logger.info("run %s is complete: %s rows", run.number, sum(filling.rows.values()))
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


async def find_shared_writes(control: Control, target: Target) -> list[CounterTrigger]:
    """Return the triggers for which shards are loaded one at a time, as two of them could deadlock."""

    async def once(connection: Connection) -> list[CounterTrigger]:
        with translate_errors(connection, "reading triggers"):
            return await find_counter_triggers(connection, target)

    return await control.do("reading triggers", once)


async def check_all_shards(connection: Connection, ledger: Ledger, claim: Claim) -> None:
    """Raise RunError if a committed shard is lost: after a crash, a server may come back without recent commits."""
    run, _ = await read_claimed_run(connection, ledger, claim)
    if count := len(missing_shards(run)):
        raise RunError(
            f"run {claim.number} has lost committed shards ({count} of them): the server came back without them, "
            "perhaps from a standby that was behind",
            code="lost-shards",
        )


def import_path_for(plan: Plan) -> tuple[str, ...]:
    """Return the ``sys.path`` with which a worker imports the code of a scenario; empty if the plan needs none."""
    return tuple(sys.path) if plan.scenario.extras or plan.scenario.fields else ()


def lowest_log_level() -> int:
    """Return the lowest level of bulkseed's loggers: workers send no records below it."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("bulkseed.")]
    return min(logging.getLogger(name).getEffectiveLevel() for name in ("bulkseed", *names))


def tables_to_fill(shards: Iterable[Shard], model: Model) -> list[str]:
    stages = {shard.stage for shard in shards}
    return [table for table in model.names if model.stage(table) in stages]


def definitions_to_drop(tables: Sequence[str], deferred: Sequence[Deferred], target: Target) -> list[Deferred]:
    """Return those of ``deferred`` that concern one of ``tables``, as their own table or the referenced one."""
    names = {target.sql_name(table) for table in tables}
    return [definition for definition in deferred if definition.table in names or definition.parent in names]


async def analyze(control: Control, target: Target, stopwatch: Stopwatch, listener: ProgressListener) -> None:
    # so that the first queries of a load test are planned with the statistics of the new rows
    listener.phase(Phase.ANALYZE)

    async def once(connection: Connection) -> None:
        for table in target.sql_tables():
            # one message is one transaction, to which the setting is limited
            statement = compose(
                "SET LOCAL lock_timeout = '{seconds}s'; ANALYZE {table}", seconds=ANALYZE_SECONDS, table=table
            )
            await execute_optional(connection, statement, f"ANALYZE {table}", listener.note)

    with stopwatch.phase("analyze"):
        await control.do("ANALYZE", once)
