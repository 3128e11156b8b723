"""The address of a database: a URL as users write it, the driver's arguments for it, and a form without passwords."""

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
from bulkseed.postgres.keywords import parse_keywords
from bulkseed.postgres.libpq import password_file_problem, read_password
from bulkseed.postgres.parameters import KEYWORDS, SQLALCHEMY_PARAMS, ClientOptions, client_options

__all__ = ["Address", "Url", "named_address"]

URL_FORM: Final = "postgresql://user:password@host:port/database"

SCHEME: Final = r"(?P<scheme>\w[\w+.-]*)://"
USER: Final = r"(?:(?P<username>[^:/@]*)(?::(?P<password>[^@]*))?@)?"
REST: Final = r"(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?"
WITHOUT_USER: Final = re.compile(rf"{SCHEME}(?P<hosts>[^/?@]*){REST}", re.DOTALL)
WITH_USER: Final = re.compile(rf"{SCHEME}{USER}(?P<hosts>[^/?]*){REST}", re.DOTALL)
"""Tried second, because the password may contain ``/`` and ``?``."""
HOST: Final = re.compile(r"(?:\[(?P<address>[^\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[0-9]*))?", re.ASCII)

OPTION_ESCAPED: Final = re.compile(r"([\s\\])")
ESCAPE: Final = r"\\\1"
"""What a backslash must precede in a value of ``options``, and the replacement that puts it there."""

HOST_NAME: Final = re.compile(r"[\w.-]+", re.ASCII)
PORT: Final = re.compile("[0-9]{1,5}", re.ASCII)

SAFE: Final = "/:,*"
"""Characters that arguments keep: folders of sockets, lists of hosts and the mask of a password stay legible."""


SECRET: Final = re.compile("passw|pwd|secret|token|scram_", re.IGNORECASE)
"""What the names of arguments with secrets contain. They are masked even if misspelt."""
MASK: Final = "***"


class Url(NamedTuple):
    """The parts of a URL, decoded from their percent-encoding. A missing part is None.

    ``query`` has the names and values of the arguments in order; several hosts (``a:1,b:2``) are its argument ``host``.
    """

    scheme: str
    username: str | None = None
    password: str | None = None
    host: str | None = None
    port: int | None = None
    database: str | None = None
    query: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        """Return a text without the other parts, which may contain passwords."""
        return f"<Url of {self.scheme}>"

    @classmethod
    def parse(cls, text: str) -> Url:
        """Return the URL in ``text``. Raises InputError, whose message omits the text: it may contain a password."""
        try:
            text.encode()  # raises for bytes that were not UTF-8
            return cls.split(text)
        except ValueError:
            # the cause may quote a part of the text
            raise InputError(f"the database URL cannot be read: write it as {URL_FORM}", code="invalid-url") from None

    @classmethod
    def split(cls, text: str) -> Url:
        """Return the URL in ``text``. Raises ValueError where it is none, InputError for an unescaped character."""
        match = WITHOUT_USER.fullmatch(text)
        if match is None or not all(HOST.fullmatch(host) for host in match["hosts"].split(",")):
            match = WITH_USER.fullmatch(text)
        if match is None:
            raise ValueError("no URL of a database")
        parts = {"username": None, "password": None, **match.groupdict()}
        host, port = match["hosts"], ""
        if "@" in host:
            raise InputError("the database URL has an @ in its user or password: write it as %40", code="unescaped-at")
        if any(argument and "=" not in argument for argument in (match["query"] or "").split("&")):
            raise InputError(
                "an argument of the database URL, after its ?, has no =: write name=value, and & in a value as %26",
                code="invalid-url",
            )
        query = parse_qsl(match["query"] or "", errors="strict")
        if "," in host:
            query.insert(0, ("host", unquote(host, errors="strict")))
            host = ""
        elif (one := HOST.fullmatch(host)) is None:
            raise ValueError("no host and port")
        else:
            host, port = one["address"] or one["name"] or "", one["port"] or ""
        username, password, host, database = (
            unquote(part, errors="strict") if part else None
            for part in (parts["username"], parts["password"], host, parts["database"])
        )
        return cls(match["scheme"], username, password, host, int(port) if port else None, database, tuple(query))

    def render(self) -> str:
        """Return the URL as text, with its passwords."""
        user = "" if self.username is None else percent_encode(self.username)
        user += "" if self.password is None else f":{percent_encode(self.password, '*')}"
        host = percent_encode(self.host or "", ":")
        host = f"[{host}]" if ":" in host else host
        port = "" if self.port is None else f":{self.port}"
        at = "@" if self.username is not None or self.password is not None else ""
        database = "" if self.database is None else f"/{percent_encode(self.database)}"
        arguments = "&".join(f"{percent_encode(name)}={percent_encode(value, SAFE)}" for name, value in self.query)
        if arguments:
            arguments = f"?{arguments}" if database else f"/?{arguments}"
        return f"{self.scheme}://{user}{at}{host}{port}{database}{arguments}"

    def masked(self) -> str:
        """Return the URL as text, with ``***`` for each password."""
        query = tuple((name, MASK if SECRET.search(name) else value) for name, value in self.query)
        return self._replace(password=self.password and MASK, query=query).render()


