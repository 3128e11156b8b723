"""A shard on its way to batches: what its tables share, the rows that others follow, and fields added."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa

from bulkseed.arrays import TIMESTAMP, times
from bulkseed.errors import RunError
from bulkseed.generators.context import BATCH_ROWS, ChannelBlock, Context, channel_block
from bulkseed.generators.messages import MessageSpan, message_spans
from bulkseed.generators.plugins import Parents
from bulkseed.plan.plan import Plan, microseconds
from bulkseed.plan.shards import Shard
from bulkseed.plan.tables import CATALOGUE
from bulkseed.randomness.draws import KEY_WORDS, Ints, below, between, permute

if TYPE_CHECKING:
    from bulkseed.fields import FieldSpec

__all__ = [
    "Numbering",
    "ShardContext",
    "TableGenerator",
    "fields_of",
    "filled",
    "relationship_batches",
    "whole_numbers",
]

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


TableGenerator = Callable[["ShardContext"], Iterator[pa.RecordBatch]]
"""What makes a table's rows of a shard: batches of at most 64k rows, in an order that is always the same."""

Made = Callable[[str], Iterator[pa.RecordBatch]]
"""The rows of a table, by its name."""


@dataclass(frozen=True)
class ShardContext:
    """The part of a run that a shard is."""

    context: Context
    shard: Shard

    @cached_property
    def block(self) -> ChannelBlock:
        """Its channels with their members."""
        return channel_block(self.context, self.shard)

    @cached_property
    def spans(self) -> Iterable[MessageSpan]:
        """Its messages without their texts."""
        return message_spans(self.context, self.block)

    def parents(self, table: str, follows: str, batches: Made) -> Iterator[Parents]:
        """The rows that ``table`` follows, some thousand at a time; ``batches`` makes those of a further table."""
        match follows:
            case "users":
                yield from self.users(table)
            case "channels":
                yield from self.channels(table)
            case "messages":
                yield from self.messages(table)
            case _:
                yield from self.others(table, follows, batches)

    def found(
        self, table: str, numbers: Ints, ids: Ints, created: Ints, columns: Mapping[str, Ints] | None = None
    ) -> Parents:
        return Parents(table, numbers, ids, created, columns or {}, self.context.as_of, self.context.streams)

    def users(self, table: str) -> Iterator[Parents]:
        for start in range(self.shard.start, self.shard.stop, BATCH_ROWS):
            numbers = np.arange(start, min(start + BATCH_ROWS, self.shard.stop))
            yield self.found(
                table, numbers, self.context.placement.first_user + numbers, self.context.user_created[numbers]
            )

    def channels(self, table: str) -> Iterator[Parents]:
        placement = self.context.placement
        for start in range(0, len(self.block.owner), BATCH_ROWS):
            these = slice(start, start + BATCH_ROWS)
            numbers = self.block.start + np.arange(len(self.block.owner))[these]
            yield self.found(
                table,
                numbers,
                placement.first_channel + numbers,
                self.block.created[these],
                {"owner_id": placement.first_user + self.block.owner[these]},
            )

    def messages(self, table: str) -> Iterator[Parents]:
        placement = self.context.placement
        for span in self.spans:
            numbers = span.number + np.arange(len(span.channel))
            yield self.found(
                table,
                numbers,
                placement.first_message + numbers,
                span.created,
                {
                    "user_id": placement.first_user + span.author,
                    "channel_id": placement.first_channel + self.block.start + span.channel,
                },
            )

    def others(self, table: str, follows: str, batches: Made) -> Iterator[Parents]:
        """Rows of a table without ids of its own: what they point at stands for an id."""
        model = self.context.plan.model
        references = {column: holds for column, holds in model.by_name[follows].references if holds != CATALOGUE.name}
        numbering = Numbering(self.context, follows)
        for batch in batches(follows):
            if not batch.num_rows:
                continue
            columns = {name: whole_numbers(batch, name, follows) for name in references}
            if "created_at" in batch.schema.names:
                created = whole_numbers(batch, "created_at", follows)
            else:
                created = self.since(references, columns)
            first = columns[model.belonging(follows)[0]]
            yield self.found(table, numbering.numbers(batch), first, created, columns)

    def since(self, references: dict[str, str], columns: dict[str, Ints]) -> Ints:
        """The latest moment at which what rows point at was made."""
        moments = [np.zeros(1, dtype=np.int64)]
        for column, ids in columns.items():
            if (holds := references[column]) in {"users", "channels"}:
                moments.append(self.context.created(holds, ids - self.context.placement.first(holds)))
        latest: Ints = np.maximum.reduce(np.broadcast_arrays(*moments))
        return latest


def filled(context: Context, table: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches of a table with a further column for each of its fields, by the app's names."""
    if not context.plan.scenario.fields.get(table):
        yield from batches
        return
    # imported here: most plans have no fields
    from bulkseed.fields import FieldRows, fill  # noqa: PLC0415

    fields = fields_of(context.plan)[table]
    numbering = Numbering(context, table)
    first = context.placement.first(table) if table == numbering.parent else 0
    for batch in batches:
        numbers = numbering.numbers(batch)
        arrays, names = list(batch.columns), list(batch.schema.names)
        for column, spec in fields.items():
            rows = FieldRows(context.streams, table, column, numbers, batch, context.as_of, first)
            arrays.append(fill(spec, rows))
            names.append(column)
        yield pa.RecordBatch.from_arrays(arrays, names)


@lru_cache(maxsize=4)
def fields_of(plan: Plan) -> Mapping[str, Mapping[str, FieldSpec]]:
    """What fills the columns that a plan's scenario adds, by table and the app's column."""
    from bulkseed.fields import parse_field  # noqa: PLC0415
    from bulkseed.text.faker_source import Fakes  # noqa: PLC0415

    fakes = Fakes(plan.locale, plan.seed, microseconds(plan.as_of), plan.scenario.providers)
    return {
        table: {column: parse_field(f"fields.{table}.{column}", given, fakes) for column, given in columns.items()}
        for table, columns in plan.scenario.fields.items()
    }


Side = Literal["users", "channels", "messages"]


def relationship_batches(part: ShardContext, name: str, declared: Mapping[str, Any]) -> Iterator[pa.RecordBatch]:
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
