"""Locks between the commands that share an embedded server.

They are ``flock`` locks: the kernel releases one when its process ends in any way.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from bulkseed.embedded.programs import open_private

if sys.platform != "win32":
    import fcntl

__all__ = ["FileLock", "describe_holders", "is_locked"]

_descriptors: set[int] = set()


def _close_inherited() -> None:
    # A forked worker shares its parent's locks, and would keep them after the parent's death.
    for descriptor in _descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _descriptors.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


class FileLock:
    """A lock on a file, which is created if missing; no child process holds it unless it is passed ``fileno()``.

    Every method raises OSError where the file cannot be created or opened, or its file system has no locks.
    """

    __slots__ = ("_descriptor", "is_held")

    def __init__(self, path: Path) -> None:
        self._descriptor = open_private(path, os.O_RDWR)
        _descriptors.add(self._descriptor)
        self.is_held = False

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the file's descriptor; a child process that inherits it holds the lock too."""
        return self._descriptor

    def acquire_exclusive(self) -> None:
        """Wait until no other process holds the lock, and acquire it."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self.is_held = True

    def acquire_shared(self) -> None:
        """Wait until no process holds the lock exclusively, and acquire it along with others."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        self.is_held = True

    def try_exclusive(self) -> bool:
        """Acquire the lock like ``acquire_exclusive``, but return False instead of waiting."""
        return self._try(fcntl.LOCK_EX)

    def try_shared(self) -> bool:
        """Acquire the lock like ``acquire_shared``, but return False instead of waiting."""
        return self._try(fcntl.LOCK_SH)

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self.is_held = True
        return True

    def release(self) -> None:
        """Release the lock; the file stays open."""
        self.is_held = False
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, which releases the lock."""
        if self._descriptor in _descriptors:
            _descriptors.discard(self._descriptor)
            os.close(self._descriptor)


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock on this file exclusively. Raises OSError like FileLock."""
    with FileLock(path) as lock:
        return not lock.try_shared()


def describe_holders(path: Path) -> list[int]:
    """Return the ids of the other processes that hold the lock on this file; none where /proc/locks is missing."""
    return sorted(set(_listed_holders(path)) - {os.getpid()})


def _listed_holders(path: Path) -> Iterator[int]:
    try:
        file = f":{path.stat().st_ino}"
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        match line.split():
            case [_, "FLOCK", _, _, process, locked, *_] if locked.endswith(file) and int(process) > 0:
                yield int(process)
