"""URLs of databases, as PostgreSQL's own programs, SQLAlchemy and asyncpg write them.

https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qs, quote, unquote

from bulkseed.errors import InputError

__all__ = ["USUAL", "Url"]

USUAL: Final = "postgresql://user:password@host:port/database"

FORM: Final = re.compile(
    r"(?P<scheme>\w+(?:\+\w+)?)://"
    r"(?:(?P<username>[^:/@]*)(?::(?P<password>[^@]*))?@)?"
    r"(?P<places>[^/?]*)"
    r"(?:/(?P<database>[^?]*))?"
    r"(?:\?(?P<query>.*))?",
    re.DOTALL,
)
PLACE: Final = re.compile(r"(?:\[(?P<address>[^\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[0-9]*))?", re.ASCII)


class Url(NamedTuple):
    """A URL in its parts, which are as they are meant: without ``%``. A part that is not there is None.

    ``query`` has the values of each argument, in their order. Several places (``a:1,b:2``) are its ``host``.
    """

    scheme: str
    username: str | None = None
    password: str | None = None
    host: str | None = None
    port: int | None = None
    database: str | None = None
    query: Mapping[str, tuple[str, ...]] = {}

    @classmethod
    def parse(cls, text: str) -> Url:
        """The URL in ``text``. Raises InputError, which does not show it, as it may hold a password."""
        try:
            text.encode()  # ends what came in another encoding
            return cls.taken_apart(text)
        except ValueError:
            raise InputError(f"the database URL cannot be read: write it as {USUAL}") from None

    @classmethod
    def taken_apart(cls, text: str) -> Url:
        if (found := FORM.fullmatch(text)) is None:
            raise ValueError("no URL of a database")
        query = {name: tuple(values) for name, values in parse_qs(found["query"] or "", errors="strict").items()}
        host, port = found["places"], ""
        if "@" in host:
            raise InputError("the database URL has an @ in its user or password: write it as %40")
        if "," in host:
            query["host"] = (unquote(host, errors="strict"), *query.get("host", ()))
            host = ""
        elif (place := PLACE.fullmatch(host)) is None:
            raise ValueError("no host and port")
        else:
            host, port = place["address"] or place["name"] or "", place["port"] or ""
        username, password, host, database = (
            unquote(part, errors="strict") if part else None
            for part in (found["username"], found["password"], host, found["database"])
        )
        return cls(found["scheme"], username, password, host, int(port) if port else None, database, query)

    def render(self) -> str:
        """The URL as text, password and all."""
        login = "" if self.username is None else quoted(self.username)
        login += "" if self.password is None else f":{quoted(self.password)}"
        host = quoted(self.host or "", ":")
        host = f"[{host}]" if ":" in host else host
        port = "" if self.port is None else f":{self.port}"
        at = "@" if self.username is not None or self.password is not None else ""
        database = "" if self.database is None else f"/{quoted(self.database)}"
        arguments = [
            f"{quoted(name)}={quoted(value, ARGUMENT)}" for name, values in self.query.items() for value in values
        ]
        if arguments and not database:
            database = "/"
        return f"{self.scheme}://{login}{at}{host}{port}{database}" + ("?" + "&".join(arguments) if arguments else "")


ARGUMENT: Final = "/:,"
"""What may stand in an argument as it is: sockets' folders and lists of places stay legible."""


def quoted(part: str, safe: str = "") -> str:
    return quote(part, safe=safe)
