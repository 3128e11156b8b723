"""The progress that the commands show."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bulkseed.cli.progress import PHASES, Bars, Lines
from bulkseed.listeners import Phase


def test_there_are_words_for_every_phase() -> None:
    assert PHASES.keys() == set(Phase)


def test_bars_show_the_steps_of_a_phase() -> None:
    bars = Bars(Console(file=io.StringIO()))

    def shown() -> list[str]:
        return [task.description for task in bars.progress.tasks if task.visible]

    bars.phase(Phase.COPY)
    assert shown() == []
    bars.phase(Phase.REBUILD, 3, 12)
    assert [text for text in shown() if "3 of 12" in text]
    bars.phase(Phase.COMMIT)
    assert not any(character.isdigit() for text in shown() for character in text)


def test_bars_are_complete_at_the_end() -> None:
    """The numbers of rows were estimates: one too high, one too low, and a table without rows."""
    bars = Bars(Console(file=io.StringIO()))
    bars.expect({"users": 20, "messages": 250, "message_reactions": 200, "pins": 3})
    bars.phase(Phase.COPY)
    for table, count in (("users", 20), ("messages", 100), ("messages", 160), ("message_reactions", 190)):
        bars.rows(table, count)
    bars.phase(Phase.COMMIT)
    bars.finish()
    shown = [task for task in bars.progress.tasks if task.visible]
    assert [(task.description, task.completed, task.total) for task in shown] == [
        ("users", 20, 20),
        ("messages", 260, 260),
        ("message_reactions", 190, 190),
        ("pins", 0, 0),
    ]
    assert all(task.finished for task in shown)


def test_lines_tell_the_steps_of_a_long_phase_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    lines = Lines(Console(file=out))
    for step in range(3):
        lines.phase(Phase.REBUILD, step, 12)
    assert out.getvalue().count("\n") == 1
    monkeypatch.setattr("bulkseed.cli.progress.SECONDS_BETWEEN_LINES", 0)
    lines.phase(Phase.REBUILD, 3, 12)
    lines.phase(Phase.COMMIT)
    assert out.getvalue().count("\n") == 2
    assert "3 of 12" in out.getvalue()
