"""Progress on stderr: bars at a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from bulkseed.listeners import NullListener, ProgressListener

__all__ = ["progress_display"]

SECONDS_BETWEEN_LINES: Final = 5.0


class Rate(TextColumn):
    """Rows per second, over the last few seconds while a table loads and over all of them at its end."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} rows/s", style="progress.data.speed", justify="right")


class Count(MofNCompleteColumn):
    """Rows of how many, with separators."""

    def render(self, task: Task) -> Text:
        total = "?" if task.total is None else f"{task.total:,.0f}"
        return Text(f"{task.completed:,.0f}/{total}", style="progress.download", justify="right")


class Bars:
    """A bar for each table, with rows, rows/s and time left."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            Count(),
            Rate(),
            TimeRemainingColumn(),
            console=console,
            expand=True,
        )
        self.tables: dict[str, TaskID] = {}
        self.now = self.progress.add_task("starting", total=None)

    def phase(self, name: str) -> None:
        """Show what is being done above or instead of the bars."""
        self.progress.update(self.now, description=name, visible=name != "copy")

    def expect(self, rows: Mapping[str, int]) -> None:
        """Add a bar for each table."""
        for table, count in rows.items():
            self.tables[table] = self.progress.add_task(table, total=count, start=False)

    def rows(self, table: str, count: int) -> None:
        """Move a table's bar, stretching it where more rows come than were expected."""
        task = self.tables.get(table)
        if task is None:
            return
        state = self.progress.tasks[self.progress.task_ids.index(task)]
        if not state.started:
            self.progress.start_task(task)
        if state.total is not None and state.completed + count > state.total:
            self.progress.update(task, total=state.completed + count)
        self.progress.advance(task, count)

    def note(self, message: str) -> None:
        """Print a line above the bars."""
        self.progress.console.print(f"bulkseed: {message}", highlight=False, markup=False)


SAID: Final = {
    "rebuild": "rebuilding indexes and keys",
    "undo": "undoing what had begun (Ctrl-C twice stops that, for `bulkseed cleanup` to go on with)",
}
"""What a plain line says of a phase that may take long while no rows go in or out."""


class Lines:
    """A plain line at the start of a long phase, and every few seconds while rows go in or out."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.now = ""
        self.total = 0
        self.done = 0
        self.began = self.said = time.monotonic()

    def phase(self, name: str) -> None:
        """Say it, once, where it may take long."""
        self.now = name
        if name in SAID:
            self.note(SAID[name])

    def expect(self, rows: Mapping[str, int]) -> None:
        """Say how many rows are to come."""
        self.total = sum(rows.values())
        self.began = self.said = time.monotonic()
        self.done = 0
        self.note(f"about {self.total:,} rows to {'find and remove' if self.now == 'find' else 'come'}")

    def rows(self, table: str, count: int) -> None:
        """Now and then, say how far it is."""
        self.done += count
        now = time.monotonic()
        if self.total and now - self.said >= SECONDS_BETWEEN_LINES:
            self.said = now
            rate = self.done / (now - self.began)
            left = max(0, self.total - self.done) / rate
            self.note(
                f"{self.done:,} of about {self.total:,} rows, {rate:,.0f} rows/s, {left:,.0f} s left, now {table}"
            )

    def note(self, message: str) -> None:
        """Print a line."""
        self.console.print(f"bulkseed: {message}", highlight=False, markup=False, soft_wrap=True)


class BestEffortListener:
    """Shows by another watcher as long as that works: a terminal that is gone must not decide what becomes of a run."""

    def __init__(self, listener: ProgressListener) -> None:
        self.listener = listener

    def phase(self, name: str) -> None:
        """Show it."""
        with self.unfailing():
            self.listener.phase(name)

    def expect(self, rows: Mapping[str, int]) -> None:
        """Show it."""
        with self.unfailing():
            self.listener.expect(rows)

    def rows(self, table: str, count: int) -> None:
        """Show it."""
        with self.unfailing():
            self.listener.rows(table, count)

    def note(self, message: str) -> None:
        """Show it."""
        with self.unfailing():
            self.listener.note(message)

    @contextmanager
    def unfailing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):
            # the terminal, the pipe's reader or the room on the disk is gone
            self.listener = NullListener()


@contextmanager
def progress_display(*, quiet: bool, bars: bool = True) -> Iterator[ProgressListener]:
    """A watcher that shows progress on stderr in the way that fits it, or nothing; or without ``bars``, lines only."""
    console = Console(stderr=True)
    if quiet:
        yield NullListener()
    elif console.is_terminal and bars:
        shows = Bars(console)
        with suppress(OSError, ValueError):
            shows.progress.start()
        try:
            yield BestEffortListener(shows)
        finally:
            with suppress(OSError, ValueError):
                shows.progress.stop()
    else:
        yield BestEffortListener(Lines(console))
