"""What a command prints besides its tables: the JSON object, errors and the log; and failures to print."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, TextIO

from bulkseed.errors import escape_controls

if TYPE_CHECKING:
    import click

__all__ = [
    "Interrupted",
    "Output",
    "OutputError",
    "asks_for_json",
    "discard_output",
    "find_interruption",
    "mark_failures",
    "print_json",
]


class OutputError(OSError):
    """Standard output or standard error cannot be written. ``filename`` is the number of its descriptor."""


class MarkedFile(io.FileIO):
    """A standard stream that raises OutputError, so that its failures can be told from those of other files."""

    def write(self, data: Any, /) -> int:
        """Write ``data``. Raises OutputError."""
        try:
            return super().write(data)
        except OSError as error:
            raise OutputError(error.errno, error.strerror, self.fileno()) from error


def mark_failures(stream: TextIO, number: int | None = None) -> TextIO:
    """Return a stream like ``stream``, a standard stream, that raises OutputError.

    It writes to the descriptor ``number``, by default that of ``stream``.
    """
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    file = MarkedFile(stream.fileno() if number is None else number, "wb", closefd=False)
    return io.TextIOWrapper(
        file if stream.write_through else io.BufferedWriter(file),  # as python -u does
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


WITHOUT_JSON: Final = {"completion", "psql", "serve"}
"""The commands whose standard output is not a result, and that have no ``--json``."""
TRUE: Final = {"1", "on", "t", "true", "y", "yes"}
"""The values with which click turns a flag on by an environment variable."""


def asks_for_json(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Return whether a command line asks for JSON: also one that cannot be parsed, whose error must be JSON too."""
    if arguments and arguments[0] in WITHOUT_JSON:
        return False
    options = takewhile(lambda argument: argument != "--", arguments)
    return "--json" in options or environment.get("BULKSEED_JSON", "").strip().lower() in TRUE


class LogFormatter(logging.Formatter):
    """A line for each record; more only for tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record, without the characters that control a terminal."""
        return escape_lines(super().format(record))


class LogHandler(logging.Handler):
    """Prints records on ``sys.stderr``: while progress bars are shown, rich puts its own stream there."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record, if that is possible: a failure to log must not end a command."""
        with suppress(Exception):
            print(self.format(record), file=sys.stderr)


STDOUT: Final = 1
STDERR: Final = 2
LOG_FORMAT: Final = "%(asctime)s %(levelname)s [%(name)s] %(message)s"


def escape_lines(text: str) -> str:
    return "\n".join(escape_controls(line) for line in text.splitlines())


class Interrupted(BaseException):
    """A signal ended the command, after it had cleaned up."""

    def __init__(self, number: int, message: str = "interrupted") -> None:
        super().__init__(message)
        self.exit_status = 128 + number


def find_interruption(error: BaseException) -> Interrupted | None:
    """Return the interruption during whose handling ``error`` was raised, if there is one."""
    context: BaseException | None = error
    while context is not None and not isinstance(context, Interrupted):
        context = context.__context__
    return context


class Output:
    """The output of one command: whether it is JSON, and whether errors get a traceback."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.debug = False
        self.stdout = sys.stdout
        self.log_level: int | None = None
        self.is_result_printed = False

    def use_json(self, root: click.Context) -> None:
        """Print JSON on stdout until the context ``root`` ends; what else is printed there goes to stderr instead.

        A plugin, or a program that it runs, may print, for example, which would make the object unreadable.
        """
        self.as_json = True
        root.with_resource(redirect_stdout(sys.stderr))
        with suppress(OSError, ValueError):  # a program that calls main() may have a stream without a descriptor
            if self.stdout.fileno() == STDOUT:
                self.stdout.flush()
                own = os.dup(STDOUT)
                root.call_on_close(lambda: restore_stdout(own))
                os.dup2(STDERR, STDOUT)
                self.stdout = mark_failures(self.stdout, own)

    def show_log(self, root: click.Context, level: int) -> None:
        """Print the log of bulkseed on stderr, from ``level`` on, until the context ``root`` ends."""
        self.debug = self.debug or level <= logging.DEBUG
        if self.log_level is None:
            root.with_resource(log_to_stderr())
        self.log_level = level if self.log_level is None else min(level, self.log_level)
        logging.getLogger("bulkseed").setLevel(self.log_level)

    def print_json(self, value: Any) -> None:
        """Print the JSON object that is the result."""
        self.is_result_printed = True
        print(json.dumps(value, ensure_ascii=False), file=self.stdout)

    def print_error(self, message: str, status: int, *, code: str) -> None:
        """Print the error that ends the command as a JSON object, unless its result is printed already."""
        if self.as_json and not self.is_result_printed:
            self.print_json({"error": {"code": code, "message": message, "exit_status": status}})
            self.stdout.flush()

    def print_traceback(self, error: BaseException | None) -> None:
        """Print the traceback of an error with those of its causes on stderr, if ``--debug`` is given."""
        if self.debug and error is not None:
            text = "".join(traceback.format_exception(error))
            with suppress(OSError, ValueError):
                print(escape_lines(text), file=sys.stderr)


def print_json(value: Any) -> None:
    """Print the JSON object that is the result of the command."""
    import click

    output = click.get_current_context().find_object(Output)
    assert output is not None
    output.print_json(value)


@contextmanager
def log_to_stderr() -> Iterator[None]:
    logger = logging.getLogger("bulkseed")
    handler, former = LogHandler(), logger.level
    handler.setFormatter(LogFormatter(LOG_FORMAT))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(former)
        logger.removeHandler(handler)


def restore_stdout(number: int) -> None:
    """Lead descriptor 1 to the file of ``number`` again, after what is still to be written elsewhere."""
    if sys.__stdout__ is not None:
        with suppress(OSError, ValueError):
            sys.__stdout__.flush()
    os.dup2(number, STDOUT)


def discard_output(number: int) -> None:
    """Lead a standard stream to /dev/null: else Python reports at its exit that the stream cannot be written."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)
