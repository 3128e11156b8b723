"""A running embedded server, as its own files tell of it: where it listens, if it answers, what it said."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from bulkseed.embedded.locks import is_locked
from bulkseed.embedded.programs import Account, run_as
from bulkseed.errors import EmbeddedError

__all__ = ["STOP_LIMIT", "PidFile", "Server", "await_ready", "clear_leftover", "last_words", "read_pid_file"]

STOP_LIMIT = 150.0
"""Seconds that a server may take to stop before we give up; its keeper is quicker to lose patience."""

_START_LIMIT = 600.0  # seconds; recovery after a crash may take minutes
_UNREACHABLE_LIMIT = 15.0  # seconds in which a server that says it is ready has to answer
_GRACE = 0.5  # seconds that a server which is just ending may still have its pid file
_TAIL = 256 * 1024
_SEVERE = re.compile(r"(?:PANIC|FATAL|ERROR):\s+(.*)")
_ECHOES = ("the database system is ", "terminating connection ", "canceling ")
"""How messages begin that only follow from another one, or from our own stopping."""


@dataclass(frozen=True, slots=True)
class Server:
    """An embedded server that is running."""

    home: Path
    data: Path
    log: Path
    """What it has written since it was started; the one before is beside it, ``server.previous.log``."""
    binaries: Path
    """The folder of PostgreSQL's programs (psql, pg_dump …) of the same version."""
    socket_dir: Path
    port: int
    """The number in its socket's name, and its TCP port if it has one."""
    user: str = "bulkseed"
    database: str = "bulkseed"
    tcp_port: int | None = None
    """Its port on 127.0.0.1, where logins need a password (scram-sha-256); None if it has none there."""

    @property
    def url(self) -> str:
        """The database's address through the socket, where no password is asked; for asyncpg and psql."""
        folder = quote(os.fspath(self.socket_dir), safe="")
        return f"postgresql://{self.user}@/{self.database}?host={folder}&port={self.port}"

    def last_words(self, lines: int = 3) -> str:
        """Return the last different severe messages of its log, oldest first, joined by "; " ("" if none)."""
        return last_words(self.log, lines)


def last_words(log: Path, lines: int) -> str:
    """Return the last different severe messages of a log, oldest first, joined by "; " ("" if none)."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    severe = [found for found in _SEVERE.findall(text) if not found.startswith(_ECHOES)]
    latest = list(dict.fromkeys(reversed(severe)))[:lines]
    return "; ".join(reversed(latest))


@dataclass(frozen=True, slots=True)
class PidFile:
    """What the server's pid file says."""

    server: Server
    pid: int
    ready: bool

    def answers(self) -> bool:
        """Say whether a server listens at the socket."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(os.fspath(self.server.socket_dir / f".s.PGSQL.{self.server.port}"))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            except OSError:
                return True  # a full backlog, or no right to enter: somebody is there
        return True


def read_pid_file(home: Path, binaries: Path) -> PidFile | None:
    """Read the server's pid file; None if there is none, or it is not complete yet."""
    data = home / "data"
    try:
        lines = (data / "postmaster.pid").read_bytes().splitlines()
        pid, _, _, port, folder, address, _, status = (os.fsdecode(line) for line in lines[:8])
        server = Server(
            home=home,
            data=data,
            log=home / "server.log",
            binaries=binaries,
            socket_dir=Path(folder),
            port=int(port),
            tcp_port=int(port) if address else None,
        )
        return PidFile(server, int(pid), status.strip() == "ready")
    except (FileNotFoundError, ValueError):
        return None


def await_ready(place: Path, binaries: Path) -> Server | None:
    """Wait for the server of a living keeper, and return it; None when there is no keeper, or no longer.

    Raises EmbeddedError where it does not become ready or cannot be reached, and OSError where the home
    cannot be read.
    """
    deadline = time.monotonic() + _START_LIMIT
    pause = 0.001
    while is_locked(place / "keeper.lock"):
        seen = read_pid_file(place, binaries)
        if seen is not None and seen.ready:
            if seen.answers():
                return seen.server
            deadline = min(deadline, time.monotonic() + _UNREACHABLE_LIMIT)
        if time.monotonic() > deadline:
            problem = "did not become ready in ten minutes"
            if seen is not None and seen.ready:
                problem = f"runs, but not behind {seen.server.socket_dir}: maybe on another machine"
            raise EmbeddedError(f"the embedded server in {place} {problem}; see {place / 'server.log'}")
        time.sleep(pause)
        pause = min(0.05, pause * 1.2)
    return None


def clear_leftover(home: Path, binaries: Path, account: Account | None) -> None:
    """Stop a server whose keeper was killed, and remove a pid file whose server was.

    To be called only while no keeper lives and none can be started. Raises EmbeddedError where the server
    does not stop, and OSError where the pid file cannot be read or removed.
    """
    file = home / "data" / "postmaster.pid"
    begun = time.monotonic()
    told = False
    while file.exists():
        seen = read_pid_file(home, binaries)
        waited = time.monotonic() - begun
        if seen is None or not seen.answers():
            # One that is just going still has its file for a moment. Nothing is risked by removing it:
            # PostgreSQL finds out by its shared memory if one is still there after all.
            if waited > _GRACE or (seen is not None and not _lives(seen.pid)):
                file.unlink(missing_ok=True)
                return
        elif not told:
            _tell(account, seen.pid)
            told = True
        elif waited > STOP_LIMIT:
            raise EmbeddedError(
                f"the PostgreSQL that was left running in {home} does not stop: end it with kill -QUIT {seen.pid}"
            )
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _tell(account: Account | None, pid: int) -> None:
    # A number from a file that is another's must not become a signal with root's power.
    if account is not None:
        run_as(account, ["/bin/sh", "-c", 'kill -INT "$1"', "sh", str(pid)])
        return
    with contextlib.suppress(OSError):  # it is gone, or will be given up on
        os.kill(pid, signal.SIGINT)
