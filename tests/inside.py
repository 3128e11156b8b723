"""Commands inside the tests' own process: what they print and how they end, without the second that imports take."""

from __future__ import annotations

import io
import os
import subprocess
from contextlib import redirect_stderr, redirect_stdout

import pytest

from bulkseed.__main__ import main


def inside(*arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
    """Run a command with nobody at a terminal; not where an event loop runs, as it has one of its own."""
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(io.StringIO()) as out,
        redirect_stderr(io.StringIO()) as said,
    ):
        patch.setattr("sys.stdin", io.StringIO())
        for name in os.environ:
            if name.endswith("DATABASE_URL"):
                patch.delenv(name)
        for name, value in changed.items():
            patch.setenv(name, value)
        status = main([*arguments])
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), said.getvalue())
