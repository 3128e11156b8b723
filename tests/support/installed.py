"""A PostgreSQL of the machine's, such as Debian's, run as the embedded one is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bulkseed.choices import available_cores, available_memory
from bulkseed.embedded import Server, running, settings
from bulkseed.embedded.programs import account_for, run_as

PLACES = (
    "/usr/lib/postgresql/*/bin",  # Debian
    "/usr/pgsql-*/bin",  # Red Hat
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)
OLDEST = 14


def installed() -> dict[int, Path]:
    """The folders of server programs at their packages' usual places, by major version."""
    found = {}
    for place in PLACES:
        for folder in Path("/").glob(place.lstrip("/")):
            if (folder / "initdb").exists() and (folder / "pg_dump").exists():
                found[major_of(folder)] = folder
    return {major: found[major] for major in sorted(found) if major >= OLDEST}


def major_of(binaries: Path) -> int:
    shown = run_as(None, [binaries / "postgres", "--version"]).stdout
    told = re.search(r"\(PostgreSQL\) (\d+)", shown)
    assert told, f"{binaries} has no PostgreSQL that runs"
    return int(told[1])


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
            if not (home / "data").exists():
                make_cluster(home, binaries)
            # while it is started; then they are known
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("bulkseed.embedded.session.wheel_binaries", lambda: binaries)
                patch.setattr("bulkseed.embedded.cluster.binaries_for", lambda *_: binaries)
                server = stack.enter_context(running(home))
        else:
            server = stack.enter_context(running(home))
        yield server
