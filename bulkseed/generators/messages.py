"""The rows of ``messages`` and ``message_reactions`` (rules G1 to G6 and R1 to R4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from bulkseed.arrays import TIMESTAMP, times
from bulkseed.generators.context import BATCH_ROWS, MOST_BATCH_ROWS, ChannelBlock, Context
from bulkseed.plan.activity import MOST_REACTIONS
from bulkseed.plan.shards import BLOCK
from bulkseed.randomness.draws import Bools, Ints, Words, below, between, chance
from bulkseed.text.prose import RANDOM_WORDS_PER_TEXT, sentence_counts

__all__ = ["MessageSpan", "authors", "message_batches", "message_spans", "reaction_batches"]


def authors(
    context: Context, block: ChannelBlock, number: int, channel: Ints, parent: Ints, threads: Ints, replies: Ints
) -> Ints:
    """Return the authors of consecutive messages from ``number`` on: user ordinals, shape ``(len(channel),)``.

    ``channel`` is the channel of each message as an index into ``block``, and ``parent`` is the index of its parent
    (for a top-level message, its own index). ``threads`` and ``replies`` are the indexes of the top-level messages and
    of the replies. The author of a reply is another member than the author of its parent.
    """
    words = context.streams.words("messages", "user_id", number, len(channel))
    if block.cumulative_weights is None or block.max_weight is None:
        return block.members[choose_members(block, words, channel, parent, replies)]
    return block.members[
        choose_weighted_members(
            block.cumulative_weights, block.max_weight, block.offsets, words, channel, parent, threads, replies
        )
    ]


def choose_members(block: ChannelBlock, words: Words, channel: Ints, parent: Ints, replies: Ints) -> Ints:
    """Return uniformly distributed members, as indexes into ``block.members``: shape ``(len(channel),)``."""
    sizes = block.sizes[channel]
    member = below(words, sizes)
    # one of the members without the author of the parent
    other = below(words[replies], sizes[replies] - 1)
    member[replies] = other + (other >= member[parent[replies]])
    return block.offsets[channel] + member


def choose_weighted_members(
    cumulative_weights: Ints,
    max_weight: Ints,
    offsets: Ints,
    words: Words,
    channel: Ints,
    parent: Ints,
    threads: Ints,
    replies: Ints,
) -> Ints:
    """Return members in proportion to their weights, as indexes into the block's members: shape ``(len(channel),)``.

    The weights of a channel's members are consecutive intervals of a circle. A message is a random point on it. A reply
    is the parent's point moved by a random distance that is at least the largest weight of the channel in both
    directions: it lands on another member, and over all replies each member has the share of its weight. If one member
    has more weight than all others together there is no such distance; the reply then goes to one of the others, in
    proportion to their weights.
    """
    first = cumulative_weights[offsets[:-1]]
    total = (cumulative_weights[offsets[1:]] - first)[channel]
    point = between(words, np.zeros(len(words), dtype=np.int64), total - 1)
    start, circle, most = first[channel], total[replies], max_weight[channel[replies]]
    parents = parent[replies]
    member = np.empty(len(channel), dtype=np.int64)
    member[threads] = np.searchsorted(cumulative_weights, start[threads] + point[threads], side="right") - 1
    is_fair = 2 * most <= circle
    nearest = np.where(is_fair, most, 0)
    # otherwise the distance is counted from the end of the interval of the parent's author, which it leaves out
    author_weight = cumulative_weights[member[parents] + 1] - cumulative_weights[member[parents]]
    begin = np.where(is_fair, point[parents], cumulative_weights[member[parents] + 1] - start[parents])
    step = between(words[replies], nearest, np.where(is_fair, circle - most, circle - author_weight - 1))
    member[replies] = np.searchsorted(cumulative_weights, start[replies] + (begin + step) % circle, side="right") - 1
    return member


MINUTE: Final = 60_000_000
REPLY_SOONEST: Final = MINUTE
REPLY_LATEST: Final = 60 * MINUTE

MOST_KEPT: Final = 150_000
"""The most top-level messages of a shard whose spans are kept in memory: 33 bytes for each message."""

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
    """Consecutive messages without their texts: what their reactions depend on.

    ``number`` is the number of the first message in the run (``MessageLayout``). The arrays have one entry for each
    message: ``channel`` is an index into the block, ``author`` a user ordinal, ``created`` microseconds since 1970, and
    ``parent`` the index of the parent (for a top-level message, its own index). Replies come right after their parent,
    in the same span.
    """

    number: int
    channel: Ints
    is_reply: Bools
    parent: Ints
    author: Ints
    created: Ints


def message_spans(context: Context, block: ChannelBlock) -> Iterable[MessageSpan]:
    """Return the messages of the channels of ``block``, in order of id; the result can be iterated more than once.

    Messages and reactions both need them: a few are kept in memory, many are generated again by each iteration.
    """
    spans = Spans(context, block)
    few = context.top_level(block.stop) - context.top_level(block.start) <= MOST_KEPT
    return list(spans) if few else spans


@dataclass(frozen=True, slots=True)
class Spans:
    """The spans of the channels of a block, generated by each iteration."""

    context: Context
    block: ChannelBlock

    def __iter__(self) -> Iterator[MessageSpan]:
        return generate_spans(self.context, self.block)


def generate_spans(context: Context, block: ChannelBlock) -> Iterator[MessageSpan]:
    first, last = context.top_level(block.start), context.top_level(block.stop)
    number = context.layout.number(first)
    # a span with the most possible replies fits into a batch
    most = min(BATCH_ROWS, MOST_BATCH_ROWS // (1 + context.shape.most_replies) // BLOCK * BLOCK)
    # spans end at multiples of this size, so that no block of the layout is drawn twice
    while first < last:
        stop = min(last, (first // most + 1) * most)
        span = message_span(context, block, number, first, stop)
        yield span
        number += len(span.channel)
        first = stop


def channels_of(context: Context, block: ChannelBlock, start: int, stop: int) -> Ints:
    """Return the channels of top-level messages ``start`` to ``stop``, as indexes into ``block``."""
    before = context.messages_before
    if before is None:
        return np.arange(start, stop) // context.plan.messages_per_channel - block.start
    ends = np.clip(before[block.start : block.stop + 1], start, stop)
    return np.repeat(np.arange(len(block.owner)), np.diff(ends))


def message_span(context: Context, block: ChannelBlock, number: int, start: int, stop: int) -> MessageSpan:
    """Return the span of top-level messages ``start`` to ``stop`` (exclusive) and their replies."""
    sizes = 1 + context.layout.replies_to(start, stop)
    threads = np.cumsum(sizes) - sizes
    channel, parent = np.repeat(channels_of(context, block, start, stop), sizes), np.repeat(threads, sizes)
    is_reply = np.ones(len(parent), dtype=np.bool_)
    is_reply[threads] = False
    replies = np.flatnonzero(is_reply)
    author = authors(context, block, number, channel, parent, threads, replies)
    created = creation_times(context, block, number, channel, parent, threads, replies, author)
    return MessageSpan(number, channel, is_reply, parent, author, created)


def creation_times(
    context: Context,
    block: ChannelBlock,
    number: int,
    channel: Ints,
    parent: Ints,
    threads: Ints,
    replies: Ints,
    author: Ints,
) -> Ints:
    """Return the times of messages (rules G2 and G4), with arguments as in :func:`authors`: microseconds since 1970."""
    words = context.streams.words("messages", "created_at", number, len(channel))
    # all authors of a thread join before its first message
    joined = np.maximum.reduceat(context.user_created[author], threads)
    low = np.maximum(block.created[channel[threads]], joined)
    created = np.empty(len(channel), dtype=np.int64)
    if context.week is None and not context.shape.idle:
        created[threads] = between(words[threads], low, context.as_of)
    else:
        created[threads] = thread_times(context, words[threads], low, author, threads)
    parent_created = created[parent[replies]]
    soonest, latest = (np.minimum(parent_created + delay, context.as_of) for delay in (REPLY_SOONEST, REPLY_LATEST))
    created[replies] = between(words[replies], soonest, latest)
    return created


def thread_times(context: Context, words: Words, low: Ints, author: Ints, threads: Ints) -> Ints:
    """Return the times of top-level messages, by the hours of the week.

    A thread of an idle user begins early enough for its last reply to come before ``idle_since``.
    """
    ends = np.array([context.as_of, context.idle_since - REPLY_LATEST])
    which = np.zeros(len(threads), dtype=np.int64)
    if context.user_activity is not None:
        which += np.logical_or.reduceat(context.user_activity.idle[author], threads)
    if context.week is None:
        return between(words, low, ends[which])
    return context.week.between(words, low, ends, which)


def message_batches(context: Context, block: ChannelBlock, spans: Iterable[MessageSpan]) -> Iterator[pa.RecordBatch]:
    """Yield the messages of ``spans``, in channels of ``block``, with their texts, in order of id."""
    placement = context.placement
    for span in spans:
        ids = placement.first_message + span.number + np.arange(len(span.channel))
        created = times(span.created)
        yield pa.record_batch(
            [
                pa.array(ids),
                contents(context, span),
                created,
                created,
                pa.array(placement.first_user + span.author),
                pa.array(placement.first_channel + block.start + span.channel),
                pa.array(ids[span.parent], mask=~span.is_reply),
            ],
            schema=MESSAGE_SCHEMA,
        )


def contents(context: Context, span: MessageSpan) -> pa.StringArray:
    """Return a paragraph or a sentence for each top-level message, a sentence for each reply (rules G3 and G4)."""
    streams, count = context.streams, len(span.channel)
    paragraph = chance(
        streams.words("messages", "paragraph", span.number, count), context.plan.probabilities.message_paragraph
    )
    sentences = sentence_counts(streams.words("messages", "sentences", span.number, count), paragraph & ~span.is_reply)
    bits = streams.words("messages", "content", span.number * RANDOM_WORDS_PER_TEXT, count * RANDOM_WORDS_PER_TEXT)
    return context.prose.texts(bits, sentences)


STRIDE: Final = 4
"""Words for each message in streams that have one for each of its reactions: as many as Philox's counter gives."""

