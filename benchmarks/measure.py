"""Measurements: of a function in its own process, of time, of memory, and the spread of several runs."""

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
    """Median, minimum and maximum of several runs."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of ``values``, at least one."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        digits = 1 if self.median >= 10 else 2 if self.median >= 1 else 3
        return f"{self.median:.{digits}f} ({self.least:.{digits}f}–{self.most:.{digits}f})"  # noqa: RUF001


def peak_rss() -> int:
    """Return the peak resident memory of this process in bytes."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    if found:
        # not getrusage, which on Linux includes the time before exec
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def in_fresh_process(function: str, **arguments: Any) -> dict[str, Any]:
    """Call ``module:function`` in a new interpreter, with arguments that JSON can represent, and return its dict.

    The stderr of the process is shown. Raises RuntimeError if the process fails.
    """
    command = [sys.executable, "-m", "benchmarks.child", function, json.dumps(arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=Path(__file__).parent.parent)
    if done.returncode != 0:
        raise RuntimeError(f"{function} with {arguments} ended with exit status {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result
