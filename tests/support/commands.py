"""Commands: in processes of their own, or inside the tests' own, without the second that imports take."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from bulkseed.__main__ import main
from support.plans import AS_OF

ROOT = Path(__file__).parents[2]
FIXED = ["--as-of", AS_OF.date().isoformat()]


def environment(**changed: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.endswith("DATABASE_URL")}
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
