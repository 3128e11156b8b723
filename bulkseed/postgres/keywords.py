"""Connection strings of keywords, which psql takes instead of a URL: ``host=localhost dbname=app``.

https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-KEYWORD-VALUE
"""

from __future__ import annotations

import re
from typing import Final

from bulkseed.errors import InputError
from bulkseed.postgres.parameters import KEYWORDS

__all__ = ["parse_keywords"]

QUOTED: Final = r"'(?P<quoted>(?:\\.|[^'\\])*)'"
PLAIN: Final = r"(?P<plain>(?:\\.|[^'\\\s])(?:\\.|[^\\\s])*)?\\?"
PARAMETER: Final = re.compile(rf"\s*(?P<keyword>[^\s=]+)\s*=\s*(?:{QUOTED}|{PLAIN})", re.ASCII | re.DOTALL)
SECRET: Final = re.compile(r"(ssl)?password=")
"""The beginning of a value that is a parameter itself, where that before it has none: ``user= password=…``."""
ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


def parse_keywords(text: str) -> dict[str, str]:
    """Return the parameters in a connection string, read as libpq does; of two with one keyword, the last.

    Raises InputError, whose message omits the text, because it may contain a password.
    """
    parameters: dict[str, str] = {}
    position, number = 0, 0
    while text[position:].strip():
        number += 1
        match = PARAMETER.match(text, position)
        if match is None:
            raise InputError(
                f"parameter {number} of the connection string cannot be read: write name=value, "
                "and values with spaces in single quotes, as in password='two words'",
                code="invalid-connection-string",
            )
        if match["keyword"] not in KEYWORDS:
            raise InputError(
                f"parameter {number} of the connection string is not one of libpq's: correct its name, "
                "write values with spaces in single quotes, and settings of the server as options='-c name=value'",
                code="invalid-connection-string",
            )
        if SECRET.match(match["plain"] or ""):
            # libpq takes the password for a name, which messages would show
            raise InputError(
                f"{match['keyword']}= in the connection string has no value before the next parameter: give it one, "
                f"or write {match['keyword']}=''",
                code="invalid-connection-string",
            )
        parameters[match["keyword"]] = ESCAPED.sub(r"\1", match["quoted"] or match["plain"] or "")
        position = match.end()
    return parameters
