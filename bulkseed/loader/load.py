"""Loading a plan: a run recorded and completed, or undone where it fails; and resuming one that was interrupted."""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Final

from anyio import to_thread

from bulkseed.cleaner.count_rows import describe_missing_rows
from bulkseed.cleaner.delete_rows import check_owner
from bulkseed.deferral import read_unfinished, save
from bulkseed.errors import BulkseedError, ConnectError, ConnectionLostError, InputError, RunError, TargetError
from bulkseed.generators import Context
from bulkseed.generators.plugins import describe_plugin_table
from bulkseed.ledger import (
    SCHEMA,
    Claim,
    Ledger,
    Run,
    begin_run,
    check_ledger,
    find_run_by_token,
    find_runs,
    limit_read,
    limit_wait,
    make_ledger,
    read_records,
    take_over,
)
from bulkseed.ledger.control import Control, open_control
from bulkseed.listeners import NullListener, Phase, ProgressListener, Stop, Stopwatch
from bulkseed.load_options import Defer, FirstIds, Format, OnError
from bulkseed.loader.complete import (
    LoadReport,
    LoadSession,
    choose_deferred,
    complete_run,
    current_versions,
    make_pools,
    missing_shards,
    read_corpus_and_target,
)
from bulkseed.loader.first_ids import allocate_first_ids, returned_on_error
from bulkseed.loader.preflight import check_ledgers, run_preflight
from bulkseed.loader.worker_pool import start_workers
from bulkseed.plan.activity import expected_rows
from bulkseed.plan.plan import Plan
from bulkseed.plan.shards import ROWS_PER_SHARD, shard_counts
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, check_errors, open_connection, preflight_errors, translate_errors
from bulkseed.postgres.transaction import RetryPolicy, transaction
from bulkseed.target.copy_plan import plan_copies
from bulkseed.target.ids import (
    Reserved,
    check_privileges,
    find_left_out_tables,
    find_unlogged_tables,
    list_reservations,
    read_system_reactions,
)
from bulkseed.target.target import Target
from bulkseed.text.faker_source import make_corpus

__all__ = ["find_interrupted_run", "load", "resume", "useful_workers"]


logger = logging.getLogger(__name__)


def useful_workers(plan: Plan, limit: int, rows_per_shard: int = ROWS_PER_SHARD) -> int:
    """Return the number of workers, up to ``limit``, that have work: at most one for each shard of a stage."""
    return max(1, min(limit, max(shard_counts(plan, rows_per_shard).values())))


async def load(
    plan: Plan,
    address: Address,
    *,
    listener: ProgressListener | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    workers: int = 1,
    defer: Defer = "auto",
    copy_format: Format = "auto",
    on_error: OnError = "undo",
    first_ids: FirstIds | None = None,
    retry_policy: RetryPolicy | None = None,
    ledger_schema: str = SCHEMA,
    stop: Stop | None = None,
) -> LoadReport:
    """Load ``plan`` into the database at ``address``: each shard is a transaction, recorded in the ledger.

    ``workers`` is the number of processes that load, this one included, each over a connection of its own. ``defer``:
    whether indexes and keys are dropped for the load and rebuilt after it. ``copy_format``: the format of COPY. The
    rows depend on none of these. ``first_ids``: the first id of each table that has ids, or the number of a recorded
    run to take them from; by default the next free ones. Transient errors (lost connections, deadlocks) are retried by
    ``retry_policy``.

    Raises InputError (ConnectError, TargetError) before anything is written, and RunError (ConnectionLostError) for a
    failure after that. The loaded rows are then removed, and dropped indexes and keys rebuilt, unless ``on_error`` is
    ``keep``. If the load is cancelled or killed, or ``stop`` is asked for (StoppedError), the run is kept:
    :func:`resume` finishes it, :func:`bulkseed.cleaner.cleanup.cleanup` undoes it.
    """
    ledger = Ledger(ledger_schema)
    retry_policy = retry_policy or RetryPolicy()
    listener = listener or NullListener()
    stopwatch = Stopwatch(logger)
    token = str(uuid.uuid4())
    count = useful_workers(plan, workers, rows_per_shard)
    async with start_workers(count - 1) as pool, open_control(address, retry_policy, listener) as control:
        listener.phase(Phase.CHECK)
        with stopwatch.phase("check"):
            corpus = await to_thread.run_sync(make_corpus, plan.locale)
            pools = await make_pools(plan)
            checked = await control.do(
                "checking the target",
                lambda connection: run_preflight(connection, address, plan, corpus, ledger, copy_format),
            )
            target, copy_plans = checked.target, checked.copy_plans
        context: Context | None = None
        reserved: Reserved = {}

        async def begin(connection: Connection) -> Claim:
            nonlocal context
            if context is not None:
                # a repetition: the first attempt may have been committed, and only the answer lost
                with translate_errors(connection, "reading the ledger"):
                    async with limit_read(connection, ledger):
                        claim = await find_run_by_token(connection, ledger, token)
                if claim is not None:
                    return claim
            # chosen ids may be those of a run that is still recorded
            async with (
                returned_on_error(connection, reserved if first_ids is None else {}),
                transaction(connection),
            ):
                with stopwatch.phase("check"), check_errors(connection, "checking the target"):
                    # again: where the connection was lost, another command may have been here
                    await check_ledgers(connection, ledger)
                    for find_note in (find_unlogged_tables, find_left_out_tables):
                        if note := await find_note(connection, target):
                            listener.note(note)
                    deferral = await choose_deferred(connection, target, plan, defer, copy_plans, corpus)
                    checked.check_order(deferral.deferred, plan, rows_per_shard)
                if dropped := len(deferral.deferred):
                    logger.info("%s indexes and keys are dropped for the load, and rebuilt after it", dropped)
                else:
                    logger.info("indexes and keys stay in place: %s", deferral.reason)
                for sentence in (*checked.trial.notes, *deferral.notes):
                    listener.note(sentence)
                listener.phase(Phase.RESERVE)
                with stopwatch.phase("reserve"), translate_errors(connection, "reserving ids"):
                    context = await allocate_first_ids(
                        connection, ledger, target, plan, corpus, first_ids, reserved, listener
                    )
                    reservations = await list_reservations(connection, target, reserved)
                    async with limit_wait(connection, ledger):
                        claim = await begin_run(
                            connection,
                            ledger,
                            token,
                            target.schema,
                            plan,
                            context.placement,
                            current_versions(),
                            expected_counts(context),
                            rows_per_shard,
                            reservations,
                            ids_given=first_ids is not None,
                        )
                        await save(connection, ledger.deferred, claim.number, deferral.deferred)
            return claim

        try:
            claim = await control.do("reserving ids", begin)
        except (ConnectError, ConnectionLostError) as error:
            if context is None:
                raise
            raise RunError(
                f"{error}\na run without rows may have been recorded: list the runs with {ledger.command('runs')}",
                code=error.code,
            ) from error
        logger.info("run %s is recorded in %s, for the schema %s", claim.number, ledger.runs, target.schema)
        session = LoadSession(control, address, ledger, target, copy_plans, stopwatch, stop or Stop(), on_error, pools)
        return await complete_run(session, claim, corpus, pool, rebuild_connections=count, context=context)


