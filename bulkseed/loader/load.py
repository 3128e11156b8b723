"""Loading a plan: a run recorded and completed, or undone where it fails; and resuming one that was interrupted."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

from bulkseed import ledger
from bulkseed.choices import Defer, Format, OnError
from bulkseed.cleaner.removal import check_owner
from bulkseed.deferral import save, unfinished
from bulkseed.errors import ConnectError, ConnectionLost, InputError, RunError, TargetError
from bulkseed.generators import Context
from bulkseed.generators.plugins import described
from bulkseed.ledger import Claim, Ledger, Run
from bulkseed.ledger.control import controlled
from bulkseed.listeners import NullListener, ProgressListener, Stop, Stopwatch
from bulkseed.loader.completion import LoadReport, LoadSession, complete, made_by, shards_to_come, target_of, to_defer
from bulkseed.loader.worker_pool import start_workers
from bulkseed.plan.activity import expected_rows
from bulkseed.plan.plan import Plan
from bulkseed.plan.shards import ROWS_PER_SHARD, shard_counts
from bulkseed.plan.tables import WITH_IDS
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, connected, preflight_errors, translate_errors
from bulkseed.postgres.transaction import RetryPolicy, transaction
from bulkseed.target.copy_plan import plan_copies
from bulkseed.target.ids import allocate_ids, check_rights, system_reactions, unlogged_warning
from bulkseed.target.target import Target
from bulkseed.target.trial import try_out

__all__ = ["interrupted_run", "load", "resume", "useful_workers"]


def useful_workers(plan: Plan, most: int, rows_per_shard: int = ROWS_PER_SHARD) -> int:
    """How many of ``most`` workers find something to do: no more than there are shards of channels."""
    return max(1, min(most, shard_counts(plan, rows_per_shard)["channels"]))


async def load(
    plan: Plan,
    address: Address,
    *,
    listener: ProgressListener | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    workers: int = 1,
    defer: Defer = "auto",
    format: Format = "auto",
    on_error: OnError = "undo",
    retry_policy: RetryPolicy | None = None,
    ledger_schema: str = ledger.SCHEMA,
    stop: Stop | None = None,
) -> LoadReport:
    """Load ``plan`` into the database at ``address``: each shard is a transaction, recorded in the ledger.

    ``workers`` processes do so, each over a connection of its own; one is this process itself. ``defer`` says
    whether indexes and keys are dropped meanwhile and rebuilt after it, ``format`` how rows are sent. None of them
    touches the rows. What passes (lost connections, deadlocks) is tried again, as ``retry_policy`` has it.

    Raises InputError (ConnectError, TargetError) before anything is written, and RunError (ConnectionLost) for
    a failure after that. Then what was loaded is taken out again and what was dropped is rebuilt, unless
    ``on_error`` is ``keep``. Where it is cancelled, or killed, or ``stop`` is asked for (Stopped), the run is
    kept: :func:`bulkseed.resuming.resume` goes on with it, :func:`bulkseed.cleaning.cleanup` undoes it.
    """
    book = Ledger(ledger_schema)
    retry_policy = retry_policy or RetryPolicy()
    listener = listener or NullListener()
    stopwatch = Stopwatch()
    token = str(uuid.uuid4())
    count = useful_workers(plan, workers, rows_per_shard)
    async with start_workers(count - 1) as pool, controlled(address, retry_policy, listener) as control:
        listener.phase("check")
        with stopwatch.phase("check"):
            corpus, target = await target_of(control, plan)
            with translate_errors(control.connection, "checking the target"):
                lanes = await plan_copies(control.connection, target, format)
                # who lacks a right is to hear of that, and not of what a trial cannot do without it
                await check_rights(control.connection, target)
                await try_out(control.connection, target, lanes, plan, corpus)
        placed: Context | None = None
        reserved: dict[str, int] = {}

        async def begin(connection: Connection) -> Claim:
            nonlocal placed
            if placed is not None:
                # a second try: it may be that only the answer to the first one's commit was lost
                with translate_errors(connection, "reading the ledger"):
                    if found := await ledger.run_of_token(connection, book, token):
                        return found
            async with transaction(connection):
                with stopwatch.phase("check"), translate_errors(connection, "checking the target"):
                    await ledger.check_ledger(connection, book)
                    for each in (book, *await ledger.other_ledgers(connection, book)):
                        await check_unfinished(connection, each)
                    if warning := await unlogged_warning(connection, target):
                        listener.note(warning)
                    deferred = await to_defer(connection, target, plan, defer, listener)
                listener.phase("reserve")
                with stopwatch.phase("reserve"), translate_errors(connection, "reserving ids"):
                    taken = await highest_ids(connection, book)
                    placed = await allocate_ids(connection, target, plan, corpus, reserved, taken)
                    place_of, expected = placed.placement, counts(placed)
                    claim = await ledger.begin_run(
                        connection, book, token, target.schema, plan, place_of, made_by(), expected, rows_per_shard
                    )
                    await save(connection, book.deferred, claim.number, deferred)
            return claim

        try:
            claim = await control.do("reserving ids", begin)
        except (ConnectError, ConnectionLost) as error:
            if placed is None:
                raise
            runs = book.command("runs")
            raise RunError(f"{error}; a run may be recorded by now, without any row: {runs} tells") from error
        session = LoadSession(control, address, book, target, lanes, stopwatch, stop or Stop(), on_error)
        return await complete(session, claim, corpus, pool, rebuild_lanes=count, context=placed)


async def check_unfinished(connection: Connection, book: Ledger) -> None:
    """Raises TargetError where another load was cut off: what it has dropped cannot be seen in the catalogue."""
    states = {run.number: run.state for run in await ledger.runs(connection, book) if not run.whole}
    broken = states.keys() | (await unfinished(connection, book.deferred)).keys()
    if broken:
        number = min(broken)
        finish = f"finish it with {book.command(f'resume {number}')}, or " if states.get(number) == "loading" else ""
        raise TargetError(
            f"run {number} was interrupted, and what it loaded and dropped has not been put right: "
            f"{finish}undo it with {book.command(f'cleanup {number}')}"
        )


async def highest_ids(connection: Connection, book: Ledger) -> dict[str, int]:
    """The last id of all runs that the ledger has, by table."""
    found: dict[str, int] = {}
    for run in await ledger.runs(connection, book):
        for table in run.expected.keys() & set(WITH_IDS):
            found[table] = max(found.get(table, 0), run.ids(table)[1])
    return found


def counts(context: Context) -> dict[str, int]:
    """Rows to come: exact where the plan fixes them, expected where draws decide."""
    rows = {table: round(count) for table, count in expected_rows(context.plan).items()}
    return rows | ({"messages": context.layout.messages} if "messages" in rows else {})


OF_BYTES: Final = ("generator", "faker", "anyascii")
"""The versions that make other rows: those of transforms and of data.

