"""Values that the tables of a shard share, the rows that other tables follow, fields, and relationships."""

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
from bulkseed.generators.conversation import MessageSpan
from bulkseed.generators.messages import message_spans
from bulkseed.generators.plugins import Parents
from bulkseed.plan.plan import Plan, microseconds
from bulkseed.plan.shards import Shard
from bulkseed.plan.tables import CATALOGUE
from bulkseed.randomness.draws import KEY_WORDS, Ints, below, between, permute

if TYPE_CHECKING:
    from bulkseed.fields import FakePool, FieldSpec
    from bulkseed.text.fakes import Pool

__all__ = [
    "FakerPools",
    "Numbering",
    "ShardContext",
    "TableGenerator",
    "add_fields",
    "fields_of",
    "keep_faker_pools",
    "make_faker_pools",
    "relationship_batches",
    "uses_faker",
    "whole_numbers",
]

FakerPools = Mapping["FakePool", "Pool"]
"""Values of Faker, by the description from which Faker makes them."""

STRIDE: Final = 2**16
"""The most rows of a further table for one id: each row has a number of its own."""


def whole_numbers(batch: pa.RecordBatch, column: str, table: str) -> Ints:
    """Return a column of ids, or of times in microseconds since 1970: int64, shape ``(rows,)``.

    Raises RunError for nulls and for values of other types.
    """
    values = batch.column(column)
    try:
        numbers = values.cast(TIMESTAMP, safe=False).cast(pa.int64()) if pa.types.is_temporal(values.type) else values
        if not numbers.null_count:
            return np.asarray(numbers.cast(pa.int64()))
    except pa.ArrowException:
        pass
    raise RunError(
        f"{table}.{column} has {'nulls' if values.null_count else f'values of type {values.type}'}, but the rows and "
        "fields that depend on it need ids or times: give each row an id or a time",
        code="missing-id-or-time",
    )


class Numbering:
    """Numbers for the rows of a table, for one batch of a shard after the other.

    The numbers ascend, and do not depend on where batches end.
    """

    def __init__(self, context: Context, table: str) -> None:
        self.table = table
        self.context = context
        self.column, self.parent = context.plan.model.belonging(table)
        self.first = context.placement.first(self.parent)
        self.last_id, self.rank = -1, 0

    def numbers(self, batch: pa.RecordBatch) -> Ints:
        """Return the numbers of the rows of the next ``batch``: int64, shape ``(rows,)``.

        Raises RunError if the rows are not in the order of the ids, or too many rows have the same id.
        """
        ids: Ints = whole_numbers(batch, self.column, self.table)
        if self.table == self.parent:
            return np.subtract(ids, self.first)
        if not len(ids):
            return ids
        if ids[0] < self.last_id or (np.diff(ids) < 0).any():
            raise RunError(
                f"rows of {self.table} are not in the order of {self.column}: "
                "make all rows of one, then those of the next (numpy.repeat, not tile)",
                code="rows-out-of-order",
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
                f"there are more than {self.stride:,} rows of {self.table} with the same {self.column}: make fewer",
                code="too-many-rows-of-one-id",
            )
        return np.add((ids - self.first) * self.stride, rank)

    @property
    def stride(self) -> int:
        """The numbers reserved for each id: few where possible, as words of distant numbers take longer to draw."""
        match self.table:
            case "user_channels":
                return max(2, self.context.plan.largest_channel)
            case "message_reactions":
                return 4
            case _:
                return STRIDE


TableGenerator = Callable[["ShardContext"], Iterator[pa.RecordBatch]]
"""A function that generates the rows of a table in a shard: batches of at most 64k rows, in a fixed order."""

MakeBatches = Callable[[str], Iterator[pa.RecordBatch]]
"""A function that returns the rows of a table, by its name."""


