"""The generators: pure functions from a run's context and a shard to Arrow batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from bulkseed.errors import BulkseedError, RunError
from bulkseed.generators.channels import channel_batches, membership_batches
from bulkseed.generators.context import Context
from bulkseed.generators.messages import message_batches, reaction_batches
from bulkseed.generators.part import ShardContext, TableGenerator, filled, relationship_batches
from bulkseed.generators.plugins import batches_of, loaded
from bulkseed.generators.users import user_batches
from bulkseed.imports import describe_error
from bulkseed.plan.scenario import PluginTable
from bulkseed.plan.shards import Shard

__all__ = [
    "Context",
    "channels",
    "context",
    "part",
    "plugins",
    "shard_tables",
    "users",
]

BUILT_IN: Final[dict[str, TableGenerator]] = {
    "users": lambda part: user_batches(part.context, part.shard),
    "channels": lambda part: channel_batches(part.context, part.block),
    "user_channels": lambda part: membership_batches(part.context, part.block),
    "messages": lambda part: message_batches(part.context, part.block, part.spans),
    "message_reactions": lambda part: reaction_batches(part.context, part.block, part.spans),
}


def shard_tables(context: Context, shard: Shard) -> Iterator[tuple[str, Iterator[pa.RecordBatch]]]:
    """Each table of ``shard`` in dependency order, with the batches of its rows (at most 64k rows each).

    Raises RunError, as the batches are made, for what a table's own code does not do as it should.
    """
    part = ShardContext(context, shard)
    model = context.plan.model
    for table in model.tables:
        if model.stage(table.name) == shard.stage and (not shard.late or model.root(table.name) == shard.kind):
            yield table.name, filled(context, table.name, made(part, table.name))


def made(part: ShardContext, table: str) -> Iterator[pa.RecordBatch]:
    """The rows of a table in a part of a run, without the fields that a scenario adds."""
    if table in BUILT_IN:
        return BUILT_IN[table](part)
    extra = part.context.plan.model.extras[table]
    if not extra.source:
        return relationship_batches(part, table, part.context.plan.scenario.relationships[table])
    return plugin_batches(part, extra)


def plugin_batches(part: ShardContext, extra: PluginTable) -> Iterator[pa.RecordBatch]:
    rows = loaded(extra.source)
    for parents in part.parents(extra.name, extra.follows, lambda follows: made(part, follows)):
        try:
            yield from batches_of(rows(parents), extra.name, extra.columns)
        except BulkseedError:
            raise
        except Exception as error:
            raise RunError(
                f"the table {extra.name} of {extra.source!r} failed ({describe_error(error)}): mend its code"
            ) from error
