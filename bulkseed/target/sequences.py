"""The sequences of columns: their state, and a lock that keeps others from taking values."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from bulkseed.postgres.connection import Connection
from bulkseed.sql import SQL, compose, identifier, trusted

__all__ = [
    "GAP",
    "SequenceState",
    "find_sequence",
    "find_sequences",
    "hold_sequence",
    "is_owner",
    "last_reserved",
    "lock_sequence",
    "read_state",
    "set_state",
]

GAP: Final = 1000
"""Ids left out in tables with rows: an app may use some between the reading and the moving of its sequence."""

HOLD_SECONDS: Final = 0.5
"""How long a sequence is waited for before its values are taken without a lock. An app's INSERTs wait behind it."""

SEQUENCES_SQL: Final = """
SELECT DISTINCT ON (a.attnum) a.attname AS column, c.oid::regclass::text AS name,
       format('%I.%I', n.nspname, c.relname) AS qualified,
       s.seqincrement AS increment, s.seqmax AS highest,
       CASE WHEN has_sequence_privilege(c.oid, 'USAGE') THEN pg_sequence_last_value(c.oid) END AS last
FROM pg_attribute a
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
JOIN pg_depend p ON (p.classid = 'pg_class'::regclass AND p.refclassid = 'pg_class'::regclass
                     AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum)
                 OR (p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_class'::regclass)
JOIN pg_class c ON c.relkind = 'S'
                AND c.oid = CASE WHEN p.classid = 'pg_class'::regclass THEN p.objid ELSE p.refobjid END
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_sequence s ON s.seqrelid = c.oid
WHERE a.attrelid = $1::text::regclass AND NOT a.attisdropped
ORDER BY a.attnum, p.classid = 'pg_attrdef'::regclass DESC
"""
"""The sequences of the columns of a table: the one that a column's default reads, else its own (identity)."""

OWNER: Final = """
SELECT r.rolname AS owner, pg_has_role(c.relowner, 'USAGE') AS is_ours
FROM pg_class AS c JOIN pg_roles AS r ON r.oid = c.relowner WHERE c.oid = $1::text::regclass
"""


@dataclass(frozen=True, slots=True)
class SequenceState:
    """The last value of a sequence, and whether it was taken, as PostgreSQL has them; and its step.

    The next value is ``last`` itself where it was not taken yet.
    """

    last: int
    is_called: bool
    step: int

    @property
    def next(self) -> int:
        """The value that nextval would return."""
        return self.last + self.step * self.is_called

    def advanced(self, count: int) -> SequenceState:
        """Return the state after ``count`` values are taken."""
        return SequenceState(self.next + self.step * (count - 1), is_called=True, step=self.step) if count else self

    def at(self, last: int, *, is_called: bool = True) -> SequenceState:
        """Return the state with another last value."""
        return SequenceState(last, is_called, self.step)


async def find_sequences(connection: Connection, table: SQL) -> dict[str, Any]:
    """Return the rows of SEQUENCES_SQL by column of the table."""
    return {row["column"]: row for row in await connection.fetch(SEQUENCES_SQL, table)}


async def find_sequence(connection: Connection, table: SQL, column: str) -> Any | None:
    """Return the row of SEQUENCES_SQL for a column; None if it has no sequence."""
    return (await find_sequences(connection, table)).get(column)


async def read_state(connection: Connection, sequence: str) -> SequenceState | None:
    """Return the state of a sequence, qualified SQL; None if it does not exist, or the user may not read it."""
    step = await connection.fetchval(
        "SELECT seqincrement FROM pg_sequence WHERE seqrelid = to_regclass($1) "
        "AND has_sequence_privilege(seqrelid, 'SELECT')",
        sequence,
    )
    if step is None:
        return None
    row = await connection.fetchrow(compose("SELECT last_value, is_called FROM {sequence}", sequence=trusted(sequence)))
    return SequenceState(row["last_value"], row["is_called"], step)


async def set_state(connection: Connection, sequence: str, last: int, *, is_called: bool) -> None:
    """Set the last value of a sequence, qualified SQL, and whether it was taken. No rollback takes this back."""
    await connection.execute("SELECT setval($1::text::regclass, $2, $3)", sequence, last, is_called)


async def is_owner(connection: Connection, sequence: str) -> bool:
    """Return whether the user owns a sequence, qualified SQL."""
    return bool((await connection.fetchrow(OWNER, sequence))["is_ours"])


async def lock_sequence(connection: Connection, sequence: str) -> bool:
    """Keep others from taking values until the transaction ends; return False if only another user may do that.

    nextval() takes a lock until the end of its transaction, which this waits for. Raises the errors of asyncpg:
    LockNotAvailableError by the ``lock_timeout`` of the transaction, and those of event triggers.
    """
    row = await connection.fetchrow(OWNER, sequence)
    if not row["is_ours"]:
        return False
    # of the statements that change nothing, the one that is allowed for sequences of every kind: LOCK TABLE is for none
    await connection.execute(
        compose(
            "ALTER SEQUENCE {sequence} OWNER TO {owner}", sequence=trusted(sequence), owner=identifier(row["owner"])
        )
    )
    return True


@asynccontextmanager
async def hold_sequence(connection: Connection, sequence: str) -> AsyncIterator[bool]:
    """Keep others from taking values of a sequence during the block if that is possible; yield whether it is.

    The lock is released by a rollback to a savepoint. What nextval() and setval() did in the block remains.
    """
    block = connection.transaction()
    await block.start()
    try:
        async with connection.transaction():
            lock_timeout = await connection.fetchval("SELECT current_setting('lock_timeout')")
            await connection.execute(
                compose("SET LOCAL lock_timeout = '{ms}ms'", ms=round(HOLD_SECONDS * 1000)),
            )
            is_held = await lock_sequence(connection, sequence)
            await connection.execute("SELECT set_config('lock_timeout', $1, true)", lock_timeout)
    except asyncpg.PostgresError:
        if connection.is_closed():
            raise
        is_held = False
    yield is_held
    await block.rollback()


def last_reserved(state: SequenceState, highest: int, gap: int, count: int) -> int:
    """Return the last of ``count`` reserved values: behind ``gap`` values, above ``highest``, a whole number of steps
    away.
    """
    more = max(highest + 1 - state.next, 0) + gap + count - 1
    return state.next + state.step * -(-more // state.step)
