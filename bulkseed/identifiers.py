"""Names in SQL (https://www.postgresql.org/docs/current/sql-syntax-lexical.html)."""

from __future__ import annotations

__all__ = ["qualified", "quoted"]


def quoted(name: str) -> str:
    """A name as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def qualified(schema: str, name: str) -> str:
    """``schema.name``, quoted."""
    return f"{quoted(schema)}.{quoted(name)}"
