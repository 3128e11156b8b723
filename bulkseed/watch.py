"""How work tells of its progress: a protocol for the face to implement, and one that says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

__all__ = ["Silent", "Watcher"]


class Watcher(Protocol):
    """Told of the progress of a command. Its methods are called from the event loop and must return at once."""

    def phase(self, name: str) -> None:
        """A phase begins: ``check``, ``reserve``, ``copy``, ``commit``, ``analyze`` and the like."""

    def expect(self, rows: Mapping[str, int]) -> None:
        """How many rows of each table there will be, as far as is known."""

    def rows(self, table: str, count: int) -> None:
        """So many more rows of ``table`` have gone to the server."""

    def note(self, message: str) -> None:
        """Something that the user should know now, such as what is being waited for."""


class Silent:
    """A watcher that tells nobody."""

    def phase(self, name: str) -> None:
        """Say nothing."""

    def expect(self, rows: Mapping[str, int]) -> None:
        """Say nothing."""

    def rows(self, table: str, count: int) -> None:
        """Say nothing."""

    def note(self, message: str) -> None:
        """Say nothing."""
