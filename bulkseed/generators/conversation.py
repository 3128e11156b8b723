"""Messages without their texts, in order of time: top-level messages, their replies, authors and numbers.

Replies come up to an hour behind their parents, so that some parents of a slice of time lie before it: those of two
hours before are made once more. The numbers of all messages, replies among them, follow from that: a message's number
is that of the top-level messages and of the replies before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Final, NamedTuple, Self

import numpy as np

from bulkseed.generators.authors import Authors, Drawn
from bulkseed.generators.timeline import Timeline, stable_order
from bulkseed.generators.workspace import REPLY_LATEST
from bulkseed.plan.shards import MessageLayout
from bulkseed.randomness.draws import Bools, Ints, Streams, between
from bulkseed.randomness.keyed import keyed_words

__all__ = ["CHUNK", "History", "MessageSpan", "generate_spans"]

MINUTE: Final = 60_000_000
REPLY_SOONEST: Final = MINUTE
CHUNK: Final = 32_768
"""The top-level messages that are sorted at a time, about: 200 bytes each."""


@dataclass(frozen=True, slots=True)
class History:
    """What the messages of a run follow from. ``as_of`` is the last moment, in microseconds since 1970.

    ``boundaries`` divide the history into parts of about CHUNK top-level messages, which are made at a time.
    """

    streams: Streams
    timeline: Timeline
    authors: Authors
    layout: MessageLayout
    as_of: int
    boundaries: Sequence[int]


@dataclass(frozen=True, slots=True)
class Threads:
    """Top-level messages in order of time. ``number`` counts top-level messages only; the arrays have an entry each."""

    number: int
    channel: Ints
    created: Ints
    authors: Drawn


@dataclass(frozen=True, slots=True)
class Replies:
    """Replies in order of their parents: ``parent`` is the parent's number among all messages of the run."""

    channel: Ints
    created: Ints
    index: Ints
    parent: Ints
    parent_created: Ints

    def where(self, chosen: Bools) -> Self:
        """Return the chosen ones."""
        return type(self)(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def followed_by(self, others: Self) -> Self:
        """Return these and then the others."""
        return type(self)(
            *(np.concatenate([getattr(self, field.name), getattr(others, field.name)]) for field in fields(self))
        )


@dataclass(frozen=True, slots=True)
class MessageSpan:
    """Consecutive messages of a run, in order of time, without their texts: what their reactions depend on.

    ``number`` is the number of the first one. The arrays have an entry for each message: ``channel`` and ``author`` are
    ordinals, ``created`` microseconds since 1970, ``parent`` the number of the parent (of a top-level message, its own)
    and ``parent_created`` the parent's moment.
    """

    number: int
    channel: Ints
    is_reply: Bools
    author: Ints
    created: Ints
    parent: Ints
    parent_created: Ints

    def slice(self, start: int, stop: int) -> MessageSpan:
        """Return the messages ``start`` to ``stop`` (exclusive) of the span."""
        rows = slice(start, stop)
        arrays = (getattr(self, field.name)[rows] for field in fields(self)[1:])
        return MessageSpan(self.number + start, *arrays)


def generate_spans(history: History, start: int, stop: int) -> Iterator[MessageSpan]:
    """Yield all messages from the moment ``start`` to ``stop`` (exclusive), in order of time."""
    pending, number = begin(history, start)
    for first, last in pairwise(cut(history, start, stop)):
        span, pending = make_span(history, first, last, pending, number)
        number += len(span.channel)
        yield span


class Cut(NamedTuple):
    """A moment, and the top-level messages of each channel before it."""

    moment: int
    before: Ints


def cut(history: History, start: int, stop: int) -> Iterator[Cut]:
    """Yield moments from ``start`` to ``stop`` with at most about CHUNK top-level messages between two of them.

    The boundaries are those of the plan, unless a few channels make it expect too little.
    """
    timeline = history.timeline
    last = Cut(start, timeline.before(start))
    yield last
    for moment in [*(moment for moment in history.boundaries if start < moment < stop), stop]:
        wanted = Cut(moment, timeline.before(moment))
        while (wanted.before - last.before).sum() > 1.5 * CHUNK:
            inner = timeline.moment_after(last.moment, CHUNK, moment)
            if inner == moment:
                break
            last = Cut(inner, timeline.before(inner))
            yield last
        yield wanted
        last = wanted


def begin(history: History, start: int) -> tuple[Replies, int]:
    """Return the replies to come at ``start`` of messages before it, and the number of messages before it."""
    timeline, earliest = history.timeline, start - 2 * REPLY_LATEST
    threads = make_threads(history, Cut(earliest, timeline.before(earliest)), Cut(start, timeline.before(start)))
    parent, rank, moments = reply_moments(history, threads)
    before = np.sort(moments)
    # all replies to earlier messages than these come before the last hour
    earlier = threads.number + history.layout.replies_before_message(threads.number)
    late = np.flatnonzero(moments >= start)
    numbers = earlier + parent[late] + np.searchsorted(before, threads.created[parent[late]], side="left")
    pending = make_replies(history, threads, parent[late], rank[late], moments[late], numbers)
    return pending, earlier + len(threads.channel) + int(np.searchsorted(before, start, side="left"))


def make_threads(history: History, first: Cut, last: Cut) -> Threads:
    found = history.timeline.between(first.moment, last.moment, first.before, last.before)
    numbers = found.number + np.arange(len(found.channel))
    return Threads(*found, history.authors.of_threads(found.channel, found.created, numbers))


def reply_moments(history: History, threads: Threads) -> tuple[Ints, Ints, Ints]:
    """Return the replies to ``threads``: the index of the parent, the rank among its replies, the moment (rule G4)."""
    counts = history.layout.replies_to(threads.number, threads.number + len(threads.channel))
    parent = np.repeat(np.arange(len(counts)), counts)
    rank = np.arange(len(parent)) - (np.cumsum(counts) - counts)[parent]
    words = keyed_words(history.streams.key("messages", "reply.created_at"), threads.number + parent, rank)
    soonest = np.minimum(threads.created[parent] + REPLY_SOONEST, history.as_of)
    moments = between(words, soonest, np.minimum(threads.created[parent] + REPLY_LATEST, history.as_of))
    return parent, rank, moments


def make_replies(history: History, threads: Threads, parent: Ints, rank: Ints, moments: Ints, numbers: Ints) -> Replies:
    """Return replies to ``threads``, from :func:`reply_moments`, whose parents have these ``numbers``."""
    parents = Drawn(*(values[parent] for values in threads.authors))
    channel, created = threads.channel[parent], threads.created[parent]
    index = history.authors.of_replies(channel, created, threads.number + parent, rank, parents)
    return Replies(channel, moments, index, numbers, created)


def make_span(history: History, first: Cut, last: Cut, pending: Replies, number: int) -> tuple[MessageSpan, Replies]:
    """Return the messages between two moments, numbered from ``number`` on, and the replies to come."""
    start, stop = first.moment, last.moment
    threads = make_threads(history, first, last)
    parent, rank, moments = reply_moments(history, threads)
    due, new = pending.created < stop, moments < stop
    earlier = pending.where(due)
    waiting = np.concatenate([earlier.created, moments[new]])
    # of one moment: top-level messages first, then replies in the order of their parents
    sorting = stable_order(waiting, start, stop)
    waiting = waiting[sorting]
    thread_place = np.arange(len(threads.channel)) + np.searchsorted(waiting, threads.created, side="left")
    reply_place = np.arange(len(waiting)) + np.searchsorted(threads.created, waiting, side="right")
    numbers = number + thread_place
    replies = make_replies(history, threads, parent, rank, moments, numbers[parent])
    now = earlier.followed_by(replies.where(new))

    def merged(of_threads: Ints, of_replies: Ints) -> Ints:
        both = np.empty(len(of_threads) + len(of_replies), dtype=np.int64)
        both[thread_place] = of_threads
        both[reply_place] = of_replies[sorting]
        return both

    is_reply = np.zeros(len(threads.channel) + len(waiting), dtype=np.bool_)
    is_reply[reply_place] = True
    channel = merged(threads.channel, now.channel)
    span = MessageSpan(
        number,
        channel,
        is_reply,
        history.authors.members.users(channel, merged(threads.authors.place, now.index)),
        merged(threads.created, now.created),
        merged(numbers, now.parent),
        merged(threads.created, now.parent_created),
    )
    return span, pending.where(~due).followed_by(replies.where(~new))
