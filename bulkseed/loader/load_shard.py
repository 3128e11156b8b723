"""Loading a shard: the job that all workers share, and one transaction for the rows and their record."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from bulkseed.copy.writer import CopyPlan, copy_shard
from bulkseed.generators import Context
from bulkseed.generators.shard_context import FakerPools, keep_faker_pools
from bulkseed.ledger import Claim, Ledger, claim_shard, limit_wait, record_shard, share_run
from bulkseed.listeners import NullListener, ProgressListener, Stopwatch
from bulkseed.plan.plan import Placement, Plan
from bulkseed.plan.shards import Shard
from bulkseed.postgres.connection import Connection, ConnectionParams, close, translate_errors
from bulkseed.postgres.driver import ClientOptions
from bulkseed.postgres.transaction import RetryPolicy, connect_with_retry, retry, transaction
from bulkseed.text.names import Corpus

__all__ = ["CountingListener", "Endpoint", "Job", "ShardLoader"]


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The parameters of a connection, as plain values that can be pickled.

    ``arguments`` may contain a password, and are therefore absent from ``repr``.
    """

    arguments: Mapping[str, Any] = field(repr=False)
    client_options: ClientOptions
    server: str
    database: str
    unread: str | None = None

    @classmethod
    def of(cls, params: ConnectionParams) -> Endpoint:
        """Return a copy of ``params``."""
        return cls(params.arguments, params.client_options, params.server, params.database, params.unread)


@dataclass(frozen=True, slots=True)
class Job:
    """A run to load: the database, the ledger's record, the plan, how each table is copied, and the retry policy.

    ``import_path`` is the ``sys.path`` of the process that planned, if the scenario has code of the user. ``pools`` are
    the values of Faker that fields draw from. ``log_level`` is the level from which on the worker sends its log.
    """

    endpoint: Endpoint
    ledger: Ledger
    run: Claim
    plan: Plan
    placement: Placement
    corpus: Corpus
    copy_plans: Mapping[str, CopyPlan]
    retry_policy: RetryPolicy
    import_path: tuple[str, ...] = ()
    pools: FakerPools = field(default_factory=dict, repr=False)
    log_level: int = logging.WARNING

    def make_context(self) -> Context:
        """Return the values that the generators of the run share."""
        keep_faker_pools(self.pools)
        return Context(self.plan, self.placement, self.corpus)


class CountingListener(NullListener):
    """Passes rows and notes to another listener, and can take back the rows of a failed attempt."""

    def __init__(self, listener: ProgressListener) -> None:
        self.listener = listener
        self.counts: Counter[str] = Counter()

    def rows(self, table: str, count: int) -> None:
        """Count the rows and pass them on."""
        self.counts[table] += count
        self.listener.rows(table, count)

    def note(self, message: str) -> None:
        """Pass the message on."""
        self.listener.note(message)

    def take_back(self) -> None:
        """Report the counted rows as removed again."""
        for table, count in self.counts.items():
            self.listener.rows(table, -count)
        self.counts.clear()


class ShardLoader:
    """Loads shards over a connection of its own, which is opened again if it is lost."""

    def __init__(self, job: Job, context: Context, listener: ProgressListener) -> None:
        self.job = job
        self.context = context
        self.listener = listener
        self.connection: Connection | None = None

    async def __aenter__(self) -> Self:
        """Connect. Raises ConnectError, ConnectionLostError."""
        await retry(self.job.retry_policy, self.listener, "connecting", self.live_connection)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        if self.connection is not None:
            await close(self.connection)

    async def live_connection(self) -> Connection:
        if self.connection is None or self.connection.is_closed():
            self.connection = await connect_with_retry(self.job.endpoint, self.job.retry_policy, self.listener)
        return self.connection

    async def load(self, shard: Shard, stopwatch: Stopwatch) -> dict[str, int]:
        """Make the rows of ``shard``, COPY them, and record the shard; return the number of rows of each table.

        Transient errors are retried. Raises RunError (ConnectionLostError) or ConnectError. Nothing of the shard is
        loaded then, unless only the answer to the commit was lost: in this case the next attempt finds it in the
        ledger.
        """
        counting = CountingListener(self.listener)

        async def once() -> dict[str, int]:
            try:
                return await load_shard(
                    await self.live_connection(), self.job, self.context, shard, stopwatch, counting
                )
            except BaseException:
                counting.take_back()
                raise

        began = time.perf_counter()
        rows = await retry(self.job.retry_policy, self.listener, f"shard {shard.number}", once)
        seconds = time.perf_counter() - began
        logger.info(
            "shard %s (%s) is committed: %s rows in %.3f s", shard.number, shard.stage, sum(rows.values()), seconds
        )
        return rows


async def load_shard(
    connection: Connection, job: Job, context: Context, shard: Shard, stopwatch: Stopwatch, listener: ProgressListener
) -> dict[str, int]:
    async with transaction(connection):
        with translate_errors(connection, "reading the ledger"):
            async with limit_wait(connection, job.ledger):
                await share_run(connection, job.ledger, job.run)
                loaded = await claim_shard(connection, job.ledger, job.run.number, shard.number)
        if loaded is not None:
            # an earlier attempt was committed, and the answer was lost
            for table, count in loaded.items():
                listener.rows(table, count)
            return loaded
        rows = await copy_shard(connection, job.copy_plans, context, shard, stopwatch, listener)
        with translate_errors(connection, "recording a shard"):
            await record_shard(connection, job.ledger, job.run.number, shard.number, rows)
    return rows
