"""The embedded server's data folder: how it is made, and how it is tuned for loading."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from bulkseed.embedded.account import Account, run_as
from bulkseed.embedded.locks import FileLock
from bulkseed.embedded.wheel import major_version
from bulkseed.errors import EmbeddedError
from bulkseed.postgres.machine import available_cores, available_memory

__all__ = ["ensure_cluster", "settings"]

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
