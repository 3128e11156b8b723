"""Connection parameters as libpq resolves them: from the URL, then a service file, then the environment.

https://www.postgresql.org/docs/current/libpq-connect.html; asyncpg reads service files differently, and ignores
PGSERVICE.
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
from bulkseed.postgres.parameters import (
    DRIVER_PARAMS,
    KEYWORDS,
    SESSION_LIMITS,
    VARIABLES,
    check_choice,
    client_options,
    refuse_unsupported,
    session_name,
)

__all__ = [
    "DEFAULT_PORT",
    "Host",
    "driver_arguments",
    "hosts",
    "password_file_problem",
    "read_password",
    "resolve_parameters",
    "to_sslmode",
]

FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
DEFAULT_PORT: Final = 5432
LAST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class Host:
    """One host to try: its name (or the folder of a socket), the IP address to use instead, and the port."""

    name: str
    address: str | None
    port: int

    @property
    def target(self) -> str:
        """The address, name or folder to connect to."""
        return self.address or self.name

    def __str__(self) -> str:
        if self.name.startswith("/"):
            return self.name
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


def resolve_parameters(url_parameters: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of a connection: those of the URL, then of the service, then of the environment.

    Raises InputError where the service is missing or unreadable, or a parameter is invalid or not supported.
    """
    parameters = {name: value for name, value in url_parameters.items() if value}
    service = parameters.pop("service", None) or environment.get("PGSERVICE")
    file = parameters.pop("servicefile", None) or environment.get("PGSERVICEFILE")
    if service:
        parameters = read_service(service, file, environment.get("PGSYSCONFDIR")) | parameters
    for name, variable in VARIABLES.items():
        if environment.get(variable):
            parameters.setdefault(name, environment[variable])
    if environment.get("PGREQUIRESSL", "").startswith("1"):
        parameters.setdefault("sslmode", "require")
    parameters.setdefault("user", account_name())
    parameters.setdefault("dbname", parameters["user"])
    for name, value in parameters.items():
        if not name or "\0" in name:
            raise InputError(
                f"a connection parameter is called {name!r}: correct its name, or leave it out",
                code="invalid-parameter",
            )
        if "\0" in value or not is_encodable(value):
            raise InputError(
                f"the connection parameter {name} contains a NUL byte, or is not UTF-8: correct it",
                code="invalid-parameter",
            )
    resolve_tls(parameters)
    listed = hosts(parameters)
    if listed and not any(map(is_socket, listed)):
        parameters.pop("requirepeer", None)  # libpq checks it on sockets only
    refuse_unsupported(parameters)
    client_options(parameters)
    return parameters