@dataclass(frozen=True)
class ShardContext:
    """A shard, the context of its run, and values that the tables of the shard share."""

    context: Context
    shard: Shard

    @cached_property
    def block(self) -> ChannelBlock:
        """The channels of the shard with their members."""
        return channel_block(self.context, self.shard)

    @cached_property
    def spans(self) -> Iterable[MessageSpan]:
        """The messages of the shard without their texts."""
        return message_spans(self.context, self.shard)

    def parents(self, table: str, follows: str, batches: MakeBatches) -> Iterator[Parents]:
        """Yield the rows that ``table`` follows, some thousand at a time; ``batches`` generates further tables."""
        match follows:
            case "users":
                yield from self.users(table)
            case "channels":
                yield from self.channels(table)
            case "messages":
                yield from self.messages(table)
            case _:
                yield from self.rows_without_ids(table, follows, batches)

    def parents_of(
        self, table: str, numbers: Ints, ids: Ints, created: Ints, columns: Mapping[str, Ints] | None = None
    ) -> Parents:
        return Parents(table, numbers, ids, created, columns or {}, self.context.as_of, self.context.streams)

    def users(self, table: str) -> Iterator[Parents]:
        for start in range(self.shard.start, self.shard.stop, BATCH_ROWS):
            numbers = np.arange(start, min(start + BATCH_ROWS, self.shard.stop))
            yield self.parents_of(
                table, numbers, self.context.placement.first_user + numbers, self.context.user_created[numbers]
            )

    def channels(self, table: str) -> Iterator[Parents]:
        placement = self.context.placement
        for start in range(0, len(self.block.owner), BATCH_ROWS):
            rows = slice(start, start + BATCH_ROWS)
            numbers = self.block.start + np.arange(len(self.block.owner))[rows]
            yield self.parents_of(
                table,
                numbers,
                placement.first_channel + numbers,
                self.block.created[rows],
                {"owner_id": placement.first_user + self.block.owner[rows]},
            )

    def messages(self, table: str) -> Iterator[Parents]:
        placement = self.context.placement
        for span in self.spans:
            numbers = span.number + np.arange(len(span.channel))
            yield self.parents_of(
                table,
                numbers,
                placement.first_message + numbers,
                span.created,
                {
                    "user_id": placement.first_user + span.author,
                    "channel_id": placement.first_channel + span.channel,
                },
            )

    def rows_without_ids(self, table: str, follows: str, batches: MakeBatches) -> Iterator[Parents]:
        """Yield rows of a table without ids of its own; the id in the first reference takes the place of an id."""
        model = self.context.plan.model
        references = {column: holds for column, holds in model.by_name[follows].references if holds != CATALOGUE.name}
        numbering = Numbering(self.context, follows)
        for batch in batches(follows):
            if not batch.num_rows:
                continue
            columns = {name: whole_numbers(batch, name, follows) for name in references}
            moment = "joined" if follows == "user_channels" else "created_at"
            if moment in batch.schema.names:
                created = whole_numbers(batch, moment, follows)
            else:
                created = self.latest_creation_times(references, columns)
            ids = columns[model.belonging(follows)[0]]
            yield self.parents_of(table, numbering.numbers(batch), ids, created, columns)

    def latest_creation_times(self, references: dict[str, str], columns: dict[str, Ints]) -> Ints:
        """Return for each row the latest creation time of the users and channels that it references."""
        moments = [np.zeros(1, dtype=np.int64)]
        for column, ids in columns.items():
            if (holds := references[column]) in {"users", "channels"}:
                moments.append(self.context.creation_times(holds, ids - self.context.placement.first(holds)))
        latest: Ints = np.maximum.reduce(np.broadcast_arrays(*moments))
        return latest


