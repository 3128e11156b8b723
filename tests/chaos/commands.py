"""Run commands as processes, each with a mark in its environment by which its workers are found and killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bulkseed.postgres.address import Address

__all__ = ["IMPATIENT_PROGRAM", "PLAN", "WAIT_SECONDS", "Command", "Ended", "begun", "bulkseed", "gone"]

ROOT = Path(__file__).parents[2]
MARK = "BULKSEED_CHAOS"
PLAN = ("--scale", "10x", "--seed", "7", "--as-of", "2026-06-01", "--rows-per-shard", "1200")
"""50 thousand rows in some 40 shards."""
PROGRAM = ("-m", "bulkseed")
IMPATIENT = """
import runpy
from bulkseed.postgres import connection, liveness
liveness.FIRST_LOOK_SECONDS, liveness.LATER_LOOK_SECONDS, liveness.REPEATED_LOOK_SECONDS = 0.5, 0.5, 0.1
liveness.IDLE_SECONDS, connection.LOOK_SECONDS, connection.PATIENCE_SECONDS = 3, 0.5, 1
runpy.run_module("bulkseed", run_name="__main__", alter_sys=True)
"""
IMPATIENT_PROGRAM = ("-c", IMPATIENT)
"""The command with short times before it looks whether the server is there (its workers have the usual ones)."""
WAIT_SECONDS = 60.0
"""Seconds after which a command that still runs is taken to hang."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The exit status and the output of a command."""

    status: int
    out: str
    said: str
    seconds: float

    def __str__(self) -> str:
        return f"status {self.status} after {self.seconds:.2f} s\n{self.out}\n{self.said}"


class Command:
    """A running command."""

    def __init__(self, address: Address, arguments: tuple[str, ...], folder: Path, program: tuple[str, ...]) -> None:
        self.mark = uuid.uuid4().hex
        self.began = time.monotonic()
        self.out, self.said = folder / "out", folder / "said"
        kept = {name: value for name, value in os.environ.items() if not name.endswith("DATABASE_URL")}
        # files, not pipes: a worker that outlives its parent must not block the test
        with self.out.open("w") as out, self.said.open("w") as said:
            self.child = subprocess.Popen(
                [sys.executable, *program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=said,
                env=kept | {"BULKSEED_DATABASE_URL": address.dsn, MARK: self.mark, "PYTHONWARNINGS": "error"},
                cwd=ROOT,
            )

    @property
    def age(self) -> float:
        """Seconds since the command was started."""
        return time.monotonic() - self.began

    @property
    def running(self) -> bool:
        """Whether the command itself, the parent, still runs."""
        return self.child.poll() is None

    def processes(self) -> list[int]:
        """Return the ids of the running processes of the command: itself and its workers."""
        sought = f"{MARK}={self.mark}".encode()
        found = []
        for folder in Path("/proc").iterdir():
            with suppress(OSError):
                if folder.name.isdigit() and sought in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return sorted(found)

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        return [pid for pid in self.processes() if pid != self.child.pid]

    def kill_parent(self) -> None:
        """Kill the command itself with SIGKILL."""
        self.child.kill()
        self.child.wait()

    def kill_worker(self, rng: random.Random) -> bool:
        """Kill one worker with SIGKILL; return whether there was one."""
        workers = self.workers()
        if not workers:
            return False
        with suppress(ProcessLookupError):
            os.kill(rng.choice(workers), signal.SIGKILL)
        return True

    def kill_all(self, rng: random.Random) -> None:
        """Kill all processes of the command with SIGKILL, in random order."""
        pids = self.processes()
        for pid in rng.sample(pids, len(pids)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.child.wait()

    async def sleep_until(self, seconds: float) -> None:
        """Sleep until ``seconds`` after the start of the command, or until its end."""
        until = self.began + seconds
        while self.running and (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 0.02))

    async def end(self) -> Ended:
        """Wait for the end of the command. Fail if it hangs or prints a traceback."""
        while self.running:
            if time.monotonic() - self.began > WAIT_SECONDS:
                with suppress(ProcessLookupError):
                    os.kill(self.child.pid, signal.SIGABRT)
                raise AssertionError(f"{self.child.args!r} hangs: {self.said.read_text()}")
            await asyncio.sleep(0.01)
        ended = Ended(self.child.returncode, self.out.read_text(), self.said.read_text(), time.monotonic() - self.began)
        # a signal may find Python itself still starting, or in the middle of an import
        early = "KeyboardInterrupt" in ended.said or ended.said.startswith("Exception ignored")
        assert "Traceback" not in ended.said or early, ended
        return ended


@contextmanager
def begun(address: Address, *arguments: str, program: tuple[str, ...] = PROGRAM) -> Iterator[Command]:
    """Start a command; kill its remaining processes at the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        command = Command(address, arguments, Path(folder), program)
        try:
            yield command
        finally:
            command.kill_all(random.Random())  # whether the parent is killed first or last must not matter


async def bulkseed(address: Address, *arguments: str, program: tuple[str, ...] = PROGRAM) -> Ended:
    """Run a command to its end."""
    with begun(address, *arguments, program=program) as command:
        return await command.end()


async def gone(command: Command, seconds: float = 30.0) -> None:
    """Fail if a process of a command that has ended is still running after ``seconds``."""
    until = time.monotonic() + seconds
    while left := command.processes():
        assert time.monotonic() < until, f"remaining processes: {left}"
        await asyncio.sleep(0.02)