def is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def account_name() -> str:
    """Return the name of the account that this process runs under."""
    if sys.platform == "win32":
        return getpass.getuser()
    import pwd  # noqa: PLC0415

    try:
        # not getpass, which trusts $USER: su and sudo may leave it unchanged
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def home_folder() -> Path:
    """Return the user's home folder; /dev/null, where no file exists, for a user without one."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(os.devnull)


def read_service(name: str, own: str | None, system: str | None) -> dict[str, str]:
    """Return the parameters of the service ``name``, from the user's file ``own``, else from that in ``system``.

    Raises InputError where no file has the service, or a file cannot be read.
    """
    files = [Path(own) if own else home_folder() / ".pg_service.conf"]
    # the defaults of Debian's and upstream's libpq
    folders = [system] if system else ["/etc/postgresql-common", "/etc"]
    files += [Path(folder) / "pg_service.conf" for folder in folders]
    for file in files:
        try:
            text = file.read_text("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise InputError(
                f"the service file {file} cannot be read ({reason}): correct it", code="unreadable-service-file"
            ) from error
        parameters: dict[str, str] = {}
        for keyword, value in service_entries(text, name, file):
            parameters.setdefault(keyword, value)
        if parameters:
            return {keyword: value for keyword, value in parameters.items() if value}
    raise InputError(
        f"there is no service {name!r} in {' or '.join(map(str, files))}: "
        "correct its name (?service=, PGSERVICE), or set PGSERVICEFILE to the file that has it",
        code="missing-service",
    )


def service_entries(text: str, name: str, file: Path) -> Iterator[tuple[str, str]]:
    """Yield the keywords and values of a service, after an empty pair for its heading; nothing where it is missing.

    Raises InputError for a line that is no parameter.
    """
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
            keyword, equals, value = line.partition("=")
            # the message does not show the line, which may contain a password
            if not equals or keyword not in KEYWORDS or keyword in {"service", "servicefile"}:
                raise InputError(
                    f"line {number} of the service file {file} is no connection parameter: "
                    "write name=value, without spaces",
                    code="invalid-service-file",
                )
            yield keyword, value


def hosts(parameters: Mapping[str, str]) -> list[Host]:
    """Return the hosts to try in order; none where no parameter names one, which means this machine.

    Raises InputError for an invalid port, and for names, addresses and ports that differ in number.
    """
    names = parameters.get("host", "").split(",")
    addresses = parameters.get("hostaddr", "").split(",")
    ports = parameters.get("port", "").split(",")
    if names == [""] and addresses == [""]:
        port_number(ports[0])
        return []
    count = max(len(names), len(addresses))
    for parameter, values in (("host", names), ("hostaddr", addresses), ("port", ports)):
        if len(values) not in {1, count} or (parameter != "port" and 1 == len(values) < count and values != [""]):
            raise InputError(
                f"{parameter} has {len(values)} values for {count} hosts: give one for each host, or none",
                code="invalid-parameter",
            )
    listed = []
    for index in range(count):
        name, port = split_port(names[index] if len(names) == count else "")
        address = (addresses[index] if len(addresses) == count else "") or None
        port = port or ports[index if len(ports) == count else 0]
        listed.append(Host(name or address or "localhost", address, port_number(port)))
    return listed


def split_port(host: str) -> tuple[str, str]:
    """Return the name and the port, or "", of a host as SQLAlchemy writes several: ``host=a:1&host=b:2``."""
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
        raise InputError(
            f"invalid port {text!r}: correct it in the database URL, the service file or PGPORT",
            code="invalid-parameter",
        )
    return int(text)


def to_sslmode(ssl: str) -> str:
    """Return the sslmode for the argument ``ssl`` of SQLAlchemy and JDBC: ``true``, ``false`` or a mode."""
    return {"true": "require", "false": "disable"}.get(ssl.lower(), ssl)


def resolve_tls(parameters: dict[str, str]) -> None:
    """Change the parameters of TLS to those that the driver needs.

    Raises InputError for invalid or conflicting ones.
    """
    if parameters.get("ssl"):
        ssl = parameters.pop("ssl")
        parameters.setdefault("sslmode", to_sslmode(ssl))
    if requiressl := parameters.pop("requiressl", ""):
        parameters.setdefault("sslmode", "require" if requiressl.startswith("1") else "prefer")
    check_choice(parameters, "sslmode")
    mode = parameters.get("sslmode", "prefer")
    if all(map(is_socket, hosts(parameters))) or mode == "disable":
        # libpq uses no TLS on Unix sockets; asyncpg would read its files all the same
        for name in [name for name in parameters if name in KEYWORDS and name.startswith("ssl")]:
            del parameters[name]
        if "host" in parameters:
            parameters["sslmode"] = "disable"
        return
    if parameters.get("sslcertmode") == "disable":
        refuse_certificate(parameters)
    system = parameters.get("sslrootcert") == "system"
    if system and mode != "verify-full":
        if "sslmode" in parameters:
            raise InputError(
                f"sslmode={mode} is too weak for sslrootcert=system: write sslmode=verify-full",
                code="conflicting-parameters",
            )
        parameters["sslmode"] = mode = "verify-full"
    if system and "sslcert" in parameters:
        raise InputError(
            "the driver cannot combine sslrootcert=system and sslcert: name the root certificate's file",
            code="conflicting-parameters",
        )
    if mode == "verify-full" and any(host.address not in {None, host.name} for host in hosts(parameters)):
        raise InputError(
            "the driver cannot combine hostaddr and sslmode=verify-full: leave out hostaddr",
            code="conflicting-parameters",
        )
    for name in FILES:
        if name in parameters and not (name == "sslrootcert" and system):
            check_readable(name, parameters[name])


def is_socket(host: Host) -> bool:
    """Return whether the client connects to ``host`` by a Unix socket."""
    return host.target.startswith("/")


def refuse_certificate(parameters: Mapping[str, str]) -> None:
    """Raise InputError where there is a certificate for the client, because the driver sends it in any case."""
    own = home_folder() / ".postgresql" / "postgresql.crt"
    if "sslcert" in parameters or own.exists():
        certificate = parameters.get("sslcert", own)
        raise InputError(
            f"the driver cannot combine sslcertmode=disable and the certificate {certificate}: leave out one of them",
            code="conflicting-parameters",
        )


def check_readable(parameter: str, file: str) -> None:
    """Raise InputError where the file of a parameter cannot be read."""
    try:
        with Path(file).open("rb"):
            return
    except OSError as error:
        raise InputError(
            f"the file {file} of {parameter} cannot be read ({error.strerror}): "
            f"correct {parameter} in the database URL or the service file, or {VARIABLES[parameter]}",
            code="unreadable-tls-file",
        ) from error


def driver_arguments(parameters: Mapping[str, str], password: str | None) -> dict[str, Any]:
    """Return the arguments of :func:`asyncpg.connect`, among them the password.

    They are complete: asyncpg takes nothing from the environment or a file.
    """
    query = {"sslnegotiation": "postgres"}
    query |= {name: value for name, value in parameters.items() if name in DRIVER_PARAMS}
    arguments: dict[str, Any] = {
        "user": parameters["user"],
        "database": parameters["dbname"],
        # without one asyncpg would read the password file itself
        "password": password or "",
        "server_settings": {
            **{name: value for name, value in parameters.items() if is_setting(name)},
            "application_name": session_name(parameters),
        },
        "target_session_attrs": parameters.get("target_session_attrs", "any"),
    }
    if query.get("sslrootcert") == "system":
        del query["sslrootcert"], query["sslmode"]
        arguments["ssl"] = True
    arguments["dsn"] = f"postgresql://?{urlencode(query)}"
    if listed := hosts(parameters):
        arguments |= {"host": [host.target for host in listed], "port": [host.port for host in listed]}
    else:
        arguments["port"] = port_number(parameters.get("port", ""))
    return arguments


def is_setting(name: str) -> bool:
    """Return whether a parameter is sent to the server; bulkseed's sessions set the limits of a session themselves."""
    return name == "options" or (name not in KEYWORDS and name not in SESSION_LIMITS)


