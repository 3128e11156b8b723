"""What becomes of a run that does not end well: undone at once, or kept for `bulkseed resume`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import anyio

from bulkseed import ledger
from bulkseed.address import Address
from bulkseed.cleanup import taken_out
from bulkseed.connection import Connection, translated
from bulkseed.control import Control
from bulkseed.errors import BulkseedError, RunError, Stopped, TargetError
from bulkseed.ledger import Claim, Ledger
from bulkseed.watch import Watcher

__all__ = ["OnError", "answered_for"]

OnError = Literal["undo", "keep"]


@asynccontextmanager
async def answered_for(
    control: Control, address: Address, book: Ledger, claim: Claim, on_error: OnError, *, deferred: bool
) -> AsyncIterator[None]:
    """Takes a run out again where the block raises an error, or keeps it, and says so.

    ``deferred``: whether indexes and keys may be dropped at the moment.
    Where the block is cancelled, or raises Stopped, the run is kept. Errors of ours become RunError (or what they are
    below that), and say what came of it; where the undoing fails after anything else, RunError is raised. The undoing
    is shielded from anyio's cancellation; one of the event loop's own kind (``Task.cancel``) ends it.
    """
    watcher = control.watcher
    kept = what_is_kept(claim.number, book, deferred=deferred)
    try:
        yield
    except Stopped as stopped:
        raise Stopped(f"{stopped}; {kept}") from stopped
    except Exception as error:
        if on_error == "keep":
            said, failed = kept, False
        else:
            watcher.phase("undo")
            said, failed = await undone(control, address, book, claim, watcher)
        # wrong input still, where a table was held, say, and nothing dropped
        if isinstance(error, RunError) or (isinstance(error, TargetError) and on_error == "undo" and not failed):
            raise type(error)(f"{error}; {said}") from error
        if isinstance(error, BulkseedError):
            # not as wrong input any more: something was touched
            raise RunError(f"{error}; {said}") from error
        if failed:
            raise RunError(f"{error!r}; {said}") from error
        watcher.note(said)
        raise
    except BaseException:
        watcher.note(kept)
        raise


def what_is_kept(number: int, book: Ledger, *, deferred: bool) -> str:
    """How one goes on with a run that is kept, in words."""
    where = "" if book == Ledger() else f" --ledger-schema {book.schema}"
    lacking = ", and indexes and keys are dropped until then" if deferred else ""
    return (
        f"run {number} is kept: `bulkseed resume {number}{where}` goes on, "
        f"`bulkseed cleanup {number}{where}` undoes it{lacking}"
    )


async def undone(control: Control, address: Address, book: Ledger, claim: Claim, watcher: Watcher) -> tuple[str, bool]:
    """Take out a run that failed; says what came of it, and whether that failed."""

    async def once(connection: Connection) -> str:
        with translated(connection, "reading the ledger"):
            found = {run.number: run for run in await ledger.runs(connection, book)}.get(claim.number)
        if found is None:
            return "what had begun was undone"
        if found.claim != claim:
            return "so it is left to that command"
        if found.whole:
            return f"but run {claim.number} is whole: only the answer to its last commit was lost"
        await taken_out(connection, address, book, [claim.number], cascade=False, watcher=watcher)
        return "what had begun was undone"

    with anyio.CancelScope(shield=True):
        try:
            return await control.do("undoing what had begun", once), False
        except Exception as another:
            return (
                f"run {claim.number} could not be undone ({another}): `bulkseed cleanup {claim.number}` does that",
                True,
            )
    raise AssertionError("a shielded scope is not cancelled from outside")
