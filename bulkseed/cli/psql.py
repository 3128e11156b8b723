"""``bulkseed psql``."""

from __future__ import annotations

import subprocess

import click

from bulkseed.cli.log_options import log_options
from bulkseed.embedded import run_server

__all__ = ["psql_command"]


@click.command("psql", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PSQL ARGUMENTS]")
@log_options
def psql_command(arguments: tuple[str, ...]) -> int:
    """Open the embedded database in psql."""
    with run_server() as server:
        client = subprocess.Popen([server.binaries / "psql", *arguments, server.url])
        while True:
            try:
                return client.wait()
            except KeyboardInterrupt:
                continue  # psql cancels its query and goes on
