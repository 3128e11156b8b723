"""Asking a load to stop: at once, or after the shards in hand where it is loading some."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

__all__ = ["Stop"]


class Stop:
    """Set ``asked`` to stop a load after the shards in hand; where it is not ``soft`` at the moment, cancel it too."""

    def __init__(self) -> None:
        self.asked = anyio.Event()
        self.soft = False
        self.said = ""
        """What is left of a run that was cancelled, and how one goes on."""

    @contextmanager
    def softly(self) -> Iterator[None]:
        """For a block that looks at ``asked``."""
        self.soft = True
        try:
            yield
        finally:
            self.soft = False
