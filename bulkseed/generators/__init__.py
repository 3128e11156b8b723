"""The generators: pure functions from a run's context and a shard to Arrow batches."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from bulkseed.generators.channels import channels
from bulkseed.generators.context import Context, channel_block
from bulkseed.generators.memberships import memberships
from bulkseed.generators.messages import messages
from bulkseed.generators.reactions import reactions
from bulkseed.generators.users import users
from bulkseed.shards import Shard

__all__ = ["Context", "shard_tables"]


def shard_tables(context: Context, shard: Shard) -> Iterator[tuple[str, Iterator[pa.RecordBatch]]]:
    """Each table of ``shard`` in dependency order, with the batches of its rows (at most 64k rows each)."""
    if shard.kind == "users":
        yield "users", users(context, shard)
        return
    block = channel_block(context, shard)
    yield "channels", channels(context, block)
    yield "user_channels", memberships(context, block)
    yield "messages", messages(context, block)
    yield "message_reactions", reactions(context, block)
