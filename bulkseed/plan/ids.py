"""Where the messages of a run stand: which of them get replies, and so which id each has.

The messages of a run are numbered in one sequence: every top-level message, and right after it its replies if it
has any. How many messages of each fixed block get replies is one binomial draw, and their numbers of replies are
dealt out evenly, so the number of any message is known without making those before it, and ids have no gaps
(rules G4 and G5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from bulkseed.plan.plan import Placement, Plan, microseconds
from bulkseed.randomness.draws import Bools, Ints, below, binomial
from bulkseed.randomness.streams import Streams, Words
from bulkseed.randomness.uuids import Moments, Uuids

__all__ = ["BLOCK", "MessageLayout", "uuids_of"]

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
    counts = {"users": plan.users, "channels": plan.channels, "messages": messages}
    streams = Streams(plan.seed, placement.first_user)
    start, end = microseconds(plan.history_start), microseconds(plan.as_of)
    timed = plan.scenario.uuid == 7
    return {
        table: Uuids(streams, table, Moments(placement.first(table), counts[table], start, end) if timed else None)
        for table in placement.uuids
    }