def add_fields(context: Context, table: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a table with a further column for each of its fields (:meth:`Model.field_source`)."""
    if not context.plan.scenario.fields.get(table):
        yield from batches
        return
    # imported here: most plans have no fields
    from bulkseed.fields import FieldRows, fill  # noqa: PLC0415

    fields, model = fields_of(context.plan)[table], context.plan.model
    sources = {column: model.field_source(table, column) for column in fields}
    numbering = Numbering(context, table)
    first = context.placement.first(table) if table == numbering.parent else 0
    for batch in batches:
        numbers = numbering.numbers(batch)
        arrays, names = list(batch.columns), list(batch.schema.names)
        for column, spec in fields.items():
            rows = FieldRows(context.streams, table, column, numbers, batch, context.as_of, first)
            arrays.append(fill(spec, rows))
            names.append(sources[column])
        yield pa.RecordBatch.from_arrays(arrays, names)


@lru_cache(maxsize=4)
def fields_of(plan: Plan) -> Mapping[str, Mapping[str, FieldSpec]]:
    """Return the fields that a plan's scenario adds, by table and by the app's name of the column."""
    from bulkseed.fields import parse_field  # noqa: PLC0415
    from bulkseed.text.fakes import Fakes  # noqa: PLC0415

    fakes = Fakes(plan.locale, plan.seed, microseconds(plan.as_of), plan.scenario.providers)
    return {
        table: {column: parse_field(f"fields.{table}.{column}", entry, fakes) for column, entry in columns.items()}
        for table, columns in plan.scenario.fields.items()
    }


def uses_faker(plan: Plan) -> bool:
    """Return whether fields of the plan have Faker's values."""
    if not plan.scenario.fields:
        return False
    from bulkseed.fields import uses_faker as field_uses_faker  # noqa: PLC0415

    return any(field_uses_faker(given) for columns in plan.scenario.fields.values() for given in columns.values())


def make_faker_pools(plan: Plan) -> FakerPools:
    """Return the values of Faker that the plan's fields draw from, made once for all processes of a run.

    Raises InputError, with the field, if Faker or a provider of the user's fails.
    """
    if not plan.scenario.fields:
        return {}
    from bulkseed.fields import make_pools, pools_of  # noqa: PLC0415
    from bulkseed.text.fakes import share_faker  # noqa: PLC0415

    with share_faker():
        tables = fields_of(plan).values()
        return make_pools(pool for columns in tables for spec in columns.values() for pool in pools_of(spec))


def keep_faker_pools(pools: FakerPools) -> None:
    """Let fields draw from ``pools``, which another process has made."""
    if pools:
        from bulkseed.fields import keep_pools  # noqa: PLC0415

        keep_pools(pools)


Side = Literal["users", "channels", "messages"]


def relationship_batches(shard: ShardContext, name: str, declared: Mapping[str, Any]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the relationship ``name``; ``declared`` is its section of the scenario.

    Each row of ``from``, in order, is paired with ``min`` to ``max`` rows of ``to``: the first values of a keyed
    permutation of its own.
    """
    context = shard.context
    columns: list[str] = declared["columns"]
    one, other = declared["from"], declared["to"]
    size = count_others(context, one, other)
    first_one, first_other = context.placement.first(one), context.placement.first(other)
    for parents in shard.parents(name, one, refuse_further_table):
        most = min(declared["max"], size)
        least = min(declared["min"], most)
        counts = least + below(parents.words("count"), most - least + 1)
        ends = np.cumsum(counts)
        keys = parents.words("order", KEY_WORDS).reshape(-1, KEY_WORDS)
        # a few rows of `from` may have many pairs: a batch at a time
        for start in range(0, int(ends[-1]) if len(ends) else 0, BATCH_ROWS):
            rows = np.arange(start, min(start + BATCH_ROWS, int(ends[-1])))
            row = np.searchsorted(ends, rows, side="right")
            rank = rows - (ends[row] - counts[row])
            picked = permute(rank, size, keys, row)
            own = parents.ids[row] - first_one
            if one == other:
                picked += picked >= own  # no row with itself
            arrays = [pa.array(parents.ids[row]), pa.array(first_other + picked)]
            if len(columns) > len(arrays):
                low = np.maximum(parents.created[row], context.creation_times(other, picked))
                # `max` words are reserved for each row of `from`
                words = context.streams.words_at(name, columns[2], own * most + rank)
                arrays.append(times(between(words, low, context.as_of)))
            yield pa.RecordBatch.from_arrays(arrays, columns)


def count_others(context: Context, one: Side, other: Side) -> int:
    return context.count(other) - (one == other)


def refuse_further_table(table: str) -> Iterator[pa.RecordBatch]:
    raise AssertionError(f"a relationship is one of users, channels or messages, not of {table}")
