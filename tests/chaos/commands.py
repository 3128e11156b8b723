"""Commands as processes of their own, each with a mark by which its workers are found, and ended."""

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

__all__ = ["PATIENCE", "PLAN", "Command", "Ended", "begun", "bulkseed", "gone"]

ROOT = Path(__file__).parents[2]
MARK = "BULKSEED_CHAOS"
PLAN = ("--scale", "10x", "--seed", "7", "--as-of", "2026-06-01", "--rows-per-shard", "1200")
"""50 thousand rows in some 40 shards."""
PATIENCE = 60.0
"""Seconds after which a command that has not ended hangs."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it printed."""

    status: int
    out: str
    said: str
    seconds: float

    def __str__(self) -> str:
        return f"status {self.status} after {self.seconds:.2f} s\n{self.out}\n{self.said}"


class Command:
    """A command that runs."""

    def __init__(self, address: Address, arguments: tuple[str, ...], folder: Path) -> None:
        self.mark = uuid.uuid4().hex
        self.began = time.monotonic()
        self.out, self.said = folder / "out", folder / "said"
        kept = {name: value for name, value in os.environ.items() if not name.endswith("DATABASE_URL")}
        # files, not pipes: a worker that outlives its parent must not hold us up
        with self.out.open("w") as out, self.said.open("w") as said:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "bulkseed", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=said,
                env=kept | {"DATABASE_URL": address.dsn, MARK: self.mark, "PYTHONWARNINGS": "error"},
                cwd=ROOT,
            )

    @property
    def age(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    @property
    def running(self) -> bool:
        """Whether the command itself, the parent, still runs."""
        return self.child.poll() is None

    def processes(self) -> list[int]:
        """The process ids of the command and its workers, as far as they live."""
        sought = f"{MARK}={self.mark}".encode()
        found = []
        for folder in Path("/proc").iterdir():
            with suppress(OSError):
                if folder.name.isdigit() and sought in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return sorted(found)

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        return [pid for pid in self.processes() if pid != self.child.pid]

    def kill_parent(self) -> None:
        """kill -9 of the command itself."""
        self.child.kill()
        self.child.wait()

    def kill_worker(self, rng: random.Random) -> bool:
        """kill -9 of one worker; whether there was one."""
        workers = self.workers()
        if not workers:
            return False
        with suppress(ProcessLookupError):
            os.kill(rng.choice(workers), signal.SIGKILL)
        return True

    def kill_all(self, rng: random.Random) -> None:
        """kill -9 of all of them, in any order."""
        pids = self.processes()
        for pid in rng.sample(pids, len(pids)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.child.wait()

    async def sleep_until(self, seconds: float) -> None:
        """Until so long after the command began, or its end."""
        until = self.began + seconds
        while self.running and (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 0.02))

    async def end(self) -> Ended:
        """Wait for its end; a traceback or a command that hangs is a failure."""
        while self.running:
            if time.monotonic() - self.began > PATIENCE:
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
def begun(address: Address, *arguments: str) -> Iterator[Command]:
    """A command, begun; none of its processes is left at the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        command = Command(address, arguments, Path(folder))
        try:
            yield command
        finally:
            command.kill_all(random.Random())  # the parent first or last: neither may matter


async def bulkseed(address: Address, *arguments: str) -> Ended:
    """Run a command to its end."""
    with begun(address, *arguments) as command:
        return await command.end()


async def gone(command: Command, seconds: float = 30.0) -> None:
    """Fails where a process of a command that has ended goes on for so long."""
    until = time.monotonic() + seconds
    while left := command.processes():
        assert time.monotonic() < until, f"processes that are left: {left}"
        await asyncio.sleep(0.02)