def expected_counts(context: Context) -> dict[str, int]:
    """Return the number of rows of each table: exact if the plan fixes it, expected if draws decide."""
    rows = {table: round(count) for table, count in expected_rows(context.plan).items()}
    return rows | ({"messages": context.layout.messages} if "messages" in rows else {})


ROW_VERSIONS: Final = ("generator", "faker", "anyascii")
"""The versions of transforms and data, with which the rows of a plan change.

The other recorded versions may differ. From NumPy only the raw output of Philox is used, which it keeps stable; from
pyarrow and Python documented functions, whose results the golden rows of the tests pin.
"""


async def find_interrupted_run(address: Address, number: int | None, *, ledger_schema: str = SCHEMA) -> Run | None:
    """Return the run to resume: the one with ``number``, or the incomplete one; None if there is none.

    Raises InputError if there is no run with ``number``, or the run is being undone.
    """
    async with open_connection(address) as connection:
        with preflight_errors(connection, "reading the ledger"):
            return await find_interrupted(connection, Ledger(ledger_schema), number)


async def resume(
    address: Address,
    wanted: int | Claim | None = None,
    *,
    listener: ProgressListener | None = None,
    workers: int = 1,
    copy_format: Format = "auto",
    on_error: OnError = "keep",
    retry_policy: RetryPolicy | None = None,
    ledger_schema: str = SCHEMA,
    stop: Stop | None = None,
) -> LoadReport | None:
    """Finish the run ``wanted``, or the one that was interrupted; return None if no run is incomplete.

    A claim (:attr:`bulkseed.ledger.Run.claim`) instead of a number refuses a run that has changed since it was read.
    The final rows, indexes and keys are those of an uninterrupted load. Waits for a command that is loading the run
    now. Raises the errors of :func:`load`, and InputError, with nothing changed, if there is no such run, it is being
    undone, or this version of bulkseed would make other rows.
    """
    ledger = Ledger(ledger_schema)
    listener = listener or NullListener()
    stopwatch = Stopwatch(logger)
    token = str(uuid.uuid4())
    async with open_control(address, retry_policy or RetryPolicy(), listener) as control:
        listener.phase(Phase.CHECK)
        with stopwatch.phase("check"):
            with translate_errors(control.connection, "reading the ledger"):
                run = await find_interrupted(control.connection, ledger, wanted)
            if run is None:
                return None
            check_versions(run, ledger)
            check_tables(run, ledger)
            corpus, target = await read_corpus_and_target(control, run.plan)
            await check_target(control.connection, target, run, ledger)
            pools = await make_pools(run.plan) if missing_shards(run) else {}
            with translate_errors(control.connection, "checking the target"):
                copy_plans = await plan_copies(control.connection, target, copy_format)

        async def take_run_over(connection: Connection) -> Claim:
            async with transaction(connection):
                with translate_errors(connection, "taking the run over"):
                    async with limit_wait(connection, ledger):
                        await check_ledger(connection, ledger)
                        await make_ledger(connection, ledger)
                    old = run.claim
                    if not run.token:
                        # an older ledger, in which make_ledger() has just given the run a token
                        old = (await find_interrupted(connection, ledger, run.number) or run).claim
                    return await take_over(connection, ledger, old, token, listener)

        in_stages = Counter(shard.stage for shard in missing_shards(run))
        count = max(1, min(workers, max(in_stages.values(), default=1)))
        async with start_workers(count - 1) as pool:
            claim = await control.do("taking the run over", take_run_over)
            logger.info("run %s is taken over", claim.number)
            session = LoadSession(
                control, address, ledger, target, copy_plans, stopwatch, stop or Stop(), on_error, pools
            )
            report = await complete_run(session, claim, corpus, pool, rebuild_connections=workers)
        await note_missing_rows(control, ledger, claim)
        return report


