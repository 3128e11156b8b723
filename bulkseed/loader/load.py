"""Loading: from a plan to rows in the target, shard by shard."""

from __future__ import annotations

import uuid

from bulkseed import ledger
from bulkseed.choices import Defer, Format, OnError
from bulkseed.deferral import save, unfinished
from bulkseed.errors import ConnectError, ConnectionLost, RunError, TargetError
from bulkseed.generators import Context
from bulkseed.ledger import Claim, Ledger
from bulkseed.ledger.control import controlled
from bulkseed.listeners import Silent, Stopwatch, Watcher
from bulkseed.loader.completion import LoadReport, Undertaking, complete, made_by, target_of
from bulkseed.loader.deferring import to_defer
from bulkseed.loader.stopping import Stop
from bulkseed.loader.worker_pool import hired
from bulkseed.plan.estimate import expected_rows
from bulkseed.plan.plan import Plan
from bulkseed.plan.shards import ROWS_PER_SHARD, shard_counts
from bulkseed.plan.tables import WITH_IDS
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, translated
from bulkseed.postgres.retry import Patience
from bulkseed.postgres.transaction import transaction
from bulkseed.target.copy_plan import choose_lanes
from bulkseed.target.ids import check_rights, place, unlogged
from bulkseed.target.trial import try_out

__all__ = ["load", "useful_workers"]


def useful_workers(plan: Plan, most: int, rows_per_shard: int = ROWS_PER_SHARD) -> int:
    """How many of ``most`` workers find something to do: no more than there are shards of channels."""
    return max(1, min(most, shard_counts(plan, rows_per_shard)["channels"]))


async def load(
    plan: Plan,
    address: Address,
    *,
    watcher: Watcher | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    workers: int = 1,
    defer: Defer = "auto",
    format: Format = "auto",
    on_error: OnError = "undo",
    patience: Patience | None = None,
    ledger_schema: str = ledger.SCHEMA,
    stop: Stop | None = None,
) -> LoadReport:
    """Load ``plan`` into the database at ``address``: each shard is a transaction, recorded in the ledger.

    ``workers`` processes do so, each over a connection of its own; one is this process itself. ``defer`` says
    whether indexes and keys are dropped meanwhile and rebuilt after it, ``format`` how rows are sent. None of them
    touches the rows. What passes (lost connections, deadlocks) is tried again, as ``patience`` has it.

    Raises InputError (ConnectError, TargetError) before anything is written, and RunError (ConnectionLost) for
    a failure after that. Then what was loaded is taken out again and what was dropped is rebuilt, unless
    ``on_error`` is ``keep``. Where it is cancelled, or killed, or ``stop`` is asked for (Stopped), the run is
    kept: :func:`bulkseed.resuming.resume` goes on with it, :func:`bulkseed.cleaning.cleanup` undoes it.
    """
    book = Ledger(ledger_schema)
    patience = patience or Patience()
    watcher = watcher or Silent()
    stopwatch = Stopwatch()
    token = str(uuid.uuid4())
    count = useful_workers(plan, workers, rows_per_shard)
    async with hired(count - 1) as staff, controlled(address, patience, watcher) as control:
        watcher.phase("check")
        with stopwatch.phase("check"):
            corpus, target = await target_of(control, plan)
            with translated(control.connection, "checking the target"):
                lanes = await choose_lanes(control.connection, target, format)
                # who lacks a right is to hear of that, and not of what a trial cannot do without it
                await check_rights(control.connection, target)
                await try_out(control.connection, target, lanes, plan, corpus)
        placed: Context | None = None
        reserved: dict[str, int] = {}

        async def begin(connection: Connection) -> Claim:
            nonlocal placed
            if placed is not None:
                # a second try: it may be that only the answer to the first one's commit was lost
                with translated(connection, "reading the ledger"):
                    if found := await ledger.run_of_token(connection, book, token):
                        return found
            async with transaction(connection):
                with stopwatch.phase("check"), translated(connection, "checking the target"):
                    await ledger.check_ledger(connection, book)
                    for each in (book, *await ledger.other_ledgers(connection, book)):
                        await check_unfinished(connection, each)
                    if warning := await unlogged(connection, target):
                        watcher.note(warning)
                    deferred = await to_defer(connection, target, plan, defer, watcher)
                watcher.phase("reserve")
                with stopwatch.phase("reserve"), translated(connection, "reserving ids"):
                    taken = await highest_ids(connection, book)
                    placed = await place(connection, target, plan, corpus, reserved, taken)
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
        undertaking = Undertaking(control, address, book, target, lanes, stopwatch, stop or Stop(), on_error)
        return await complete(undertaking, claim, corpus, staff, builders=count, context=placed)


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
