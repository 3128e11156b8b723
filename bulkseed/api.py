"""bulkseed from Python: what the commands do, as coroutines. They ask nobody: what the guard asks is for the caller.

Each takes a database as a URL, as ``--database-url`` does, and a ``listener`` (:class:`bulkseed.ProgressListener`, or
a subclass of :class:`bulkseed.NullListener`) that is told of the progress. What goes wrong is a
:class:`bulkseed.BulkseedError`.
"""

from __future__ import annotations

from collections.abc import Sequence

from bulkseed.choices import Defer, Format, OnError
from bulkseed.cleaner import cleanup as cleaning
from bulkseed.cleaner.cleanup import CleanupReport
from bulkseed.ledger import SCHEMA, Claim
from bulkseed.listeners import ProgressListener
from bulkseed.loader import load as loading
from bulkseed.loader.completion import LoadReport
from bulkseed.plan.plan import Plan
from bulkseed.plan.shards import ROWS_PER_SHARD
from bulkseed.postgres.address import Address
from bulkseed.postgres.transaction import RetryPolicy
from bulkseed.verifier import verify as verifying
from bulkseed.verifier.verify import VerifyReport

__all__ = ["cleanup", "load", "resume", "verify"]


def placed(url: str | Address) -> Address:
    return url if isinstance(url, Address) else Address.parse(url)


async def load(
    plan: Plan,
    url: str | Address,
    *,
    listener: ProgressListener | None = None,
    workers: int = 1,
    defer: Defer = "auto",
    format: Format = "auto",
    rows_per_shard: int = ROWS_PER_SHARD,
    on_error: OnError = "undo",
    retry_for: float = RetryPolicy().seconds,
    ledger_schema: str = SCHEMA,
) -> LoadReport:
    """Load ``plan`` (of :func:`bulkseed.make_plan`) into the database, whose tables must be there.

    The arguments are the options of ``bulkseed load``. Raises InputError before anything is written, RunError after
    that, when what was loaded is taken out again; cancelled, it keeps the run for resume().
    """
    return await loading.load(
        plan,
        placed(url),
        listener=listener,
        workers=workers,
        defer=defer,
        format=format,
        rows_per_shard=rows_per_shard,
        on_error=on_error,
        retry_policy=RetryPolicy(seconds=retry_for),
        ledger_schema=ledger_schema,
    )


async def resume(
    url: str | Address,
    run: int | None = None,
    *,
    listener: ProgressListener | None = None,
    workers: int = 1,
    format: Format = "auto",
    on_error: OnError = "keep",
    retry_for: float = RetryPolicy().seconds,
    ledger_schema: str = SCHEMA,
) -> LoadReport | None:
    """Finish the run, or the one that was interrupted; None where there is nothing left to do.

    Raises what load() raises.
    """
    return await loading.resume(
        placed(url),
        run,
        listener=listener,
        workers=workers,
        format=format,
        on_error=on_error,
        retry_policy=RetryPolicy(seconds=retry_for),
        ledger_schema=ledger_schema,
    )


async def verify(
    url: str | Address,
    run: int | None = None,
    *,
    listener: ProgressListener | None = None,
    ledger_schema: str = SCHEMA,
) -> list[VerifyReport]:
    """Judge the rows of the run, or of each in the ledger; ``all(report.holds for report in …)`` where all is right.

    Raises InputError where there is no such run, RunError where the server refuses a query.
    """
    return await verifying.verify(placed(url), run, listener=listener, ledger_schema=ledger_schema)


async def cleanup(
    url: str | Address,
    runs: Sequence[int] | None = None,
    *,
    cascade: bool = False,
    listener: ProgressListener | None = None,
    ledger_schema: str = SCHEMA,
) -> CleanupReport:
    """Remove what the runs, or all that nobody is loading now, put in, and nothing else.

    Raises InputError where there is none, RunError, with nothing removed, where other rows point at theirs.
    """
    address = placed(url)
    chosen: list[int | Claim]
    if runs is None:
        chosen = [run.claim for run in await cleaning.recorded_runs(address, ledger_schema=ledger_schema)]
    else:
        chosen = list(runs)
    return await cleaning.cleanup(address, chosen, cascade=cascade, listener=listener, ledger_schema=ledger_schema)
