"""Passwords from libpq's password file (https://www.postgresql.org/docs/current/libpq-pgpass.html).

asyncpg reads it otherwise: it keeps the backslashes that escape, and a socket's folder never matches.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bulkseed.postgres.libpq import DEFAULT_PORT, Host, home, hosts

__all__ = ["found_password", "why_unread"]

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
