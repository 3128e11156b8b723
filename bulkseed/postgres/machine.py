"""What this process may use of the machine."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["available_cores", "available_memory"]


def available_memory() -> int:
    """Return the bytes of memory that this process may use: the machine's, or its control group's limit."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    root = Path("/sys/fs/cgroup")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("0::/"):
            group = root / line.removeprefix("0::/")
            for folder in (group, *group.parents):
                try:
                    limits.append(int((folder / "memory.max").read_text()))
                except (OSError, ValueError):  # no such group, or "max"
                    continue
    return min(limits)


def available_cores() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
