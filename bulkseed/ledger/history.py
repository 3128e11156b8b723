"""What the ledger says of all runs, for people and programs: state, rows, when, by whom, how long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from bulkseed import ledger
from bulkseed.ledger import Ledger, Run
from bulkseed.plan.shards import shard_counts
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import connected, looked_at

__all__ = ["History", "history"]

State = Literal["whole", "loading", "interrupted", "undoing"]


@dataclass(frozen=True, slots=True)
class History:
    """A run, and what has become of it.

    ``loading``: another command works in this database now, at this run as far as can be told; ``interrupted``: it
    waits for `resume` or `cleanup`.
    """

    run: Run
    state: State
    now: datetime
    """The server's time."""

    @property
    def seconds(self) -> float:
        """From its begin until it was whole, interruptions included; of one that is not, to its last shard or now."""
        until = self.now if self.state == "loading" else self.run.ended or self.run.began
        return (until - self.run.began).total_seconds()

    @property
    def shards(self) -> tuple[int, int] | None:
        """How many of its shards are in, and how many there are; None for a run of a version that kept none."""
        if self.run.shards is None or self.run.rows_per_shard is None:
            return None
        return len(self.run.shards), sum(shard_counts(self.run.plan, self.run.rows_per_shard).values())

    def to_json(self) -> dict[str, Any]:
        """All of it, with times in ISO 8601 and seconds."""
        run = self.run
        return {
            "run": run.number,
            "state": self.state,
            "rows": dict(run.rows),
            "expected": dict(run.expected),
            "shards": None if self.shards is None else {"in": self.shards[0], "of": self.shards[1]},
            "schema": run.schema,
            "seed": run.plan.seed,
            "as_of": run.plan.as_of.isoformat(),
            "began": run.began.isoformat(),
            "ended": None if run.ended is None else run.ended.isoformat(),
            "seconds": round(self.seconds, 3),
            "phases": dict(run.seconds),
            "login": run.login,
            "client": run.client,
            "resumed": run.resumed,
            "made_by": dict(run.made_by),
        }


async def history(address: Address, *, ledger_schema: str = ledger.SCHEMA) -> list[History]:
    """All runs, oldest first; none where there is no ledger. Raises ConnectError, TargetError."""
    async with connected(address) as connection:
        with looked_at(connection, "reading the ledger"):
            # first: a run that ends in between is then called whole
            busy = await ledger.holder(connection) is not None
            found = await ledger.runs(connection, Ledger(ledger_schema))
            now = await connection.fetchval("SELECT clock_timestamp()")
    return [History(run, state_of(run, busy=busy), now) for run in found]


def state_of(run: Run, *, busy: bool) -> State:
    if run.state != "loading":
        return run.state
    return "loading" if busy else "interrupted"
