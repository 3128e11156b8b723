"""Undoing a run that fails, or keeping it for `bulkseed resume`."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from bulkseed.cleaner.cleanup import remove_runs
from bulkseed.errors import (
    BulkseedError,
    RunError,
    ServerUnavailableError,
    StoppedError,
    TargetError,
    ViolatingRowsError,
)
from bulkseed.ledger import Claim, Ledger, read_records
from bulkseed.ledger.control import Control
from bulkseed.listeners import Phase, Stop
from bulkseed.load_options import OnError
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, translate_errors
from bulkseed.postgres.transaction import RetryPolicy

__all__ = ["RunStatusText", "undo_on_error"]


logger = logging.getLogger(__name__)


class RunStatusText:
    """Texts for the user about a run in progress; ``deferred``: whether its indexes and keys may be dropped now."""

    def __init__(self, number: int, ledger: Ledger) -> None:
        self.number = number
        self.ledger = ledger
        self.deferred = False

    @property
    def kept(self) -> str:
        """For a run that is kept: the commands that finish or undo it."""
        resume, cleanup = (self.ledger.command(f"{name} {self.number}") for name in ("resume", "cleanup"))
        dropped = "; its indexes and keys stay dropped until then" if self.deferred else ""
        return f"run {self.number} is kept: finish it with {resume}, or undo it with {cleanup}{dropped}"

    @property
    def undone(self) -> str:
        """For a run of which nothing is left."""
        return f"run {self.number} was undone"

    @property
    def undoing(self) -> str:
        """For a run whose undoing is cut short: the command that finishes the undoing."""
        return f"run {self.number} is being undone: finish that with {self.ledger.command(f'cleanup {self.number}')}"


@asynccontextmanager
async def undo_on_error(
    control: Control, address: Address, ledger: Ledger, claim: Claim, on_error: OnError, stop: Stop
) -> AsyncIterator[RunStatusText]:
    """Undo a run if the block raises an error, or keep it, and say so in the error that is raised instead.

    - The block is cancelled or raises StoppedError, or the server cannot be reached: the run is kept. For a
      cancellation, ``stop.message`` gets the text.
    - RunError, and TargetError if the undoing succeeds: an error of the same class, with the result of the undoing.
    - Other errors of bulkseed: RunError with the result of the undoing.
    - Any other exception: the same exception, with the result as a note (``add_note``), or RunError if the undoing
      fails.

    The result is a line of its own. The code is that of the error, or ``undo-failed`` if the undoing fails.

    The undoing is shielded from cancellation by anyio; a cancellation by the event loop (``Task.cancel``) ends it.
    """
    listener = control.listener
    status = RunStatusText(claim.number, ledger)
    try:
        yield status
    except StoppedError as stopped:
        raise StoppedError(f"{stopped}\n{status.kept}", code=stopped.code) from stopped
    except Exception as error:
        is_undo_failed = False
        stop.message = status.kept
        is_server_away = isinstance(error, ServerUnavailableError) and not await control.is_connected()
        if on_error == "keep" or is_server_away:
            # a server that cannot be reached cannot undo anything, and may come back
            result = status.kept
        else:
            listener.phase(Phase.UNDO)
            stop.message = status.undoing
            result, is_undo_failed = await undo_run(control, address, status, claim)
        logger.info("%s: %s", type(error).__name__, result)
        text = str(error)
        if isinstance(error, ViolatingRowsError) and result == status.undone:
            text = error.after_undo
        code = "undo-failed" if is_undo_failed or not isinstance(error, BulkseedError) else error.code
        # still an InputError: if a table was locked, for example, nothing was dropped and no row was loaded
        if isinstance(error, RunError) or (
            isinstance(error, TargetError) and on_error == "undo" and not is_undo_failed
        ):
            raise type(error)(f"{text}\n{result}", code=code) from error
        if isinstance(error, BulkseedError):
            # no longer an InputError, which promises that nothing was touched
            raise RunError(f"{error}\n{result}", code=code) from error
        if is_undo_failed:
            raise RunError(f"{error!r}\n{result}", code=code) from error
        error.add_note(result)
        raise
    except BaseException:
        stop.message = status.kept
        raise


async def undo_run(control: Control, address: Address, status: RunStatusText, claim: Claim) -> tuple[str, bool]:
    """Remove a failed run; return the result as text, and whether the undoing failed."""
    begun, ledger, number = False, status.ledger, claim.number

    async def once(connection: Connection) -> str:
        nonlocal begun
        with translate_errors(connection, "reading the ledger"):
            runs = [record.run for record in await read_records(connection, ledger) if record.number == number]
        run = runs[0] if runs else None
        if run is None and not begun:
            return f"run {number} is gone: another command has undone it"
        if run is not None and run.claim != claim:
            return f"run {number} is left to the command that has taken it over"
        if run is not None and run.is_complete:
            return f"run {number} is complete: only the answer to its last commit was lost"
        begun = True
        if run is not None:
            report = await remove_runs(connection, address, ledger, [claim], cascade=False, listener=control.listener)
            if report.other_rows:
                control.listener.note(report.other_rows)
        return status.undone

    with anyio.CancelScope(shield=True):
        try:
            # with the default policy, even if the command retries nothing: the error that ended the load may have
            # ended this connection too, unnoticed so far
            return await control.do("undoing the run", once, retry_policy=RetryPolicy()), False
        except Exception as error:
            if isinstance(error, ServerUnavailableError) and not begun:
                return f"{error}\n{status.kept}", False
            cleanup = ledger.command(f"cleanup {number}")
            return f"undoing run {number} failed: {error}\ncorrect that, and undo the run with {cleanup}", True
    raise AssertionError("a shielded scope is not cancelled from outside")
