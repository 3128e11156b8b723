"""Messages, their replies and their reactions: who writes what, when, and who reacts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from bulkseed.arrays import TIMESTAMP, times
from bulkseed.generators.context import BATCH_ROWS, MOST_BATCH_ROWS, ChannelBlock, Context
from bulkseed.plan.shards import BLOCK
from bulkseed.randomness.draws import Bools, Ints, Words, below, between, chance
from bulkseed.text.prose import RANDOM_WORDS_PER_TEXT, sentence_counts

__all__ = ["MOST_REACTIONS", "MessageSpan", "authors", "message_batches", "message_spans", "reaction_batches"]


def authors(
    context: Context, block: ChannelBlock, number: int, channel: Ints, parent: Ints, threads: Ints, replies: Ints
) -> Ints:
    """The authors of messages that follow each other from ``number`` on: user ordinals.

    ``channel`` is the channel of each as an index into ``block``, ``parent`` the place of its parent (of a top-level
    message its own); ``threads`` and ``replies`` are the places of top-level messages, and of replies, which are by
    other members than their parents' authors.
    """
    words = context.streams.words("messages", "user_id", number, len(channel))
    if block.cumulative_weights is None or block.max_weight is None:
        return block.members[even(block, words, channel, parent, replies)]
    return block.members[
        by_voice(block.cumulative_weights, block.max_weight, block.offsets, words, channel, parent, threads, replies)
    ]


def even(block: ChannelBlock, words: Words, channel: Ints, parent: Ints, replies: Ints) -> Ints:
    sizes = block.sizes[channel]
    place = below(words, sizes)
    # one of the places that are left
    other = below(words[replies], sizes[replies] - 1)
    place[replies] = other + (other >= place[parent[replies]])
    return block.offsets[channel] + place


def by_voice(
    cumulative_weights: Ints,
    max_weight: Ints,
    offsets: Ints,
    words: Words,
    channel: Ints,
    parent: Ints,
    threads: Ints,
    replies: Ints,
) -> Ints:
    """Members in proportion to their weights, one after the other from ``cumulative_weights[offsets[channel]]``.

    A reply is so far from its parent on that line, closed to a circle, as no weight of the channel reaches: by
    another member, and over all replies each still as often as their weight says. Where one member weighs more than
    all others together there is no such distance, and the reply goes to the others by their weights.
    """
    first = cumulative_weights[offsets[:-1]]
    total = (cumulative_weights[offsets[1:]] - first)[channel]
    place = between(words, np.zeros(len(words), dtype=np.int64), total - 1)
    start, whole, most = first[channel], total[replies], max_weight[channel[replies]]
    asked = parent[replies]
    member = np.empty(len(channel), dtype=np.int64)
    member[threads] = np.searchsorted(cumulative_weights, start[threads] + place[threads], side="right") - 1
    fair = 2 * most <= whole
    nearest = np.where(fair, most, 0)
    # of the others: the parent's author is left out by going on from where their weight ends
    theirs = cumulative_weights[member[asked] + 1] - cumulative_weights[member[asked]]
    begin = np.where(fair, place[asked], cumulative_weights[member[asked] + 1] - start[asked])
    step = between(words[replies], nearest, np.where(fair, whole - most, whole - theirs - 1))
    member[replies] = np.searchsorted(cumulative_weights, start[replies] + (begin + step) % whole, side="right") - 1
    return member


MINUTE: Final = 60_000_000
REPLY_SOONEST: Final = MINUTE
REPLY_LATEST: Final = 60 * MINUTE

MOST_KEPT: Final = 150_000
"""Messages of a shard, before replies, whose spans are kept: 33 bytes each."""

MESSAGE_SCHEMA: Final = pa.schema(
    [
        ("id", pa.int64()),
        ("content", pa.string()),
        ("created_at", TIMESTAMP),
        ("updated_at", TIMESTAMP),
        ("user_id", pa.int64()),
        ("channel_id", pa.int64()),
        ("parent_id", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class MessageSpan:
    """Messages that follow each other, without their texts: all that reactions need to know of them.

    ``number`` is the first one's place in the run's sequence of messages (layout.py); ``channel`` is an index
    into the block, ``author`` a user ordinal, ``created`` microseconds since 1970. Replies come right after their
    parent, whose place each has in ``parent`` (a top-level message its own), and no span ends between them.
    """

    number: int
    channel: Ints
    is_reply: Bools
    parent: Ints
    author: Ints
    created: Ints


def message_spans(context: Context, block: ChannelBlock) -> Iterable[MessageSpan]:
    """The messages of the channels of ``block``, in order of id; it may be gone through more than once.

    They are kept where they are few, as messages and reactions both want them; else they are made each time.
    """
    spans = Spans(context, block)
    few = context.top_level(block.stop) - context.top_level(block.start) <= MOST_KEPT
    return list(spans) if few else spans


@dataclass(frozen=True, slots=True)
class Spans:
    """The spans of the channels of a block, made as they are asked for."""

    context: Context
    block: ChannelBlock

    def __iter__(self) -> Iterator[MessageSpan]:
        return made_spans(self.context, self.block)


def made_spans(context: Context, block: ChannelBlock) -> Iterator[MessageSpan]:
    first, last = context.top_level(block.start), context.top_level(block.stop)
    number = context.layout.number(first)
    # with all replies that there can be, a span fits a batch
    most = min(BATCH_ROWS, MOST_BATCH_ROWS // (1 + context.shape.most_replies) // BLOCK * BLOCK)
    # spans end at multiples of the batch size, so that the blocks of the layout are not drawn twice
    while first < last:
        stop = min(last, (first // most + 1) * most)
        made = span(context, block, number, first, stop)
        yield made
        number += len(made.channel)
        first = stop


def channels_of(context: Context, block: ChannelBlock, start: int, stop: int) -> Ints:
    """The channels of top-level messages ``start`` to ``stop``, as indexes into ``block``."""
    before = context.messages_before
    if before is None:
        return np.arange(start, stop) // context.plan.messages_per_channel - block.start
    ends = np.clip(before[block.start : block.stop + 1], start, stop)
    return np.repeat(np.arange(len(block.owner)), np.diff(ends))


def span(context: Context, block: ChannelBlock, number: int, start: int, stop: int) -> MessageSpan:
    """The messages that top-level messages ``start`` to ``stop`` and their replies make."""
    sizes = 1 + context.layout.replies_to(start, stop)
    threads = np.cumsum(sizes) - sizes
    channel, parent = np.repeat(channels_of(context, block, start, stop), sizes), np.repeat(threads, sizes)
    is_reply = np.ones(len(parent), dtype=np.bool_)
    is_reply[threads] = False
    replies = np.flatnonzero(is_reply)
    author = authors(context, block, number, channel, parent, threads, replies)
    created = moments(context, block, number, channel, parent, threads, replies, author)
    return MessageSpan(number, channel, is_reply, parent, author, created)


def moments(
    context: Context,
    block: ChannelBlock,
    number: int,
    channel: Ints,
    parent: Ints,
    threads: Ints,
    replies: Ints,
    author: Ints,
) -> Ints:
    """When messages are written (rules G2 and G4); ``threads`` and ``replies`` have the places of both kinds."""
    words = context.streams.words("messages", "created_at", number, len(channel))
    # all authors of a thread have joined before its first message
    joined = np.maximum.reduceat(context.user_created[author], threads)
    low = np.maximum(block.created[channel[threads]], joined)
    created = np.empty(len(channel), dtype=np.int64)
    if context.week is None and not context.shape.idle:
        created[threads] = between(words[threads], low, context.as_of)
    else:
        created[threads] = in_time(context, words[threads], low, author, threads)
    asked = created[parent[replies]]
    soonest, last = (np.minimum(asked + after, context.as_of) for after in (REPLY_SOONEST, REPLY_LATEST))
    created[replies] = between(words[replies], soonest, last)
    return created


def in_time(context: Context, words: Words, low: Ints, author: Ints, threads: Ints) -> Ints:
    """When threads begin: in the hours of the week, and such that an idle user has written all of theirs in time."""
    ends = np.array([context.as_of, context.idle_since - REPLY_LATEST])
    which = np.zeros(len(threads), dtype=np.int64)
    if context.user_activity is not None:
        which += np.logical_or.reduceat(context.user_activity.idle[author], threads)
    if context.week is None:
        return between(words, low, ends[which])
    return context.week.between(words, low, ends, which)


def message_batches(context: Context, block: ChannelBlock, spans: Iterable[MessageSpan]) -> Iterator[pa.RecordBatch]:
    """The messages of ``spans``, which are of the channels of ``block``, with their texts, in order of id."""
    placement = context.placement
    for made in spans:
        ids = placement.first_message + made.number + np.arange(len(made.channel))
        created = times(made.created)
        yield pa.record_batch(
            [
                pa.array(ids),
                contents(context, made),
                created,
                created,
                pa.array(placement.first_user + made.author),
                pa.array(placement.first_channel + block.start + made.channel),
                pa.array(ids[made.parent], mask=~made.is_reply),
            ],
            schema=MESSAGE_SCHEMA,
        )


def contents(context: Context, made: MessageSpan) -> pa.StringArray:
    """A paragraph or a sentence for each top-level message, a sentence for each reply (rules G3 and G4)."""
    streams, count = context.streams, len(made.channel)
    paragraph = chance(
        streams.words("messages", "paragraph", made.number, count), context.plan.probabilities.message_paragraph
    )
    sentences = sentence_counts(streams.words("messages", "sentences", made.number, count), paragraph & ~made.is_reply)
    words = streams.words("messages", "content", made.number * RANDOM_WORDS_PER_TEXT, count * RANDOM_WORDS_PER_TEXT)
    return context.prose.texts(words, sentences)


MOST_REACTIONS: Final = 3
STRIDE: Final = 4
"""Words of a message's own in a stream that has some for each of its reactions: all that one count gives."""

