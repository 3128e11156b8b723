"""A full disk: undoing a run wants some room too, for a list of what is to go, and this is how it gets by without.

What was rolled back, or deleted, takes its place in a table's file until VACUUM has cut that off at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from bulkseed import ledger
from bulkseed.cleaner.removal import remove_rows
from bulkseed.deferral import Deferred, drop
from bulkseed.errors import BulkseedError, ConnectionLost
from bulkseed.ledger import Ledger, Run
from bulkseed.postgres.connection import Connection, translated
from bulkseed.postgres.transaction import transaction
from bulkseed.watch import Watcher

__all__ = ["make_room", "removed_in_parts", "vacuum"]

LOCK_SECONDS: Final = 10
ROWS_AT_ONCE: Final = 1_000_000
"""Some 40 bytes of the session's memory each."""


async def make_room(
    connection: Connection, runs: Sequence[Run], dropped: Mapping[int, Sequence[Deferred]], watcher: Watcher
) -> None:
    """Give back what can be made again: the indexes that were rebuilt already, and what was rolled back.

    ``dropped`` are the definitions that are in the ledger still, by run. Raises ConnectionLost.
    """
    watcher.note("the server's disk is full: what is undone is undone in parts, and takes longer")
    for its in dropped.values():
        try:
            await drop(connection, its)
        except ConnectionLost:
            raise
        except BulkseedError:
            continue  # an app has the table, say
    await vacuum(connection, (name for run in runs for name in reversed(run.names.tables())))


async def vacuum(connection: Connection, tables: Iterable[str]) -> None:
    """Cut off the ends of tables in which no row is; what cannot be is left. Raises ConnectionLost."""
    for table in dict.fromkeys(tables):
        try:
            with translated(connection, f"VACUUM {table}"):
                # that it waits keeps nobody waiting but another VACUUM or DDL, and autovacuum makes way
                await connection.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
                await connection.execute(f"VACUUM (PARALLEL 0) {table}")
        except ConnectionLost:
            raise
        except BulkseedError:
            continue
        finally:
            if not connection.is_closed():
                await connection.execute("SET lock_timeout = 0")


async def removed_in_parts(
    connection: Connection, book: Ledger, run: Run, absent: Sequence[Deferred], watcher: Watcher
) -> Counter[str]:
    """Remove the rows of a run that is not whole by a few shards at a time, whose list needs no disk; returns how many.

    Each part is out for good. Raises RunError where rows of others point at those of a part: that is left, with what
    was loaded before it.
    """
    assert run.rows_per_shard is not None
    removed: Counter[str] = Counter()
    left = sorted(run.shards or ())
    most = max(1, ROWS_AT_ONCE // run.rows_per_shard)
    while left:
        # the last that were loaded first: users, at whom all point, at last
        left, part = left[:-most], left[-most:]
        async with transaction(connection):
            some = replace(run, shards=frozenset(part))
            found, _ = await remove_rows(connection, [some], absent, cascade=False, watcher=watcher, diskless=True)
            with translated(connection, "forgetting shards"):
                await ledger.forget_shards(connection, book, run.number, part)
        removed.update(found)
    return removed
