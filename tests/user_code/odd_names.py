"""A plugin table whose names, and those of its columns, need quotes in SQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from bulkseed import Parents


class Receipts:
    """Follows a table whose app name is odd too; has a key and references of odd names."""

    name = 'Read "receipts" {0}'
    follows = "messages"
    columns = ("readBy", "a{b}", "per cent %", "$1 it's", "group")
    references: ClassVar = {"a{b}": "messages", "readBy": "users"}
    key = ("a{b}", "readBy")
    rows_per_parent = 1.0

    def rows(self, messages: Parents) -> Iterator[tuple[Any, ...]]:
        """Yield one row for each message, by its author."""
        for message in messages:
            yield message.user_id, message.id, f"%s {message.number}", message.created_at, message.random.random()
