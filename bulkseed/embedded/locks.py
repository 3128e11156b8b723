"""Locks between the commands that share an embedded server.

They are ``flock`` locks: the kernel lets go of one when its process ends, however it ends.
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

__all__ = ["FileLock", "holders", "is_locked"]

_descriptors: set[int] = set()


def _forget() -> None:
    # A forked worker shares its parent's locks, and would hold them on after the parent's death.
    for descriptor in _descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _descriptors.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class FileLock:
    """A lock on a file, which is made if missing; no child process holds it unless handed ``fileno()``.

    Raises OSError where the file cannot be made or opened, or its file system has no locks (from any method).
    """

    __slots__ = ("_descriptor", "held")

    def __init__(self, path: Path) -> None:
        self._descriptor = open_private(path, os.O_RDWR)
        _descriptors.add(self._descriptor)
        self.held = False

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the file's descriptor; a child that inherits it holds the lock too."""
        return self._descriptor

    def exclusive(self) -> None:
        """Wait until nobody else holds the lock, and hold it."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self.held = True

    def shared(self) -> None:
        """Wait until nobody holds the lock exclusively, and hold it along with others."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        self.held = True

    def try_exclusive(self) -> bool:
        """Like ``exclusive``, but return False instead of waiting."""
        return self._try(fcntl.LOCK_EX)

    def try_shared(self) -> bool:
        """Like ``shared``, but return False instead of waiting."""
        return self._try(fcntl.LOCK_SH)

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self.held = True
        return True

    def release(self) -> None:
        """Let go of the lock; the file stays open."""
        self.held = False
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, and so let go of the lock."""
        if self._descriptor in _descriptors:
            _descriptors.discard(self._descriptor)
            os.close(self._descriptor)


def is_locked(path: Path) -> bool:
    """Say whether somebody holds the lock on this file exclusively. Raises OSError like FileLock."""
    with FileLock(path) as lock:
        return not lock.try_shared()


def holders(path: Path) -> list[int]:
    """Return the other processes that hold the lock on this file, as far as the system tells (Linux does)."""
    return sorted(set(_listed(path)) - {os.getpid()})


def _listed(path: Path) -> Iterator[int]:
    try:
        file = f":{path.stat().st_ino}"
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        match line.split():
            case [_, "FLOCK", _, _, process, where, *_] if where.endswith(file) and int(process) > 0:
                yield int(process)
