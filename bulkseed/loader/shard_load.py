"""Loading a shard: the job that a worker is given, and one transaction for rows and ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from bulkseed import ledger
from bulkseed.copy.writer import CopyPlan, copy_shard
from bulkseed.generators import Context
from bulkseed.ledger import Claim, Ledger
from bulkseed.listeners import NullListener, ProgressListener, Stopwatch
from bulkseed.plan.plan import Placement, Plan
from bulkseed.plan.shards import Shard
from bulkseed.postgres.connection import Connection, ConnectionParams, close, translate_errors
from bulkseed.postgres.transaction import RetryPolicy, connect_with_retry, retry, transaction
from bulkseed.text.names import Corpus

__all__ = ["Counted", "Endpoint", "Job", "ShardLoader"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A database's place in plain values; ``arguments`` may hold a password, so they are left out of ``repr``."""

    arguments: Mapping[str, Any] = field(repr=False)
    server: str
    database: str
    unread: str | None = None

    @classmethod
    def of(cls, place: ConnectionParams) -> Endpoint:
        """The same place."""
        return cls(place.arguments, place.server, place.database, place.unread)


@dataclass(frozen=True, slots=True)
class Job:
    """A run that is to be loaded: where, which one of the ledger's, what is made, the lane of each table, patience.

    ``path`` is Python's own, where the scenario has code of the user's.
    """

    endpoint: Endpoint
    ledger: Ledger
    run: Claim
    plan: Plan
    placement: Placement
    corpus: Corpus
    lanes: Mapping[str, CopyPlan]
    retry_policy: RetryPolicy
    path: tuple[str, ...] = ()

    def context(self) -> Context:
        """What its generators share."""
        return Context(self.plan, self.placement, self.corpus)


class Counted(NullListener):
    """Passes rows on, and can take back what did not stay."""

    def __init__(self, listener: ProgressListener) -> None:
        self.listener = listener
        self.counts: Counter[str] = Counter()

    def rows(self, table: str, count: int) -> None:
        """Pass it on."""
        self.counts[table] += count
        self.listener.rows(table, count)

    def note(self, message: str) -> None:
        """Pass it on."""
        self.listener.note(message)

    def take_back(self) -> None:
        """The rows of a try that failed."""
        for table, count in self.counts.items():
            self.listener.rows(table, -count)
        self.counts.clear()


class ShardLoader:
    """A worker's way into the tables: a connection of its own, made again where it is lost."""

    def __init__(self, job: Job, context: Context, listener: ProgressListener) -> None:
        self.job = job
        self.context = context
        self.listener = listener
        self.connection: Connection | None = None

    async def __aenter__(self) -> Self:
        """Connect. Raises ConnectError, ConnectionLost."""
        await retry(self.job.retry_policy, self.listener, "connecting", self.connected)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        if self.connection is not None:
            await close(self.connection)

    async def connected(self) -> Connection:
        if self.connection is None or self.connection.is_closed():
            self.connection = await connect_with_retry(self.job.endpoint, self.job.retry_policy, self.listener)
        return self.connection

    async def load(self, shard: Shard, stopwatch: Stopwatch) -> dict[str, int]:
        """Make the rows of ``shard`` and COPY them, and record it; returns the rows of each table.

        What passes is tried again. Raises RunError (ConnectionLost) or ConnectError with nothing of the shard loaded,
        unless it was the answer to the commit that was lost: who tries again finds it in the ledger.
        """
        counted = Counted(self.listener)

        async def once() -> dict[str, int]:
            try:
                return await load_shard(await self.connected(), self.job, self.context, shard, stopwatch, counted)
            except BaseException:
                counted.take_back()
                raise

        return await retry(self.job.retry_policy, self.listener, f"shard {shard.number}", once)


async def load_shard(
    connection: Connection, job: Job, context: Context, shard: Shard, stopwatch: Stopwatch, listener: ProgressListener
) -> dict[str, int]:
    async with transaction(connection):
        with translate_errors(connection, "reading the ledger"):
            await ledger.share_run(connection, job.ledger, job.run)
            found = await ledger.claim_shard(connection, job.ledger, job.run.number, shard.number)
        if found is not None:
            # a try before this one was committed, though nobody said so
            for table, count in found.items():
                listener.rows(table, count)
            return found
        rows = await copy_shard(connection, job.lanes, context, shard, stopwatch, listener)
        with translate_errors(connection, "recording a shard"):
            await ledger.record_shard(connection, job.ledger, job.run.number, shard.number, rows)
    return rows
