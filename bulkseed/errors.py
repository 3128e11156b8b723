"""The errors that bulkseed raises: one base class, and few below it.

A message says what happened, where, and how to fix it. Several problems have a line each. The ``code`` names the kind
of problem for programs and tests, which must not depend on the wording: ``missing-table``, ``no-answer``.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar, Final, NoReturn

__all__ = [
    "BulkseedError",
    "ConnectError",
    "ConnectionLost",
    "DiskFull",
    "EmbeddedError",
    "InputError",
    "RunError",
    "ServerUnavailable",
    "Stopped",
    "TargetError",
    "TransientError",
    "first_cause",
    "is_transient_failure",
    "reraise_first",
    "revive",
    "suggestion",
]


class BulkseedError(Exception):
    """Base of all errors that bulkseed raises on purpose."""

    exit_status: ClassVar[int] = 1
    """The exit status of the command line when this error ends it."""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code
        """The kind of problem: lower-case words with hyphens, the same for as long as the fix is the same."""

    def __reduce__(self) -> tuple[object, ...]:
        return revive, (type(self), str(self), self.code)


def revive(kind: type[BulkseedError], message: str, code: str) -> BulkseedError:
    """Return the error that a process sent to another (see :meth:`BulkseedError.__reduce__`)."""
    return kind(message, code=code)


class InputError(BulkseedError):
    """What was asked for cannot be done; nothing was touched."""

    exit_status: ClassVar[int] = 2


class ConnectError(InputError):
    """The server does not answer, or does not let this login in."""


class ServerUnavailable(ConnectError):
    """The server takes no connection at the moment: it does not answer, is starting, or has too many."""


class TargetError(InputError):
    """The database answers, but its tables, types or rights do not fit."""


class EmbeddedError(InputError):
    """The embedded server cannot be made, started or reached."""


class RunError(BulkseedError):
    """A command failed after it had begun; what it had written was undone, unless the message says otherwise."""


class DiskFull(RunError):
    """The server's disk is full."""


class TransientError(RunError):
    """What passes, such as a deadlock: the same again may well succeed."""


class ConnectionLost(TransientError):
    """The server went away, or ended our connection, in the middle of a run."""


class Stopped(RunError):
    """A load was asked to stop, and did so after the shards in hand; `resume` goes on with it."""


def is_transient_failure(error: BaseException) -> bool:
    """Whether it is worth trying again what ended in this error."""
    return isinstance(error, TransientError | ServerUnavailable)


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error of a task group that says what happened: one of ours if there is one, else the first."""
    leaves = [first_cause(error) if isinstance(error, BaseExceptionGroup) else error for error in group.exceptions]
    return next((error for error in leaves if isinstance(error, BulkseedError)), leaves[0])


def reraise_first(group: BaseExceptionGroup[BaseException]) -> NoReturn:
    """Raise the error that :func:`first_cause` returns, with the cause and context that it was first raised with.

    ``raise first_cause(group) from group`` would replace the cause, such as the driver's error, by a group that
    contains the error itself.
    """
    error = first_cause(group)
    context = error.__context__
    try:
        raise error
    finally:
        # the raise has set it to the group, which is being handled
        error.__context__ = context


NEAR: Final = 0.7
"""Of 1: the least likeness of a name that is offered."""


def suggestion(name: str, known: Iterable[str], otherwise: str) -> str:
    """``did you mean … or …`` for the known names that are near, else ``otherwise``: the end of an error's sentence."""
    near = get_close_matches(name, list(known), cutoff=NEAR)
    return f"did you mean {' or '.join(near)}" if near else otherwise
