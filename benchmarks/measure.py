"""Measuring: a function in a process of its own, the memory it took, and what several runs come to."""

from __future__ import annotations

import json
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Clock", "Spread", "clocked", "in_fresh_process", "peak_rss"]


@dataclass(slots=True)
class Clock:
    """Wall-clock and CPU seconds (of this process, all threads) that :func:`clocked` blocks have taken."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0


@contextmanager
def clocked(*clocks: Clock) -> Iterator[None]:
    """Add the time that the block takes to each of ``clocks``."""
    cpu, wall = time.process_time(), time.perf_counter()
    try:
        yield
    finally:
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        for clock in clocks:
            clock.seconds += wall
            clock.cpu_seconds += cpu


@dataclass(frozen=True, slots=True)
class Spread:
    """What several runs of one thing come to."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of ``values``, of which there is at least one."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        digits = 1 if self.median >= 10 else 2 if self.median >= 1 else 3
        return f"{self.median:.{digits}f} ({self.least:.{digits}f}–{self.most:.{digits}f})"  # noqa: RUF001


def peak_rss() -> int:
    """The most memory in bytes that this process has had resident."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    if found:
        # not getrusage, which on Linux begins with what the process had been before exec
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def in_fresh_process(function: str, **arguments: Any) -> dict[str, Any]:
    """Call ``module:function`` with arguments that JSON can hold, in a new interpreter, and return its dict.

    What the process writes to stderr is shown. Raises RuntimeError where it fails.
    """
    command = [sys.executable, "-m", "benchmarks.child", function, json.dumps(arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=Path(__file__).parent.parent)
    if done.returncode != 0:
        raise RuntimeError(f"{function} with {arguments} ended with exit status {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
