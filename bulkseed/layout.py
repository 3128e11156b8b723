"""Where the messages of a run stand: which of them get a reply, and so which id each has.

The messages of a run are numbered in one sequence: every top-level message, and right after it its reply if it
has one. How many replies each fixed block of top-level messages gets is one binomial draw, so the number of any
message is known without making those before it, and ids have no gaps (rules G4 and G5).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from bulkseed.draws import Bools, Ints, binomial
from bulkseed.streams import Streams

__all__ = ["BLOCK", "MessageLayout"]

BLOCK: Final = 1024
"""Top-level messages in a block; part of what fixes the rows, so a change is another generator version."""


class MessageLayout:
    """The numbering of a run's messages. Top-level messages are counted over all channels, from 0."""

    def __init__(self, streams: Streams, top_level: int, reply_probability: float) -> None:
        self.streams = streams
        self.top_level = top_level
        full, rest = divmod(top_level, BLOCK)
        words = streams.words("messages", "replies", 0, full + 1)
        replies = binomial(words[:full], BLOCK, reply_probability)
        if rest:
            replies = np.concatenate([replies, binomial(words[full:], rest, reply_probability)])
        self.replies = replies
        self.replies_before: Ints = np.concatenate([[0], np.cumsum(replies)])

    @property
    def messages(self) -> int:
        """All messages, replies included."""
        return self.top_level + int(self.replies_before[-1])

    def replied(self, start: int, stop: int) -> Bools:
        """Which of the top-level messages ``start`` to ``stop`` (exclusive) get a reply: shape ``(stop - start,)``."""
        first, last = start // BLOCK, -(-stop // BLOCK)
        words = self.streams.words("messages", "replied", first * BLOCK, (last - first) * BLOCK)
        # the place of each in its low bits, so that no two are equal and exactly the wanted number is lowest
        places = np.arange(len(words), dtype=np.uint64) % np.uint64(BLOCK)
        ranks = (words & ~np.uint64(BLOCK - 1) | places).reshape(-1, BLOCK)
        if last * BLOCK > self.top_level:
            ranks[-1, self.top_level % BLOCK :] = np.iinfo(np.uint64).max
        wanted = self.replies[first:last]
        lowest = np.sort(ranks, axis=1)[np.arange(len(ranks)), np.maximum(wanted - 1, 0)]
        mask: Bools = (ranks <= lowest[:, None]) & (wanted > 0)[:, None]
        return mask.ravel()[start - first * BLOCK : stop - first * BLOCK]

    def number(self, top_level: int) -> int:
        """The number of a top-level message in the sequence of all messages, from 0."""
        block = top_level // BLOCK
        if block == len(self.replies):
            return self.messages
        within = int(self.replied(block * BLOCK, top_level).sum()) if top_level % BLOCK else 0
        return top_level + int(self.replies_before[block]) + within