async def note_missing_rows(control: Control, ledger: Ledger, claim: Claim) -> None:
    """Tell the listener of rows that were loaded before the interruption, and are gone. The run is complete anyway."""

    async def once(connection: Connection) -> list[str]:
        with translate_errors(connection, "counting rows"):
            (run,) = await find_runs(connection, ledger, [claim])
            return await describe_missing_rows(connection, run)

    try:
        sentences = await control.do("counting rows", once)
    except BulkseedError as error:
        sentences = [f"the rows of run {claim.number} could not be counted: {error}"]
    for sentence in sentences:
        control.listener.note(sentence)


async def find_interrupted(connection: Connection, ledger: Ledger, wanted: int | Claim | None) -> Run | None:
    if wanted is None:  # a complete run need not be readable
        runs = [record.run for record in await read_records(connection, ledger) if record.state != "whole"]
    else:
        runs = await find_runs(connection, ledger, [wanted])
    incomplete = [run for run in runs if not run.is_complete]
    loading = [run for run in incomplete if run.state == "loading"]
    if incomplete and not loading:
        number = incomplete[0].number
        raise InputError(
            f"run {number} is being undone, so it cannot be resumed: "
            f"finish that with {ledger.command(f'cleanup {number}')}",
            code="run-being-undone",
        )
    return loading[0] if loading else None


def check_versions(run: Run, ledger: Ledger) -> None:
    """Raise InputError if the missing rows of the run would differ from those of the versions that it began with.

    A version that the run lacks was not recorded by the bulkseed that began it, and is no difference.
    """
    versions = current_versions()
    for name in ROW_VERSIONS:
        recorded = run.made_by.get(name, versions[name])
        if recorded != versions[name]:
            raise InputError(
                f"run {run.number} was begun with {name} {recorded}, and this is {versions[name]}, which makes "
                f"other rows: resume it with that version, or undo it with {ledger.command(f'cleanup {run.number}')}",
                code="other-version",
            )


def check_tables(run: Run, ledger: Ledger) -> None:
    """Raise InputError if the code of a plugin's table is gone, or describes another table than when the run began."""
    for extra in run.plan.scenario.extras:
        if not extra.source:
            continue
        undo = f"undo the run with {ledger.command(f'cleanup {run.number} --cascade')}"
        try:
            table = describe_plugin_table(extra.source)
        except InputError as error:
            raise InputError(
                f"{error}\nrun {run.number} was begun with that code: restore it, or {undo}", code=error.code
            ) from error
        if (table.follows, table.columns, dict(table.references)) != (
            extra.follows,
            extra.columns,
            dict(extra.references),
        ):
            raise InputError(
                f"the table {extra.name} of {extra.source!r} has changed since run {run.number} began "
                f"(with {', '.join(extra.columns)} of {extra.follows}): restore its code, or {undo}",
                code="plugin-changed",
            )


async def check_target(connection: Connection, target: Target, run: Run, ledger: Ledger) -> None:
    """Raise TargetError if the run's tables, privileges or catalogue differ from those when it began."""
    if target.schema != run.schema:
        raise TargetError(
            f"run {run.number} was loaded into the schema {run.schema!r}, and search_path now finds the tables in "
            f"{target.schema!r}: set search_path so that {run.schema!r} is found first",
            code="other-schema",
        )
    with translate_errors(connection, "checking the target"):
        async with transaction(connection):
            await check_privileges(connection, target)
            missing = missing_reactions(run.placement.reactions, await read_system_reactions(connection, target))
            async with limit_read(connection, ledger):
                unfinished = await read_unfinished(connection, ledger.deferred, [run.number])
            await check_owner(connection, unfinished.get(run.number, ()))
    if missing:
        raise TargetError(
            f"the catalogue lacks the reactions {missing}, which run {run.number} began with: restore them, "
            f"or undo the run with {ledger.command(f'cleanup {run.number}')}",
            code="missing-reactions",
        )


def missing_reactions(wanted: Sequence[int | str], existing: Sequence[int | str]) -> str:
    return ", ".join(sorted(map(str, set(wanted) - set(existing))))