REACTION_SCHEMA: Final = pa.schema(
    [
        ("message_id", pa.int64()),
        ("reaction_id", pa.int64()),
        ("user_id", pa.int64()),
        ("created_at", TIMESTAMP),
    ]
)


def reaction_batches(context: Context, block: ChannelBlock, spans: Iterable[MessageSpan]) -> Iterator[pa.RecordBatch]:
    """Yield the reactions to the messages of ``spans``, in channels of ``block``, in order of message."""
    for span in spans:
        batch = reactions_of(context, block, span)
        for start in range(0, max(1, batch.num_rows), MOST_BATCH_ROWS):
            yield batch.slice(start, MOST_BATCH_ROWS)


def reactions_of(context: Context, block: ChannelBlock, span: MessageSpan) -> pa.RecordBatch:
    plan, placement = context.plan, context.placement
    catalogue = pa.array(placement.reactions)
    count = len(span.channel)

    def words(column: str, stride: int = 1) -> Words:
        drawn = context.streams.words("message_reactions", column, span.number * stride, count * stride)
        return drawn.reshape(count, stride)[reacted] if stride > 1 else drawn

    reacted = np.flatnonzero(chance(words("reacted"), plan.probabilities.message_reactions))
    # a number below members x catalogue stands for a pair of a member and a reaction
    pairs = block.sizes[span.channel[reacted]] * len(catalogue)
    wanted = np.minimum(1 + below(words("count")[reacted], MOST_REACTIONS), pairs)
    is_wanted = np.arange(MOST_REACTIONS) < wanted[:, None]
    pair = distinct_numbers(words("pair", STRIDE), pairs)[is_wanted]
    message = np.repeat(reacted, wanted)
    user = block.members[block.offsets[span.channel[message]] + pair // len(catalogue)]
    low = np.maximum(span.created[message], context.user_created[user])
    created = between(words("created_at", STRIDE)[:, :MOST_REACTIONS][is_wanted], low, context.as_of)
    return pa.record_batch(
        [
            pa.array(placement.first_message + span.number + message),
            catalogue.take(pa.array(pair % len(catalogue))),
            pa.array(placement.first_user + user),
            times(created),
        ],
        schema=REACTION_SCHEMA.set(1, pa.field("reaction_id", catalogue.type)),
    )


def distinct_numbers(words: Words, bounds: Ints) -> Ints:
    """Return three different numbers below each bound: shape ``(len(bounds), 3)``.

    A bound of 1 or 2 has only that many different numbers; the columns after them have no meaning.
    """
    first = below(words[:, 0], bounds)
    second = below(words[:, 1], np.maximum(bounds - 1, 1))
    second += second >= first
    third = below(words[:, 2], np.maximum(bounds - 2, 1))
    low, high = np.minimum(first, second), np.maximum(first, second)
    third += third >= low
    third += third >= high
    return np.stack([first, second, third], axis=1)
