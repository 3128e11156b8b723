"""Run a command, and measure it with all processes that it starts: seconds, CPU seconds and peak memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.libraries import library

__all__ = ["ROOT", "Ran", "ran"]

ROOT: Final = Path(__file__).parent.parent
# The measurement must not slow the command: reading resident memory costs next to nothing, a search for new processes
# 2 ms, and PSS 5 ms per process, which cannot change its memory map meanwhile.
INTERVAL: Final = 0.05
SEARCH_INTERVAL: Final = 0.25
PSS_INTERVAL: Final = 0.25
FIRST_LOOK: Final = 0.1
GROWN: Final = 1.02
"""PSS is read again only when resident memory has grown by this factor."""


@dataclass(frozen=True, slots=True)
class Ran:
    """The measurements of a command. Memory is the sum over its processes, in bytes.

    ``peak_pss`` counts a page that several processes share once, ``peak_rss`` once for each of them.
    """

    seconds: float
    cpu_seconds: float
    peak_pss: int
    peak_rss: int
    output: str

    @property
    def figures(self) -> dict[str, Any]:
        """The measurements without the output, as the results store them."""
        names = ("seconds", "cpu_seconds", "peak_pss", "peak_rss")
        return {name: getattr(self, name) for name in names}


def ran(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Ran:
    """Run a command to its end. Raises RuntimeError with its stderr if it fails."""
    watched, psutil = Watched(), library("psutil")
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        begun = time.perf_counter()
        process = subprocess.Popen(
            [os.fspath(part) for part in command], stdout=output, stderr=errors, env=environment, cwd=ROOT
        )
        watching = threading.Thread(target=watched.watch, args=(psutil.Process(process.pid), psutil), daemon=True)
        watching.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        watched.ended.set()
        watching.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        message = errors.read().decode(errors="replace").strip()
        if process.returncode:
            raise RuntimeError(f"{Path(command[0]).name} ended with exit status {process.returncode}: {message}")
        cpu = max(usage.ru_utime + usage.ru_stime, sum(watched.cpu.values()))
        return Ran(seconds, cpu, watched.peak_pss, watched.peak_rss, output.read().decode())


@dataclass(slots=True)
class Watched:
    """The memory and CPU time of a process and its descendants, sampled until ``ended``."""

    peak_pss: int = 0
    peak_rss: int = 0
    cpu: dict[int, float] = field(default_factory=dict)
    """Seconds by process id: the CPU time of wait4() does not include children of a fork server."""
    ended: threading.Event = field(default_factory=threading.Event)

    def watch(self, root: Any, psutil: Any) -> None:
        known: dict[int, Any] = {root.pid: root}
        search_at = read_at = time.perf_counter() + FIRST_LOOK
        read_of = 0.0
        while not self.ended.wait(INTERVAL):
            now = time.perf_counter()
            with contextlib.suppress(psutil.Error):  # the process has just ended
                if now >= search_at:
                    search_at = now + SEARCH_INTERVAL
                    known.update(
                        (child.pid, child) for child in root.children(recursive=True) if child.pid not in known
                    )
            self.sample(known, psutil.Error)
            if now >= read_at and self.peak_rss > read_of * GROWN:
                read_at, read_of = now + PSS_INTERVAL, self.peak_rss
                self.peak_pss = max(self.peak_pss, sum(read_pss(process, psutil.Error) for process in known.values()))

    def sample(self, known: dict[int, Any], gone: type[Exception]) -> None:
        resident = 0
        for pid, process in list(known.items()):
            try:
                with process.oneshot():
                    resident += process.memory_info().rss
                    times = process.cpu_times()
            except gone:
                del known[pid]
                continue
            self.cpu[pid] = times.user + times.system
        self.peak_rss = max(self.peak_rss, resident)


def read_pss(process: Any, gone: type[Exception]) -> int:
    """Return the PSS of a process in bytes, or its USS where the system has no PSS; 0 if the process is gone."""
    try:
        memory = process.memory_full_info()
    except gone:
        return 0
    return int(getattr(memory, "pss", memory.uss))
