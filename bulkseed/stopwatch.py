"""Seconds by phase."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

__all__ = ["Stopwatch"]


class Stopwatch:
    """Adds up wall-clock seconds by phase, from the moment that it is made."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the block as part of phase ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add seconds by phase that another stopwatch has measured."""
        for name, value in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + value

    def report(self) -> dict[str, float]:
        """Seconds of each phase in the order in which they began, and ``total``."""
        total = time.perf_counter() - self.began
        return {name: round(value, 3) for name, value in (*self.seconds.items(), ("total", total))}
