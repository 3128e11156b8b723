"""Shards: the units of work that a plan is cut into. Their size touches no byte of any row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Final, Literal

import numpy as np

from bulkseed.estimate import expected_channel_rows, expected_rows
from bulkseed.plan import Plan

__all__ = ["ROWS_PER_SHARD", "Shard", "cut", "shard_counts"]

ROWS_PER_SHARD: Final = 200_000
"""Large enough that a COPY's fixed cost does not show, small enough to take a second or two."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A block of users, or of channels with all that is in them: ordinals ``start`` to ``stop``, exclusive.

    Shards are numbered from 0 in the order in which one worker would load them: users first.
    """

    number: int
    kind: Literal["users", "channels"]
    start: int
    stop: int


def shard_counts(plan: Plan, rows_per_shard: int = ROWS_PER_SHARD) -> dict[str, int]:
    """How many shards of each kind :func:`cut` gives."""
    return {"users": -(-plan.users // rows_per_shard), "channels": len(channel_starts(plan, rows_per_shard))}


def channel_starts(plan: Plan, rows_per_shard: int) -> Sequence[int]:
    """The first channel of each shard of channels."""
    by_channel = expected_channel_rows(plan)
    if by_channel is not None:
        # by what comes before each, so that a channel of many shards' rows is the last one of its shard
        shard = np.floor((np.cumsum(by_channel) - by_channel) / rows_per_shard)
        return [0, *(1 + np.flatnonzero(np.diff(shard))).tolist()]
    rows = expected_rows(plan)
    per_channel = (sum(rows.values()) - rows["users"]) / plan.channels
    return range(0, plan.channels, max(1, int(rows_per_shard / per_channel)))


def cut(plan: Plan, rows_per_shard: int = ROWS_PER_SHARD) -> Iterator[Shard]:
    """The shards of ``plan``, each of about ``rows_per_shard`` expected rows; one channel is never divided."""
    number = 0
    for start in range(0, plan.users, rows_per_shard):
        yield Shard(number, "users", start, min(start + rows_per_shard, plan.users))
        number += 1
    for start, stop in pairwise(chain(channel_starts(plan, rows_per_shard), [plan.channels])):
        yield Shard(number, "channels", start, stop)
        number += 1
