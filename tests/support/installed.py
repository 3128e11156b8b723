"""A PostgreSQL other than the wheel's, such as Debian's, run as the embedded one is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from bulkseed.choices import available_cores, available_memory
from bulkseed.embedded import Server, running, settings
from bulkseed.embedded.programs import account_for, run_as, wheel_binaries

CLIENTS: Final = ("pg_dump", "psql")
"""The client programs that tests use; those of the wheel's version know older servers too."""


def version_of(binaries: Path) -> str:
    """What the server program of a folder says of itself, such as ``postgres (PostgreSQL) 15.18``."""
    shown = run_as(None, [binaries / "postgres", "--version"])
    assert shown.returncode == 0, f"{binaries} has no PostgreSQL that runs: {shown.stderr}"
    return shown.stdout.strip()


def with_clients(binaries: Path, folder: Path) -> Path:
    """A folder of these programs, where need be a new one of links to them and to the wheel's clients."""
    lacking = [name for name in CLIENTS if not (binaries / name).exists()]
    if not lacking:
        return binaries
    folder.mkdir(exist_ok=True)
    for program in (*binaries.iterdir(), *(wheel_binaries() / name for name in lacking)):
        link = folder / program.name
        if not link.is_symlink():
            link.symlink_to(program)
    return folder


def make_cluster(home: Path, binaries: Path) -> None:
    """The data folder of a home, tuned as the embedded server's is, by an initdb that may be older."""
    data = home / "data"
    account = account_for(home, data)
    data.mkdir(0o700)
    if account is not None:
        os.chown(data, account.uid, account.gid)
    made = run_as(
        account,
        [
            *(binaries / "initdb", "-D", data, "-U", "bulkseed", "--encoding=UTF8", "--locale=C", "--no-sync"),
            *("--auth-local=trust", "--auth-host=scram-sha-256", "--no-instructions"),
        ],
    )
    assert made.returncode == 0, made.stderr
    tuned = settings(available_memory(), available_cores())
    with (data / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in tuned.items())


@contextmanager
def running_with(home: Path, binaries: Path | None) -> Iterator[Server]:
    """The server of a home: of the wheel's programs, or of others'."""
    with ExitStack() as stack:
        if binaries is not None:
            programs = with_clients(binaries, home / "programs")
            if not (home / "data").exists():
                make_cluster(home, programs)
            # while it is started; then they are known
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("bulkseed.embedded.session.wheel_binaries", lambda: programs)
                patch.setattr("bulkseed.embedded.cluster.binaries_for", lambda *_: programs)
                server = stack.enter_context(running(home))
        else:
            server = stack.enter_context(running(home))
        yield server
