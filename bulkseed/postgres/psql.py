"""A database URL as psql takes it: a connection string, and the password in the environment, hidden from others."""

from __future__ import annotations

from typing import Final

from bulkseed.errors import InputError
from bulkseed.postgres import libpq
from bulkseed.postgres.address import SCHEMES, SECRET, URL_FORM, Url, url_parameters

__all__ = ["psql_connection"]

SQLALCHEMY_PARAMS: Final = frozenset(
    {"prepared_statement_cache_size", "prepared_statement_name_func", "async_fallback", "ssl"}
)
"""Parameters that libpq does not know."""


def psql_connection(text: str) -> tuple[str, dict[str, str]]:
    """Return the connection string for psql, without passwords, and the variables that psql needs beside it.

    All parameters of libpq are passed on, also those that bulkseed itself does not support; not ``sslpassword``, which
    psql asks for. Raises InputError where ``text`` is no URL of a PostgreSQL database.
    """
    url = Url.parse(text.strip())
    if url.scheme not in SCHEMES:
        raise InputError(
            f"the database URL begins with {url.scheme!r}, which is not PostgreSQL: write {URL_FORM}",
            code="invalid-url",
        )
    parameters = url_parameters(url)
    if ssl := parameters.get("ssl"):
        parameters.setdefault("sslmode", libpq.to_sslmode(ssl))
    if "," in parameters.get("host", "") or parameters.get("host", "").count(":") == 1:
        # SQLAlchemy writes the port of each host behind it
        hosts = libpq.hosts(parameters)
        parameters["host"] = ",".join(host.name for host in hosts)
        parameters["port"] = ",".join(str(host.port) for host in hosts)
    password = parameters.get("password")
    shown = {name: value for name, value in parameters.items() if name not in SECRET | SQLALCHEMY_PARAMS}
    return " ".join(f"{name}={quote(value)}" for name, value in shown.items()), (
        {"PGPASSWORD": password} if password else {}
    )


def quote(value: str) -> str:
    """Return a value for a connection string of libpq."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
