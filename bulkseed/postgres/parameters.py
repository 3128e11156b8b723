"""libpq's connection parameters: the variable of each, its valid values, and what bulkseed does with it.

https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from bulkseed.errors import InputError

__all__ = [
    "DRIVER_PARAMS",
    "KEYWORDS",
    "SESSION_LIMITS",
    "SQLALCHEMY_PARAMS",
    "VARIABLES",
    "ClientOptions",
    "check_choice",
    "client_options",
    "refuse_unsupported",
    "session_name",
]

VARIABLES: Final = {
    **{"host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER"},
    **{"password": "PGPASSWORD", "passfile": "PGPASSFILE", "options": "PGOPTIONS", "application_name": "PGAPPNAME"},
    **{"connect_timeout": "PGCONNECT_TIMEOUT", "client_encoding": "PGCLIENTENCODING"},
    **{"sslmode": "PGSSLMODE", "sslnegotiation": "PGSSLNEGOTIATION", "sslrootcert": "PGSSLROOTCERT"},
    **{"sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY", "sslcrl": "PGSSLCRL", "sslcrldir": "PGSSLCRLDIR"},
    **{"sslcertmode": "PGSSLCERTMODE", "sslcompression": "PGSSLCOMPRESSION", "sslsni": "PGSSLSNI"},
    **{"ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION", "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION"},
    **{"min_protocol_version": "PGMINPROTOCOLVERSION", "max_protocol_version": "PGMAXPROTOCOLVERSION"},
    **{"target_session_attrs": "PGTARGETSESSIONATTRS", "load_balance_hosts": "PGLOADBALANCEHOSTS"},
    **{"channel_binding": "PGCHANNELBINDING", "require_auth": "PGREQUIREAUTH", "requirepeer": "PGREQUIREPEER"},
    **{"gssencmode": "PGGSSENCMODE", "gssdelegation": "PGGSSDELEGATION", "krbsrvname": "PGKRBSRVNAME"},
    **{"gsslib": "PGGSSLIB"},
}
"""The environment variable for each parameter that neither the URL nor the service sets."""

DRIVER_PARAMS: Final = frozenset(
    {
        *("sslmode", "sslnegotiation", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslpassword"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version", "krbsrvname", "gsslib"),
    }
)
"""The parameters that asyncpg reads from a URL's query with libpq's meaning."""

SQLALCHEMY_PARAMS: Final = frozenset(
    {
        *("prepared_statement_cache_size", "prepared_statement_name_func", "async_fallback", "prepare_threshold"),
        *("statement_cache_size", "max_cached_statement_lifetime", "max_cacheable_statement_size"),
    }
)
"""Arguments of SQLAlchemy's URLs that limit which statements the driver prepares and caches: bulkseed caches none."""

SESSION_LIMITS: Final = (
    *("statement_timeout", "lock_timeout", "transaction_timeout", "idle_session_timeout"),
    "idle_in_transaction_session_timeout",
)
"""The settings that limit an app's short statements, and would end a long COPY: bulkseed's sessions have none."""

CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "target_session_attrs": ("any", "primary", "standby", "prefer-standby", "read-write", "read-only"),
    "load_balance_hosts": ("disable", "random"),
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "sslcertmode": ("disable", "allow", "require"),
    "sslcompression": ("0", "1"),
    "sslsni": ("0", "1"),
    "channel_binding": ("disable", "prefer", "require"),
    "gssencmode": ("disable", "prefer", "require"),
    "gssdelegation": ("0", "1"),
    "gsslib": ("gssapi", "sspi"),
    "min_protocol_version": ("3.0", "3.2", "latest"),
    "max_protocol_version": ("3.0", "3.2", "latest"),
}
"""The values of the parameters that have few."""

IMPOSSIBLE: Final[Mapping[str, tuple[str, ...]]] = {
    "sslcertmode": ("require",),
    "sslcompression": ("1",),
    "sslsni": ("0",),
    "channel_binding": ("require",),
    "gssencmode": ("require",),
    "gssdelegation": ("1",),
    "min_protocol_version": ("3.2", "latest"),
}
"""The values that demand what asyncpg cannot do; it does what the other values ask for."""

NO_OAUTH: Final = "the driver has no OAuth: use another method of authentication"
NO_KEYS: Final = "the driver needs the password itself: write it, or leave this out"
UNSUPPORTED: Final = {
    "replication": "bulkseed loads rows by SQL: leave it out",
    "sslcrldir": "name one file with sslcrl instead",
    "sslkeylogfile": "set the environment variable SSLKEYLOGFILE instead",
    "requirepeer": "the driver cannot check it: leave it out",
    "require_auth": "the driver cannot check it: leave it out",
    **dict.fromkeys(("scram_client_key", "scram_server_key"), NO_KEYS),
    **dict.fromkeys(
        ("oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope", "oauth_ca_file"), NO_OAUTH
    ),
}
"""Parameters that raise an error, and the reason or the fix."""

