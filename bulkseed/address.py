"""Where the database is: a URL as users write it, made into one that asyncpg takes, and one to show."""

from __future__ import annotations

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
OF_SQLALCHEMY: Final = {"prepared_statement_cache_size", "prepared_statement_name_func", "async_fallback"}
"""Query arguments that are for SQLAlchemy, not for the server."""
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
        query = {RENAMED.get(name, name): value for name, value in url.query.items() if name not in OF_SQLALCHEMY}
        return cls(url.set(drivername="postgresql", query=query))

    @property
    def dsn(self) -> str:
        """The URL for the driver, password and all."""
        return self.url.render_as_string(hide_password=False)

    def __str__(self) -> str:
        masked = {name: "***" if name in SECRET else value for name, value in self.url.query.items()}
        return self.url.set(query=masked).render_as_string(hide_password=True)

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    @property
    def server(self) -> str:
        """Host and port, or the socket's folder, as far as the URL names them."""
        host = self.url.host or self.url.query.get("host") or os.environ.get("PGHOST") or "localhost"
        port = self.url.port or self.url.query.get("port") or os.environ.get("PGPORT") or 5432
        first = host if isinstance(host, str) else host[0]
        return first if first.startswith("/") else f"{first}:{port}"


def named_address(option: str | None, environment: Mapping[str, str]) -> Address | None:
    """The database that the option names, else the first variable that is set; None for the embedded one."""
    for text in (option, *(environment.get(name) for name in VARIABLES)):
        if text:
            return Address.parse(text)
    return None
