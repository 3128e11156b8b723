"""An embedded PostgreSQL, shared by all commands that run at once and gone after the last of them.

Each command holds the lock ``clients.lock`` of the home shared for as long as it needs the server. The
server's parent is a keeper (``keeper.py``), which gets that lock exclusively when the last command is gone,
and then stops the server. ``start.lock`` lets one command at a time look for the server and start it;
``keeper.lock`` is held by the keeper for its whole life; ``exit.lock`` lets one command at a time see whether
it was the last.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import platformdirs

from bulkseed.embedded.cluster import Listen, start
from bulkseed.embedded.locks import FileLock, holders, is_locked
from bulkseed.embedded.programs import account_for, run_as, wheel_binaries
from bulkseed.embedded.server import STOP_LIMIT, Server, await_ready, clear_leftover
from bulkseed.errors import EmbeddedError

__all__ = ["home", "running"]


def home() -> Path:
    """Return the folder of the embedded server: $BULKSEED_HOME, else one in the user's data folder.

    Root's is outside root's own home, which the account that the server runs under could not enter.
    """
    if named := os.environ.get("BULKSEED_HOME"):
        return Path(named).expanduser().absolute()
    if sys.platform != "win32" and os.geteuid() == 0:
        return Path("/var/lib/bulkseed")
    return platformdirs.user_data_path("bulkseed", appauthor=False)


@contextmanager
def running(where: Path | None = None, *, listen: Listen | None = None) -> Iterator[Server]:
    """Have the embedded server of the folder ``where`` (default: ``home()``) run while the block runs.

    It is made at first use, started if it is not running, and stopped after the last block of all processes.
    It waits, so it is not to be entered or left inside an event loop. Raises EmbeddedError where the server
    cannot be made, started or reached, or not with the port wished for.
    """
    if sys.platform == "win32":
        raise EmbeddedError("there is no embedded server on Windows yet: name a database with --database-url")
    place = Path(os.path.realpath(where or home()))
    owner = os.getpid()
    binaries = wheel_binaries()
    _prepare(place)
    with _explained(place):
        clients = FileLock(place / "clients.lock")
    with clients:
        try:
            with _explained(place):
                server = _enter(place, binaries, clients, listen)
            yield server
        finally:
            if clients.held and os.getpid() == owner:  # not in a fork, which does not hold it
                _leave(place, binaries, clients)


@contextmanager
def _explained(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise EmbeddedError(
            f"the embedded server's folder {place} cannot be used ({error.strerror or error}{where}): "
            "set BULKSEED_HOME to a folder of your own, or name a database with --database-url"
        ) from error


def _prepare(place: Path) -> None:
    try:
        missing = [folder for folder in (place, *place.parents) if not folder.exists()]
        for folder in reversed(missing):
            if os.geteuid() == 0:
                folder.mkdir(exist_ok=True)
                folder.chmod(0o755)  # root's umask must not bar the server's account
            else:
                folder.mkdir(0o700 if folder == place else 0o777, exist_ok=True)
        is_folder = place.is_dir()
    except OSError as error:
        raise EmbeddedError(
            f"the embedded server's folder {place} cannot be made ({error.strerror}): "
            "set BULKSEED_HOME to a folder that you can write"
        ) from error
    if not is_folder:
        raise EmbeddedError(
            f"the embedded server's folder {place} is a file: move it away, or set BULKSEED_HOME to a folder"
        )


def _enter(place: Path, binaries: Path, clients: FileLock, listen: Listen | None) -> Server:
    clients.shared()  # waits while a keeper stops its server
    with FileLock(place / "start.lock") as turn:
        turn.exclusive()
        server = await_ready(place, binaries)
        if server is not None and not _suits(server, listen):
            # Perhaps its last command has just left: then the keeper takes the lock now and stops it.
            clients.release()
            time.sleep(0.05)
            clients.shared()
            server = await_ready(place, binaries)
            if server is not None and not _suits(server, listen):
                raise EmbeddedError(_in_use(place, server))
        if server is None:
            server = start(place, binaries, listen, turn)
        _ensure_database(server)
    return server


def _suits(server: Server, listen: Listen | None) -> bool:
    return listen is None or (server.tcp_port is not None and listen.port in (0, server.tcp_port))


def _in_use(place: Path, server: Server) -> str:
    others = ", ".join(str(pid) for pid in holders(place / "clients.lock"))
    who = f"another command ({'process ' + others if others else 'its process is not known'})"
    how = "without a TCP port" if server.tcp_port is None else f"on port {server.tcp_port}"
    return f"{who} is using the embedded server in {place} {how}: try again when it has finished"


def _leave(place: Path, binaries: Path, clients: FileLock) -> None:
    """Let go of the server, and if we were the last wait until it is gone."""
    clients.release()
    deadline = time.monotonic() + STOP_LIMIT
    # Nothing here is worth hiding the caller's own error for; the next command says what is wrong.
    with contextlib.suppress(OSError, EmbeddedError):
        while time.monotonic() < deadline:
            with FileLock(place / "exit.lock") as turn:
                turn.exclusive()
                if clients.try_exclusive():
                    if not is_locked(place / "keeper.lock"):
                        clear_leftover(place, binaries, account_for(place, place / "data"))
                        return
                    clients.release()  # for the keeper, which is waiting for it
                elif clients.try_shared():
                    clients.release()
                    return  # others go on
            time.sleep(0.003)


def _ensure_database(server: Server) -> None:
    """Make the database where it is missing: it is new, its making was cut short, or somebody dropped it."""
    address = replace(server, database="postgres").url
    psql: list[str | Path] = [server.binaries / "psql", "-X", "-A", "-t", "-w", "-d", address, "-c"]
    asked = run_as(None, [*psql, f"SELECT 1 FROM pg_database WHERE datname = '{server.database}'"])
    if asked.returncode == 0 and not asked.stdout.strip():
        asked = run_as(None, [*psql, f"CREATE DATABASE {server.database} TEMPLATE template0"])
    if asked.returncode != 0:
        said = asked.stderr.strip().splitlines() or ["it does not say why"]
        raise EmbeddedError(
            f"the embedded server in {server.home} runs, but does not let us in: {said[-1]}; see {server.log}"
        )
