"""The rows of ``message_reactions`` (rules R1 to R4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from bulkseed.draws import Ints, below, between, chance
from bulkseed.generators.context import TIMESTAMP, ChannelBlock, Context, times
from bulkseed.generators.messages import MessageSpan, message_spans

__all__ = ["MOST_REACTIONS", "SCHEMA", "reaction_batches"]

MOST_REACTIONS: Final = 3

SCHEMA: Final = pa.schema(
    [
        ("message_id", pa.int64()),
        ("reaction_id", pa.int64()),
        ("user_id", pa.int64()),
        ("created_at", TIMESTAMP),
    ]
)


def reaction_batches(context: Context, block: ChannelBlock) -> Iterator[pa.RecordBatch]:
    """The reactions to the messages of the channels of ``block``, in order of message."""
    for made in message_spans(context, block):
        yield batch(context, block, made)


def batch(context: Context, block: ChannelBlock, made: MessageSpan) -> pa.RecordBatch:
    streams, placement = context.streams, context.placement
    count = len(made.channel)
    reacted = np.flatnonzero(
        chance(
            streams.words("message_reactions", "reacted", made.number, count),
            context.plan.probabilities.message_reactions,
        )
    )
    drawn = 1 + below(streams.words("message_reactions", "count", made.number, count)[reacted], MOST_REACTIONS)
    # a pair of a member and a reaction is a number below members x catalogue
    pairs = block.sizes[made.channel[reacted]] * len(placement.reactions)
    wanted = np.minimum(drawn, pairs)
    stride = MOST_REACTIONS + 1  # a power of two that holds them
    rows = slice(made.number * stride, count * stride)
    words = streams.words("message_reactions", "pair", rows.start, rows.stop).reshape(count, stride)[reacted]
    chosen = distinct(words, pairs)
    taken = np.arange(MOST_REACTIONS) < wanted[:, None]
    message = np.repeat(reacted, wanted)
    pair = chosen[taken]
    offset = block.offsets[made.channel[message]]
    user = block.members[offset + pair // len(placement.reactions)]
    words = streams.words("message_reactions", "created_at", rows.start, rows.stop).reshape(count, stride)[reacted]
    low = np.maximum(made.created[message], context.user_created[user])
    created = between(words[:, :MOST_REACTIONS][taken], low, context.as_of)
    catalogue = np.array(placement.reactions, dtype=np.int64)
    return pa.record_batch(
        [
            pa.array(placement.first_message + made.number + message),
            pa.array(catalogue[pair % len(catalogue)]),
            pa.array(placement.first_user + user),
            times(created),
        ],
        schema=SCHEMA,
    )


def distinct(words: Ints, bounds: Ints) -> Ints:
    """Three different numbers below each bound, in columns; beyond as many as a bound has, what is there is void."""
    first = below(words[:, 0], bounds)
    second = below(words[:, 1], np.maximum(bounds - 1, 1))
    second += second >= first
    third = below(words[:, 2], np.maximum(bounds - 2, 1))
    low, high = np.minimum(first, second), np.maximum(first, second)
    third += third >= low
    third += third >= high
    return np.stack([first, second, third], axis=1)
