"""SQL composed of literal text, identifiers and parameters: the one place where names are put into statements.

A template's ``{name}`` is replaced, once and from the left, by the part of that name; a part is :class:`SQL` itself
(of :func:`identifier`, :func:`literal`, :func:`join` or another :func:`compose`), or an int. Text of other origin is
refused, so that no name of a table or value of a user can become SQL by mistake. Values belong in parameters (``$1``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

__all__ = ["SQL", "compose", "identifier", "join", "literal", "trusted"]

PART: Final = re.compile(r"\{(\w+)\}")


class SQL(str):
    """Text that may be sent to the server: a ``str``, as drivers want it, that only this module makes."""

    __slots__ = ()


def compose(template: str, **parts: SQL | int) -> SQL:
    """Return ``template``, literal text of the code, with its ``{name}`` replaced by ``parts``.

    Other braces stay as they are. Raises TypeError for a part that is neither SQL nor an int, or is missing, or unused.
    """
    for name, part in parts.items():
        if not isinstance(part, SQL | int):
            raise TypeError(f"the part {name} is {type(part).__name__}: make it SQL, with identifier() or literal()")
    named = set(PART.findall(template))
    if named != parts.keys():
        raise TypeError(f"the parts {sorted(named ^ parts.keys())} are not both named and given")
    return SQL(PART.sub(lambda match: str(parts[match[1]]), template))


def identifier(*names: str) -> SQL:
    """Return a quoted name, qualified by those before it: ``identifier("public", "users")`` is ``"public"."users"``.

    https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS
    """
    return SQL(".".join('"' + name.replace('"', '""') + '"' for name in names))


def literal(value: str | float | None) -> SQL:
    """Return a constant, where a parameter cannot be given: numbers as they are, text quoted, None as NULL.

    Quotes and backslashes are safe whatever ``standard_conforming_strings`` says.
    """
    if value is None:
        return SQL("NULL")
    if isinstance(value, str):
        text = value.replace("'", "''")
        return SQL("E'" + text.replace("\\", "\\\\") + "'" if "\\" in text else f"'{text}'")
    return SQL(repr(value))


def join(separator: str, parts: Iterable[SQL]) -> SQL:
    """Return the parts with ``separator``, literal text of the code, between them. Raises TypeError as compose does."""
    made = list(parts)
    if not all(isinstance(part, SQL) for part in made):
        raise TypeError("a part to join is not SQL: make it so, with identifier() or literal()")
    return SQL(separator.join(made))


def trusted(text: str) -> SQL:
    """Return text as SQL that is SQL already: of the server's own functions (``pg_get_indexdef``), or of the ledger."""
    return SQL(text)