FIELD: Final = r"((?:\\.|[^:\\])*)"
LINE: Final = re.compile(f"{':'.join([FIELD] * 5)}(?:[:\\\\].*)?")
ESCAPED: Final = re.compile(r"\\(.)")


def password_file(parameters: Mapping[str, str]) -> Path:
    """Return the path of the password file: https://www.postgresql.org/docs/current/libpq-pgpass.html."""
    if "passfile" in parameters:
        return Path(parameters["passfile"])
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", "")) / "postgresql" / "pgpass.conf"
    return home_folder() / ".pgpass"


def password_file_problem(parameters: Mapping[str, str]) -> str | None:
    """Return the reason, as text, why an existing password file is not used; None where there is none."""
    file = password_file(parameters)
    try:
        mode = file.stat().st_mode
    except OSError:
        return None
    if not stat.S_ISREG(mode):
        return f"{file} is not a plain file"
    if sys.platform != "win32" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f"{file} was not used, as others can read it: chmod 600 it"
    if not os.access(file, os.R_OK):
        return f"{file} cannot be read"
    return None


def read_password(parameters: Mapping[str, str]) -> str | None:
    """Return the password of the first line of the password file that matches the connection; None without one."""
    if password_file_problem(parameters):
        return None
    try:
        text = password_file(parameters).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    wanted = [
        (line_names(host), {str(host.port)}, {parameters["dbname"]}, {parameters["user"]})
        for host in hosts(parameters) or [Host("localhost", None, int(parameters.get("port", DEFAULT_PORT)))]
    ]
    lines = [LINE.fullmatch(line) for line in re.split(r"\r?\n", text) if not line.startswith("#")]
    for accepted in wanted:
        for line in filter(None, lines):
            *fields, password = line.groups()
            if all(field == "*" or unescape(field) in values for field, values in zip(fields, accepted, strict=True)):
                return unescape(password) or None
    return None


def line_names(host: Host) -> set[str]:
    """Return the names of the host in a password file.

    libpq accepts "localhost" for its default socket folder, which is unknown here, so it is accepted for every folder.
    """
    return {host.name, "localhost"} if host.name.startswith("/") else {host.name}


def unescape(field: str) -> str:
    return ESCAPED.sub(r"\1", field)
