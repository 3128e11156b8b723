"""Shards: the units of work that a plan is cut into. Their size touches no byte of any row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from bulkseed.plan.activity import expected_channel_rows, expected_rows
from bulkseed.plan.plan import Placement, Plan, microseconds
from bulkseed.plan.tables import Stage
from bulkseed.randomness.draws import Bools, Ints, Streams, Words, below, binomial

if TYPE_CHECKING:
    from bulkseed.randomness.uuids import Uuids

__all__ = ["BLOCK", "ROWS_PER_SHARD", "MessageLayout", "Shard", "shard_counts", "split_into_shards", "uuids_of"]

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
    """How many shards of each stage :func:`split_into_shards` gives."""
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


def split_into_shards(plan: Plan, rows_per_shard: int = ROWS_PER_SHARD) -> Iterator[Shard]:
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


BLOCK: Final = 1024
"""Top-level messages in a block; part of what fixes the rows, so a change is another generator version."""


class MessageLayout:
    """The numbering of a run's messages. Top-level messages are counted over all channels, from 0."""

    def __init__(self, streams: Streams, top_level: int, reply_probability: float, most_replies: int = 1) -> None:
        self.streams = streams
        self.top_level = top_level
        self.most = most_replies
        full, rest = divmod(top_level, BLOCK)
        words = streams.words("messages", "replies", 0, full + 1)
        threads = binomial(words[:full], BLOCK, reply_probability)
        if rest:
            threads = np.concatenate([threads, binomial(words[full:], rest, reply_probability)])
        self.threads = threads
        """Messages with replies, by block."""
        self.first_deal = np.zeros_like(threads)
        if self.most > 1:
            self.first_deal = below(streams.words("messages", "replies.deal", 0, len(threads)), self.most)
        self.replies = self.dealt(threads)
        """Replies, by block."""
        self.replies_before: Ints = np.concatenate([[0], np.cumsum(self.replies)])

    def dealt(self, threads: Ints) -> Ints:
        """The replies of each block: 1 to the most are dealt round and round, from where the block begins to deal."""
        if self.most == 1:
            return threads
        rounds, rest = np.divmod(threads, self.most)
        last = self.first_deal + rest
        # of a round that is not whole: the numbers from first_deal + 1 on, at the most again from 1
        beyond = np.maximum(last - self.most, 0)
        part = triangle(last - beyond) - triangle(self.first_deal) + triangle(beyond)
        return rounds * triangle(self.most) + part

    @property
    def messages(self) -> int:
        """All messages, replies included."""
        return self.top_level + int(self.replies_before[-1])

    def replies_to(self, start: int, stop: int) -> Ints:
        """The replies of the top-level messages ``start`` to ``stop`` (exclusive): shape ``(stop - start,)``."""
        if self.most == 1:
            return self.replied(start, stop).astype(np.int64)
        first, last, ranks = self.ranks(start, stop)
        threads = self.threads[first:last, None]
        turn = np.arange(threads.max(initial=0))
        dealt = np.where(turn < threads, 1 + (turn + self.first_deal[first:last, None]) % self.most, 0)
        # sorting is several times as quick as sorting indexes, and each rank has its place in its low bits
        lowest = np.sort(ranks, axis=1)[:, : len(turn)] & np.uint64(BLOCK - 1)
        replies = np.zeros(ranks.shape, dtype=np.int64)
        np.put_along_axis(replies, lowest.view(np.int64), dealt, axis=1)
        return replies.ravel()[start - first * BLOCK : stop - first * BLOCK]

    def replied(self, start: int, stop: int) -> Bools:
        """Which of the top-level messages ``start`` to ``stop`` (exclusive) get replies: shape ``(stop - start,)``."""
        first, last, ranks = self.ranks(start, stop)
        wanted = self.threads[first:last]
        lowest = np.sort(ranks, axis=1)[np.arange(len(ranks)), np.maximum(wanted - 1, 0)]
        mask: Bools = (ranks <= lowest[:, None]) & (wanted > 0)[:, None]
        return mask.ravel()[start - first * BLOCK : stop - first * BLOCK]

    def ranks(self, start: int, stop: int) -> tuple[int, int, Words]:
        """The blocks that ``start`` to ``stop`` are in, and words that rank their messages: shape ``(blocks, BLOCK)``.

        Those of lowest rank get replies.
        """
        first, last = start // BLOCK, -(-stop // BLOCK)
        words = self.streams.words("messages", "replied", first * BLOCK, (last - first) * BLOCK)
        # the place of each in its low bits, so that no two are equal and exactly the wanted number is lowest
        places = np.arange(len(words), dtype=np.uint64) % np.uint64(BLOCK)
        ranks = (words & ~np.uint64(BLOCK - 1) | places).reshape(-1, BLOCK)
        if last * BLOCK > self.top_level:
            ranks[-1, self.top_level % BLOCK :] = np.iinfo(np.uint64).max
        return first, last, ranks

    def number(self, top_level: int) -> int:
        """The number of a top-level message in the sequence of all messages, from 0."""
        block = top_level // BLOCK
        if block == len(self.replies):
            return self.messages
        within = int(self.replies_to(block * BLOCK, top_level).sum()) if top_level % BLOCK else 0
        return top_level + int(self.replies_before[block]) + within


def triangle(count: Ints | int) -> Ints:
    """The sum of the numbers from 1 to ``count``."""
    found: Ints = np.asarray(count) * (np.asarray(count) + 1) // 2
    return found


def uuids_of(plan: Plan, placement: Placement, messages: int) -> Mapping[str, Uuids]:
    """The UUIDs of each table whose ids are UUIDs, of a run with so many ``messages``."""
    # pyarrow takes long to import, and commands that only read the ledger need no keys
    from bulkseed.randomness.uuids import Moments, Uuids  # noqa: PLC0415

    counts = {"users": plan.users, "channels": plan.channels, "messages": messages}
    streams = Streams(plan.seed, placement.first_user)
    start, end = microseconds(plan.history_start), microseconds(plan.as_of)
    timed = plan.scenario.uuid == 7
    return {
        table: Uuids(streams, table, Moments(placement.first(table), counts[table], start, end) if timed else None)
        for table in placement.uuids
    }
