"""The kinds of relations, of which only tables can be loaded."""

from __future__ import annotations

from typing import Final

__all__ = ["TABLE_KINDS", "describe_kind"]

TABLE_KINDS: Final = {"r", "p"}
"""The values of ``pg_class.relkind`` for tables and partitioned tables."""

OTHERS: Final = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
    "c": "a type",
    "i": "an index",
    "I": "an index",
}


def describe_kind(kind: str) -> str:
    """Return the kind of a relation other than a table as text, by ``pg_class.relkind``: ``a view``."""
    return OTHERS.get(kind, "a relation of another kind")
