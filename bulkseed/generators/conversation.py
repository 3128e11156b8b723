"""Messages without their texts, in order of time: top-level messages, their replies, authors and numbers.

Replies come up to an hour behind their parents, so that some parents of a slice of time lie before it: those of two
hours before are made once more. The numbers of all messages, replies among them, follow from that: a message's number
is that of the top-level messages and of the replies before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Final, Self

import numpy as np

from bulkseed.generators.members import Members
from bulkseed.generators.timeline import Timeline, stable_order
from bulkseed.plan.shards import MessageLayout
from bulkseed.randomness.draws import Bools, Ints, Streams, below, between
from bulkseed.randomness.keyed import keyed_words

__all__ = ["CHUNK", "History", "MessageSpan", "generate_spans"]

MINUTE: Final = 60_000_000
REPLY_SOONEST: Final = MINUTE
REPLY_LATEST: Final = 60 * MINUTE
CHUNK: Final = 65_536
"""The top-level messages that are sorted at a time, about: 200 bytes each."""


@dataclass(frozen=True, slots=True)
class History:
    """What the messages of a run follow from. ``as_of`` is the last moment, in microseconds since 1970.

    ``boundaries`` divide the history into parts of about CHUNK top-level messages, which are made at a time.
    """

    streams: Streams
    timeline: Timeline
    members: Members
    layout: MessageLayout
    as_of: int
    boundaries: Sequence[int]


@dataclass(frozen=True, slots=True)
class Threads:
    """Top-level messages in order of time. ``number`` counts top-level messages only; the arrays have an entry each.

    ``index`` is the author's place among the members of the channel, ``present`` the members who have surely joined.
    """

    number: int
    channel: Ints
    created: Ints
    index: Ints
    present: Ints


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
    inner = [moment for moment in history.boundaries if start < moment < stop]
    for first, last in zip([start, *inner], [*inner, stop], strict=True):
        span, pending = make_span(history, first, last, pending, number)
        number += len(span.channel)
        yield span


def begin(history: History, start: int) -> tuple[Replies, int]:
    """Return the replies to come at ``start`` of messages before it, and the number of messages before it."""
    earliest = start - 2 * REPLY_LATEST
    threads = make_threads(history, earliest, start)
    counts = history.layout.replies_to(threads.number, threads.number + len(threads.channel))
    parent = np.repeat(np.arange(len(counts)), counts)
    moments = reply_moments(history, threads, parent, counts)
    before = np.sort(moments)
    # all replies to earlier messages than these come before the last hour
    earlier = threads.number + history.layout.replies_before_message(threads.number)
    late = np.flatnonzero(moments >= start)
    numbers = earlier + parent[late] + np.searchsorted(before, threads.created[parent[late]], side="left")
    pending = make_replies(history, threads, parent, counts, moments, numbers, late)
    return pending, earlier + len(threads.channel) + int(np.searchsorted(before, start, side="left"))


def make_threads(history: History, start: int, stop: int) -> Threads:
    found = history.timeline.between(start, stop)
    existing = np.searchsorted(history.members.user_created, found.created, side="right")
    members, numbers = history.members, found.number + np.arange(len(found.channel))
    present = members.present(found.channel, existing)
    index = choose_authors(history, found.channel, found.created, present, numbers)
    return Threads(found.number, found.channel, found.created, index, present)


def choose_authors(history: History, channel: Ints, created: Ints, present: Ints, numbers: Ints) -> Ints:
    """Return uniformly distributed members who have joined: places among the members, shape of ``channel``."""
    members, key = history.members, history.streams.key("messages", "user_id")
    index = below(keyed_words(key, numbers), np.minimum(members.sizes[channel], present + 1))
    # of the next member it is not sure: drawn again where too young
    next_one = np.flatnonzero(index == present)
    user = members.users(channel[next_one], index[next_one])
    young = next_one[members.joined(channel[next_one], index[next_one], user) > created[next_one]]
    index[young] = below(keyed_words(key, numbers[young], 1), present[young])
    return index


def reply_moments(history: History, threads: Threads, parent: Ints, counts: Ints) -> Ints:
    """Return the moments of the replies to ``threads``, of which ``parent`` are the indexes (rule G4)."""
    rank = np.arange(len(parent)) - (np.cumsum(counts) - counts)[parent]
    words = keyed_words(history.streams.key("messages", "reply.created_at"), threads.number + parent, rank)
    soonest = np.minimum(threads.created[parent] + REPLY_SOONEST, history.as_of)
    return between(words, soonest, np.minimum(threads.created[parent] + REPLY_LATEST, history.as_of))


def make_replies(
    history: History, threads: Threads, parent: Ints, counts: Ints, moments: Ints, numbers: Ints, chosen: Ints
) -> Replies:
    """Return the ``chosen`` ones of the replies, whose parents have these ``numbers``."""
    rank = (np.arange(len(parent)) - (np.cumsum(counts) - counts)[parent])[chosen]
    parent = parent[chosen]
    key = history.streams.key("messages", "reply.user_id")
    present, own = threads.present[parent], threads.index[parent]
    # one of the members who have joined, without the author of the parent
    index = below(keyed_words(key, threads.number + parent, rank), present - (own < present))
    index += index >= own
    return Replies(threads.channel[parent], moments[chosen], index, numbers, threads.created[parent])


def make_span(history: History, start: int, stop: int, pending: Replies, number: int) -> tuple[MessageSpan, Replies]:
    """Return the messages from ``start`` to ``stop``, numbered from ``number`` on, and the replies to come."""
    threads = make_threads(history, start, stop)
    counts = history.layout.replies_to(threads.number, threads.number + len(threads.channel))
    parent = np.repeat(np.arange(len(counts)), counts)
    moments = reply_moments(history, threads, parent, counts)
    due, new = pending.created < stop, moments < stop
    earlier = pending.where(due)
    # of one moment: top-level messages first, then replies in the order of their parents
    created = np.concatenate([threads.created, earlier.created, moments[new]])
    order = stable_order(created, start, stop)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    numbers = number + place[: len(threads.channel)]
    replies = make_replies(history, threads, parent, counts, moments, numbers[parent], np.arange(len(parent)))
    now = earlier.followed_by(replies.where(new))
    channel = np.concatenate([threads.channel, now.channel])[order]
    index = np.concatenate([threads.index, now.index])[order]
    span = MessageSpan(
        number,
        channel,
        order >= len(threads.channel),
        history.members.users(channel, index),
        created[order],
        np.concatenate([numbers, now.parent])[order],
        np.concatenate([threads.created, now.parent_created])[order],
    )
    return span, pending.where(~due).followed_by(replies.where(~new))
