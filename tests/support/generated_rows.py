"""The rows of a plan, as batches and as tables, without a database."""

from __future__ import annotations

import pyarrow as pa

from bulkseed.generators import Context, shard_tables
from bulkseed.plan.plan import Placement, Plan
from bulkseed.plan.shards import ROWS_PER_SHARD, split_into_shards
from bulkseed.text.faker_source import make_corpus
from bulkseed.text.names import Corpus

CATALOGUE = (3, 4, 8, 15, 16, 23, 42, 99, 100, 1000, 1001, 5000)
"""Ids of twelve reactions, with gaps as in a catalogue that was edited."""


def placement_of(reactions: int = 12, variant: int = 0) -> Placement:
    """A placement whose tables have different first ids, so that a mix-up of tables or ordinals is seen."""
    return Placement(
        first_user=1001,
        first_channel=500_001,
        first_message=7,
        reactions=CATALOGUE[:reactions],
        variant=variant,
    )


def batches_of(
    plan: Plan,
    placement: Placement | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    corpus: Corpus | None = None,
) -> dict[str, list[pa.RecordBatch]]:
    """The batches of every table, in the order of a single worker, with ``corpus`` or that of Faker."""
    context = Context(plan, placement or placement_of(), corpus or make_corpus(plan.locale))
    generated: dict[str, list[pa.RecordBatch]] = {name: [] for name in plan.model.names}
    for shard in split_into_shards(plan, rows_per_shard):
        for name, batches in shard_tables(context, shard):
            generated[name].extend(batches)
    return generated


def tables_of(
    plan: Plan,
    placement: Placement | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    corpus: Corpus | None = None,
) -> dict[str, pa.Table]:
    """Every table as one array for each column, with the rows in the order of a single worker."""
    generated = batches_of(plan, placement, rows_per_shard, corpus)
    return {name: pa.Table.from_batches(batches).combine_chunks() for name, batches in generated.items()}
