"""The rows of ``channels`` and ``user_channels`` (rules C1 to C5 and M1 to M3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bulkseed.arrays import TIMESTAMP, times
from bulkseed.generators.context import BATCH_ROWS, ChannelBlock, Context
from bulkseed.generators.users import user_names
from bulkseed.randomness.draws import KEY_WORDS, Bools, Ints, permute
from bulkseed.text.names import draw_names, scalar
from bulkseed.text.prose import RANDOM_WORDS_PER_TEXT

__all__ = ["DESCRIPTION_CHARACTERS", "JOIN_CODE_ALPHABET", "channel_batches", "join_codes", "membership_batches"]

DESCRIPTION_CHARACTERS: Final = 100
JOIN_CODE_ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""32 characters, five bits each; I and O are left out, as they look like 1 and 0 (rule C5)."""
JOIN_CODE_CHARACTERS: Final = 8
JOIN_CODE_LETTERS: Final = np.frombuffer(JOIN_CODE_ALPHABET.encode(), dtype=np.uint8)

CHANNEL_SCHEMA: Final = pa.schema(
    [
        ("id", pa.int64()),
        ("name", pa.string()),
        ("description", pa.string()),
        ("owner_id", pa.int64()),
        ("created_at", TIMESTAMP),
        ("is_private", pa.bool_()),
        ("is_dm", pa.bool_()),
        ("join_code", pa.string()),
    ]
)


def channel_batches(context: Context, block: ChannelBlock) -> Iterator[pa.RecordBatch]:
    """Yield the channels of ``block``, in order of id."""
    for start in range(0, len(block.owner), BATCH_ROWS):
        yield channel_batch(context, block, start, min(start + BATCH_ROWS, len(block.owner)))


def channel_names(context: Context, is_dm: Bools, owners: Ints, first: int) -> pa.StringArray:
    """Return a company's name for each channel, or for a DM the owner's name followed by `` DM`` (rule C2)."""
    names, _ = draw_names(
        context.corpus.company, context.streams, "channels", "name", np.arange(first, first + len(owners))
    )
    if not is_dm.any():
        return names
    users, indexes = np.unique(owners[is_dm], return_inverse=True)
    owner_names = user_names(context, users)[0].take(pa.array(indexes))
    dm_names = pc.binary_join_element_wise(owner_names, scalar("DM"), scalar(" "))
    return pc.replace_with_mask(names, pa.array(is_dm), dm_names)


def join_codes(context: Context, start: int, count: int) -> pa.StringArray:
    """Return a code for each of ``count`` channels, all different: values of a permutation of the 32**8 codes (C5)."""
    column = f"join_code.{context.placement.variant}"
    keys = context.streams.words("channels", column, 0, KEY_WORDS).reshape(1, KEY_WORDS)
    bits = 5 * JOIN_CODE_CHARACTERS
    values = permute(np.arange(start, start + count), 2**bits, keys, np.zeros(count, dtype=np.int64))
    letters = JOIN_CODE_LETTERS[values[:, None] >> np.arange(bits - 5, -1, -5) & 31]
    offsets = np.arange(count + 1, dtype=np.int32) * JOIN_CODE_CHARACTERS
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(letters)))


def channel_batch(context: Context, block: ChannelBlock, start: int, stop: int) -> pa.RecordBatch:
    streams, placement = context.streams, context.placement
    first, count = block.start + start, stop - start
    is_dm, is_private = pa.array(block.is_dm[start:stop]), pa.array(block.is_private[start:stop])
    owners = block.owner[start:stop]
    description_bits = streams.words(
        "channels", "description", first * RANDOM_WORDS_PER_TEXT, count * RANDOM_WORDS_PER_TEXT
    )
    descriptions = context.prose.short_texts(description_bits, np.ones(count, dtype=np.int64), DESCRIPTION_CHARACTERS)
    has_code = pc.and_not(is_private, is_dm)
    return pa.record_batch(
        [
            pa.array(placement.first_channel + first + np.arange(count)),
            channel_names(context, block.is_dm[start:stop], owners, first),
            pc.if_else(is_dm, None, descriptions),
            pa.array(placement.first_user + owners),
            times(block.created[start:stop]),
            is_private,
            is_dm,
            pc.if_else(has_code, join_codes(context, first, count), None),
        ],
        schema=CHANNEL_SCHEMA,
    )


MEMBERSHIP_SCHEMA: Final = pa.schema([("user_id", pa.int64()), ("channel_id", pa.int64()), ("joined", TIMESTAMP)])


def membership_batches(context: Context, block: ChannelBlock) -> Iterator[pa.RecordBatch]:
    """Yield the members of the channels of ``block``: channel by channel, the owner first."""
    placement = context.placement
    for start in range(0, len(block.members), BATCH_ROWS):
        stop = min(start + BATCH_ROWS, len(block.members))
        channel = np.searchsorted(block.offsets, np.arange(start, stop), side="right") - 1
        yield pa.record_batch(
            [
                pa.array(placement.first_user + block.members[start:stop]),
                pa.array(placement.first_channel + block.start + channel),
                times(block.joined[start:stop]),
            ],
            schema=MEMBERSHIP_SCHEMA,
        )
