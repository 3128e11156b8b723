"""Where the database is: a URL as users write it, made into one that asyncpg takes, and one to show."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from bulkseed.errors import InputError

__all__ = ["Address", "named_address"]

SCHEMES: Final = {"postgresql", "postgres", "postgresql+asyncpg"}
VARIABLES: Final = ("BULKSEED_DATABASE_URL", "DATABASE_URL")
FORM: Final = "postgresql://user:password@host:port/database"

RENAMED: Final = {"ssl": "sslmode"}
"""What SQLAlchemy's asyncpg dialect calls otherwise than libpq."""
OF_CLIENTS: Final = {
    *("prepared_statement_cache_size", "prepared_statement_name_func", "async_fallback"),
    *("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    *("tcp_user_timeout", "channel_binding", "gssencmode", "sslcompression", "sslsni", "require_auth"),
    *("fallback_application_name", "load_balance_hosts", "requirepeer"),
}
"""Query arguments that are for SQLAlchemy or libpq, and that asyncpg would pass to the server."""
SECRET: Final = {"password", "passwd", "sslpassword"}


@dataclass(frozen=True, slots=True)
class Address:
    """A database's place. ``dsn`` may hold a password, so it is left out of ``repr``; ``str`` shows the masked form."""

    url: URL

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address in ``text``: ``postgresql://``, ``postgres://`` or ``postgresql+asyncpg://``.

        libpq's ``?host=/socket/dir`` and other parameters are kept. Raises InputError for anything else.
        """
        try:
            url = make_url(text.strip())
        except (ArgumentError, ValueError):
            # the text is not shown: it may hold a password
            raise InputError(f"the database URL cannot be read: write it as {FORM}") from None
        if url.drivername not in SCHEMES:
            raise InputError(f"the database URL begins with {url.drivername!r}, which is not PostgreSQL: write {FORM}")
        if "@" in (url.host or ""):
            raise InputError("the database URL has an @ in its user or password: write it as %40")
        query = {RENAMED.get(name, name): value for name, value in url.query.items() if name not in OF_CLIENTS}
        url = url.set(drivername="postgresql", query=query)
        return cls(url if url.database else url._replace(database=None))

    @property
    def dsn(self) -> str:
        """The URL for the driver, password and all."""
        return self.url.render_as_string(hide_password=False)

    @property
    def database(self) -> str:
        """The name of the database: the user's, where the URL has none."""
        return self.url.database or self.url.username or ""

    def __str__(self) -> str:
        masked = {name: "***" if name in SECRET else value for name, value in self.url.query.items()}
        return self.url.set(query=masked).render_as_string(hide_password=True)

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    @property
    def hosts(self) -> list[str]:
        """Where the server may be: names, addresses or sockets' folders, as the URL or the environment names them."""
        named = self.url.query.get("host") or self.url.host or os.environ.get("PGHOST") or "localhost"
        several = [named] if isinstance(named, str) else named
        return [host for each in several for host in each.split(",")]

    @property
    def is_local(self) -> bool:
        """Whether every place where the server may be is on this machine."""
        return all(host.startswith("/") or host == "localhost" or is_loopback(host) for host in self.hosts)

    @property
    def server(self) -> str:
        """Host and port, or the socket's folder, as far as the URL names them."""
        port = self.url.port or self.url.query.get("port") or os.environ.get("PGPORT") or 5432
        first = self.hosts[0]
        return first if first.startswith("/") else f"{first}:{port if not isinstance(port, tuple) else port[0]}"


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def named_address(option: str | None, environment: Mapping[str, str]) -> Address | None:
    """The database that the option names, else the first variable that is set; None for the embedded one."""
    for text in (option, *(environment.get(name) for name in VARIABLES)):
        if text:
            return Address.parse(text)
    return None