The others are recorded, and may differ. NumPy's part is only Philox's raw output, which it keeps stable; pyarrow's and
Python's are documented functions, whose results the golden rows of the tests pin.
"""


async def interrupted_run(address: Address, number: int | None, *, ledger_schema: str = ledger.SCHEMA) -> Run | None:
    """The run to go on with: the one with ``number``, or the one that is not whole; None where it is whole already.

    Raises InputError where the ledger has no run, or not that one, or it is being undone.
    """
    async with connected(address) as connection:
        with preflight_errors(connection, "reading the ledger"):
            return await chosen(connection, Ledger(ledger_schema), number)


async def resume(
    address: Address,
    wanted: int | Claim | None = None,
    *,
    listener: ProgressListener | None = None,
    workers: int = 1,
    format: Format = "auto",
    on_error: OnError = "keep",
    retry_policy: RetryPolicy | None = None,
    ledger_schema: str = ledger.SCHEMA,
    stop: Stop | None = None,
) -> LoadReport | None:
    """Finish the run ``wanted``, or the one that was interrupted; None where there is nothing left to do.

    A number is what the run is called; a claim (:attr:`bulkseed.ledger.Run.claim`) stands for it as it was found.
    In the end rows, indexes and keys are those of a load that nothing interrupted. Where another command is loading
    it now, waits for that one. Raises what :func:`bulkseed.loading.load` raises, and InputError, with nothing changed,
    where there is no such run, it is being undone, or this bulkseed would make other rows.
    """
    book = Ledger(ledger_schema)
    listener = listener or NullListener()
    stopwatch = Stopwatch()
    token = str(uuid.uuid4())
    async with controlled(address, retry_policy or RetryPolicy(), listener) as control:
        listener.phase("check")
        with stopwatch.phase("check"):
            with translate_errors(control.connection, "reading the ledger"):
                begun = await chosen(control.connection, book, wanted)
            if begun is None:
                return None
            check_versions(begun, book)
            check_tables(begun, book)
            plan = begun.plan
            corpus, target = await target_of(control, plan)
            await check_target(control.connection, target, begun, book)
            with translate_errors(control.connection, "checking the target"):
                lanes = await plan_copies(control.connection, target, format)

        async def take(connection: Connection) -> Claim:
            async with transaction(connection):
                with translate_errors(connection, "taking the run over"):
                    await ledger.check_ledger(connection, book)
                    await ledger.make_ledger(connection, book)
                    # an older ledger has given it a token just now
                    old = begun.claim if begun.token else (await chosen(connection, book, begun.number) or begun).claim
                    return await ledger.take_over(connection, book, old, token, listener)

        count = max(1, min(workers, sum(shard.kind == "channels" for shard in shards_to_come(begun))))
        async with start_workers(count - 1) as pool:
            claim = await control.do("taking the run over", take)
            session = LoadSession(control, address, book, target, lanes, stopwatch, stop or Stop(), on_error)
            return await complete(session, claim, corpus, pool, rebuild_lanes=workers)


async def chosen(connection: Connection, book: Ledger, wanted: int | Claim | None) -> Run | None:
    found = await ledger.chosen_runs(connection, book, None if wanted is None else [wanted])
    broken = [run for run in found if not run.whole]
    loading = [run for run in broken if run.state == "loading"]
    if broken and not loading:
        raise InputError(
            f"run {broken[0].number} is being undone, so it cannot be resumed: "
            f"finish that with {book.command(f'cleanup {broken[0].number}')}"
        )
    return loading[0] if loading else None


def check_versions(run: Run, book: Ledger) -> None:
    """Raises InputError where the rest of the run's rows would not be those that it began with.

    A version that the run lacks was not recorded by the bulkseed that began it, and is no difference.
    """
    ours = made_by()
    for name in OF_BYTES:
        begun_with = run.made_by.get(name, ours[name])
        if begun_with != ours[name]:
            raise InputError(
                f"run {run.number} was begun with {name} {begun_with}, and this is {ours[name]}, which makes "
                f"other rows: resume it with that version, or undo it with {book.command(f'cleanup {run.number}')}"
            )


def check_tables(run: Run, book: Ledger) -> None:
    """The same where the code of a table of the user's own is gone, or says something else of it now."""
    for extra in run.plan.scenario.extras:
        if not extra.source:
            continue
        undo = f"or undo the run with {book.command(f'cleanup {run.number} --cascade')}"
        try:
            found = described(extra.source)
        except InputError as error:
            raise InputError(f"{error}; run {run.number} was begun with it: put it back, {undo}") from error
        if (found.follows, found.columns, dict(found.references)) != (
            extra.follows,
            extra.columns,
            dict(extra.references),
        ):
            raise InputError(
                f"the table {extra.name} of {extra.source!r} is not what run {run.number} began with "
                f"({', '.join(extra.columns)} of {extra.follows}): put its code back, {undo}"
            )


async def check_target(connection: Connection, target: Target, run: Run, book: Ledger) -> None:
    """Raises TargetError where the run's tables, rights or catalogue are not what they were when it began."""
    if target.schema != run.schema:
        raise TargetError(
            f"run {run.number} goes into the schema {run.schema!r}, and this login's search_path finds the tables in "
            f"{target.schema!r}: set it as it was"
        )
    with translate_errors(connection, "checking the target"):
        async with transaction(connection):
            await check_rights(connection, target)
            missing = missing_reactions(run.placement.reactions, await system_reactions(connection, target))
            await check_owner(connection, (await unfinished(connection, book.deferred)).get(run.number, ()))
    if missing:
        raise TargetError(
            f"the catalogue lacks the reactions {missing}, which run {run.number} began with: put them back, "
            f"or undo the run with {book.command(f'cleanup {run.number}')}"
        )


def missing_reactions(wanted: Sequence[int | str], there: Sequence[int | str]) -> str:
    return ", ".join(sorted(map(str, set(wanted) - set(there))))
