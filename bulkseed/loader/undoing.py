"""What becomes of a run that does not end well: undone at once, or kept for `bulkseed resume`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from bulkseed import ledger
from bulkseed.choices import OnError
from bulkseed.cleaner.cleanup import remove_runs
from bulkseed.errors import BulkseedError, RunError, ServerUnavailable, Stopped, TargetError
from bulkseed.ledger import Claim, Ledger
from bulkseed.ledger.control import Control
from bulkseed.listeners import Stop
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, translate_errors
from bulkseed.postgres.transaction import RetryPolicy

__all__ = ["RunStatusText", "undo_on_error"]


class RunStatusText:
    """What is known of a run while it goes on; ``deferred``: whether indexes and keys may be dropped at the moment."""

    def __init__(self, number: int, book: Ledger) -> None:
        self.number = number
        self.book = book
        self.deferred = False

    @property
    def kept(self) -> str:
        """How one goes on with the run where it is kept, in words."""
        resume, cleanup = (self.book.command(f"{name} {self.number}") for name in ("resume", "cleanup"))
        lacking = ", and indexes and keys are dropped until then" if self.deferred else ""
        return f"run {self.number} is kept: {resume} goes on, {cleanup} undoes it{lacking}"

    @property
    def half_undone(self) -> str:
        """The same where it is being undone."""
        return f"run {self.number} is being undone: {self.book.command(f'cleanup {self.number}')} goes on with that"


@asynccontextmanager
async def undo_on_error(
    control: Control, address: Address, book: Ledger, claim: Claim, on_error: OnError, stop: Stop
) -> AsyncIterator[RunStatusText]:
    """Takes a run out again where the block raises an error, or keeps it, and says so.

    Where the block is cancelled, raises Stopped, or the server is away for good, the run is kept; ``stop`` is told
    what is to be said of that. Errors of ours become RunError (or what they are below that), and say what came of it;
    where the undoing fails after anything else, RunError is raised. The undoing is shielded from anyio's cancellation;
    one of the event loop's own kind (``Task.cancel``) ends it.
    """
    listener = control.listener
    outcome = RunStatusText(claim.number, book)
    try:
        yield outcome
    except Stopped as stopped:
        raise Stopped(f"{stopped}; {outcome.kept}") from stopped
    except Exception as error:
        failed = False
        away = isinstance(error, ServerUnavailable) and control.connection.is_closed()
        if on_error == "keep" or away:
            # of a server that cannot be reached nothing can be undone, and nothing need be: it may well come back
            said = outcome.kept
        else:
            listener.phase("undo")
            stop.said = outcome.half_undone
            said, failed = await undone(control, address, outcome, claim)
        # wrong input still, where a table was held, say, nothing was dropped, and no row came in
        if isinstance(error, RunError) or (isinstance(error, TargetError) and on_error == "undo" and not failed):
            raise type(error)(f"{error}; {said}") from error
        if isinstance(error, BulkseedError):
            # not as wrong input any more: something was touched
            raise RunError(f"{error}; {said}") from error
        if failed:
            raise RunError(f"{error!r}; {said}") from error
        listener.note(said)
        raise
    except BaseException:
        stop.said = outcome.kept
        raise


async def undone(control: Control, address: Address, outcome: RunStatusText, claim: Claim) -> tuple[str, bool]:
    """Take out a run that failed; says what came of it, and whether that failed."""
    begun, book = False, outcome.book

    async def once(connection: Connection) -> str:
        nonlocal begun
        with translate_errors(connection, "reading the ledger"):
            found = {run.number: run for run in await ledger.runs(connection, book)}.get(claim.number)
        if found is None and not begun:
            return "and is gone: another command has undone it"
        if found is not None and found.claim != claim:
            return "so it is left to that command"
        if found is not None and found.whole:
            return f"but run {claim.number} is whole: only the answer to its last commit was lost"
        begun = True
        if found is not None:
            await remove_runs(connection, address, book, [claim], cascade=False, listener=control.listener)
        return "what had begun was undone"

    with anyio.CancelScope(shield=True):
        try:
            # tried again also where nothing else is: what ended the load may have ended this connection, yet unnoticed
            return await control.do("undoing what had begun", once, retry_policy=RetryPolicy()), False
        except Exception as another:
            if isinstance(another, ServerUnavailable) and not begun:
                return f"{another}; {outcome.kept}", False
            again = book.command(f"cleanup {claim.number}")
            return f"run {claim.number} could not be undone ({another}): {again} does that", True
    raise AssertionError("a shielded scope is not cancelled from outside")
