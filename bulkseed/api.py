"""The commands as coroutines for Python programs. They never prompt: confirming the target is up to the caller.

Each takes the URL of a database, as ``--database-url`` does, and an optional ``listener`` for the progress
(:class:`bulkseed.ProgressListener`, or a subclass of :class:`bulkseed.NullListener`). Failures raise a
:class:`bulkseed.BulkseedError`. :mod:`bulkseed.sync` has the same functions for programs without an event loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import get_args

from bulkseed.cleaner import cleanup as cleaning
from bulkseed.cleaner.cleanup import CleanupReport
from bulkseed.cleaner.compare_rows import Changed
from bulkseed.errors import InputError
from bulkseed.ledger import SCHEMA, Claim
from bulkseed.listeners import ProgressListener, Stop
from bulkseed.load_options import (
    Defer,
    FirstIds,
    Format,
    OnError,
    check_first_ids,
    check_ledger_schema,
    default_workers,
)
from bulkseed.loader import check as checking
from bulkseed.loader import load as loading
from bulkseed.loader.check import CheckReport
from bulkseed.loader.complete import LoadReport
from bulkseed.plan.plan import Plan
from bulkseed.plan.shards import ROWS_PER_SHARD
from bulkseed.postgres.address import Address
from bulkseed.postgres.transaction import RetryPolicy
from bulkseed.verifier import verify as verifying
from bulkseed.verifier.verify import VerifyReport

__all__ = ["check", "cleanup", "load", "resume", "verify"]


def to_address(url: str | Address) -> Address:
    return url if isinstance(url, Address) else Address.parse(url)


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InputError(f"{name} is {value!r}: give one of {', '.join(allowed)}", code="invalid-argument")


def check_least(name: str, value: float, least: int) -> None:
    if not value >= least:  # NaN too
        raise InputError(f"{name} is {value!r}: give {least} or more", code="invalid-argument")


def check_work(workers: int | None, copy_format: Format, ledger_schema: str) -> None:
    if workers is not None:
        check_least("workers", workers, 1)
    check_choice("copy_format", copy_format, get_args(Format))
    check_ledger_schema(ledger_schema)


def check_new_run(defer: Defer, rows_per_shard: int, first_ids: FirstIds | None) -> None:
    check_choice("defer", defer, get_args(Defer))
    check_least("rows_per_shard", rows_per_shard, 1)
    if first_ids is not None:
        check_first_ids(first_ids)


def check_failures(on_error: OnError, retry_for: float) -> None:
    check_choice("on_error", on_error, get_args(OnError))
    check_least("retry_for", retry_for, 0)


@contextmanager
def tell_what_is_kept(stop: Stop) -> Iterator[None]:
    """Add the text for a cancelled run to the exception that ends it."""
    try:
        yield
    except BaseException as error:
        if stop.message and not isinstance(error, Exception):
            error.add_note(stop.message)
        raise


async def load(
    plan: Plan,
    url: str | Address,
    *,
    listener: ProgressListener | None = None,
    workers: int | None = None,
    defer: Defer = "auto",
    copy_format: Format = "auto",
    rows_per_shard: int = ROWS_PER_SHARD,
    on_error: OnError = "undo",
    first_ids: FirstIds | None = None,
    retry_for: float = RetryPolicy().seconds,
    ledger_schema: str = SCHEMA,
) -> LoadReport:
    """Load ``plan`` (from :func:`bulkseed.make_plan`) into the existing tables of the database; return the report.

    The arguments are the options of ``bulkseed load``:

    - ``workers``: the number of processes that load, this one included, each with a connection of its own. By default
      one per core, at most 8. A small plan is loaded by fewer. The other processes run
      ``python -m bulkseed.loader.worker``: they do not import the caller's ``__main__``.
    - ``defer``: whether indexes and keys are dropped before the load and rebuilt after it.
    - ``copy_format``: the format of COPY.
    - ``rows_per_shard``: rows per transaction, approximately.
    - ``on_error``: whether a run that fails is undone, or kept for :func:`resume`.
    - ``first_ids``: the first id of each table that has ids, such as ``{"users": 1, "channels": 1, "messages": 1}``, or
      the number of a run to take them from: with these the same plan makes the same rows in emptied tables. By default
      the next free ids. The load is refused if rows with these ids exist.
    - ``retry_for``: seconds to wait for a server that went away; 0 turns off all retries.
    - ``ledger_schema``: the schema where runs are recorded.

    Raises InputError before anything is written; RunError later, after the loaded rows were removed again. A cancelled
    load keeps its run for :func:`resume`; the exception has a note with the number of the run.
    """
    check_work(workers, copy_format, ledger_schema)
    check_new_run(defer, rows_per_shard, first_ids)
    check_failures(on_error, retry_for)
    stop = Stop()
    with tell_what_is_kept(stop):
        return await loading.load(
            plan,
            to_address(url),
            listener=listener,
            workers=workers or default_workers(),
            defer=defer,
            copy_format=copy_format,
            rows_per_shard=rows_per_shard,
            on_error=on_error,
            first_ids=first_ids,
            retry_policy=RetryPolicy(seconds=retry_for),
            ledger_schema=ledger_schema,
            stop=stop,
        )


async def check(
    plan: Plan,
    url: str | Address,
    *,
    listener: ProgressListener | None = None,
    workers: int | None = None,
    defer: Defer = "auto",
    copy_format: Format = "auto",
    rows_per_shard: int = ROWS_PER_SHARD,
    first_ids: FirstIds | None = None,
    ledger_schema: str = SCHEMA,
) -> CheckReport:
    """Run all checks of :func:`load` without writing anything; return what the load would do.

    The arguments are those of :func:`load`. Raises the errors that :func:`load` would raise before it writes:
    InputError with a line for each problem.
    """
    check_work(workers, copy_format, ledger_schema)
    check_new_run(defer, rows_per_shard, first_ids)
    return await checking.check(
        plan,
        to_address(url),
        listener=listener,
        workers=workers or default_workers(),
        defer=defer,
        copy_format=copy_format,
        rows_per_shard=rows_per_shard,
        first_ids=first_ids,
        ledger_schema=ledger_schema,
    )


async def resume(
    url: str | Address,
    run: int | None = None,
    *,
    listener: ProgressListener | None = None,
    workers: int | None = None,
    copy_format: Format = "auto",
    on_error: OnError = "keep",
    retry_for: float = RetryPolicy().seconds,
    ledger_schema: str = SCHEMA,
) -> LoadReport | None:
    """Finish the given run, or the interrupted one; return the report, or None where nothing is left to do.

    The arguments and errors are those of :func:`load`, except that a run that fails is kept by default.
    """
    check_work(workers, copy_format, ledger_schema)
    check_failures(on_error, retry_for)
    stop = Stop()
    with tell_what_is_kept(stop):
        return await loading.resume(
            to_address(url),
            run,
            listener=listener,
            workers=workers or default_workers(),
            copy_format=copy_format,
            on_error=on_error,
            retry_policy=RetryPolicy(seconds=retry_for),
            ledger_schema=ledger_schema,
            stop=stop,
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
    check_ledger_schema(ledger_schema)
    return await verifying.verify(to_address(url), run, listener=listener, ledger_schema=ledger_schema)


async def cleanup(
    url: str | Address,
    runs: Sequence[int] | None = None,
    *,
    cascade: bool = False,
    changed: Changed = "refuse",
    listener: ProgressListener | None = None,
    ledger_schema: str = SCHEMA,
) -> CleanupReport:
    """Remove exactly the rows of the given runs, or of every run that no process is loading now; return the report.

    The report is empty where the database has no run, or ``runs`` is empty.
    Raises InputError where there is no such run; RunError, with nothing removed, where other rows reference these rows
    and ``cascade`` is false, and where rows have ids of a run, but mostly other values than it loaded, unless
    ``changed`` is ``remove`` or ``keep``.
    """
    check_ledger_schema(ledger_schema)
    address = to_address(url)
    chosen: list[int | Claim]
    if runs is None:
        chosen = [run.claim for run in await cleaning.find_removable_runs(address, ledger_schema=ledger_schema)]
    else:
        chosen = list(runs)
    return await cleaning.cleanup(
        address, chosen, cascade=cascade, changed=changed, listener=listener, ledger_schema=ledger_schema
    )
