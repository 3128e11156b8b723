"""Progress of a command: the protocol of its listeners, the seconds of each phase, and the request to stop a load."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Protocol

import anyio

__all__ = ["NullListener", "Phase", "ProgressListener", "Stop", "Stopwatch"]


class Phase(StrEnum):
    """A phase of a command, as listeners receive it; each is also the text that names it, such as ``"copy"``.

    A load goes through CHECK, RESERVE, COPY, ANALYZE and COMMIT; with DROP before COPY, and REBUILD instead of ANALYZE,
    where indexes and keys are dropped; a resumed load has no RESERVE. If a load fails, UNDO and the phases of a cleanup
    follow. A cleanup goes through FIND, REMOVE and, where a load had dropped indexes and keys, REBUILD.
    """

    CHECK = "check"
    """Reading the tables, and checking that they fit."""
    RESERVE = "reserve"
    """Reserving ids."""
    DROP = "drop"
    """Dropping indexes and keys."""
    COPY = "copy"
    """Loading rows."""
    REBUILD = "rebuild"
    """Rebuilding the indexes and keys; the only phase that has steps. It analyzes the tables too."""
    ANALYZE = "analyze"
    """Gathering the planner's statistics."""
    COMMIT = "commit"
    """Recording the run as complete."""
    UNDO = "undo"
    """Undoing a run that failed."""
    FIND = "find"
    """Finding the rows to remove."""
    REMOVE = "remove"
    """Removing rows."""
    ROWS = "rows"
    """Verifying the numbers of rows."""
    USERS = "users"
    """Verifying users."""
    CHANNELS = "channels"
    """Verifying channels."""
    MEMBERS = "members"
    """Verifying memberships."""
    MESSAGES = "messages"
    """Verifying messages."""
    REPLIES = "replies"
    """Verifying replies."""
    REACTIONS = "reactions"
    """Verifying reactions."""
    SHAPE = "shape"
    """Verifying the distributions that the scenario asks for."""
    NAMES = "names"
    """Verifying names."""
    TEXTS = "texts"
    """Verifying the texts of messages."""


class ProgressListener(Protocol):
    """Receives the progress of a command. Its methods are called from the event loop and must return at once."""

    def phase(self, phase: Phase, step: int = 0, steps: int | None = None) -> None:
        """Note that ``phase`` begins, or that ``step`` of its ``steps`` are done.

        ``steps`` is None for a phase without steps. Some steps of REBUILD may be done when it begins, as those of a
        table are taken as soon as its rows are loaded. After a lost connection they are counted from the first again.
        """

    def expect(self, rows: Mapping[str, int]) -> None:
        """Note how many rows each table will get, as far as they are known."""

    def rows(self, table: str, count: int) -> None:
        """Note that ``count`` more rows of ``table`` were sent; negative where a shard was rolled back."""

    def note(self, message: str) -> None:
        """Show a message to the user now, such as the process that holds a lock."""


class NullListener:
    """A listener that ignores everything: a base class for listeners of a few events."""

    def phase(self, phase: Phase, step: int = 0, steps: int | None = None) -> None:
        """Ignore it."""

    def expect(self, rows: Mapping[str, int]) -> None:
        """Ignore it."""

    def rows(self, table: str, count: int) -> None:
        """Ignore it."""

    def note(self, message: str) -> None:
        """Ignore it."""


class Stopwatch:
    """Adds up wall-clock seconds by phase, from its creation on; logs the end of each phase if it has a ``logger``."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self.logger = logger
        self.began = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of the block to the phase ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            if self.logger is not None:
                self.logger.info("phase %s: %.3f s", name, seconds)

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add the seconds by phase of another stopwatch."""
        for name, value in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + value

    def report(self) -> dict[str, float]:
        """Return the seconds of each phase, in the order in which they began, and ``total``; rounded to 1 ms."""
        total = time.perf_counter() - self.began
        return {name: round(value, 3) for name, value in (*self.seconds.items(), ("total", total))}


class Stop:
    """The request to stop a load: set ``asked``, and cancel the load as well unless it is ``graceful``."""

    def __init__(self) -> None:
        self.asked = anyio.Event()
        self.graceful = False
        self.message = ""
        """The state of a run that was cancelled, and the commands that finish or undo it."""

    @contextmanager
    def graceful_section(self) -> Iterator[None]:
        """Run a block that checks ``asked`` itself and stops after the shards in progress."""
        self.graceful = True
        try:
            yield
        finally:
            self.graceful = False
