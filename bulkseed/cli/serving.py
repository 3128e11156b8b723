"""The embedded server's port and password, for `bulkseed serve`."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import connected, translated

__all__ = ["DEFAULT_PORT", "is_free", "kept_password", "set_password"]

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
        with translated(connection, "setting the login's password"):
            await connection.execute(f"ALTER ROLE CURRENT_USER PASSWORD '{password}'")