REACTION_SCHEMA: Final = pa.schema(
    [
        ("message_id", pa.int64()),
        ("reaction_id", pa.int64()),
        ("user_id", pa.int64()),
        ("created_at", TIMESTAMP),
    ]
)


def reaction_batches(context: Context, block: ChannelBlock, spans: Iterable[MessageSpan]) -> Iterator[pa.RecordBatch]:
    """The reactions to the messages of ``spans``, which are of the channels of ``block``, in order of message."""
    for made in spans:
        whole = batch(context, block, made)
        for start in range(0, max(1, whole.num_rows), MOST_BATCH_ROWS):
            yield whole.slice(start, MOST_BATCH_ROWS)


def batch(context: Context, block: ChannelBlock, made: MessageSpan) -> pa.RecordBatch:
    plan, placement = context.plan, context.placement
    catalogue = pa.array(placement.reactions)
    count = len(made.channel)

    def words(column: str, stride: int = 1) -> Words:
        found = context.streams.words("message_reactions", column, made.number * stride, count * stride)
        return found.reshape(count, stride)[reacted] if stride > 1 else found

    reacted = np.flatnonzero(chance(words("reacted"), plan.probabilities.message_reactions))
    # a pair of a member and a reaction is a number below members x catalogue
    pairs = block.sizes[made.channel[reacted]] * len(catalogue)
    wanted = np.minimum(1 + below(words("count")[reacted], MOST_REACTIONS), pairs)
    taken = np.arange(MOST_REACTIONS) < wanted[:, None]
    pair = distinct(words("pair", STRIDE), pairs)[taken]
    message = np.repeat(reacted, wanted)
    user = block.members[block.offsets[made.channel[message]] + pair // len(catalogue)]
    low = np.maximum(made.created[message], context.user_created[user])
    created = between(words("created_at", STRIDE)[:, :MOST_REACTIONS][taken], low, context.as_of)
    return pa.record_batch(
        [
            pa.array(placement.first_message + made.number + message),
            catalogue.take(pa.array(pair % len(catalogue))),
            pa.array(placement.first_user + user),
            times(created),
        ],
        schema=REACTION_SCHEMA.set(1, pa.field("reaction_id", catalogue.type)),
    )


def distinct(words: Words, bounds: Ints) -> Ints:
    """Three different numbers below each bound, in columns; beyond as many as a bound has, what is there is void."""
    first = below(words[:, 0], bounds)
    second = below(words[:, 1], np.maximum(bounds - 1, 1))
    second += second >= first
    third = below(words[:, 2], np.maximum(bounds - 2, 1))
    low, high = np.minimum(first, second), np.maximum(first, second)
    third += third >= low
    third += third >= high
    return np.stack([first, second, third], axis=1)
