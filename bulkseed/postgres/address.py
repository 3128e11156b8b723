"""Where the database is: a URL as users write it, made into what the driver takes, and one to show."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bulkseed.errors import InputError
from bulkseed.postgres import libpq
from bulkseed.postgres.passfile import found_password, why_unread
from bulkseed.postgres.url import USUAL, Url

__all__ = ["Address", "named_address"]

SCHEMES: Final = {"postgresql", "postgres", "postgresql+asyncpg"}
VARIABLES: Final = ("BULKSEED_DATABASE_URL", "DATABASE_URL")

SECRET: Final = {"password", "passwd", "sslpassword"}
MASK: Final = "***"


@dataclass(frozen=True, slots=True)
class Address:
    """A database's place. ``url`` and ``dsn`` may hold a password, which ``str`` and ``repr`` mask.

    ``parameters`` are libpq's, by name, once the service file and the environment have given what the URL leaves
    out. Raises InputError where they cannot be had.
    """

    url: Url
    parameters: Mapping[str, str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", libpq.completed(written(self.url), os.environ))

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address in ``text``: ``postgresql://``, ``postgres://`` or ``postgresql+asyncpg://``.

        libpq's ``?host=/socket/dir`` and what else the driver knows is kept. Raises InputError for anything else.
        """
        url = Url.parse(text.strip())
        if url.scheme not in SCHEMES:
            raise InputError(f"the database URL begins with {url.scheme!r}, which is not PostgreSQL: write {USUAL}")
        query = tuple(
            # what SQLAlchemy's asyncpg dialect calls otherwise than libpq
            ("sslmode", libpq.mode_of(value)) if name == "ssl" else (name, value)
            for name, value in url.query
            if name not in libpq.OF_CLIENTS
        )
        return cls(url._replace(scheme="postgresql", query=query))

    @property
    def dsn(self) -> str:
        """The URL as psql and asyncpg read it, password and all."""
        return self.url.render()

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What the driver is called with, password and all."""
        return libpq.arguments(self.parameters, self.parameters.get("password") or found_password(self.parameters))

    @property
    def unread(self) -> str | None:
        """Why the password file is not used though it is there, in words."""
        return None if self.parameters.get("password") else why_unread(self.parameters)

    @property
    def database(self) -> str:
        """The name of the database, as the client asks for it."""
        return self.parameters["dbname"]

    def __str__(self) -> str:
        masked = tuple((name, MASK if name in SECRET else value) for name, value in self.url.query)
        return self.url._replace(password=self.url.password and MASK, query=masked).render()

    @property
    def without_passwords(self) -> Address:
        """The same for who has the passwords from elsewhere: PGPASSWORD, ~/.pgpass."""
        query = tuple((name, value) for name, value in self.url.query if name not in SECRET)
        return Address(self.url._replace(password=None, query=query))

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    @property
    def hosts(self) -> list[str]:
        """Where the server may be: names, addresses or sockets' folders, as URL, service or environment name them."""
        return [each.name for each in libpq.hosts(self.parameters)] or ["localhost"]

    @property
    def addresses(self) -> list[str]:
        """The addresses that are connected to in place of hosts' names (libpq's hostaddr)."""
        return [each.address for each in libpq.hosts(self.parameters) if each.address]

    @property
    def ports(self) -> list[int]:
        """The port of each place where the server may be."""
        found = [each.port for each in libpq.hosts(self.parameters)]
        return found or [int(self.parameters.get("port", libpq.DEFAULT_PORT))]

    @property
    def is_local(self) -> bool:
        """Whether every place where the server may be is on this machine."""
        places = [each.reached_by for each in libpq.hosts(self.parameters)]
        return all(host.startswith("/") or host == "localhost" or is_loopback(host) for host in places)

    @property
    def server(self) -> str:
        """Host and port, or the socket's folder, of each place where the server may be."""
        found = libpq.hosts(self.parameters)
        return ", ".join(map(str, found)) or f"localhost:{self.parameters.get('port', libpq.DEFAULT_PORT)}"


def written(url: Url) -> dict[str, str]:
    """The parameters that a URL names, by libpq's names; arguments win over what stands before them."""
    found = {
        "user": url.username,
        "password": url.password,
        "host": url.host,
        "port": None if url.port is None else str(url.port),
        "dbname": url.database,
    }
    several = {name: ",".join(value for each, value in url.query if each == name) for name in ("host", "port")}
    for name, value in url.query:
        found[{"database": "dbname"}.get(name, name)] = several.get(name, value)
    return {name: value for name, value in found.items() if value}


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def named_address(option: str | None, environment: Mapping[str, str]) -> Address | None:
    """The database that the option names, else the first variable that is set; None for the embedded one.

    Raises InputError for what names none, an option that is empty (a shell's variable that is not set) too.
    """
    if option is not None and not option.strip():
        raise InputError("--database-url is empty: name a database, or leave it out")
    for text in (option, *(environment.get(name) for name in VARIABLES)):
        if text:
            return Address.parse(text)
    return None
