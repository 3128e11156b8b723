"""Foreign keys from replies to their parents, which may be in another shard, and how they order the shards."""

from __future__ import annotations

from typing import Final

from bulkseed.postgres.connection import Connection
from bulkseed.sql import plain_names
from bulkseed.target.target import Target

__all__ = ["describe_thread_key", "find_thread_key"]

KEYS: Final = """
SELECT k.conname::text FROM pg_constraint AS k
WHERE k.contype = 'f' AND k.conrelid = $1::text::regclass AND k.confrelid = k.conrelid ORDER BY 1 LIMIT 1
"""


async def find_thread_key(connection: Connection, target: Target) -> str | None:
    """Return the name of a foreign key of messages to messages that is in place; None if there is none.

    With it, each slice of time must be loaded after the one before: a reply comes up to an hour after its parent.
    """
    if "messages" not in target.model.names:
        return None
    found: str | None = await connection.fetchval(KEYS, target.sql_name("messages"))
    return found


def describe_thread_key(name: str, target: Target) -> str:
    """Return a sentence that says what the key changes for a load."""
    return (
        f"only one worker loads messages at a time, since the foreign key {name} of "
        f"{plain_names(target.sql_name('messages'))} stays in place (--defer always drops and rebuilds it)"
    )
