"""The rows of ``message_reactions`` (rules R1 to R4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from bulkseed.fields.arrays import TIMESTAMP, times
from bulkseed.generators.context import MOST_BATCH_ROWS, ChannelBlock, Context
from bulkseed.generators.messages import MessageSpan
from bulkseed.randomness.draws import Ints, below, between, chance
from bulkseed.randomness.streams import Words

__all__ = ["MOST_REACTIONS", "SCHEMA", "reaction_batches"]

MOST_REACTIONS: Final = 3
STRIDE: Final = 4
"""Words of a message's own in a stream that has some for each of its reactions: all that one count gives."""

SCHEMA: Final = pa.schema(
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
        schema=SCHEMA.set(1, pa.field("reaction_id", catalogue.type)),
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
