"""Listeners of a load or a cleanup: one that keeps the notes, and one that also interferes."""

from __future__ import annotations

from typing import Any

from bulkseed.listeners import NullListener


class Interfering(NullListener):
    """Calls ``act`` once, when the first rows of ``table`` have been sent; keeps the notes."""

    def __init__(self, table: str, act: Any) -> None:
        self.table = table
        self.act = act
        self.done = False
        self.said: list[str] = []

    def note(self, message: str) -> None:
        """Keep the note."""
        self.said.append(message)

    def rows(self, table: str, count: int) -> None:
        """Act, the first time."""
        if table == self.table and not self.done:
            self.done = True
            self.act()


class Notes(NullListener):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        """Keep the note."""
        self.said.append(message)
