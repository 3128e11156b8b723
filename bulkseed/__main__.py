"""``python -m bulkseed``."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from bulkseed.cli.output import (
    Interrupted,
    Output,
    OutputError,
    asks_for_json,
    discard_output,
    find_interruption,
    mark_failures,
)
from bulkseed.errors import escape_controls

FAILED = 1
WRONG_INPUT = 2
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command line with ``arguments`` (default: those of the process) and return the exit status.

    0: done. 1: a run failed, or another failure after the command began to write. 2: wrong input, nothing was changed.
    3: verify found a broken rule. 4: no server could be reached or started, nothing was changed. 128 and the number of
    a signal: ended by it.
    """
    open_standard_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    output = Output(as_json=asks_for_json(arguments, os.environ))
    try:
        add_cwd_to_path()
        return run_command(arguments, output)
    except KeyboardInterrupt as error:
        # during the imports of run_command() too, which take a third of a second
        # that of an earlier signal, if it was ending the command already
        interruption = find_interruption(error) or Interrupted(signal.SIGINT)
        return fail(output, str(interruption), "interrupted", interruption.exit_status)


def run_command(arguments: list[str], output: Output) -> int:
    # else NumPy starts a thread for each core when it is imported; bulkseed uses none of them
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import click  # noqa: PLC0415

    from bulkseed.cli.completion import VARIABLE, complete  # noqa: PLC0415
    from bulkseed.cli.main import cli  # noqa: PLC0415
    from bulkseed.errors import BulkseedError  # noqa: PLC0415

    gc.freeze()  # imported objects stay until the end: no collection needs to visit them
    try:
        if instruction := os.environ.get(VARIABLE):
            return complete(cli, instruction)
        # not cli.main(), which reports a KeyboardInterrupt as an aborted prompt
        with cli.make_context("bulkseed", arguments, obj=output) as context:
            status: int = cli.invoke(context) or 0
            output.stdout.flush()
            return status
    except click.exceptions.Exit as end:
        return end.exit_code
    except BulkseedError as error:
        output.print_traceback(error)
        return fail(output, str(error), error.code, error.exit_status)
    except click.UsageError as error:
        hint = f" (see `{error.ctx.command_path} --help`)" if error.ctx else ""
        message = error.format_message().rstrip(".")
        return fail(output, message[:1].lower() + message[1:] + hint, "usage-error", WRONG_INPUT)
    except click.Abort:
        return fail(output, "interrupted; nothing was changed", "interrupted", INTERRUPTED)
    except Interrupted as error:
        return fail(output, str(error), "interrupted", error.exit_status)
    except OutputError as error:
        # the reader of stdout is gone, or its disk is full
        discard_output(error.filename)
        output.print_traceback(error)
        output.is_result_printed = True
        if isinstance(error.__cause__, BrokenPipeError):
            return FAILED
        return fail(output, f"cannot write the output ({error.strerror})", "output-failed", FAILED)
    except OSError as error:
        output.print_traceback(error)
        return fail(output, with_notes(describe_os_error(error), error), "system-error", FAILED)
    except (Exception, SystemExit) as error:
        output.print_traceback(error)
        fault = (
            f"{type(error).__name__}: {error}\n"
            "this is a fault in bulkseed: run the command again with --debug, and report what it prints"
        )
        return fail(output, with_notes(fault, error), "internal-error", FAILED)


def describe_os_error(error: OSError) -> str:
    """Return the system's message, and the file that it is about."""
    file = "" if error.filename is None else f": {error.filename}"
    return f"{error.strerror or error or type(error).__name__}{file}"


def with_notes(message: str, error: BaseException) -> str:
    """Return a message, and the notes of the error: what became of the run."""
    return "\n".join([message, *getattr(error, "__notes__", ())])


def fail(output: Output, message: str, code: str, status: int) -> int:
    """Report the error that ends the command, on stderr and as JSON if that is asked for; return ``status``."""
    report_failure(message, status, code)
    try:
        output.print_error(message, status, code=code)
    except OutputError as error:
        discard_output(error.filename)
    return status


def open_standard_streams() -> None:
    """Open /dev/null for each closed standard stream: else a socket gets its number, which uvloop refuses."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    # sys.stdout and sys.stderr are None if they were closed when Python started
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def add_cwd_to_path() -> None:
    """Make modules of the working directory importable for scenarios, after all installed ones."""
    with suppress(OSError):  # the directory may be deleted
        here = str(Path.cwd())
        sys.path += [] if {"", here}.intersection(sys.path) else [here]


def report_failure(message: str, status: int, code: str) -> int:
    """Print ``message`` on stderr, one problem per line, and return ``status``."""
    lines = [escape_controls(" ".join(line.split())) for line in message.split("\n") if line.strip()]
    start = "bulkseed:" if code == "interrupted" else f"bulkseed: error [{code}]:"
    try:
        print(start, "\n  ".join(lines), file=sys.stderr)
    except OutputError as error:
        discard_output(error.filename)
    return status


def console() -> None:
    """Run the console script ``bulkseed``."""
    open_standard_streams()
    sys.stdout, sys.stderr = mark_failures(sys.stdout), mark_failures(sys.stderr)
    status = main()
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            # what progress has left in the buffer; else Python fails to flush it at exit, with status 120
            discard_output(number)
    # else the garbage collection at exit takes a fifth of a second
    gc.freeze()
    sys.exit(status)


if __name__ == "__main__":
    console()
