"""Describe the machine and the software of a measurement."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

__all__ = ["describe", "line"]

PACKAGES: Final = ("bulkseed", "asyncpg", "Faker", "numpy", "pyarrow", "SQLAlchemy")
GIB: Final = 2**30


def describe(postgresql: str | None = None) -> dict[str, Any]:
    """Return the machine, its software, and today's date; ``postgresql`` is the version of the measured server."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": cpu_model(),
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "postgresql": postgresql,
        "packages": {name: version(name) for name in PACKAGES},
    }


def line(machine: dict[str, Any]) -> str:
    """Return the result of :func:`describe` as one line."""
    parts = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB",
        machine["system"],
        f"Python {machine['python']}",
    ]
    if machine["postgresql"]:
        parts.append(f"PostgreSQL {machine['postgresql']}")
    return "; ".join([*parts, machine["date"]])


def cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", information.read_text()) if information.exists() else None
    return found[1].strip() if found else platform.processor() or "unknown CPU"


def cores() -> int:
    """Return the number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # macOS has none
    return len(affinity(0)) if affinity else os.cpu_count() or 1
