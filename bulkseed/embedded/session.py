"""The embedded server as a context manager: shared by concurrent commands, stopped after the last of them.

Each command holds the lock ``clients.lock`` of the home shared for as long as it needs the server. The server's parent
is a keeper (``keeper.py``), which acquires that lock exclusively when the last command has ended, and then stops the
server. ``start.lock`` lets one command at a time look for the server and start it; ``keeper.lock`` is held by the
keeper until it ends; ``exit.lock`` lets one command at a time check whether it was the last.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import platformdirs

from bulkseed.embedded.cluster import Listen, start
from bulkseed.embedded.locks import FileLock, describe_holders, is_locked
from bulkseed.embedded.programs import account_for, run_as, wheel_binaries
from bulkseed.embedded.server import STOP_LIMIT, Server, await_ready, clear_leftover
from bulkseed.errors import EmbeddedError, NoEmbeddedServerError
from bulkseed.sql import compose, identifier, literal

__all__ = ["home", "run_server"]


logger = logging.getLogger(__name__)


def home() -> Path:
    """Return the folder of the embedded server: $BULKSEED_HOME, else one in the user's data folder.

    Root's folder is outside root's own home, which the server's account could not enter.
    """
    if named := os.environ.get("BULKSEED_HOME"):
        return Path(named).expanduser().absolute()
    if sys.platform != "win32" and os.geteuid() == 0:
        return Path("/var/lib/bulkseed")
    return platformdirs.user_data_path("bulkseed", appauthor=False)


@contextmanager
def run_server(home_folder: Path | None = None, *, listen: Listen | None = None) -> Iterator[Server]:
    """Run the embedded server of ``home_folder`` (default: :func:`home`) while the block runs.

    The data folder is created at first use; the server is started if it is not running, and stopped after the last
    block of all processes. Entering and leaving block the thread, so do neither inside an event loop. Raises
    EmbeddedError where the server cannot be created, started or reached, or not with the requested port.
    """
    if sys.platform == "win32":
        raise NoEmbeddedServerError(
            "there is no embedded server on Windows: name a database with --database-url", code="unsupported-platform"
        )
    folder = Path(os.path.realpath(home_folder or home()))
    owner = os.getpid()
    binaries = wheel_binaries()
    _create_home(folder)
    with _home_errors(folder):
        clients = FileLock(folder / "clients.lock")
    with clients:
        try:
            with _home_errors(folder):
                server = _enter(folder, binaries, clients, listen)
            yield server
        finally:
            if clients.is_held and os.getpid() == owner:  # a forked process does not hold it
                _leave(folder, binaries, clients)


@contextmanager
def _home_errors(folder: Path) -> Iterator[None]:
    """Raise an OSError of the block as an EmbeddedError about the home ``folder``."""
    try:
        yield
    except OSError as error:
        file = f": {error.filename}" if error.filename else ""
        raise EmbeddedError(
            f"the embedded server's folder {folder} cannot be used ({error.strerror or error}{file}): "
            "set BULKSEED_HOME to a folder of your own, or name a database with --database-url",
            code="unusable-home",
        ) from error


def _create_home(home_folder: Path) -> None:
    try:
        missing = [folder for folder in (home_folder, *home_folder.parents) if not folder.exists()]
        for folder in reversed(missing):
            if os.geteuid() == 0:
                folder.mkdir(exist_ok=True)
                folder.chmod(0o755)  # with a strict umask of root's, the server's account could not enter it
            else:
                folder.mkdir(0o700 if folder == home_folder else 0o777, exist_ok=True)
        is_folder = home_folder.is_dir()
    except OSError as error:
        raise EmbeddedError(
            f"the embedded server's folder {home_folder} cannot be created ({error.strerror}): "
            "set BULKSEED_HOME to a folder that you can write",
            code="unusable-home",
        ) from error
    if not is_folder:
        raise EmbeddedError(
            f"the embedded server's folder {home_folder} is a file: move it away, or set BULKSEED_HOME to a folder",
            code="unusable-home",
        )


def _enter(folder: Path, binaries: Path, clients: FileLock, listen: Listen | None) -> Server:
    clients.acquire_shared()  # waits while a keeper stops its server
    with FileLock(folder / "start.lock") as start_lock:
        start_lock.acquire_exclusive()
        server = await_ready(folder, binaries)
        if server is not None and not _has_port(server, listen):
            # Its last command may just have ended: then the keeper acquires the lock now and stops the server.
            clients.release()
            time.sleep(0.05)
            clients.acquire_shared()
            server = await_ready(folder, binaries)
            if server is not None and not _has_port(server, listen):
                raise _in_use_error(folder, server)
        if server is None:
            began = time.monotonic()
            server = start(folder, binaries, listen, start_lock)
            logger.info("the embedded server in %s is started in %.3f s", folder, time.monotonic() - began)
        else:
            logger.info("the embedded server in %s is running already", folder)
        _ensure_database(server)
    return server


def _has_port(server: Server, listen: Listen | None) -> bool:
    return listen is None or (server.tcp_port is not None and listen.port in (0, server.tcp_port))


def _in_use_error(folder: Path, server: Server) -> EmbeddedError:
    others = ", ".join(str(pid) for pid in describe_holders(folder / "clients.lock"))
    command = f"another command ({'process ' + others if others else 'its process is unknown'})"
    port = "without a TCP port" if server.tcp_port is None else f"on port {server.tcp_port}"
    return EmbeddedError(
        f"{command} is using the embedded server in {folder} {port}: try again when it has finished",
        code="server-in-use",
    )


def _leave(folder: Path, binaries: Path, clients: FileLock) -> None:
    """Release the server; after the last command, wait until the server has stopped."""
    clients.release()
    deadline = time.monotonic() + STOP_LIMIT
    # An error here must not hide the caller's own; the next command reports the problem.
    with contextlib.suppress(OSError, EmbeddedError):
        while time.monotonic() < deadline:
            with FileLock(folder / "exit.lock") as exit_lock:
                exit_lock.acquire_exclusive()
                if clients.try_exclusive():
                    if not is_locked(folder / "keeper.lock"):
                        clear_leftover(folder, binaries, account_for(folder, folder / "data"))
                        logger.info("the embedded server in %s is stopped", folder)
                        return
                    clients.release()  # for the keeper, which is waiting for it
                elif clients.try_shared():
                    clients.release()
                    return  # other commands still use the server
            time.sleep(0.003)


def _ensure_database(server: Server) -> None:
    """Create the database where it is missing: after the first start, an interrupted one, or DROP DATABASE."""
    address = replace(server, database="postgres").url
    psql: list[str | Path] = [server.binaries / "psql", "-X", "-A", "-t", "-w", "-d", address, "-c"]
    query = compose("SELECT 1 FROM pg_database WHERE datname = {name}", name=literal(server.database))
    done = run_as(None, [*psql, query])
    if done.returncode == 0 and not done.stdout.strip():
        creation = compose("CREATE DATABASE {name} TEMPLATE template0", name=identifier(server.database))
        done = run_as(None, [*psql, creation])
    if done.returncode != 0:
        messages = done.stderr.strip().splitlines() or ["no message"]
        raise EmbeddedError(
            f"the embedded server in {server.home} is running, but rejects the connection ({messages[-1]}): "
            f"see {server.log}",
            code="login-rejected",
        )
