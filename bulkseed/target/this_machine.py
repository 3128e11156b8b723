"""Whether the process that serves a connection runs on this machine: an address alone may be that of a tunnel."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from anyio import to_thread

from bulkseed.postgres.connection import Connection

__all__ = ["Place", "find_backend", "find_process"]

Place = Literal["here", "container", "elsewhere"]
"""Where a process runs: ``here``; in another PID namespace of this machine; or where this machine does not see it."""

BACKEND: Final = """
SELECT pid, extract(epoch FROM clock_timestamp() - backend_start)::float8 AS age
FROM pg_stat_activity WHERE pid = pg_backend_pid()
"""
PROC: Final = Path("/proc")
NAME: Final = "postgres"
"""Part of the name of the process: ``postgres``, or that of a distribution, such as ``edb-postgres``."""
TOLERANCE: Final = 2.0
"""Seconds by which the ages of a process may differ, beside those that the server takes to answer."""


async def find_backend(connection: Connection) -> Place:
    """Return where the process of the server for this connection runs.

    It runs on this machine if a process of PostgreSQL here has the same number and the same age. Another machine may
    use the number too, but not for a process that has begun at this moment. Raises the errors of asyncpg.
    """
    asked = time.monotonic()
    row = await connection.fetchrow(BACKEND)
    if row is None or row["age"] is None:
        return "elsewhere"
    return await to_thread.run_sync(find_process, row["pid"], row["age"], TOLERANCE + time.monotonic() - asked)


def find_process(pid: int, age: float, tolerance: float = TOLERANCE) -> Place:
    """Return where a process of PostgreSQL with this number runs, whose age in seconds is known up to ``tolerance``."""
    if not (PROC / "self" / "stat").exists():
        return "here" if is_listed(pid, age, tolerance) else "elsewhere"
    if is_process(pid, age, tolerance) and number_in_namespace(pid) in {pid, None}:
        return "here"
    for other in processes():
        if number_in_namespace(other) == pid and is_process(other, age, tolerance):
            return "container"
    return "elsewhere"


def processes() -> Iterator[int]:
    """Yield the numbers of all processes that are visible."""
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            yield int(folder.name)


def is_process(pid: int, age: float, tolerance: float) -> bool:
    """Return whether the process is one of PostgreSQL of this age."""
    try:
        stat = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return False
    # the name is in parentheses, and may contain spaces and parentheses itself
    before, _, after = stat.rpartition(")")
    began = int(after.split()[19]) / os.sysconf("SC_CLK_TCK")
    return NAME in before and abs(time.clock_gettime(time.CLOCK_BOOTTIME) - began - age) <= tolerance


def number_in_namespace(pid: int) -> int | None:
    """Return the number that a process has in its own PID namespace; None if it cannot be read."""
    try:
        lines = (PROC / str(pid) / "status").read_text(errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[-1]) for line in lines if line.startswith("NSpid:")), None)


def is_listed(pid: int, age: float, tolerance: float) -> bool:
    """Do the same as :func:`is_process` for systems without /proc, where ``ps`` lists processes."""
    try:
        done = subprocess.run(
            ["ps", "-p", str(pid), "-o", "etime=", "-o", "comm="],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    elapsed, _, name = done.stdout.strip().partition(" ")
    # [[days-]hours:]minutes:seconds
    days, _, clock = elapsed.rpartition("-")
    seconds = 0
    try:
        for part in clock.split(":"):
            seconds = seconds * 60 + int(part)
        seconds += int(days or 0) * 86_400
    except ValueError:
        return False
    return NAME in name and abs(seconds - age) <= tolerance + 1
