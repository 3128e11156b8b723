"""The generators of rows: pure functions from a run's context and a shard to Arrow batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from bulkseed.errors import BulkseedError, RunError
from bulkseed.generators.channels import channel_batches, membership_batches
from bulkseed.generators.context import Context
from bulkseed.generators.messages import message_batches, reaction_batches
from bulkseed.generators.plugins import load_plugin_table, make_batches
from bulkseed.generators.shard_context import ShardContext, TableGenerator, add_fields, relationship_batches
from bulkseed.generators.users import user_batches
from bulkseed.imports import describe_error
from bulkseed.plan.scenario import PluginTable
from bulkseed.plan.shards import Shard

__all__ = [
    "Context",
    "channels",
    "context",
    "conversation",
    "members",
    "plugins",
    "shard_context",
    "shard_tables",
    "users",
]

BUILT_IN: Final[dict[str, TableGenerator]] = {
    "users": lambda shard: user_batches(shard.context, shard.shard),
    "channels": lambda shard: channel_batches(shard.context, shard.block),
    "user_channels": lambda shard: membership_batches(shard.context, shard.block),
    "messages": lambda shard: message_batches(shard.context, shard.spans),
    "message_reactions": lambda shard: reaction_batches(shard.context, shard.spans),
}


def shard_tables(context: Context, shard: Shard) -> Iterator[tuple[str, Iterator[pa.RecordBatch]]]:
    """Yield each table of ``shard`` in dependency order, with the batches of its rows (at most 64k rows each).

    Iterating over the batches raises RunError where the code of a plugin table fails or yields wrong rows.
    """
    shard_context = ShardContext(context, shard)
    model = context.plan.model
    for table in model.tables:
        if model.stage(table.name) == shard.stage and (not shard.late or model.root(table.name) == shard.kind):
            yield table.name, add_fields(context, table.name, table_batches(shard_context, table.name))


def table_batches(shard: ShardContext, table: str) -> Iterator[pa.RecordBatch]:
    """Return the rows of a table in a shard, without the fields that a scenario adds."""
    if table in BUILT_IN:
        return BUILT_IN[table](shard)
    extra = shard.context.plan.model.extras[table]
    if not extra.source:
        return relationship_batches(shard, table, shard.context.plan.scenario.relationships[table])
    return plugin_batches(shard, extra)


def plugin_batches(shard: ShardContext, extra: PluginTable) -> Iterator[pa.RecordBatch]:
    rows = load_plugin_table(extra.source)
    for parents in shard.parents(extra.name, extra.follows, lambda follows: table_batches(shard, follows)):
        try:
            yield from make_batches(rows(parents), extra.name, extra.columns)
        except BulkseedError:
            raise
        except (Exception, SystemExit) as error:
            raise RunError(
                f"the table {extra.name} of {extra.source!r} failed ({describe_error(error)}): correct its code",
                code="plugin-failed",
            ) from error
