"""Listeners of a load or a cleanup: one that keeps what it is told, one that does something in the middle."""

from __future__ import annotations

from typing import Any

from bulkseed.listeners import NullListener


class Interfering(NullListener):
    """Does something from another connection once rows of a table have gone."""

    def __init__(self, table: str, act: Any) -> None:
        self.table = table
        self.act = act
        self.done = False
        self.said: list[str] = []

    def note(self, message: str) -> None:
        """Keep it."""
        self.said.append(message)

    def rows(self, table: str, count: int) -> None:
        """Act, the first time."""
        if table == self.table and not self.done:
            self.done = True
            self.act()


class Notes(NullListener):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        """Keep it."""
        self.said.append(message)
