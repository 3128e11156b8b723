"""The rows of ``user_channels`` (rules M1 to M3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from bulkseed.generators.context import BATCH_ROWS, ChannelBlock, Context

__all__ = ["SCHEMA", "membership_batches"]

SCHEMA: Final = pa.schema([("user_id", pa.int64()), ("channel_id", pa.int64())])


def membership_batches(context: Context, block: ChannelBlock) -> Iterator[pa.RecordBatch]:
    """The members of the channels of ``block``: channel by channel, the owner first."""
    placement = context.placement
    for start in range(0, len(block.members), BATCH_ROWS):
        stop = min(start + BATCH_ROWS, len(block.members))
        channel = np.searchsorted(block.offsets, np.arange(start, stop), side="right") - 1
        yield pa.record_batch(
            [
                pa.array(placement.first_user + block.members[start:stop]),
                pa.array(placement.first_channel + block.start + channel),
            ],
            schema=SCHEMA,
        )
