"""``python -m bulkseed``."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from pathlib import Path

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command line with ``arguments`` (default: the process's); returns the exit status.

    0 done; 1 a run failed or verify found a violation; 2 wrong input, nothing touched; 130 interrupted.
    """
    try:
        open_standard_streams()
        add_cwd_to_path()
        return commanded(arguments)
    except KeyboardInterrupt:
        # also from the imports below, which take a third of a second
        return failed("interrupted", INTERRUPTED)


def commanded(arguments: list[str] | None) -> int:
    # NumPy would start a thread for each core when it is imported, of which none has work here
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import click  # noqa: PLC0415

    from bulkseed.cli.main import cli  # noqa: PLC0415
    from bulkseed.cli.runner import Interrupted  # noqa: PLC0415
    from bulkseed.errors import BulkseedError  # noqa: PLC0415

    gc.freeze()  # what is imported stays: no collection need look at it
    try:
        # not cli.main(), which takes a KeyboardInterrupt for an answer to a prompt
        with cli.make_context("bulkseed", sys.argv[1:] if arguments is None else arguments) as context:
            status: int = cli.invoke(context) or 0
            if sys.stdout is not None:
                sys.stdout.flush()
            return status
    except click.exceptions.Exit as end:
        return end.exit_code
    except BulkseedError as error:
        return failed(str(error), error.exit_status)
    except click.UsageError as error:
        hint = f" (see `{error.ctx.command_path} --help`)" if error.ctx else ""
        return failed(error.format_message().rstrip(".") + hint, 2)
    except click.Abort:
        return failed("stopped; nothing was touched", INTERRUPTED)
    except Interrupted as error:
        return failed(str(error), error.exit_status)
    except OSError as error:
        # who read our output has gone, or its disk is full; keep Python from complaining again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if isinstance(error, BrokenPipeError):
            return 1
        return failed(f"what was to be printed cannot be written ({error.strerror or error})", 1)


def open_standard_streams() -> None:
    """Open those of stdin, stdout and stderr that are closed: else a socket gets their number, which uvloop refuses."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    # Python has none for those that were closed when it started
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def add_cwd_to_path() -> None:
    """Let scenarios name modules in the working directory, as `python -m` does: after all that is installed."""
    with suppress(OSError):  # it may be gone
        here = str(Path.cwd())
        sys.path += [] if {"", here}.intersection(sys.path) else [here]


def failed(message: str, status: int) -> int:
    if sys.stderr is not None:  # else print() would take stdout
        lines = [make_printable(line) for line in message.split("\n") if line.strip()]
        print("bulkseed:", "\n  ".join(lines), file=sys.stderr)
    return status


def make_printable(line: str) -> str:
    """``line`` with single spaces, and without what commands a terminal: names of a database's may hold such."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in " ".join(line.split()))


def console() -> None:
    """The console script ``bulkseed``."""
    status = main()
    # a last look for garbage among all that the libraries have loaded takes a fifth of a second
    gc.freeze()
    sys.exit(status)


if __name__ == "__main__":
    console()
