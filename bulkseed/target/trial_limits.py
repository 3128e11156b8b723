"""What keeps a trial in the tables from disturbing an app: a limit of its time, and replacements of sequences."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg

from bulkseed.postgres.connection import Connection, server_message
from bulkseed.sql import compose, trusted
from bulkseed.target.sequences import GAP

__all__ = [
    "LOCK_MILLISECONDS",
    "NotTriedError",
    "TrialLimit",
    "keep_sequences",
    "limit_queries",
    "translate_waits",
    "wait_error",
]

SECONDS: Final = 1.0
"""How long a trial may hold locks on sequences, and on rows that it puts into the tables: an app may wait as long."""
QUERY_SECONDS: Final = 5
"""How long a statement on temporary copies may take: it locks nothing, but may read a large table of the app."""
LOCK_MILLISECONDS: Final = 300
"""How long a lock is waited for: an app may wait as long behind this; and less than deadlock_timeout, so that in a
deadlock it is mostly the trial that gives up."""

SEQUENCES: Final = """
SELECT c.oid::regclass::text AS name, s.seqincrement AS step, s.seqmin AS lowest, s.seqmax AS highest,
       pg_sequence_last_value(c.oid) IS NOT NULL AS is_called, pg_has_role(c.relowner, 'USAGE') AS is_owned
FROM pg_class AS c JOIN pg_sequence AS s ON s.seqrelid = c.oid WHERE c.oid::bigint = ANY ($1::bigint[]) ORDER BY c.oid
"""


class NotTriedError(Exception):
    """Ends a trial without a result; its text says why."""


@dataclass(frozen=True, slots=True)
class TrialLimit:
    """The moment, in monotonic time, at which a trial in the tables ends, whatever it has found out by then."""

    end: float

    @classmethod
    async def begin(cls, connection: Connection) -> TrialLimit:
        """Limit the statements, and waiting for locks, of the transaction that begins. Raises asyncpg's errors."""
        limit = cls(time.monotonic() + SECONDS)
        await connection.execute(compose("SET LOCAL lock_timeout = {limit}", limit=LOCK_MILLISECONDS))
        await limit.apply(connection)
        return limit

    async def apply(self, connection: Connection) -> None:
        """Let the next statements take only what remains of the time. Raises NotTriedError once nothing remains."""
        remaining = math.ceil((self.end - time.monotonic()) * 1000)
        if remaining <= 0:
            raise NotTriedError(too_slow())
        await connection.execute(compose("SET LOCAL statement_timeout = {limit}", limit=remaining))


@contextmanager
def translate_waits() -> Iterator[None]:
    """Raise NotTriedError for a statement or a lock that takes too long in the block, and for a deadlock."""
    try:
        yield
    except Exception as error:
        if (reason := wait_error(error)) is not None:
            raise reason from error
        raise


def wait_error(error: BaseException | None) -> NotTriedError | None:
    """Return the NotTriedError for a statement or a lock that took too long, or a deadlock; None for other errors."""
    match error:
        case asyncpg.QueryCanceledError():
            return NotTriedError(too_slow())
        case asyncpg.LockNotAvailableError() | asyncpg.TransactionRollbackError():
            return NotTriedError(server_message(error))
    return None


@asynccontextmanager
async def limit_queries(connection: Connection, tried: str, notes: list[str]) -> AsyncIterator[None]:
    """Run the block in a savepoint, and end it with a note on what is ``tried`` where a statement takes too long."""
    try:
        async with connection.transaction():
            await connection.execute(compose("SET LOCAL statement_timeout = {limit}", limit=QUERY_SECONDS * 1000))
            yield
    except asyncpg.QueryCanceledError:
        notes.append(f"{tried} could not be tried with rows of the load within {QUERY_SECONDS} s")


def too_slow() -> str:
    return f"with a few rows they take longer than {SECONDS:g} s, during which apps may wait"


async def keep_sequences(connection: Connection, sequences: Iterable[int], last_id: int, limit: TrialLimit) -> None:
    """Let all that uses the sequences until the rollback use replacements of them, beyond the id ``last_id``.

    ``ALTER SEQUENCE … RESTART`` gives a sequence another file, as https://www.postgresql.org/docs/current/
    sql-altersequence.html says, which a rollback takes back together with the values taken from it; until then,
    ``nextval`` of others waits. Raises NotTriedError.
    """
    for row in await connection.fetch(SEQUENCES, list(sequences)):
        if not row["is_owned"]:
            raise NotTriedError(f"their code may move the sequence {row['name']}, of another owner")
        following = await connection.fetchval(
            compose("SELECT last_value FROM {sequence}", sequence=trusted(row["name"]))
        )
        following += row["step"] * GAP if row["is_called"] else 0
        if following <= last_id < row["highest"]:
            # ids that triggers take are none of the load
            following = last_id + 1
        if not row["lowest"] <= following <= row["highest"]:
            raise NotTriedError(f"the sequence {row['name']} is exhausted")
        statement = compose(
            "ALTER SEQUENCE {sequence} RESTART WITH {value}", sequence=trusted(row["name"]), value=following
        )
        await limit.apply(connection)
        try:
            await connection.execute(statement)
        except asyncpg.PostgresError as error:
            if connection.is_closed():
                raise
            raise NotTriedError(f"the sequence {row['name']} cannot be replaced: {server_message(error)}") from error
