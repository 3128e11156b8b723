"""URLs of databases, as PostgreSQL's own programs, SQLAlchemy and asyncpg write them.

https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from bulkseed.errors import InputError

__all__ = ["USUAL", "Url"]

USUAL: Final = "postgresql://user:password@host:port/database"

SCHEME: Final = r"(?P<scheme>\w+(?:\+\w+)?)://"
LOGIN: Final = r"(?:(?P<username>[^:/@]*)(?::(?P<password>[^@]*))?@)?"
REST: Final = r"(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?"
BARE: Final = re.compile(rf"{SCHEME}(?P<places>[^/?@]*){REST}", re.DOTALL)
FULL: Final = re.compile(rf"{SCHEME}{LOGIN}(?P<places>[^/?]*){REST}", re.DOTALL)
"""With a login, whose password may have a ``/`` or ``?`` in it: so it is looked for where there is no other reading."""
PLACE: Final = re.compile(r"(?:\[(?P<address>[^\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[0-9]*))?", re.ASCII)

SAFE: Final = "/:,*"
"""What may stand in an argument as it is: sockets' folders, lists of places and the mask of a password stay legible."""


class Url(NamedTuple):
    """A URL in its parts, which are as they are meant: without ``%``. A part that is not there is None.

    ``query`` has the arguments, each a name and a value, in their order. Several places (``a:1,b:2``) are its ``host``.
    """

    scheme: str
    username: str | None = None
    password: str | None = None
    host: str | None = None
    port: int | None = None
    database: str | None = None
    query: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        """Without what is in it: that may be a password, or several."""
        return f"<Url of {self.scheme}>"

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
        """The same. Raises ValueError where it is none, and InputError."""
        found = BARE.fullmatch(text)
        if found is None or not all(PLACE.fullmatch(each) for each in found["places"].split(",")):
            found = FULL.fullmatch(text)
        if found is None:
            raise ValueError("no URL of a database")
        parts = {"username": None, "password": None, **found.groupdict()}
        host, port = found["places"], ""
        if "@" in host:
            raise InputError("the database URL has an @ in its user or password: write it as %40")
        query = parse_qsl(found["query"] or "", errors="strict")
        if "," in host:
            query.insert(0, ("host", unquote(host, errors="strict")))
            host = ""
        elif (place := PLACE.fullmatch(host)) is None:
            raise ValueError("no host and port")
        else:
            host, port = place["address"] or place["name"] or "", place["port"] or ""
        username, password, host, database = (
            unquote(part, errors="strict") if part else None
            for part in (parts["username"], parts["password"], host, parts["database"])
        )
        return cls(found["scheme"], username, password, host, int(port) if port else None, database, tuple(query))

    def render(self) -> str:
        """The URL as text, password and all."""
        login = "" if self.username is None else quoted(self.username)
        login += "" if self.password is None else f":{quoted(self.password, '*')}"
        host = quoted(self.host or "", ":")
        host = f"[{host}]" if ":" in host else host
        port = "" if self.port is None else f":{self.port}"
        at = "@" if self.username is not None or self.password is not None else ""
        database = "" if self.database is None else f"/{quoted(self.database)}"
        arguments = "&".join(f"{quoted(name)}={quoted(value, SAFE)}" for name, value in self.query)
        if arguments:
            arguments = f"?{arguments}" if database else f"/?{arguments}"
        return f"{self.scheme}://{login}{at}{host}{port}{database}{arguments}"


def quoted(part: str, safe: str = "") -> str:
    return quote(part, safe=safe)
