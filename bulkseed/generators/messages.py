"""The rows of ``messages``, replies among them (rules G1 to G6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from bulkseed.draws import Bools, Ints, below, between, chance
from bulkseed.generators.context import BATCH_ROWS, TIMESTAMP, ChannelBlock, Context, times
from bulkseed.prose import WORDS_PER_TEXT, sentence_counts

__all__ = ["SCHEMA", "MessageSpan", "message_batches", "message_spans"]

MINUTE: Final = 60_000_000
REPLY_SOONEST: Final = MINUTE
REPLY_LATEST: Final = 60 * MINUTE

MOST_KEPT: Final = 150_000
"""Messages of a shard, before replies, whose spans are kept: 25 bytes each."""

SCHEMA: Final = pa.schema(
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
    into the block, ``author`` a user ordinal, ``created`` microseconds since 1970. A reply comes right after
    its parent, and no span ends between the two.
    """

    number: int
    channel: Ints
    is_reply: Bools
    author: Ints
    created: Ints


def message_spans(context: Context, block: ChannelBlock) -> Iterable[MessageSpan]:
    """The messages of the channels of ``block``, in order of id; it may be gone through more than once.

    They are kept where they are few, as messages and reactions both want them; else they are made each time.
    """
    spans = Spans(context, block)
    few = len(block.owner) * context.plan.messages_per_channel <= MOST_KEPT
    return list(spans) if few else spans


@dataclass(frozen=True, slots=True)
class Spans:
    """The spans of the channels of a block, made as they are asked for."""

    context: Context
    block: ChannelBlock

    def __iter__(self) -> Iterator[MessageSpan]:
        return made_spans(self.context, self.block)


def made_spans(context: Context, block: ChannelBlock) -> Iterator[MessageSpan]:
    per_channel = context.plan.messages_per_channel
    first, last = block.start * per_channel, (block.start + len(block.owner)) * per_channel
    number = context.layout.number(first)
    # spans end at multiples of the batch size, so that the blocks of the layout are not drawn twice
    while first < last:
        stop = min(last, (first // BATCH_ROWS + 1) * BATCH_ROWS)
        made = span(context, block, number, first, stop)
        yield made
        number += len(made.channel)
        first = stop


def span(context: Context, block: ChannelBlock, number: int, start: int, stop: int) -> MessageSpan:
    """The messages that top-level messages ``start`` to ``stop`` and their replies make."""
    streams = context.streams
    replied = context.layout.replied(start, stop)
    counts = 1 + replied
    count = int(counts.sum())
    channel = np.repeat(np.arange(start, stop) // context.plan.messages_per_channel - block.start, counts)
    replies = np.cumsum(counts)[replied] - 1
    is_reply = np.zeros(count, dtype=np.bool_)
    is_reply[replies] = True

    sizes = block.sizes[channel]
    words = streams.words("messages", "user_id", number, count)
    place = below(words, sizes)
    # by another member than the parent's author: one of the places that are left
    other = below(words[replies], sizes[replies] - 1)
    place[replies] = other + (other >= place[replies - 1])
    author = block.members[block.offsets[channel] + place]

    joined = context.user_created[author]
    low = np.maximum(block.created[channel], joined)
    low[replies - 1] = np.maximum(low[replies - 1], joined[replies])
    words = streams.words("messages", "created_at", number, count)
    created = between(words, low, context.as_of)
    parent = created[replies - 1]
    soonest = np.minimum(parent + REPLY_SOONEST, context.as_of)
    latest = np.minimum(parent + REPLY_LATEST, context.as_of)
    created[replies] = between(words[replies], soonest, latest)
    return MessageSpan(number, channel, is_reply, author, created)


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
                pa.array(ids - 1, mask=~made.is_reply),
            ],
            schema=SCHEMA,
        )


def contents(context: Context, made: MessageSpan) -> pa.StringArray:
    """A paragraph or a sentence for each top-level message, a sentence for each reply (rules G3 and G4)."""
    streams, count = context.streams, len(made.channel)
    paragraph = chance(
        streams.words("messages", "paragraph", made.number, count), context.plan.probabilities.message_paragraph
    )
    sentences = sentence_counts(streams.words("messages", "sentences", made.number, count), paragraph & ~made.is_reply)
    words = streams.words("messages", "content", made.number * WORDS_PER_TEXT, count * WORDS_PER_TEXT)
    return context.prose.texts(words, sentences)
