"""Starting the embedded server: its data folder, its socket's folder, its port, its keeper."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bulkseed.embedded.account import Account, account_for, barring_folder, clean_environment, open_private
from bulkseed.embedded.cluster import ensure_cluster
from bulkseed.embedded.locks import FileLock
from bulkseed.embedded.server import Server, await_ready, clear_leftover, last_words
from bulkseed.embedded.wheel import binaries_for
from bulkseed.errors import EmbeddedError

__all__ = ["Listen", "start"]

_LINGER_LIMIT = 15.0  # seconds that a crashed server's processes may live on in its shared memory
_SHORT_FOLDER = Path("/tmp")  # noqa: S108 - what is made there is checked
_SOCKET_PATH_LIMIT = 103  # bytes; of the systems that matter macOS has the least
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - only looked at
_SCARCE_SHARED_MEMORY = 512 * 1024 * 1024  # bytes; containers have 64 MB unless told otherwise


@dataclass(frozen=True, slots=True)
class Listen:
    """A wish that the server listen on 127.0.0.1 too."""

    port: int
    """The TCP port; 0 for any free one."""


def start(place: Path, binaries: Path, listen: Listen | None, turn: FileLock) -> Server:
    """Start the server of the home ``place``, which has none, and wait until it is ready.

    ``binaries`` are the wheel's; ``turn`` is the lock that we hold to do so. Raises EmbeddedError where its
    data folder cannot be made or used or the server does not start, OSError where the home cannot be written.
    """
    data = place / "data"
    log = place / "server.log"
    account = account_for(place, data)
    if account is not None and (barring := barring_folder(account, place)):
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and the account {account.name} that it would run under "
            f"cannot enter {barring}: set BULKSEED_HOME to a folder elsewhere, "
            "or run bulkseed as an ordinary user"
        )
    clear_leftover(place, binaries, account)
    programs = binaries_for(account, place)
    ensure_cluster(place, data, programs, account, turn)
    begun = time.monotonic()
    while True:
        port = 5432 if listen is None else _free_port(listen)
        socket_folder = _socket_folder(place, account)  # each time: a keeper removes it when it ends
        with contextlib.suppress(FileNotFoundError):
            log.replace(place / "server.previous.log")
        _launch(place, log, socket_folder, account, _command(programs, data, socket_folder, port, listen))
        server = await_ready(place, binaries)
        if server is not None:
            return server
        words = last_words(log, 1)
        waited = time.monotonic() - begun
        barred = listen is not None and "TCP/IP sockets" in words
        if barred and listen != Listen(0):
            raise EmbeddedError(_barred(port, "PostgreSQL may not, or somebody else was faster"))
        if waited > _LINGER_LIMIT or not (barred or "pre-existing shared memory" in words):
            raise EmbeddedError(
                f"the embedded PostgreSQL in {place} did not start: {words or 'it does not say why'} "
                f"(see {log}); mend that, set BULKSEED_HOME to another folder, "
                "or name a database with --database-url"
            )
        time.sleep(0.2)


def _command(programs: Path, data: Path, socket_folder: Path, port: int, listen: Listen | None) -> list[str]:
    # On the command line, so that no edit of the settings' file can take them away.
    quoted = os.fspath(socket_folder).replace('"', '""')
    options = {
        "unix_socket_directories": f'"{quoted}"',
        "listen_addresses": "" if listen is None else "127.0.0.1",
        "port": str(port),
    }
    if sys.platform.startswith("linux") and _shared_memory_is_scarce():
        # Parallel index builds and joins would fail there, with "No space left on device".
        options["dynamic_shared_memory_type"] = "mmap"
    settled = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return [os.fspath(programs / "postgres"), "-D", os.fspath(data), *settled]


def _shared_memory_is_scarce() -> bool:
    try:
        found = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return True
    return found.f_frsize * found.f_bavail < _SCARCE_SHARED_MEMORY


def _launch(place: Path, log: Path, socket_folder: Path, account: Account | None, command: list[str]) -> None:
    """Start a keeper, which starts the server; on return it holds the keeper's lock, or has failed."""
    program = Path(__file__).with_name("keeper.py")
    uid, gid = (-1, -1) if account is None else (account.uid, account.gid)
    written = open_private(log, os.O_WRONLY | os.O_APPEND | os.O_TRUNC)
    try:
        subprocess.run(
            [sys.executable, "-I", "-S", program, place, socket_folder, str(uid), str(gid), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=written,
            check=False,
            env=clean_environment(),
            cwd="/",
            start_new_session=True,  # the terminal's Ctrl-C is for the commands alone
        )
    finally:
        os.close(written)


def _free_port(listen: Listen) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", listen.port))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "there is no such port"
            raise EmbeddedError(_barred(listen.port, reason)) from error
        port: int = probe.getsockname()[1]
        return port


def _barred(port: int, reason: str | None) -> str:
    return (
        f"the embedded server cannot listen on port {port} of 127.0.0.1 ({reason}): "
        "name another port, or 0 for any free one"
    )


def _socket_folder(place: Path, account: Account | None) -> Path:
    uid = os.geteuid() if account is None else account.uid
    name = f"bulkseed-{uid}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:12]}"
    for base in (Path(tempfile.gettempdir()), _SHORT_FOLDER):
        folder = base / name
        if len(os.fsencode(folder / ".s.PGSQL.65535")) > _SOCKET_PATH_LIMIT:
            continue
        if account is None or barring_folder(account, base) is None:
            break
    else:
        raise EmbeddedError(
            f"{_SHORT_FOLDER}, where the embedded server's socket is to be, cannot be used: "
            "set TMPDIR to a folder that everybody may write"
        )
    with contextlib.suppress(FileExistsError):
        folder.mkdir(0o700)
    found = folder.lstat()
    # Others can write there too, and whoever owns the folder can listen in our place.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {uid, os.geteuid()} or found.st_mode & 0o077:
        raise EmbeddedError(
            f"{folder}, where the embedded server's socket is to be, is not a private folder of ours: "
            "somebody else made it; remove it, or set TMPDIR to a folder of your own"
        )
    if account is not None and found.st_uid != uid:
        os.chown(folder, account.uid, account.gid, follow_symlinks=False)
    for stale in folder.glob(".s.PGSQL.*"):  # of a server that was killed; none is running now
        stale.unlink(missing_ok=True)
    return folder
