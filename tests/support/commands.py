"""Run commands: each in a process of its own, or in the process of the tests, which saves a second of imports."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from bulkseed.__main__ import main, report_failure
from bulkseed.errors import BulkseedError
from support.plans import AS_OF

ROOT = Path(__file__).parents[2]
FIXED = ["--as-of", AS_OF.date().isoformat()]


def is_setting(variable: str) -> bool:
    """Whether a variable changes what a command does; not BULKSEED_HOME."""
    return variable.endswith("DATABASE_URL") or (variable.startswith("BULKSEED_") and variable != "BULKSEED_HOME")


def environment(**changed: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not is_setting(name)}
    return kept | {"PYTHONWARNINGS": "error"} | changed


def bulkseed(*arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bulkseed", *arguments],
        capture_output=True,
        text=True,
        env=environment(**changed),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )


def at_terminal(*arguments: str, **changed: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start a command at a terminal of its own; return the process, and the descriptor of the terminal's other end."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "bulkseed", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(**changed),
        cwd=ROOT,
    )
    os.close(theirs)
    return child, ours


def inside(*arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, without a terminal; not from a running event loop, as it starts its own."""
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(io.StringIO()) as out,
        redirect_stderr(io.StringIO()) as err,
    ):
        patch.setattr("sys.stdin", io.StringIO())
        for name in filter(is_setting, [*os.environ]):
            patch.delenv(name)
        for name, value in changed.items():
            patch.setenv(name, value)
        status = main([*arguments])
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


@dataclass(frozen=True, slots=True)
class Problem:
    """The error that ends a command: its class, its code (None: any), and the names and values in its message."""

    kind: type[Exception]
    code: str | None
    facts: tuple[str, ...]

    def check(self, error: BaseException | None, printed: str) -> None:
        """Fail unless ``error`` is this problem, and ``printed`` on stderr as such."""
        assert isinstance(error, self.kind), (error, printed)
        if self.code is not None:
            assert isinstance(error, BulkseedError)
            assert error.code == self.code, error
        assert printed.startswith("bulkseed: "), printed
        assert printed.endswith("\n"), printed
        assert all(line.isprintable() for line in printed.splitlines()), printed
        missing = [fact for fact in self.facts if fact not in printed]
        assert not missing, f"{missing} not in: {printed}"


@contextmanager
def reported_errors() -> Iterator[list[BaseException | None]]:
    """Collect the errors with which commands in this process end. They are printed all the same."""
    errors: list[BaseException | None] = []

    def report(message: str, status: int, code: str) -> int:
        errors.append(sys.exception())
        return report_failure(message, status, code)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bulkseed.__main__.report_failure", report)
        yield errors
