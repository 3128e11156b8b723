"""Progress on stderr: bars at a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from bulkseed.listeners import NullListener, Phase, ProgressListener

__all__ = ["show_progress"]

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES: Final = 5.0


class Rate(TextColumn):
    """Rows per second: over the last few seconds while a table loads, over the whole load when it is complete."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} rows/s", style="progress.data.speed", justify="right")


class Count(MofNCompleteColumn):
    """Rows so far and expected, with thousands separators; empty for a phase, which has no rows."""

    def render(self, task: Task) -> Text:
        text = "" if task.total is None else f"{task.completed:,.0f}/{task.total:,.0f}"
        return Text(text, style="progress.download", justify="right")


PHASES: Final = {
    Phase.CHECK: "checking",
    Phase.RESERVE: "reserving ids",
    Phase.DROP: "dropping indexes and keys",
    Phase.COPY: "loading rows",
    Phase.REBUILD: "rebuilding",
    Phase.ANALYZE: "analyzing tables",
    Phase.COMMIT: "committing",
    Phase.UNDO: "undoing the run",
    Phase.FIND: "finding rows",
    Phase.REMOVE: "removing rows",
    Phase.ROWS: "checking rows",
    Phase.USERS: "checking users",
    Phase.CHANNELS: "checking channels",
    Phase.MEMBERS: "checking members",
    Phase.MESSAGES: "checking messages",
    Phase.REPLIES: "checking replies",
    Phase.REACTIONS: "checking reactions",
    Phase.SHAPE: "checking the shape",
    Phase.NAMES: "checking names",
    Phase.TEXTS: "checking texts",
}
"""The words that the screen has for each phase."""


class Bars:
    """A bar for each table: rows, rows/s, time left."""

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

    def phase(self, phase: Phase, step: int = 0, steps: int | None = None) -> None:
        """Show the phase above the bars; hide it while rows are copied."""
        description = PHASES[phase]
        if steps is not None:
            description += f", {step} of {steps} steps"
        # the column of Count shows numbers of rows, so the steps are in the description
        self.progress.update(self.now, description=description, visible=phase != Phase.COPY)

    def expect(self, rows: Mapping[str, int]) -> None:
        """Add a bar for each table."""
        for table, count in rows.items():
            self.tables[table] = self.progress.add_task(table, total=count, start=False)

    def rows(self, table: str, count: int) -> None:
        """Advance the bar of a table; raise its total when there are more rows than expected."""
        task = self.tables.get(table)
        if task is None:
            return
        state = self.state(task)
        if not state.started:
            self.progress.start_task(task)
        if state.total is not None and state.completed + count > state.total:
            state.total = state.completed + count  # update(total=…) would forget the speed
        self.progress.advance(task, count)

    def finish(self) -> None:
        """Hide the phase, and show every bar as complete: the totals were estimates, and are now known."""
        self.progress.update(self.now, visible=False)
        for task in self.tables.values():
            state = self.state(task)
            state.total = state.completed  # update(total=…) would forget the speed
            self.progress.start_task(task)
            self.progress.update(task)

    def state(self, task: TaskID) -> Task:
        """Return the state of a bar."""
        return self.progress.tasks[self.progress.task_ids.index(task)]

    def note(self, message: str) -> None:
        """Print a line above the bars."""
        self.progress.console.print(f"bulkseed: {message}", highlight=False, markup=False)


LONG_PHASES: Final = {
    Phase.REBUILD: "rebuilding indexes and keys",
    Phase.UNDO: "undoing the run (to interrupt this, press Ctrl-C twice; `bulkseed cleanup` then finishes it)",
}
"""The plain lines for phases that may take long without loading or removing rows."""


class Lines:
    """Plain lines: one at the start of a long phase, and one every few seconds while rows are loaded or removed."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.now: Phase | None = None
        self.total = 0
        self.done = 0
        self.began = self.printed = time.monotonic()

    def phase(self, phase: Phase, step: int = 0, steps: int | None = None) -> None:
        """Print a line when a phase begins that may take long, and its steps every SECONDS_BETWEEN_LINES seconds."""
        now = time.monotonic()
        if phase != self.now:
            self.now = phase
            if phase in LONG_PHASES:
                self.printed = now
                self.note(LONG_PHASES[phase])
        elif steps is not None and now - self.printed >= SECONDS_BETWEEN_LINES:
            self.printed = now
            self.note(f"{PHASES[phase]}: {step} of {steps} steps are done")

    def expect(self, rows: Mapping[str, int]) -> None:
        """Print how many rows are expected."""
        self.total = sum(rows.values())
        self.began = self.printed = time.monotonic()
        self.done = 0
        self.note(f"{'removing' if self.now == Phase.FIND else 'loading'} about {self.total:,} rows")

    def rows(self, table: str, count: int) -> None:
        """Print the progress every SECONDS_BETWEEN_LINES seconds."""
        self.done += count
        now = time.monotonic()
        # after a failed attempt, whose rows are taken back, there may be none
        if self.total and self.done > 0 and now - self.printed >= SECONDS_BETWEEN_LINES:
            self.printed = now
            rate = self.done / (now - self.began)
            left = max(0, self.total - self.done) / rate
            self.note(
                f"{self.done:,} of about {self.total:,} rows, {rate:,.0f} rows/s, {left:,.0f} s left, now {table}"
            )

    def note(self, message: str) -> None:
        """Print a line."""
        self.console.print(f"bulkseed: {message}", highlight=False, markup=False, soft_wrap=True)


class BestEffortListener:
    """Passes progress on to another listener until that fails: a closed terminal must not end a run."""

    def __init__(self, listener: ProgressListener) -> None:
        self.listener = listener

    def phase(self, phase: Phase, step: int = 0, steps: int | None = None) -> None:
        """Pass it on."""
        with self.ignore_failure():
            self.listener.phase(phase, step, steps)

    def expect(self, rows: Mapping[str, int]) -> None:
        """Pass it on."""
        with self.ignore_failure():
            self.listener.expect(rows)

    def rows(self, table: str, count: int) -> None:
        """Pass it on."""
        with self.ignore_failure():
            self.listener.rows(table, count)

    def note(self, message: str) -> None:
        """Pass it on."""
        with self.ignore_failure():
            self.listener.note(message)

    @contextmanager
    def ignore_failure(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            # the terminal or the reader of the pipe is gone, the disk is full, or the display has a fault
            logger.debug("progress is no longer shown", exc_info=True)
            self.listener = NullListener()


@contextmanager
def show_progress(*, quiet: bool, bars: bool = True) -> Iterator[ProgressListener]:
    """Yield a listener that prints progress on stderr: bars at a terminal if ``bars``, else lines; nothing if quiet."""
    console = Console(stderr=True)
    if quiet:
        yield NullListener()
    elif console.is_terminal and bars:
        display = Bars(console)
        with suppress(Exception):
            display.progress.start()
        try:
            yield BestEffortListener(display)
            with suppress(Exception):
                display.finish()
        finally:
            with suppress(Exception):
                display.progress.stop()
    else:
        yield BestEffortListener(Lines(console))
