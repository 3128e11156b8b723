"""What libpq's users count on: parameters from the URL, a service file, the environment, in that order.

https://www.postgresql.org/docs/current/libpq-connect.html; asyncpg reads services otherwise, and not PGSERVICE.
"""

from __future__ import annotations

import getpass
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from bulkseed.errors import InputError

__all__ = [
    "CLIENT_PARAMS",
    "DEFAULT_PORT",
    "Host",
    "arguments",
    "completed",
    "found_password",
    "home",
    "hosts",
    "mode_of",
    "why_unread",
]

VARIABLES: Final = {
    **{"host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER"},
    **{"password": "PGPASSWORD", "passfile": "PGPASSFILE", "options": "PGOPTIONS", "krbsrvname": "PGKRBSRVNAME"},
    **{"sslmode": "PGSSLMODE", "sslnegotiation": "PGSSLNEGOTIATION", "sslrootcert": "PGSSLROOTCERT"},
    **{"sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY", "sslcrl": "PGSSLCRL", "sslcrldir": "PGSSLCRLDIR"},
    **{"ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION", "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION"},
    **{"target_session_attrs": "PGTARGETSESSIONATTRS", "gsslib": "PGGSSLIB"},
}
"""The environment variable that gives a parameter where neither the URL nor the service does."""

DRIVER_PARAMS: Final = frozenset(
    {
        *("sslmode", "sslnegotiation", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslpassword"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs", "krbsrvname", "gsslib"),
    }
)
"""What asyncpg takes from a URL's query, and means as libpq does."""

