"""Where the database is: a URL as users write it, made into what the driver takes, and one to show."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from bulkseed.errors import InputError
from bulkseed.postgres import libpq
from bulkseed.postgres.libpq import found_password, why_unread

__all__ = ["USUAL", "Address", "Url", "named_address"]

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
            if name not in libpq.CLIENT_PARAMS
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
