"""The commands as coroutines for Python programs. They never prompt: confirming the target is up to the caller.

Each takes the URL of a database, as ``--database-url`` does, and an optional ``listener`` for the progress
(:class:`bulkseed.ProgressListener`, or a subclass of :class:`bulkseed.NullListener`). Failures raise a
:class:`bulkseed.BulkseedError`.
"""

from __future__ import annotations

from collections.abc import Sequence

from bulkseed.cleaner import cleanup as cleaning
from bulkseed.cleaner.cleanup import CleanupReport
from bulkseed.ledger import SCHEMA, Claim
from bulkseed.listeners import ProgressListener
from bulkseed.load_options import Defer, Format, OnError
from bulkseed.loader import load as loading
from bulkseed.loader.complete import LoadReport
from bulkseed.plan.plan import Plan
from bulkseed.plan.shards import ROWS_PER_SHARD
from bulkseed.postgres.address import Address
from bulkseed.postgres.transaction import RetryPolicy
from bulkseed.verifier import verify as verifying
from bulkseed.verifier.verify import VerifyReport

__all__ = ["cleanup", "load", "resume", "verify"]


def to_address(url: str | Address) -> Address:
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
    """Load ``plan`` (from :func:`bulkseed.make_plan`) into the existing tables of the database; return the report.

    The arguments are the options of ``bulkseed load``. Raises InputError before anything is written; RunError later,
    after the loaded rows were removed again. A cancelled load keeps its run for :func:`resume`.
    """
    return await loading.load(
        plan,
        to_address(url),
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
    """Finish the given run, or the interrupted one; return the report, or None where nothing is left to do.

    Raises the errors of :func:`load`.
    """
    return await loading.resume(
        to_address(url),
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
    """Check the rows of the given run, or of every run in the ledger; return a report for each.

    Every rule holds where ``all(report.holds for report in reports)``. Raises InputError where there is no such run,
    RunError where the server refuses a query.
    """
    return await verifying.verify(to_address(url), run, listener=listener, ledger_schema=ledger_schema)


async def cleanup(
    url: str | Address,
    runs: Sequence[int] | None = None,
    *,
    cascade: bool = False,
    listener: ProgressListener | None = None,
    ledger_schema: str = SCHEMA,
) -> CleanupReport:
    """Remove exactly the rows of the given runs, or of every run that no process is loading now; return the report.

    The report is empty where the database has no run, or ``runs`` is empty.
    Raises InputError where there is no such run; RunError, with nothing removed, where other rows reference these rows
    and ``cascade`` is false.
    """
    address = to_address(url)
    chosen: list[int | Claim]
    if runs is None:
        chosen = [run.claim for run in await cleaning.find_removable_runs(address, ledger_schema=ledger_schema)]
    else:
        chosen = list(runs)
    return await cleaning.cleanup(address, chosen, cascade=cascade, listener=listener, ledger_schema=ledger_schema)
