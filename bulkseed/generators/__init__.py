"""The generators: pure functions from a run's context and a shard to Arrow batches."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from bulkseed.generators.channels import channel_batches
from bulkseed.generators.context import Context, channel_block
from bulkseed.generators.memberships import membership_batches
from bulkseed.generators.messages import message_batches, message_spans
from bulkseed.generators.reactions import reaction_batches
from bulkseed.generators.users import user_batches
from bulkseed.shards import Shard

__all__ = ["Context", "shard_tables"]


def shard_tables(context: Context, shard: Shard) -> Iterator[tuple[str, Iterator[pa.RecordBatch]]]:
    """Each table of ``shard`` in dependency order, with the batches of its rows (at most 64k rows each)."""
    if shard.kind == "users":
        yield "users", user_batches(context, shard)
        return
    block = channel_block(context, shard)
    yield "channels", channel_batches(context, block)
    yield "user_channels", membership_batches(context, block)
    spans = message_spans(context, block)
    yield "messages", message_batches(context, block, spans)
    yield "message_reactions", reaction_batches(context, block, spans)
