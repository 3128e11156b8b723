"""``python -m bulkseed``."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from pathlib import Path

from bulkseed.errors import escape_controls

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command line with ``arguments`` (default: those of the process) and return the exit status.

    0: done; 1: a run failed, or verify found a violation; 2: wrong input, nothing was changed; 130: interrupted.
    """
    try:
        open_standard_streams()
        add_cwd_to_path()
        return run_command(arguments)
    except KeyboardInterrupt:
        # during the imports of run_command() too, which take a third of a second
        return report_failure("interrupted", INTERRUPTED)


def run_command(arguments: list[str] | None) -> int:
    # else NumPy starts a thread for each core when it is imported; bulkseed uses none of them
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import click  # noqa: PLC0415

    from bulkseed.cli.completion import VARIABLE, complete  # noqa: PLC0415
    from bulkseed.cli.main import cli  # noqa: PLC0415

    if instruction := os.environ.get(VARIABLE):
        return complete(cli, instruction)
    from bulkseed.cli.runner import Interrupted  # noqa: PLC0415
    from bulkseed.errors import BulkseedError  # noqa: PLC0415

    gc.freeze()  # imported objects stay until the end: no collection needs to visit them
    try:
        # not cli.main(), which reports a KeyboardInterrupt as an aborted prompt
        with cli.make_context("bulkseed", sys.argv[1:] if arguments is None else arguments) as context:
            status: int = cli.invoke(context) or 0
            if sys.stdout is not None:
                sys.stdout.flush()
            return status
    except click.exceptions.Exit as end:
        return end.exit_code
    except BulkseedError as error:
        return report_failure(str(error), error.exit_status)
    except click.UsageError as error:
        hint = f" (see `{error.ctx.command_path} --help`)" if error.ctx else ""
        return report_failure(error.format_message().rstrip(".") + hint, 2)
    except click.Abort:
        return report_failure("interrupted; nothing was changed", INTERRUPTED)
    except Interrupted as error:
        return report_failure(str(error), error.exit_status)
    except OSError as error:
        # the reader of stdout is gone, or its disk is full; with /dev/null Python does not report it again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if isinstance(error, BrokenPipeError):
            return 1
        return report_failure(f"cannot write the output ({error.strerror or error})", 1)


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


def report_failure(message: str, status: int) -> int:
    """Print ``message`` on stderr, one problem per line, and return ``status``."""
    if sys.stderr is not None:  # else print() would use stdout
        lines = [escape_controls(" ".join(line.split())) for line in message.split("\n") if line.strip()]
        print("bulkseed:", "\n  ".join(lines), file=sys.stderr)
    return status


def console() -> None:
    """Run the console script ``bulkseed``."""
    status = main()
    # else the garbage collection at exit takes a fifth of a second
    gc.freeze()
    sys.exit(status)


if __name__ == "__main__":
    console()
