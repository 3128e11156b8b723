"""Shards, the units of work that a plan is split into, and the numbering of messages.

The size of shards changes no row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from bulkseed.load_options import ROWS_PER_SHARD
from bulkseed.plan.activity import expected_channel_rows, expected_rows
from bulkseed.plan.plan import Placement, Plan, microseconds
from bulkseed.plan.slices import slice_boundaries
from bulkseed.plan.tables import ROOTS, STAGES, Root, Stage
from bulkseed.randomness.draws import GENERATOR_VERSION, Bools, Ints, Streams, Words, below, binomial

if TYPE_CHECKING:
    from bulkseed.randomness.uuids import Uuids

__all__ = ["BLOCK", "ROWS_PER_SHARD", "MessageLayout", "Shard", "shard_counts", "split_into_shards", "uuids_of"]


@dataclass(frozen=True, slots=True)
class Shard:
    """A block of users, a block of channels, or a slice of time with the messages in it; and what follows these.

    ``start`` to ``stop`` (exclusive) are ordinals of users or channels, or microseconds since 1970. A ``late`` shard
    has the rows of late tables, generated for its users, channels or messages; they may reference rows of any other
    shard. Shards are numbered from 0 in the order in which a single worker loads them: users first.
    """

    number: int
    kind: Root
    start: int
    stop: int
    late: bool = False

    @property
    def stage(self) -> Stage:
        """The stage of the shard. All shards of a stage are loaded before the first one of the next stage begins."""
        return "late" if self.late else self.kind


def shard_counts(plan: Plan, rows_per_shard: int = ROWS_PER_SHARD) -> dict[str, int]:
    """Return how many shards of each stage :func:`split_into_shards` yields."""
    counts: dict[str, int] = dict.fromkeys(STAGES, 0)
    for stage, _, starts in stages_of(plan, rows_per_shard):
        counts[stage] += len(starts)
    return counts


def expected_rows_of(plan: Plan, stage: Stage, kind: Root) -> float:
    """Return the expected rows of a stage that are generated for users, for channels or for messages."""
    model = plan.model
    return sum(
        rows for name, rows in expected_rows(plan).items() if (model.stage(name), model.root(name)) == (stage, kind)
    )


def stages_of(plan: Plan, rows_per_shard: int) -> Iterator[tuple[Stage, Root, Sequence[int]]]:
    """Yield the stages of a plan that have rows, with the start of each shard; the late one by kind."""
    kinds: list[tuple[Stage, Root]] = [*((kind, kind) for kind in ROOTS), *(("late", kind) for kind in ROOTS)]
    for stage, kind in kinds:
        if rows := expected_rows_of(plan, stage, kind):
            yield stage, kind, shard_starts(plan, rows_per_shard, rows, stage, kind)


def shard_starts(plan: Plan, rows_per_shard: int, rows: float, stage: Stage, kind: Root) -> Sequence[int]:
    """Return the start of each shard of a kind that has this number of expected ``rows`` in a stage."""
    if kind == "messages":
        return slice_boundaries(plan, max(1.0, rows_per_shard / (rows / plan.top_level_messages)))[:-1]
    if stage == "channels" and (by_channel := expected_channel_rows(plan)) is not None:
        by_channel *= rows / by_channel.sum()
        # divided by the rows before each channel, so that a channel larger than a shard is the last one of its shard
        shard = np.floor((np.cumsum(by_channel) - by_channel) / rows_per_shard)
        return [0, *(1 + np.flatnonzero(np.diff(shard))).tolist()]
    count = plan.users if kind == "users" else plan.channels
    return range(0, count, max(1, int(rows_per_shard / max(1.0, rows / count))))


def split_into_shards(plan: Plan, rows_per_shard: int = ROWS_PER_SHARD) -> Iterator[Shard]:
    """Yield the shards of ``plan``, each of about ``rows_per_shard`` expected rows.

    A channel with its members is never divided.
    """
    number = 0
    for stage, kind, starts in stages_of(plan, rows_per_shard):
        end = {"users": plan.users, "channels": plan.channels, "messages": microseconds(plan.as_of) + 1}[kind]
        for start, stop in pairwise(chain(starts, [end])):
            yield Shard(number, kind, start, stop, late=stage == "late")
            number += 1


BLOCK: Final = 1024
"""Top-level messages in a block. The rows depend on it: a change needs another ``GENERATOR_VERSION``."""


class MessageLayout:
    """The numbering of a run's messages, and the number of replies to each.

    Top-level messages are numbered over all channels, from 0; :meth:`number` also counts the replies between them.
    """

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
        """The number of messages with replies, by block."""
        self.offsets = np.zeros_like(threads)
        """Where in the sequence 1 to ``most_replies`` each block begins."""
        if self.most > 1:
            self.offsets = below(streams.words("messages", "replies.deal", 0, len(threads)), self.most)
        self.replies = self.count_replies(threads)
        """The number of replies, by block."""
        self.replies_before: Ints = np.concatenate([[0], np.cumsum(self.replies)])

    def count_replies(self, threads: Ints) -> Ints:
        """Return the number of replies of each block.

        The messages with replies get 1, 2 … ``most_replies`` replies in rotation, beginning at the block's offset.
        """
        if self.most == 1:
            return threads
        rounds, rest = np.divmod(threads, self.most)
        last = self.offsets + rest
        # the incomplete rotation has the numbers from offset + 1 on, and after most_replies those from 1 on
        beyond = np.maximum(last - self.most, 0)
        part = triangular_number(last - beyond) - triangular_number(self.offsets) + triangular_number(beyond)
        return rounds * triangular_number(self.most) + part

    @property
    def messages(self) -> int:
        """The number of messages, replies included."""
        return self.top_level + int(self.replies_before[-1])

    def replies_to(self, start: int, stop: int) -> Ints:
        """Return the number of replies to top-level messages ``start`` to ``stop`` (exclusive): ``(stop - start,)``."""
        if self.most == 1:
            return self.have_replies(start, stop).astype(np.int64)
        first, last, ranks = self.ranks(start, stop)
        threads = self.threads[first:last, None]
        thread = np.arange(threads.max(initial=0))
        counts = np.where(thread < threads, 1 + (thread + self.offsets[first:last, None]) % self.most, 0)
        # sorting is several times as fast as argsort, and each rank has its index within the block in its low bits
        lowest = np.sort(ranks, axis=1)[:, : len(thread)] & np.uint64(BLOCK - 1)
        replies = np.zeros(ranks.shape, dtype=np.int64)
        np.put_along_axis(replies, lowest.view(np.int64), counts, axis=1)
        return replies.ravel()[start - first * BLOCK : stop - first * BLOCK]

    def have_replies(self, start: int, stop: int) -> Bools:
        """Return whether top-level messages ``start`` to ``stop`` (exclusive) have replies: ``(stop - start,)``."""
        first, last, ranks = self.ranks(start, stop)
        wanted = self.threads[first:last]
        lowest = np.sort(ranks, axis=1)[np.arange(len(ranks)), np.maximum(wanted - 1, 0)]
        mask: Bools = (ranks <= lowest[:, None]) & (wanted > 0)[:, None]
        return mask.ravel()[start - first * BLOCK : stop - first * BLOCK]

    def ranks(self, start: int, stop: int) -> tuple[int, int, Words]:
        """Return the blocks of ``start`` to ``stop`` (first, and last exclusive) and ranks of their messages.

        The ranks are random words of shape ``(blocks, BLOCK)``; the messages of lowest rank have replies.
        """
        first, last = start // BLOCK, -(-stop // BLOCK)
        words = self.streams.words("messages", "replied", first * BLOCK, (last - first) * BLOCK)
        # the low bits are the index in the block: no two ranks are equal, so exactly the wanted number is lowest
        indexes = np.arange(len(words), dtype=np.uint64) % np.uint64(BLOCK)
        ranks = (words & ~np.uint64(BLOCK - 1) | indexes).reshape(-1, BLOCK)
        if last * BLOCK > self.top_level:
            ranks[-1, self.top_level % BLOCK :] = np.iinfo(np.uint64).max
        return first, last, ranks

    def replies_before_message(self, top_level: int) -> int:
        """Return the number of replies to the top-level messages before ``top_level``."""
        return self.number(top_level) - top_level

    def number(self, top_level: int) -> int:
        """Return the number of a top-level message among all messages of the run, replies included, from 0."""
        block = top_level // BLOCK
        if block == len(self.replies):
            return self.messages
        within = int(self.replies_to(block * BLOCK, top_level).sum()) if top_level % BLOCK else 0
        return top_level + int(self.replies_before[block]) + within


def triangular_number(count: Ints | int) -> Ints:
    """Return the sum of the numbers from 1 to ``count``."""
    total: Ints = np.asarray(count) * (np.asarray(count) + 1) // 2
    return total


def uuids_of(
    plan: Plan, placement: Placement, messages: int, generator: int = GENERATOR_VERSION
) -> Mapping[str, Uuids]:
    """Return the UUID keys of each table that has them, for a run with this number of ``messages``."""
    # importing pyarrow is slow, and commands that only read the ledger need no keys
    from bulkseed.randomness.uuids import Moments, Uuids  # noqa: PLC0415

    counts = {"users": plan.users, "channels": plan.channels, "messages": messages}
    streams = Streams(plan.seed, placement.first_user, generator)
    start, end = microseconds(plan.history_start), microseconds(plan.as_of)
    timed = plan.scenario.uuid == 7
    return {
        table: Uuids(streams, table, Moments(placement.first(table), counts[table], start, end) if timed else None)
        for table in placement.uuids
    }
