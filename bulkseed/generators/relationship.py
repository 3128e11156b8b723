"""The rows of a relationship: members of one table with members of another, no pair twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from bulkseed.fields.arrays import times
from bulkseed.generators.context import BATCH_ROWS, Context
from bulkseed.generators.part import Part
from bulkseed.randomness.draws import KEY_WORDS, below, between, permute

__all__ = ["relationship_batches"]

Side = Literal["users", "channels", "messages"]


def relationship_batches(part: Part, name: str, declared: Mapping[str, Any]) -> Iterator[pa.RecordBatch]:
    """The rows of the relationship ``name``, as the scenario has ``declared`` it: each member of ``from``, in order,
    with ``min`` to ``max`` members of ``to``, which are the first places of a permutation of its own.
    """
    context = part.context
    columns: list[str] = declared["columns"]
    one, other = declared["from"], declared["to"]
    size = others(context, one, other)
    first_one, first_other = context.placement.first(one), context.placement.first(other)
    for parents in part.parents(name, one, no_further):
        most = min(declared["max"], size)
        least = min(declared["min"], most)
        counts = least + below(parents.words("count"), most - least + 1)
        ends = np.cumsum(counts)
        keys = parents.words("order", KEY_WORDS).reshape(-1, KEY_WORDS)
        # many rows of few members: a batch at a time
        for start in range(0, int(ends[-1]) if len(ends) else 0, BATCH_ROWS):
            rows = np.arange(start, min(start + BATCH_ROWS, int(ends[-1])))
            row = np.searchsorted(ends, rows, side="right")
            place = rows - (ends[row] - counts[row])
            picked = permute(place, size, keys, row)
            own = parents.ids[row] - first_one
            if one == other:
                picked += picked >= own  # nobody with themselves
            arrays = [pa.array(parents.ids[row]), pa.array(first_other + picked)]
            if len(columns) > len(arrays):
                low = np.maximum(parents.created[row], context.created(other, picked))
                # a stream by the pair's place among all that its member might have
                words = context.streams.words_at(name, columns[2], own * most + place)
                arrays.append(times(between(words, low, context.as_of)))
            yield pa.RecordBatch.from_arrays(arrays, columns)


def others(context: Context, one: Side, other: Side) -> int:
    return context.count(other) - (one == other)


def no_further(table: str) -> Iterator[pa.RecordBatch]:
    raise AssertionError(f"a relationship is one of users, channels or messages, not of {table}")
