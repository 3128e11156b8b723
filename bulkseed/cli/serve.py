"""``bulkseed serve``, with the port and the password of the embedded server."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio
import click

from bulkseed.cli.runner import Interrupted, opened, run
from bulkseed.embedded import Listen
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import connected, translate_errors

__all__ = ["DEFAULT_PORT", "is_free", "kept_password", "serve_command", "set_password"]

DEFAULT_PORT: Final = 54320
PASSWORD_BYTES: Final = 18


def is_free(port: int) -> bool:
    """Whether nobody listens on the port of 127.0.0.1 at the moment."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def kept_password(home: Path) -> str:
    """The password of the embedded server in ``home``, made at first use and kept in a file that only its owner reads.

    The same one each time: a second `serve` must not lock out who has the URL of the first.
    """
    place = home / "password"
    with suppress(FileExistsError):
        number = os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(number, "w") as file:
            file.write(secrets.token_urlsafe(PASSWORD_BYTES))
    return place.read_text()


async def set_password(address: Address, password: str) -> None:
    """Let the login of ``address`` in by ``password`` from now on. Raises ConnectError, and RunError if it may not."""
    async with connected(address) as connection:
        # a literal, as ALTER ROLE takes no parameters; the alphabet of token_urlsafe needs no quoting
        with translate_errors(connection, "setting the login's password"):
            await connection.execute(f"ALTER ROLE CURRENT_USER PASSWORD '{password}'")


@click.command("serve")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=None,
    metavar="N",
    help=f"The port on 127.0.0.1.  [default: {DEFAULT_PORT}, or any free one]",
)
def serve_command(port: int | None) -> None:
    """Keep the embedded server up on a port of this machine until Ctrl-C, and print its URL."""
    if port is None:
        port = DEFAULT_PORT if is_free(DEFAULT_PORT) else 0
    with opened(None, listen=Listen(port)) as database:
        server = database.server
        assert server is not None
        password = kept_password(server.home)
        run(set_password, database.address, password)
        print(f"postgresql://{server.user}:{password}@127.0.0.1:{server.tcp_port}/{server.database}", flush=True)
        print("bulkseed: serving until Ctrl-C", file=sys.stderr)
        try:
            run(anyio.sleep_forever)
        except (Interrupted, KeyboardInterrupt):
            print("bulkseed: stopping", file=sys.stderr)