INTEGERS: Final = (
    *("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    "tcp_user_timeout",
)
LARGEST: Final = 2**31 - 1
ENCODINGS: Final = {"utf8", "unicode", "auto"}

KEYWORDS: Final = frozenset(
    {
        *(*VARIABLES, *DRIVER_PARAMS, *CHOICES, *UNSUPPORTED, *INTEGERS),
        *("requiressl", "service", "servicefile", "fallback_application_name"),
    }
)
"""All of libpq's parameters. Others in a URL are settings of the server, as for asyncpg."""


def refuse(name: str, value: str, expected: str) -> NoReturn:
    place = f", the service file or {VARIABLES[name]}" if name in VARIABLES else " or the service file"
    raise InputError(
        f"invalid {name} {value!r}: write {expected} in the database URL{place}", code="invalid-parameter"
    ) from None


def check_choice(parameters: Mapping[str, str], name: str) -> None:
    """Raise InputError where the parameter ``name`` has a value that libpq does not know."""
    if name in parameters and parameters[name] not in CHOICES[name]:
        refuse(name, parameters[name], f"one of {', '.join(CHOICES[name])}")


def refuse_unsupported(parameters: Mapping[str, str]) -> None:
    """Raise InputError for an invalid parameter, and for one that demands what bulkseed or the driver cannot do."""
    for name in CHOICES:
        check_choice(parameters, name)
    for name, values in IMPOSSIBLE.items():
        if parameters.get(name) in values:
            other = next(value for value in reversed(CHOICES[name]) if value not in values)
            raise InputError(
                f"the driver does not support {name}={parameters[name]}: leave it out, or write {name}={other}",
                code="unsupported-parameter",
            )
    for name, fix in UNSUPPORTED.items():
        if name in parameters:
            raise InputError(
                f"bulkseed does not support the connection parameter {name}: {fix}", code="unsupported-parameter"
            )
    encoding = parameters.get("client_encoding", "auto")
    # as the server reads names of encodings: UTF-8, utf8 and Unicode are one
    if "".join(filter(str.isalnum, encoding)).lower() not in ENCODINGS:
        refuse("client_encoding", encoding, "UTF8, which bulkseed sends,")


def integer(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name, "").strip()
    if not text:
        return default
    digits = text[1:] if text[0] in "+-" else text
    if not (digits.isascii() and digits.isdigit() and abs(int(text)) <= LARGEST):
        refuse(name, parameters[name], "an integer")
    return int(text)


KEEPALIVES_IDLE: Final = 10
KEEPALIVES_INTERVAL: Final = 5
KEEPALIVES_COUNT: Final = 3
"""Where the parameters set none, a connection on which nothing is under way is lost 25 s after its peer: operating
systems take two hours. ``tcp_user_timeout`` has no default, since it ends connections to servers that are only busy."""


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """What the parameters of a connection ask of the client, and asyncpg has no arguments for.

    ``connect_timeout`` is in seconds for each host: None where none was given, 0 for no limit. ``tcp_user_timeout`` is
    in milliseconds, the idle time and the interval of keepalives in seconds; 0 leaves these to the operating system.
    ``random_host`` tries the hosts in random order.
    """

    connect_timeout: int | None = None
    keepalives: bool = True
    keepalives_idle: int = KEEPALIVES_IDLE
    keepalives_interval: int = KEEPALIVES_INTERVAL
    keepalives_count: int = KEEPALIVES_COUNT
    tcp_user_timeout: int = 0
    random_host: bool = False

    def seconds(self, default: float) -> float | None:
        """Return the limit for one host, ``default`` where none was given; None for no limit."""
        return default if self.connect_timeout is None else self.connect_timeout or None


def client_options(parameters: Mapping[str, str]) -> ClientOptions:
    """Return what the parameters ask of the client itself. Raises InputError for a value that is no integer."""
    seconds = integer(parameters, "connect_timeout", -1) if parameters.get("connect_timeout") else None
    return ClientOptions(
        # zero and less mean no limit, as in libpq
        connect_timeout=None if seconds is None else max(seconds, 0),
        keepalives=integer(parameters, "keepalives", 1) != 0,
        keepalives_idle=max(integer(parameters, "keepalives_idle", KEEPALIVES_IDLE), 0),
        keepalives_interval=max(integer(parameters, "keepalives_interval", KEEPALIVES_INTERVAL), 0),
        keepalives_count=max(integer(parameters, "keepalives_count", KEEPALIVES_COUNT), 0),
        tcp_user_timeout=max(integer(parameters, "tcp_user_timeout", 0), 0),
        random_host=parameters.get("load_balance_hosts") == "random",
    )


def session_name(parameters: Mapping[str, str]) -> str:
    """Return the application name of the sessions, which ``pg_stat_activity`` shows."""
    return parameters.get("application_name") or parameters.get("fallback_application_name") or "bulkseed"
