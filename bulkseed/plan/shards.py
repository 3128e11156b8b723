"""Shards: the units of work that a plan is cut into. Their size touches no byte of any row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Final, Literal

import numpy as np

from bulkseed.plan.estimate import expected_channel_rows, expected_rows
from bulkseed.plan.plan import Plan
from bulkseed.plan.tables import Stage

__all__ = ["ROWS_PER_SHARD", "Shard", "cut", "shard_counts"]

KINDS: Final[tuple[Literal["users", "channels"], ...]] = ("users", "channels")

ROWS_PER_SHARD: Final = 200_000
"""Large enough that a COPY's fixed cost does not show, small enough to take a second or two."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A block of users, or of channels with all that is in them: ordinals ``start`` to ``stop``, exclusive.

    A ``late`` one has the rows that point at those of any other shard, made beside those of its users or channels.
    Shards are numbered from 0 in the order in which one worker would load them: users first.
    """

    number: int
    kind: Literal["users", "channels"]
    start: int
    stop: int
    late: bool = False

    @property
    def stage(self) -> Stage:
        """All shards of a stage are in before the first of the next begins."""
        return "late" if self.late else self.kind


def shard_counts(plan: Plan, rows_per_shard: int = ROWS_PER_SHARD) -> dict[str, int]:
    """How many shards of each stage :func:`cut` gives."""
    return {
        "users": -(-plan.users // users_in(plan, rows_per_shard)),
        "channels": len(channel_starts(plan, rows_per_shard)),
        "late": sum(-(-count_of(plan, kind) // size) for kind, size in late_blocks(plan, rows_per_shard).items()),
    }


def rows_in(plan: Plan, stage: Stage, kind: Literal["users", "channels"]) -> float:
    """The expected rows of a stage that are made beside those of ``kind``."""
    model = plan.model
    return sum(
        rows for name, rows in expected_rows(plan).items() if (model.stage(name), model.root(name)) == (stage, kind)
    )


def users_in(plan: Plan, rows_per_shard: int) -> int:
    return max(1, int(rows_per_shard / max(1.0, rows_in(plan, "users", "users") / plan.users)))


def late_blocks(plan: Plan, rows_per_shard: int) -> dict[Literal["users", "channels"], int]:
    """How many users or channels a late shard has, where tables follow those late."""
    blocks: dict[Literal["users", "channels"], int] = {}
    for kind in KINDS:
        if late := rows_in(plan, "late", kind):
            blocks[kind] = max(1, int(rows_per_shard / (late / count_of(plan, kind))))
    return blocks


def count_of(plan: Plan, kind: Literal["users", "channels"]) -> int:
    return plan.users if kind == "users" else plan.channels


def channel_starts(plan: Plan, rows_per_shard: int) -> Sequence[int]:
    """The first channel of each shard of channels."""
    in_stage = max(1.0, rows_in(plan, "channels", "channels"))
    by_channel = expected_channel_rows(plan)
    if by_channel is None:
        return range(0, plan.channels, max(1, int(rows_per_shard / (in_stage / plan.channels))))
    by_channel *= in_stage / by_channel.sum()
    # by what comes before each, so that a channel of many shards' rows is the last one of its shard
    shard = np.floor((np.cumsum(by_channel) - by_channel) / rows_per_shard)
    return [0, *(1 + np.flatnonzero(np.diff(shard))).tolist()]


def cut(plan: Plan, rows_per_shard: int = ROWS_PER_SHARD) -> Iterator[Shard]:
    """The shards of ``plan``, each of about ``rows_per_shard`` expected rows; one channel is never divided."""
    number = 0
    users = users_in(plan, rows_per_shard)
    for start in range(0, plan.users, users):
        yield Shard(number, "users", start, min(start + users, plan.users))
        number += 1
    for start, stop in pairwise(chain(channel_starts(plan, rows_per_shard), [plan.channels])):
        yield Shard(number, "channels", start, stop)
        number += 1
    for kind, size in late_blocks(plan, rows_per_shard).items():
        for start in range(0, count_of(plan, kind), size):
            yield Shard(number, kind, start, min(start + size, count_of(plan, kind)), late=True)
            number += 1
