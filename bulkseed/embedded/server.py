"""The state of the embedded server as its files show it: its socket and port, whether it answers, its last errors."""

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
"""Seconds to wait for a server to stop; its keeper kills it earlier."""

_START_LIMIT = 600.0  # seconds; recovery after a crash may take minutes
_UNREACHABLE_LIMIT = 15.0  # seconds within which a server that is ready must answer
_GRACE = 0.5  # seconds for which a server that is ending may still have its pid file
_TAIL = 256 * 1024
_SEVERE = re.compile(r"(?:PANIC|FATAL|ERROR):\s+(.*)")
_ECHOES = ("the database system is ", "terminating connection ", "canceling ")
"""The beginnings of messages that only follow from another one, or from a shutdown."""


@dataclass(frozen=True, slots=True)
class Server:
    """An embedded server that is running."""

    home: Path
    data: Path
    log: Path
    """The log since the last start; the log before it is ``server.previous.log`` in the same folder."""
    binaries: Path
    """The folder of PostgreSQL's programs (psql, initdb …) of the same version."""
    socket_dir: Path
    port: int
    """The number in the socket's name, and the TCP port where the server listens on one."""
    user: str = "bulkseed"
    database: str = "bulkseed"
    tcp_port: int | None = None
    """The port on 127.0.0.1, where a connection needs a password (scram-sha-256); None where the server has no port."""

    @property
    def url(self) -> str:
        """The URL of the database through the socket, which needs no password; for asyncpg and psql."""
        folder = quote(os.fspath(self.socket_dir), safe="")
        return f"postgresql://{self.user}@/{self.database}?host={folder}&port={self.port}"

    def last_words(self, lines: int = 3) -> str:
        """Return the last different severe messages of the log, oldest first, joined by "; "; "" without any."""
        return last_words(self.log, lines)


def last_words(log: Path, lines: int) -> str:
    """Return the last different severe messages of a log, oldest first, joined by "; "; "" without any."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    severe = [message for message in _SEVERE.findall(text) if not message.startswith(_ECHOES)]
    latest = list(dict.fromkeys(reversed(severe)))[:lines]
    return "; ".join(reversed(latest))


@dataclass(frozen=True, slots=True)
class PidFile:
    """The contents of the server's pid file, ``postmaster.pid``."""

    server: Server
    pid: int
    is_ready: bool

    def answers(self) -> bool:
        """Return whether a server listens on the socket."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(os.fspath(self.server.socket_dir / f".s.PGSQL.{self.server.port}"))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            except OSError:
                return True  # a full backlog, or a missing permission to connect: a server listens
        return True


def read_pid_file(home: Path, binaries: Path) -> PidFile | None:
    """Read the server's pid file; return None where it is missing, or not complete yet."""
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


def await_ready(home: Path, binaries: Path) -> Server | None:
    """Wait until the server of a running keeper is ready, and return it; None where no keeper runs any more.

    Raises EmbeddedError where the server does not become ready or cannot be reached, and OSError where the home
    cannot be read.
    """
    deadline = time.monotonic() + _START_LIMIT
    pause = 0.001
    while is_locked(home / "keeper.lock"):
        pid_file = read_pid_file(home, binaries)
        if pid_file is not None and pid_file.is_ready:
            if pid_file.answers():
                return pid_file.server
            deadline = min(deadline, time.monotonic() + _UNREACHABLE_LIMIT)
        if time.monotonic() > deadline:
            log = home / "server.log"
            if pid_file is not None and pid_file.is_ready:
                raise EmbeddedError(
                    f"the embedded server in {home} does not answer at {pid_file.server.socket_dir}, "
                    f"maybe because it runs on another machine: see {log}",
                    code="server-unreachable",
                )
            raise EmbeddedError(
                f"the embedded server in {home} did not become ready in ten minutes: see {log}", code="start-failed"
            )
        time.sleep(pause)
        pause = min(0.05, pause * 1.2)
    return None


def clear_leftover(home: Path, binaries: Path, account: Account | None) -> None:
    """Stop a server whose keeper was killed, and remove the pid file of a server that was killed.

    Call this only while no keeper runs and none can be started. Raises EmbeddedError where the server does not stop,
    and OSError where the pid file cannot be read or removed.
    """
    file = home / "data" / "postmaster.pid"
    began = time.monotonic()
    is_stopping = False
    while file.exists():
        pid_file = read_pid_file(home, binaries)
        waited = time.monotonic() - began
        if pid_file is None or not pid_file.answers():
            # A server that is ending keeps its pid file for a moment. Removing the file is safe: PostgreSQL checks
            # the shared memory of the data folder, too, for a server that is still running.
            if waited > _GRACE or (pid_file is not None and not _is_alive(pid_file.pid)):
                file.unlink(missing_ok=True)
                return
        elif not is_stopping:
            _interrupt(account, pid_file.pid)
            is_stopping = True
        elif waited > STOP_LIMIT:
            raise EmbeddedError(
                f"the server that was left running in {home} does not stop: end it with kill -QUIT {pid_file.pid}",
                code="server-not-stopping",
            )
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _interrupt(account: Account | None, pid: int) -> None:
    # The number comes from a file of the account, which must not choose the target of a signal from root.
    if account is not None:
        run_as(account, ["/bin/sh", "-c", 'kill -INT "$1"', "sh", str(pid)])
        return
    with contextlib.suppress(OSError):  # the process has ended, or the caller will give up
        os.kill(pid, signal.SIGINT)