def percent_encode(part: str, safe: str = "") -> str:
    return quote(part, safe=safe)


SCHEMES: Final = {"postgresql", "postgres", "postgis", "pgsql"}
DRIVERS: Final = {
    *("asyncpg", "psycopg", "psycopg_async", "psycopg2", "psycopg2cffi", "pg8000", "aiopg", "pygresql"),
    "pypostgresql",
}
"""The names after ``postgresql+`` in URLs for SQLAlchemy, which say nothing about the server."""
KEYWORD: Final = re.compile(r"\s*\w+\s*=", re.ASCII)
"""The beginning of a connection string."""

VARIABLES: Final = ("BULKSEED_DATABASE_URL", "DATABASE_URL")


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a database. ``url`` and ``dsn`` may contain a password, which ``str`` and ``repr`` mask.

    ``parameters`` are libpq's by name, from the URL, the service file and the environment. The constructor raises
    InputError where they are invalid or cannot be read. ``environment`` has libpq's variables.
    """

    url: Url
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, compare=False)
    parameters: Mapping[str, str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        resolved = libpq.resolve_parameters(url_parameters(self.url), self.environment)
        object.__setattr__(self, "parameters", resolved)

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] = os.environ) -> Address:
        """Return the address in ``text``: a URL, or a connection string of libpq (``host=localhost dbname=app``).

        URLs begin with ``postgresql://``, with another name of it (``postgres://``, ``postgis://``, ``pgsql://``), or
        with that of a driver for SQLAlchemy (``postgresql+psycopg://``). The arguments are libpq's, such as
        ``?host=/socket/dir``, and SQLAlchemy's. Raises InputError for other texts.
        """
        if KEYWORD.match(text):
            return cls(keywords_url(parse_keywords(text)), environment)
        text = text.strip()
        url = Url.parse(text.removeprefix("jdbc:"))
        query = tuple(
            # SQLAlchemy's dialect for asyncpg has another name for it than libpq
            ("sslmode", libpq.to_sslmode(value)) if name == "ssl" else (name, value)
            for name, value in url.query
            if name not in SQLALCHEMY_PARAMS
        )
        scheme, _, driver = url.scheme.lower().partition("+")
        plain = url._replace(scheme="postgresql", query=query)
        if scheme not in SCHEMES:
            raise InputError(
                f"the database URL begins with {url.scheme!r}, which is not PostgreSQL: write {URL_FORM}",
                code="invalid-url",
            )
        if text.startswith("jdbc:") or (driver and driver not in DRIVERS):
            raise InputError(
                f"the database URL begins with {text.partition('//')[0] + '//'!r}, which is for another program: "
                f"write {plain.masked()}",
                code="invalid-url",
            )
        return cls(plain, environment)

    @property
    def dsn(self) -> str:
        """The URL for psql and other programs with libpq, with its passwords.

        Settings of the server, which libpq does not take as arguments, are in ``options``.
        """
        query = {{"database": "dbname"}.get(name, name): value for name, value in self.url.query}
        settings = [name for name in query if name not in KEYWORDS]
        given = [query["options"]] if "options" in query else []
        given += [f"-c {name}={OPTION_ESCAPED.sub(ESCAPE, query.pop(name))}" for name in settings]
        if given:
            query["options"] = " ".join(given)
        listed = libpq.hosts(url_parameters(self.url))
        if len(listed) > 1 and "host" in query:
            # libpq has the ports in a list of their own
            query["host"] = ",".join(host.name for host in listed)
            query["port"] = ",".join(str(host.port) for host in listed)
        return self.url._replace(query=tuple(query.items())).render()

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments of :func:`asyncpg.connect`, with the password."""
        password = self.parameters.get("password") or read_password(self.parameters)
        return libpq.driver_arguments(self.parameters, password)

    @property
    def client_options(self) -> ClientOptions:
        """What the parameters ask of the client itself, such as a time limit for connecting."""
        return client_options(self.parameters)

    @property
    def unread(self) -> str | None:
        """The reason why an existing password file is not used; None where a password is given."""
        return None if self.parameters.get("password") else password_file_problem(self.parameters)

    @property
    def database(self) -> str:
        """The name of the database that the client requests."""
        return self.parameters["dbname"]

    def __str__(self) -> str:
        return self.url.masked()

    @property
    def without_passwords(self) -> Address:
        """The address without passwords, for commands that read them elsewhere: PGPASSWORD, ~/.pgpass."""
        query = tuple((name, value) for name, value in self.url.query if not SECRET.search(name))
        return Address(self.url._replace(password=None, query=query), self.environment)

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    @property
    def hosts(self) -> list[str]:
        """The names, addresses or socket folders of the hosts, as in the URL, the service or the environment."""
        return [host.name for host in libpq.hosts(self.parameters)] or ["localhost"]

    @property
    def addresses(self) -> list[str]:
        """The IP addresses that replace hosts' names (libpq's hostaddr)."""
        return [host.address for host in libpq.hosts(self.parameters) if host.address]

    @property
    def ports(self) -> list[int]:
        """The port of each host."""
        ports = [host.port for host in libpq.hosts(self.parameters)]
        return ports or [int(self.parameters.get("port", libpq.DEFAULT_PORT))]

    @property
    def is_local(self) -> bool:
        """Return whether every host is this machine."""
        targets = [host.target for host in libpq.hosts(self.parameters)]
        return all(target.startswith("/") or target == "localhost" or is_loopback(target) for target in targets)

    @property
    def server(self) -> str:
        """The name and port, or the socket's folder, of each host, as one text."""
        listed = ", ".join(map(str, libpq.hosts(self.parameters)))
        return listed or f"localhost:{self.parameters.get('port', libpq.DEFAULT_PORT)}"


def keywords_url(parameters: Mapping[str, str]) -> Url:
    """Return the URL for the parameters of a connection string, with the password where URLs have it."""
    rest = {name: value for name, value in parameters.items() if value}
    user, password, database = (rest.pop(name, None) for name in ("user", "password", "dbname"))
    host, port = None, None
    if HOST_NAME.fullmatch(rest.get("host", "")):
        host = rest.pop("host")
        if PORT.fullmatch(rest.get("port", "")):
            port = int(rest.pop("port"))
    return Url("postgresql", user, password, host, port, database, tuple(rest.items()))


def url_parameters(url: Url) -> dict[str, str]:
    """Return the parameters in a URL by libpq's names; arguments take precedence over the parts before them."""
    parameters = {
        "user": url.username,
        "password": url.password,
        "host": url.host,
        "port": None if url.port is None else str(url.port),
        "dbname": url.database,
    }
    lists = {name: ",".join(value for key, value in url.query if key == name) for name in ("host", "port")}
    for name, value in url.query:
        parameters[{"database": "dbname"}.get(name, name)] = lists.get(name, value)
    return {name: value for name, value in parameters.items() if value}


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def named_address(option: str | None, environment: Mapping[str, str]) -> Address | None:
    """Return the address in the option, else in the first variable that is set; None for the embedded server.

    Raises InputError for an invalid URL, and for an empty option, which is usually an unset variable of the shell.
    """
    if option is not None and not option.strip():
        raise InputError("--database-url is empty: name a database, or leave the option out", code="empty-url")
    text = option or next((text for name in VARIABLES if (text := environment.get(name))), None)
    return Address.parse(text) if text else None
