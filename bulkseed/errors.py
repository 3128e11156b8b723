"""The errors that bulkseed raises: one base class, and a few subclasses by what the caller can do about them.

A message names the problem and its place, then the fix; several problems have a line each. The ``code`` names the kind
of problem for programs and tests, which must not depend on the wording: ``missing-table``, ``no-answer``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final, NoReturn

__all__ = [
    "BulkseedError",
    "ConnectError",
    "ConnectionLostError",
    "DiskFullError",
    "EmbeddedError",
    "InputError",
    "NoEmbeddedServerError",
    "RunError",
    "ServerUnavailableError",
    "StoppedError",
    "TargetError",
    "TransientError",
    "ViolatingRowsError",
    "common_code",
    "escape_controls",
    "first_cause",
    "is_transient_failure",
    "reraise_first",
    "revive",
    "suggestion",
]


class BulkseedError(Exception):
    """Base of all errors that bulkseed raises on purpose."""

    exit_status: ClassVar[int] = 1
    """The exit status of the command line when this error ends it: 1 unless a subclass says otherwise."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code
        """The kind of problem, as lower-case words with hyphens; problems with the same fix share a code."""

    def __reduce__(self) -> tuple[object, ...]:
        return revive, (type(self), str(self), self.code)


def revive(kind: type[BulkseedError], message: str, code: str) -> BulkseedError:
    """Return an unpickled error with its message and code: workers send their errors to the command pickled."""
    return kind(message, code=code)


class InputError(BulkseedError):
    """The request cannot be carried out; nothing was changed. Its exit status is 2, or 4 where no server was found."""

    exit_status: ClassVar[int] = 2


class ConnectError(InputError):
    """The server does not answer, or rejects the user; nothing was changed."""


class ServerUnavailableError(ConnectError):
    """The server accepts no connection at the moment: it does not answer, is starting, or has too many.

    The same request may succeed later. Nothing was changed.
    """

    exit_status: ClassVar[int] = 4


class TargetError(InputError):
    """The database answers, but its tables, types or privileges do not allow the command; nothing was changed."""


class EmbeddedError(InputError):
    """The embedded server cannot be created, started or reached; nothing was changed."""

    exit_status: ClassVar[int] = 4


class NoEmbeddedServerError(EmbeddedError):
    """There can be no embedded server here: its package is not installed, or does not support the platform."""

    exit_status: ClassVar[int] = 2


class RunError(BulkseedError):
    """A command failed after it had begun to write; it undid this, unless the message says otherwise."""


class DiskFullError(RunError):
    """The server's disk is full."""


class ViolatingRowsError(RunError):
    """Indexes or keys cannot be rebuilt, because rows violate them.

    ``after_undo`` is the message for when the rows of the load are gone, and the indexes and keys in place.
    """

    def __init__(self, message: str, *, code: str, after_undo: str = "") -> None:
        super().__init__(message, code=code)
        self.after_undo = after_undo or message


class TransientError(RunError):
    """A temporary failure, such as a deadlock: the same attempt may succeed later."""


class ConnectionLostError(TransientError):
    """The server stopped, or ended the connection, while a command was running."""


class StoppedError(RunError):
    """A load stopped on request, after the shards in progress; `bulkseed resume` continues it."""


def is_transient_failure(error: BaseException) -> bool:
    """Return whether an attempt that ended in this error is worth repeating."""
    return isinstance(error, TransientError | ServerUnavailableError)


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error of a task group to report: the first BulkseedError, else the first error of all."""
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


def common_code(codes: Iterable[str], otherwise: str) -> str:
    """Return the code of an error that reports several problems: theirs if they share one, else ``otherwise``."""
    distinct = set(codes)
    return distinct.pop() if len(distinct) == 1 else otherwise


def escape_controls(text: str) -> str:
    """Return ``text`` with escapes instead of the characters that control a terminal, which names may contain."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


CUTOFF: Final = 0.7
"""The least similarity of a suggested name, from 0 to 1, as :func:`difflib.get_close_matches` measures it."""


def suggestion(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return the end of an error message: ``did you mean … or …`` with the similar names, else ``otherwise``."""
    from difflib import get_close_matches  # noqa: PLC0415 - few commands suggest names

    similar = get_close_matches(name, list(known), cutoff=CUTOFF)
    return f"did you mean {' or '.join(similar)}" if similar else otherwise
