"""Listeners of a command: one keeps the notes, one the phases too, and one interferes."""

from __future__ import annotations

from typing import Any

from bulkseed.listeners import NullListener, Phase


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


class Phases(Notes):
    """Keeps the notes, the phases in the order in which they began, and how many steps of each are done."""

    def __init__(self) -> None:
        super().__init__()
        self.phases: list[Phase] = []
        self.steps: dict[Phase, list[tuple[int, int | None]]] = {}

    def phase(self, phase: Phase, step: int = 0, steps: int | None = None) -> None:
        """Keep them."""
        self.phases += [] if self.phases[-1:] == [phase] else [phase]
        self.steps.setdefault(phase, []).append((step, steps))

    def assert_counted(self, phase: Phase) -> None:
        """Assert that the steps of a phase were told one by one, up to the last of them."""
        steps = [step for step, _ in self.steps[phase]]
        assert steps == list(range(steps[0], steps[-1] + 1))
        assert {total for _, total in self.steps[phase]} == {steps[-1]}
        assert steps[-1] > 1
