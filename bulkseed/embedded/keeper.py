"""The keeper: the small process that owns an embedded PostgreSQL, and ends it after the last command.

Run by its file's path with ``python -I -S``, so it imports the standard library only:

    keeper.py HOME SOCKET_FOLDER UID GID POSTGRES ARGUMENT…

UID and GID are -1 where the server runs under this process's account. The program returns at once; a background
process, the server's parent, holds the lock on HOME/keeper.lock. Every command holds HOME/clients.lock shared, and the
keeper waits for it exclusively: the kernel grants that when the last command has ended in any way. Both locks are
released when the server has ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

try:
    import ctypes
except ImportError:  # a Python built without libffi
    ctypes = None  # type: ignore[assignment]

__all__ = ["main"]

FAST_LIMIT = 15.0
"""Seconds for a fast shutdown, which writes a checkpoint (to the page cache: fsync is off), before an immediate one,
which leaves recovery to the next start. With a full disk a fast shutdown would never end."""
QUIT_LIMIT = 15.0
"""Seconds for the immediate shutdown before SIGKILL; the server kills its own remaining processes after 5."""

_PR_SET_PDEATHSIG = 1
_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}


def main(arguments: list[str]) -> None:
    """Start the server of the command line, and wait until it has ended. Never returns."""
    home, socket_folder, uid, gid, *command = arguments
    signal.pthread_sigmask(signal.SIG_SETMASK, _STOP_SIGNALS)  # received by sigwait in _stop_on_signal
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir(home)
    keeper_lock = os.open("keeper.lock", os.O_RDWR | os.O_CLOEXEC)
    clients = os.open("clients.lock", os.O_RDWR | os.O_CLOEXEC)
    fcntl.flock(keeper_lock, fcntl.LOCK_EX)
    # The command that started this process must not have to reap it: it may be busy, or have ended.
    if os.fork():
        os._exit(0)
    server = _spawn(command, int(uid), int(gid))
    for wait in (_stop_after_last_client, _stop_on_signal):
        threading.Thread(target=wait, args=(server, clients), daemon=True).start()
    os.waitpid(server, 0)
    with contextlib.suppress(OSError):
        os.rmdir(socket_folder)  # noqa: PTH106 - not empty after a crash; the next start empties it
    os._exit(0)


def _spawn(command: list[str], uid: int, gid: int) -> int:
    die_with_keeper = _parent_death_signal()
    keeper = os.getpid()
    server = os.fork()
    if server:
        return server
    try:
        if uid >= 0:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        die_with_keeper()  # after the change of account, which resets the setting
        if os.getppid() != keeper:
            os._exit(1)
        os.dup2(2, 1)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execv(command[0], command)  # noqa: S606
    except OSError as error:
        os.write(2, f"FATAL:  cannot run {command[0]}: {error.strerror}\n".encode(errors="replace"))
    finally:
        os._exit(127)


def _parent_death_signal() -> Callable[[], object]:
    """Return a function that makes Linux interrupt the calling process when its parent dies; elsewhere a no-op."""
    if ctypes is None or not sys.platform.startswith("linux"):
        return lambda: None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)


def _stop_after_last_client(server: int, clients: int) -> None:
    fcntl.flock(clients, fcntl.LOCK_EX)
    _stop(server)


def _stop_on_signal(server: int, clients: int) -> None:
    signal.sigwait(_STOP_SIGNALS)
    _stop(server)


def _stop(server: int) -> None:
    # The process ends with the server, so this thread need not check whether the server has ended.
    for number, limit in ((signal.SIGINT, FAST_LIMIT), (signal.SIGQUIT, QUIT_LIMIT), (signal.SIGKILL, 0.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(server, number)
        time.sleep(limit)


if __name__ == "__main__":
    main(sys.argv[1:])
