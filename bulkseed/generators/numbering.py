"""Numbers for the rows of any table: what chance hangs on where a table has no ids of its own."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from bulkseed.errors import RunError
from bulkseed.fields.arrays import TIMESTAMP
from bulkseed.generators.context import Context
from bulkseed.randomness.draws import Ints

__all__ = ["Numbering", "whole_numbers"]

STRIDE: Final = 2**16
"""Rows of a further table that one id may have, for each to have a number of its own."""


def whole_numbers(batch: pa.RecordBatch, column: str, table: str) -> Ints:
    """Ids, or moments in microseconds, of a table's rows. Raises RunError where there are others, or none."""
    given = batch.column(column)
    try:
        made = given.cast(TIMESTAMP, safe=False).cast(pa.int64()) if pa.types.is_temporal(given.type) else given
        if not made.null_count:
            return np.asarray(made.cast(pa.int64()))
    except pa.ArrowException:
        pass
    raise RunError(
        f"{table}.{column} has {'null' if given.null_count else f'values of type {given.type}'}, where what hangs on "
        "the rows wants an id or a moment: give each row one"
    )


class Numbering:
    """Numbers for the rows of a table, batch after batch of a shard: ascending, wherever batches end."""

    def __init__(self, context: Context, table: str) -> None:
        self.table = table
        self.context = context
        self.column, self.parent = context.plan.model.belonging(table)
        self.first = context.placement.first(self.parent)
        self.last_id, self.rank = -1, 0

    def numbers(self, batch: pa.RecordBatch) -> Ints:
        """Those of the rows of ``batch``, which comes after those before."""
        ids: Ints = whole_numbers(batch, self.column, self.table)
        if self.table == self.parent:
            return np.subtract(ids, self.first)
        if not len(ids):
            return ids
        if ids[0] < self.last_id or (np.diff(ids) < 0).any():
            raise RunError(
                f"rows of {self.table} are not in the order of {self.column}: "
                "make all rows of one, then those of the next (numpy.repeat, not tile)"
            )
        begins = np.flatnonzero(np.concatenate([[ids[0] != self.last_id], ids[1:] != ids[:-1]]))
        starts = np.zeros(len(ids), dtype=np.int64)
        starts[begins] = begins
        rank = np.arange(len(ids)) - np.maximum.accumulate(starts)
        if ids[0] == self.last_id:
            rank[: begins[0] if len(begins) else len(ids)] += self.rank
        self.last_id, self.rank = int(ids[-1]), int(rank[-1]) + 1
        if rank.max() >= self.stride:
            raise RunError(
                f"there are more than {self.stride:,} rows of {self.table} with the same {self.column}: make fewer"
            )
        return np.add((ids - self.first) * self.stride, rank)

    @property
    def stride(self) -> int:
        """Numbers that one id has: close together where that is known, as far ones take longer to find."""
        match self.table:
            case "user_channels":
                return max(2, self.context.plan.largest_channel)
            case "message_reactions":
                return 4
            case _:
                return STRIDE