CLIENT_PARAMS: Final = frozenset(
    {
        *("prepared_statement_cache_size", "prepared_statement_name_func", "async_fallback"),
        *("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
        *("tcp_user_timeout", "channel_binding", "gssencmode", "gssdelegation", "sslcompression", "sslsni"),
        *("fallback_application_name", "load_balance_hosts", "sslcertmode"),
        *("sslkeylogfile", "min_protocol_version", "max_protocol_version", "client_encoding", "application_name"),
    }
)
"""What is for SQLAlchemy or libpq, and asyncpg would pass to the server. The name and encoding are bulkseed's own."""

REFUSED: Final = {
    "replication": "bulkseed loads rows by SQL: leave it out",
    "sslcrldir": "name one file with sslcrl instead",
    "requiressl": "write sslmode=require instead",
    "requirepeer": "the driver cannot check that: leave it out",
    "require_auth": "the driver cannot check that: leave it out",
}
PLACES: Final = frozenset({"host", "hostaddr", "port", "dbname", "user", "password", "passfile", "service"})
KEYWORDS: Final = frozenset({*VARIABLES, *DRIVER_PARAMS, *CLIENT_PARAMS, *REFUSED, *PLACES, "options"})
"""All that may stand in a service file."""

SESSIONS: Final = ("any", "primary", "standby", "prefer-standby", "read-write", "read-only")
MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
DEFAULT_PORT: Final = 5432
LAST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class Host:
    """A place where the server may be: its name (or a socket's folder), the address to use instead, and the port."""

    name: str
    address: str | None
    port: int

    @property
    def reached_by(self) -> str:
        """What is connected to."""
        return self.address or self.name

    def __str__(self) -> str:
        if self.name.startswith("/"):
            return self.name
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


def completed(written: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """The parameters of a connection: those ``written`` in the URL, then the service's, then the environment's.

    Raises InputError where the service cannot be found or read, or what is asked for cannot be done.
    """
    found = {name: value for name, value in written.items() if value}
    name = found.pop("service", None) or environment.get("PGSERVICE")
    if name:
        found = service(name, environment) | found
    for parameter, variable in VARIABLES.items():
        if environment.get(variable):
            found.setdefault(parameter, environment[variable])
    found.setdefault("user", login_name())
    found.setdefault("dbname", found["user"])
    for parameter, value in found.items():
        if not parameter or "\0" in parameter:
            raise InputError(f"a connection parameter is called {parameter!r}: give it a name, or leave it out")
        if "\0" in value or not encodable(value):
            raise InputError(f"the connection parameter {parameter} has a NUL byte, or is not UTF-8: correct it")
    if found.get("target_session_attrs", "any") not in SESSIONS:
        wanted = found["target_session_attrs"]
        raise InputError(f"there is no target_session_attrs {wanted!r}: write one of {', '.join(SESSIONS)}")
    for parameter in ("channel_binding", "gssencmode", "sslcertmode"):
        if found.get(parameter) == "require":
            raise InputError(f"the driver cannot see to {parameter}=require: leave it out, or write prefer")
    for parameter, mend in REFUSED.items():
        if parameter in found:
            raise InputError(f"the connection parameter {parameter} is not for bulkseed: {mend}")
    check_tls(found)
    hosts(found)
    return {parameter: value for parameter, value in found.items() if parameter not in CLIENT_PARAMS}


def encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def login_name() -> str:
    """The name of the account that this process runs under."""
    if sys.platform == "win32":
        return getpass.getuser()
    import pwd  # noqa: PLC0415

    try:
        # not getpass, which believes $USER: su and sudo leave it as it was
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def home() -> Path:
    """The user's folder; one that holds nothing where there is none."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(os.devnull)


def service(name: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The parameters of the service ``name``, from the user's file, else the system's. Raises InputError."""
    own = environment.get("PGSERVICEFILE")
    files = [Path(own) if own else home() / ".pg_service.conf"]
    folder = environment.get("PGSYSCONFDIR")
    # where Debian's and upstream's libpq look
    folders = [folder] if folder else ["/etc/postgresql-common", "/etc"]
    files += [Path(each) / "pg_service.conf" for each in folders]
    for file in files:
        try:
            text = file.read_text("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise InputError(f"the service file {file} cannot be read ({reason}): mend it") from None
        found: dict[str, str] = {}
        for keyword, value in entries(text, name, file):
            found.setdefault(keyword, value)
        if found:
            return {keyword: value for keyword, value in found.items() if value}
    raise InputError(
        f"there is no service {name!r} in {' or '.join(map(str, files))}: "
        "correct its name (?service=, PGSERVICE), or set PGSERVICEFILE to the file that has it"
    )


def entries(text: str, name: str, file: Path) -> Iterator[tuple[str, str]]:
    """What the service file says of the service; begins with an empty entry where it has it at all."""
    inside = False
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            if inside:
                return
            inside = line == f"[{name}]"
            if inside:
                yield "", ""
        elif inside:
            keyword, is_one, value = line.partition("=")
            # the line is not shown: it may hold a password
            if not is_one or keyword not in KEYWORDS or keyword == "service":
                raise InputError(
                    f"line {number} of the service file {file} is no connection parameter: write name=value, no spaces"
                )
            yield keyword, value


def hosts(parameters: Mapping[str, str]) -> list[Host]:
    """Where the server may be; none where nothing names it: then it is this machine. Raises InputError."""
    names = parameters.get("host", "").split(",")
    addresses = parameters.get("hostaddr", "").split(",")
    ports = parameters.get("port", "").split(",")
    if names == [""] and addresses == [""]:
        port_number(ports[0])
        return []
    count = max(len(names), len(addresses))
    for what, given in (("host", names), ("hostaddr", addresses), ("port", ports)):
        if len(given) not in {1, count} or (what != "port" and 1 == len(given) < count and given != [""]):
            raise InputError(f"{len(given)} {what} for {count} hosts: name one for each of them, or none")
    found = []
    for place in range(count):
        name, port = split_port(names[place] if len(names) == count else "")
        address = (addresses[place] if len(addresses) == count else "") or None
        port = port or ports[place if len(ports) == count else 0]
        found.append(Host(name or address or "localhost", address, port_number(port)))
    return found


def split_port(host: str) -> tuple[str, str]:
    """SQLAlchemy writes several hosts as ``host=a:1&host=b:2``."""
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return name, rest.removeprefix(":")
    if host.startswith("/") or host.count(":") != 1:
        return host, ""
    name, _, port = host.partition(":")
    return name, port


def port_number(text: str) -> int:
    if not text:
        return DEFAULT_PORT
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= LAST_PORT):
        raise InputError(f"the port {text!r} is none: correct it in the database URL, the service file or PGPORT")
    return int(text)


def mode_of(ssl: str) -> str:
    """What sslmode is called where an argument is called ``ssl``, as SQLAlchemy and JDBC have it."""
    return {"true": "require", "false": "disable"}.get(ssl.lower(), ssl)


def check_tls(found: dict[str, str]) -> None:
    """Bring what is said of TLS into the driver's form. Raises InputError for what cannot be."""
    if found.get("ssl"):
        said = found.pop("ssl")
        found.setdefault("sslmode", mode_of(said))
    mode = found.get("sslmode", MODES[2])
    if mode not in MODES:
        raise InputError(f"there is no sslmode {mode!r}: write one of {', '.join(MODES)}")
    if all(each.reached_by.startswith("/") for each in hosts(found)) or mode == "disable":
        # TLS is not for sockets of this machine; asyncpg would want its files all the same
        for name in DRIVER_PARAMS:
            if name.startswith("ssl"):
                found.pop(name, None)
        if "host" in found:
            found["sslmode"] = "disable"
        return
    system = found.get("sslrootcert") == "system"
    if system and mode != MODES[-1]:
        if "sslmode" in found:
            raise InputError(f"sslrootcert=system trusts many: it wants sslmode=verify-full, not {mode}")
        found["sslmode"] = mode = MODES[-1]
    if system and "sslcert" in found:
        raise InputError("sslrootcert=system and sslcert do not go together here: name the root certificate's file")
    if mode == MODES[-1] and any(each.address not in {None, each.name} for each in hosts(found)):
        raise InputError("hostaddr and sslmode=verify-full do not go together here: leave out hostaddr")
    for name in FILES:
        if name in found and not (name == "sslrootcert" and system):
            readable(name, found[name])


def readable(parameter: str, file: str) -> None:
    try:
        with Path(file).open("rb"):
            return
    except OSError as error:
        raise InputError(
            f"{parameter}, the file {file}, cannot be read ({error.strerror}): "
            f"correct {parameter} in the database URL or the service file, or {VARIABLES[parameter]}"
        ) from None


def arguments(parameters: Mapping[str, str], password: str | None) -> dict[str, Any]:
    """What asyncpg.connect is to be called with. Nothing is left for it to take from the environment or a file.

    There is a password in it.
    """
    query = {name: value for name, value in parameters.items() if name in DRIVER_PARAMS}
    given: dict[str, Any] = {
        "user": parameters["user"],
        "database": parameters["dbname"],
        # with none at all it would look for one itself
        "password": password or "",
        "server_settings": {
            name: value for name, value in parameters.items() if name not in DRIVER_PARAMS and name not in PLACES
        },
    }
    if query.get("sslrootcert") == "system":
        del query["sslrootcert"], query["sslmode"]
        given["ssl"] = True
    given["dsn"] = f"postgresql://?{urlencode(query)}" if query else "postgresql://"
    places = hosts(parameters)
    if places:
        given |= {"host": [each.reached_by for each in places], "port": [each.port for each in places]}
    else:
        given["port"] = port_number(parameters.get("port", ""))
    return given


FIELD: Final = r"((?:\\.|[^:\\])*)"
LINE: Final = re.compile(f"{':'.join([FIELD] * 5)}(?:[:\\\\].*)?")
ESCAPED: Final = re.compile(r"\\(.)")


def file_of(parameters: Mapping[str, str]) -> Path:
    if "passfile" in parameters:
        return Path(parameters["passfile"])
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", "")) / "postgresql" / "pgpass.conf"
    return home() / ".pgpass"


def why_unread(parameters: Mapping[str, str]) -> str | None:
    """Why the password file is not used though it is there, in words; None where it is, or where there is none."""
    file = file_of(parameters)
    try:
        mode = file.stat().st_mode
    except OSError:
        return None
    if not stat.S_ISREG(mode):
        return f"{file} is no plain file"
    if sys.platform != "win32" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f"{file} was not used, as others can read it: chmod 600 it"
    if not os.access(file, os.R_OK):
        return f"{file} cannot be read"
    return None


def found_password(parameters: Mapping[str, str]) -> str | None:
    """The password of the first line that fits where we connect to; None where there is none."""
    if why_unread(parameters):
        return None
    try:
        text = file_of(parameters).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    wanted = [
        (names(host), {str(host.port)}, {parameters["dbname"]}, {parameters["user"]})
        for host in hosts(parameters) or [Host("localhost", None, int(parameters.get("port", DEFAULT_PORT)))]
    ]
    lines = [LINE.fullmatch(line) for line in re.split(r"\r?\n", text) if not line.startswith("#")]
    for place in wanted:
        for line in filter(None, lines):
            *told, password = line.groups()
            if all(each == "*" or unescaped(each) in known for each, known in zip(told, place, strict=True)):
                return unescaped(password) or None
    return None


def names(host: Host) -> set[str]:
    """What a line may call the host; libpq calls its default socket's folder, which we do not know, localhost."""
    return {host.name, "localhost"} if host.name.startswith("/") else {host.name}


def unescaped(field: str) -> str:
    return ESCAPED.sub(r"\1", field)
