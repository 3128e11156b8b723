"""Progress: the protocol for those that listen to it, the seconds of each phase, and how a load is asked to stop."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import anyio

__all__ = ["NullListener", "ProgressListener", "Stop", "Stopwatch"]


class ProgressListener(Protocol):
    """Told of the progress of a command. Its methods are called from the event loop and must return at once."""

    def phase(self, name: str) -> None:
        """A phase begins: ``check``, ``reserve``, ``copy``, ``commit``, ``analyze`` and the like."""

    def expect(self, rows: Mapping[str, int]) -> None:
        """How many rows of each table there will be, as far as is known."""

    def rows(self, table: str, count: int) -> None:
        """So many more rows of ``table`` have gone to the server."""

    def note(self, message: str) -> None:
        """Something that the user should know now, such as what is being waited for."""


class NullListener:
    """A watcher that tells nobody."""

    def phase(self, name: str) -> None:
        """Say nothing."""

    def expect(self, rows: Mapping[str, int]) -> None:
        """Say nothing."""

    def rows(self, table: str, count: int) -> None:
        """Say nothing."""

    def note(self, message: str) -> None:
        """Say nothing."""


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


class Stop:
    """Set ``asked`` to stop a load after the shards in progress; cancel it too while it is not ``graceful``."""

    def __init__(self) -> None:
        self.asked = anyio.Event()
        self.graceful = False
        self.message = ""
        """The state of a run that was cancelled, and the commands that finish or undo it."""

    @contextmanager
    def graceful_section(self) -> Iterator[None]:
        """For a block that looks at ``asked``."""
        self.graceful = True
        try:
            yield
        finally:
            self.graceful = False
