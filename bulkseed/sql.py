"""A composer of SQL: the only module that puts names and constants into statements.

:func:`compose` replaces each ``{name}`` of a template by the part of that name. A part is an int or :class:`SQL`, which
only the functions of this module return; other text raises TypeError, so that no table name and no value of a user can
become SQL by mistake. Values belong in parameters (``$1``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Final

__all__ = ["SQL", "compose", "identifier", "join", "literal", "plain_names", "trusted"]

PART: Final = re.compile(r"\{([a-z_]\w*)\}")
QUOTED: Final = re.compile(r'"((?:[^"]|"")*)"')
NEEDS_NO_QUOTES: Final = re.compile(r"[a-z_][a-z0-9_]*")


class SQL(str):
    """A statement, or a part of one, that is safe to send: a ``str`` for drivers, created by this module only."""

    __slots__ = ()


def compose(template: str, /, **parts: SQL | int) -> SQL:
    """Return ``template``, a constant of the code, with each ``{name}`` replaced by the part of that name.

    Braces around anything but a lower-case name stay as they are, and so do braces within parts. Negative numbers are
    put in parentheses: ``--`` begins a comment. Raises TypeError for a part that is neither SQL nor an int, a
    ``{name}`` without its part, and a part that the template does not name.
    """
    for name, part in parts.items():
        if not isinstance(part, SQL | int):
            raise TypeError(f"the part {name} is of type {type(part).__name__}: use identifier() or literal()")
    named = set(PART.findall(template))
    if missing := named - parts.keys():
        raise TypeError(f"the template names parts that are missing: {', '.join(sorted(missing))}")
    if unused := parts.keys() - named:
        raise TypeError(f"the template does not name these parts: {', '.join(sorted(unused))}")
    return SQL(PART.sub(lambda match: part_text(parts[match[1]]), template))


def part_text(part: SQL | int) -> str:
    return part if isinstance(part, SQL) else number_text(part)


def number_text(value: float) -> str:
    text = str(value)
    return f"({text})" if text.startswith("-") else text


def identifier(*names: str) -> SQL:
    """Return the names quoted and joined by dots: ``identifier("public", "users")`` is ``"public"."users"``.

    https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS
    """
    return SQL(".".join('"' + name.replace('"', '""') + '"' for name in names))


def plain_names(text: str) -> str:
    """Return ``text`` for people, without the quotes around names that need none: ``public.users``."""
    return QUOTED.sub(lambda match: match[1] if NEEDS_NO_QUOTES.fullmatch(match[1]) else match[0], text)


def literal(value: str | float | None) -> SQL:
    """Return a constant for statements that cannot have parameters: a number, quoted text, or NULL for None.

    Negative numbers are in parentheses, as :func:`compose` has them. Quotes and backslashes in text are safe with
    either value of ``standard_conforming_strings``.
    """
    if value is None:
        return SQL("NULL")
    if isinstance(value, str):
        text = value.replace("'", "''")
        return SQL("E'" + text.replace("\\", "\\\\") + "'" if "\\" in text else f"'{text}'")
    if not math.isfinite(value):
        return SQL(f"'{value}'::float8")
    return SQL(number_text(value))


def join(separator: str, parts: Iterable[SQL]) -> SQL:
    """Return the parts with ``separator``, a constant of the code, between them.

    Raises TypeError for a part that is not SQL.
    """
    joined = list(parts)
    for part in joined:
        if not isinstance(part, SQL):
            raise TypeError(f"a part to join is of type {type(part).__name__}: use identifier() or literal()")
    return SQL(separator.join(joined))


def trusted(text: str) -> SQL:
    """Return text as SQL unchanged: for definitions of the server (``pg_get_indexdef``), or in the ledger."""
    return SQL(text)
