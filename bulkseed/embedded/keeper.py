"""The keeper: the small process that owns an embedded PostgreSQL, and ends it after the last command.

Run by its file's path with ``python -I -S``, so it imports the standard library only:

    keeper.py HOME SOCKET_FOLDER UID GID POSTGRES ARGUMENT…

UID and GID are -1 where the server runs as ourselves. The program returns at once, with the lock on
HOME/keeper.lock held by a process in the background that is the server's parent. Every command holds
HOME/clients.lock shared, so the keeper waits for it exclusively: the kernel grants that when the last
command is gone, however it died. Both locks are free again when the server is gone.
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
"""Seconds that the server has to write all down (to the page cache: fsync is off), before it is told to leave
that to the next start. With a full disk it would try for ever."""
QUIT_LIMIT = 15.0
"""Seconds that it then has, before it is killed; it kills its own stragglers after 5."""

_PR_SET_PDEATHSIG = 1
_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}


def main(arguments: list[str]) -> None:
    """Start the server of the command line, and stay until it is gone. Never returns."""
    home, socket_folder, uid, gid, *command = arguments
    signal.pthread_sigmask(signal.SIG_SETMASK, _STOP_SIGNALS)  # taken by sigwait: see _stop_when_told
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir(home)
    keeping = os.open("keeper.lock", os.O_RDWR | os.O_CLOEXEC)
    clients = os.open("clients.lock", os.O_RDWR | os.O_CLOEXEC)
    fcntl.flock(keeping, fcntl.LOCK_EX)
    # Whoever started us must not have to reap us: it may be busy, or long gone.
    if os.fork():
        os._exit(0)
    server = _spawn(command, int(uid), int(gid))
    for wait in (_stop_when_left, _stop_when_told):
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
        die_with_keeper()  # after the change of account, which forgets it
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
    """Return what tells Linux to stop the calling process when its parent dies; elsewhere it does nothing."""
    if ctypes is None or not sys.platform.startswith("linux"):
        return lambda: None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)


def _stop_when_left(server: int, clients: int) -> None:
    fcntl.flock(clients, fcntl.LOCK_EX)
    _stop(server)


def _stop_when_told(server: int, clients: int) -> None:
    signal.sigwait(_STOP_SIGNALS)
    _stop(server)


def _stop(server: int) -> None:
    # The process ends with the server, so this thread need not look whether it is gone.
    for number, limit in ((signal.SIGINT, FAST_LIMIT), (signal.SIGQUIT, QUIT_LIMIT), (signal.SIGKILL, 0.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(server, number)
        time.sleep(limit)


if __name__ == "__main__":
    main(sys.argv[1:])
