"""Creation and start of the embedded server: ``initdb``, the settings, and a keeper process that stops the server."""

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

from bulkseed.embedded.locks import FileLock
from bulkseed.embedded.programs import (
    Account,
    account_for,
    binaries_for,
    blocked_folder,
    clean_environment,
    major_version,
    open_private,
    run_as,
)
from bulkseed.embedded.server import Server, await_ready, clear_leftover, last_words
from bulkseed.errors import EmbeddedError
from bulkseed.load_options import available_cores, available_memory

__all__ = ["Listen", "ensure_cluster", "settings", "start"]

_MB = 1024 * 1024
_GB = 1024 * _MB
_MESSAGE = re.compile(r"(?:PANIC|FATAL|ERROR|error):\s+(.*)")


def settings(memory: int, cores: int) -> dict[str, str]:
    """Return PostgreSQL's settings for loading on a machine with ``memory`` bytes and ``cores`` processors.

    They give up safety against a crash of the machine for speed: lost rows can be loaded again from their seed.
    A crash of the server alone loses nothing.
    """
    cores = max(1, cores)

    def megabytes(share: int, least: int, most: int) -> str:
        return f"{min(most, max(least, share)) // _MB}MB"

    return {
        "shared_buffers": megabytes(memory // 4, 16 * _MB, 2 * _GB),
        "effective_cache_size": megabytes(memory // 2, 64 * _MB, 1024 * _GB),
        "work_mem": megabytes(memory // (32 * cores), 4 * _MB, 64 * _MB),
        # Each core may build an index at the same time: together they use a quarter of the memory.
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
        # The user and the ledger's schema are both called bulkseed: "$user" would put that schema before public.
        "search_path": "public",
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        "log_destination": "stderr",
        "logging_collector": "off",
    }


def ensure_cluster(home: Path, data: Path, binaries: Path, account: Account | None, start_lock: FileLock) -> None:
    """Create the data folder if it is missing, completely or not at all.

    The caller holds ``start_lock`` exclusively. Raises EmbeddedError where the folder cannot be created, or is not a
    data folder of this major version, and OSError where the home cannot be written.
    """
    ours = major_version(account, binaries)
    try:
        theirs = (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError as error:
        if data.is_dir() and any(data.iterdir()):
            raise EmbeddedError(
                f"{data} is not a data folder of PostgreSQL: move it away, or set BULKSEED_HOME to another folder",
                code="not-a-data-folder",
            ) from error
        _create_cluster(home, data, binaries, account, start_lock)
        return
    if theirs != ours:
        raise EmbeddedError(
            f"the data in {data} is of PostgreSQL {theirs}, but the embedded server is PostgreSQL {ours}: "
            "move the folder away to start without data, or set BULKSEED_HOME to another folder",
            code="wrong-data-version",
        )


def _create_cluster(home: Path, data: Path, binaries: Path, account: Account | None, start_lock: FileLock) -> None:
    incomplete = home / "data.making"
    if incomplete.exists():
        shutil.rmtree(incomplete)
    incomplete.mkdir(0o700)
    if account is not None:
        os.chown(incomplete, account.uid, account.gid, follow_symlinks=False)
    tuned = settings(available_memory(), available_cores())
    command: list[str | Path] = [binaries / "initdb", "-D", incomplete, "-U", "bulkseed", "--encoding=UTF8"]
    command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command += ["--auth-local=trust", "--auth-host=scram-sha-256"]
    command += ["--no-sync", "--no-instructions", "--no-data-checksums"]
    command += [part for name, value in tuned.items() for part in ("-c", f"{name}={value}")]
    try:
        # initdb holds the lock too: if this process is killed, no other creates a data folder before initdb has ended.
        initdb = run_as(account, command, pass_fds=[start_lock.fileno()])
        if initdb.returncode == 0:
            incomplete.rename(data)
    finally:
        shutil.rmtree(incomplete, ignore_errors=True)
    if initdb.returncode != 0:
        messages = _MESSAGE.findall(initdb.stderr)
        # The server's message comes before initdb's "child process exited".
        reason = messages[0] if messages else f"initdb ended with status {initdb.returncode}"
        fix = "free some space there" if "No space left" in reason else "correct the cause"
        raise EmbeddedError(
            f"the embedded server's data folder cannot be created in {home} ({reason}): "
            f"{fix}, or set BULKSEED_HOME to another folder",
            code="initdb-failed",
        )


_LINGER_LIMIT = 15.0  # seconds for which a crashed server's processes may still use its shared memory
_SHORT_FOLDER = Path("/tmp")  # noqa: S108 - the owner and mode of the folder in it are checked
_SOCKET_PATH_LIMIT = 103  # bytes; the limit of macOS, the lowest of the supported systems
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - only its free space is read
_SCARCE_SHARED_MEMORY = 512 * 1024 * 1024  # bytes; containers have 64 MB by default


@dataclass(frozen=True, slots=True)
class Listen:
    """A request that the server listen on 127.0.0.1 too."""

    port: int
    """The TCP port; 0 for any free one."""


def start(home: Path, binaries: Path, listen: Listen | None, start_lock: FileLock) -> Server:
    """Start the server of ``home``, where none is running, and wait until it is ready.

    ``binaries`` are the package's; the caller holds ``start_lock`` exclusively. Raises EmbeddedError where the data
    folder cannot be created or used or the server does not start, OSError where the home cannot be written.
    """
    data = home / "data"
    log = home / "server.log"
    account = account_for(home, data)
    if account is not None and (blocked := blocked_folder(account, home)):
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and its account {account.name} cannot enter {blocked}: "
            "set BULKSEED_HOME to another folder, or run bulkseed as an ordinary user",
            code="blocked-home",
        )
    clear_leftover(home, binaries, account)
    programs = binaries_for(account, home)
    ensure_cluster(home, data, programs, account, start_lock)
    began = time.monotonic()
    while True:
        port = 5432 if listen is None else _free_port(listen)
        socket_folder = _socket_folder(home, account)  # in each round, because a keeper removes it when it ends
        with contextlib.suppress(FileNotFoundError):
            log.replace(home / "server.previous.log")
        _launch(home, log, socket_folder, account, _command(programs, data, socket_folder, port, listen))
        server = await_ready(home, binaries)
        if server is not None:
            return server
        words = last_words(log, 1)
        waited = time.monotonic() - began
        is_port_problem = listen is not None and "TCP/IP sockets" in words
        if is_port_problem and listen != Listen(0):
            raise _port_error(port, "not permitted, or in use")
        if waited > _LINGER_LIMIT or not (is_port_problem or "pre-existing shared memory" in words):
            raise EmbeddedError(
                f"the embedded server in {home} did not start ({words or 'its log gives no reason'}; see {log}): "
                "correct the cause, set BULKSEED_HOME to another folder, or name a database with --database-url",
                code="start-failed",
            )
        time.sleep(0.2)


def _command(programs: Path, data: Path, socket_folder: Path, port: int, listen: Listen | None) -> list[str]:
    # On the command line, so that edits of postgresql.conf cannot change them.
    quoted = os.fspath(socket_folder).replace('"', '""')
    options = {
        "unix_socket_directories": f'"{quoted}"',
        "listen_addresses": "" if listen is None else "127.0.0.1",
        "port": str(port),
    }
    if sys.platform.startswith("linux") and _shared_memory_is_scarce():
        # Parallel index builds and joins would fail with "No space left on device".
        options["dynamic_shared_memory_type"] = "mmap"
    arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return [os.fspath(programs / "postgres"), "-D", os.fspath(data), *arguments]


def _shared_memory_is_scarce() -> bool:
    try:
        status = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return True
    return status.f_frsize * status.f_bavail < _SCARCE_SHARED_MEMORY


def _launch(home: Path, log: Path, socket_folder: Path, account: Account | None, command: list[str]) -> None:
    """Start a keeper, which starts the server; on return the keeper holds ``keeper.lock``, or has failed."""
    program = Path(__file__).with_name("keeper.py")
    uid, gid = (-1, -1) if account is None else (account.uid, account.gid)
    log_file = open_private(log, os.O_WRONLY | os.O_APPEND | os.O_TRUNC)
    try:
        subprocess.run(
            [sys.executable, "-I", "-S", program, home, socket_folder, str(uid), str(gid), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log_file,
            check=False,
            env=clean_environment(),
            cwd="/",
            start_new_session=True,  # Ctrl-C in the terminal must reach the commands only
        )
    finally:
        os.close(log_file)


def _free_port(listen: Listen) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", listen.port))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "there is no such port"
            raise _port_error(listen.port, reason) from error
        port: int = probe.getsockname()[1]
        return port


def _port_error(port: int, reason: str | None) -> EmbeddedError:
    return EmbeddedError(
        f"the embedded server cannot listen on port {port} of 127.0.0.1 ({reason}): "
        "name another port, or 0 for any free one",
        code="port-unavailable",
    )


def _socket_folder(home: Path, account: Account | None) -> Path:
    """Return the folder for the server's socket, created if missing, private and without old sockets."""
    uid = os.geteuid() if account is None else account.uid
    name = f"bulkseed-{uid}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}"
    for base in (Path(tempfile.gettempdir()), _SHORT_FOLDER):
        folder = base / name
        if len(os.fsencode(folder / ".s.PGSQL.65535")) > _SOCKET_PATH_LIMIT:
            continue
        if account is None or blocked_folder(account, base) is None:
            break
    else:
        raise EmbeddedError(
            f"{_SHORT_FOLDER} cannot be used for the embedded server's socket: "
            "set TMPDIR to a folder that every account may write",
            code="no-socket-folder",
        )
    with contextlib.suppress(FileExistsError):
        folder.mkdir(0o700)
    status = folder.lstat()
    # Other accounts can write in /tmp, and the owner of the folder could listen instead of the server.
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in {uid, os.geteuid()} or status.st_mode & 0o077:
        raise EmbeddedError(
            f"{folder}, the folder for the embedded server's socket, is not private to this account: "
            "remove it, or set TMPDIR to a folder of your own",
            code="unsafe-socket-folder",
        )
    if account is not None and status.st_uid != uid:
        os.chown(folder, account.uid, account.gid, follow_symlinks=False)
    for stale in folder.glob(".s.PGSQL.*"):  # left by a server that was killed; none is running now
        stale.unlink(missing_ok=True)
    return folder
