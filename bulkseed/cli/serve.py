"""``bulkseed serve``: the embedded server on a TCP port, with a password."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from bulkseed.cli.command import command
from bulkseed.sql import compose, literal

if TYPE_CHECKING:
    from bulkseed.postgres.address import Address

__all__ = ["DEFAULT_PORT", "is_port_free", "load_or_create_password", "serve_command", "set_password"]

DEFAULT_PORT: Final = 54320
PASSWORD_BYTES: Final = 18


def is_port_free(port: int) -> bool:
    """Return whether no process listens on ``port`` of 127.0.0.1 at the moment."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def load_or_create_password(home: Path) -> str:
    """Return the password of the embedded server in ``home``: random, kept in a file that only its owner can read.

    It stays the same, as clients may still use the URL that an earlier ``serve`` printed.
    """
    password_file = home / "password"
    with suppress(FileNotFoundError):
        # an empty file is what a crash of an earlier version left, and an empty password is none for PostgreSQL
        if password := password_file.read_text().strip():
            return password
        password_file.unlink()
    number, name = tempfile.mkstemp(dir=home, prefix="password-")  # only its owner can read it
    try:
        with os.fdopen(number, "w") as file:
            file.write(secrets.token_urlsafe(PASSWORD_BYTES))
            file.flush()
            os.fsync(number)
        # the complete file appears at once, and does not replace that of another command
        with suppress(FileExistsError):
            os.link(name, password_file)
    finally:
        Path(name).unlink()
    return password_file.read_text().strip()


async def set_password(address: Address, password: str) -> None:
    """Set the password of the role of ``address``. Raises ConnectError, and RunError where the server refuses."""
    from bulkseed.postgres.connection import open_connection, translate_errors

    async with open_connection(address) as connection:
        with translate_errors(connection, "setting the role's password"):
            alter = compose("ALTER ROLE CURRENT_USER PASSWORD {password}", password=literal(password))
            await connection.execute(alter)


@command("serve")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=None,
    metavar="N",
    help=f"Port on 127.0.0.1.  [default: {DEFAULT_PORT} if it is free, else any free port]",
)
@click.option("--quiet", is_flag=True, help="Print only the URL, and errors.")
def serve_command(port: int | None, quiet: bool) -> None:
    """Run the embedded server on a local port until Ctrl-C.

    It prints the URL by which other programs, such as the app that you test, connect to the loaded database.
    """
    import anyio

    from bulkseed.cli.runner import Interrupted, open_database, run
    from bulkseed.embedded import Listen

    if port is None:
        port = DEFAULT_PORT if is_port_free(DEFAULT_PORT) else 0
    with open_database(None, listen=Listen(port), quiet=quiet) as database:
        server = database.server
        assert server is not None
        password = load_or_create_password(server.home)
        run(set_password, database.address, password)
        print(f"postgresql://{server.user}:{password}@127.0.0.1:{server.tcp_port}/{server.database}", flush=True)
        if not quiet:
            print("bulkseed: serving until Ctrl-C", file=sys.stderr)
        try:
            run(anyio.sleep_forever)
        except (Interrupted, KeyboardInterrupt):
            if not quiet:
                print("bulkseed: stopping", file=sys.stderr)
