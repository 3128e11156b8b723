"""The rows of ``messages`` of a plan, as bulkseed makes them: the input of the benchmark ``lanes``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from bulkseed.generators import Context, shard_tables
from bulkseed.plan.plan import Placement, Plan
from bulkseed.plan.shards import split_into_shards
from bulkseed.plan.tables import TABLES
from bulkseed.text.faker_source import make_corpus

__all__ = ["COLUMNS", "message_rows"]

COLUMNS: Final = next(table.column_names for table in TABLES if table.name == "messages")


def message_rows(plan: Plan) -> Iterator[pa.RecordBatch]:
    """Yield the batches of all messages of a plan, in order of id."""
    placement = Placement(first_user=1, first_channel=1, first_message=1, reactions=tuple(range(1, 13)))
    context = Context(plan, placement, make_corpus(plan.locale))
    for shard in split_into_shards(plan):
        for table, batches in shard_tables(context, shard):
            if table == "messages":
                yield from batches
                break
