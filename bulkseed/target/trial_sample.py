"""The rows of a load with which its tables are tried: some small channels with their first messages and members."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bulkseed.copy.column_mapping import Keys
from bulkseed.generators import Context, shard_tables
from bulkseed.generators.conversation import generate_spans
from bulkseed.generators.members import FOUNDERS
from bulkseed.plan.plan import microseconds
from bulkseed.plan.shards import Shard, uuids_of
from bulkseed.plan.tables import WITH_IDS

__all__ = ["Samples", "generate_samples"]

Ints = npt.NDArray[np.int64]

ROWS: Final = 1000
"""About the most rows of a table."""
USERS: Final = 100
CHANNELS: Final = 10
"""About the most users, and the most channels, whose rows are generated."""
CHANNEL_ROWS: Final = 500
"""The most messages and members of the channels together, unless one channel has more."""
TOP_LEVEL: Final = 2000
"""The top-level messages, the first ones of the load, among which those of the channels are chosen."""
FOLLOWED: Final = 20
"""The rows of a table made with the users whose references to further users are followed."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Rows of a load, by table, and how much they are of it.

    - ``batches``: batches of rows, in dependency order of the tables; references may lead to rows that are not here.
    - ``complete``: the tables of which all rows of the load are here.
    - ``partial``: the tables that lack rows which belong to the users, channels or messages that are here.
    """

    context: Context
    keys: Mapping[str, Keys]
    batches: Mapping[str, Sequence[pa.RecordBatch]]
    complete: frozenset[str]
    partial: frozenset[str]

    def id_range(self, table: str) -> tuple[int, int] | None:
        """Return the first and the last id of the load in a table; None where ids are UUIDs, or the table has none."""
        if table not in WITH_IDS or table in self.keys:
            return None
        return self.context.ids(table)


@dataclass(slots=True)
class Gathered:
    """Batches of rows of the load, by table."""

    context: Context
    batches: dict[str, list[pa.RecordBatch]] = field(default_factory=dict)
    partial: set[str] = field(default_factory=set)

    def add(self, shards: Iterable[Shard], chosen: Ints | None = None) -> None:
        """Add rows of each of ``shards``; of rows that belong to messages, only those of the ``chosen`` ordinals.

        Raises InputError and RunError for errors of the user's code.
        """
        for shard in shards:
            for name, batches in shard_tables(self.context, shard):
                taken = self.batches.setdefault(name, [])
                for batch in batches if chosen is None else self.belonging(name, batches, chosen):
                    missing = ROWS - sum(each.num_rows for each in taken)
                    taken.append(batch.slice(0, max(missing, 0)))
                    if batch.num_rows >= missing:
                        self.partial.add(name)
                        break

    def belonging(self, name: str, batches: Iterable[pa.RecordBatch], messages: Ints) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a table that belong to ``messages``."""
        column, parent = self.context.plan.model.belonging(name)
        ids = pa.array(self.context.placement.first_message + messages)
        for batch in batches:
            of_messages = parent == "messages" and pa.types.is_integer(batch.column(column).type)
            yield batch.filter(pc.is_in(batch.column(column).cast(ids.type), ids)) if of_messages else batch

    def user_ordinals(self, tables: Iterable[str], rows: int = ROWS) -> Ints:
        """Return the ordinals of the users that the first ``rows`` rows of each table reference, in their order."""
        model, first = self.context.plan.model, self.context.placement.first_user
        found = [np.zeros(0, dtype=np.int64)]
        for name in tables:
            for batch in self.batches.get(name, ()):
                for column, parent in model.by_name[name].references:
                    if parent == "users" and column in batch.schema.names:
                        ids = pc.drop_null(batch.column(column).slice(0, rows))
                        if pa.types.is_integer(ids.type):
                            found.append(np.asarray(ids.cast(pa.int64())) - first)
        ordinals = np.concatenate(found)
        ordinals = ordinals[(ordinals >= 0) & (ordinals < self.context.plan.users)]
        _, places = np.unique(ordinals, return_index=True)
        in_order: Ints = ordinals[np.sort(places)]
        return in_order


def generate_samples(context: Context) -> Samples:
    """Return rows of the load of ``context``. Raises InputError and RunError for errors of the user's code."""
    plan, model = context.plan, context.plan.model
    gathered = Gathered(context)
    first = first_slice(context)
    chosen, messages = choose_channels(context, first)
    channels = runs(np.array(chosen))
    gathered.add(Shard(0, "channels", start, stop) for start, stop in channels)
    gathered.add([first], messages)
    if plan.users <= USERS:
        users = [(0, plan.users)]
    else:
        few = np.arange(min(USERS // 4, plan.users))
        users = runs(np.unique([*few, *gathered.user_ordinals(list(gathered.batches))[: USERS - len(few)]]))
    gathered.add(Shard(0, "users", start, stop) for start, stop in users)
    with_users = [name for name in model.names if model.stage(name) == "users" and name != "users"]
    known = {ordinal for start, stop in users for ordinal in range(start, stop)}
    further = [each for each in gathered.user_ordinals(with_users, FOLLOWED).tolist() if each not in known]
    more = runs(np.unique(further[:FOLLOWED]))
    gathered.add(Shard(0, "users", start, stop) for start, stop in more)
    gathered.add(Shard(0, "users", start, stop, late=True) for start, stop in (*users, *more))
    gathered.add(Shard(0, "channels", start, stop, late=True) for start, stop in channels)
    gathered.add([replace(first, late=True)], messages)
    whole = {
        "users": plan.users <= USERS,
        "channels": len(chosen) == plan.channels,
        "messages": len(messages) == context.count("messages"),
    }
    return Samples(
        context,
        uuids_of(plan, context.placement, context.layout.messages),
        {name: gathered.batches[name] for name in model.names if name in gathered.batches},
        frozenset(name for name in model.names if whole[model.root(name)] and name not in gathered.partial),
        frozenset(gathered.partial),
    )


def first_slice(context: Context) -> Shard:
    """Return the slice of time with the first TOP_LEVEL top-level messages of the load."""
    start = microseconds(context.plan.history_start)
    return Shard(0, "messages", start, context.history.timeline.moment_after(start, TOP_LEVEL, context.as_of + 1))


def choose_channels(context: Context, first: Shard) -> tuple[list[int], Ints]:
    """Return the ordinals of some channels, small ones of each kind, and of their messages in the ``first`` slice."""
    spans = list(generate_spans(context.history, first.start, first.stop))
    channel = np.concatenate([np.zeros(0, dtype=np.int64), *(span.channel for span in spans)])
    messages = np.bincount(channel, minlength=context.plan.channels)
    workspace = context.workspace
    sizes = workspace.members.sizes
    rows = messages + sizes
    kinds = np.where(workspace.is_dm, 2 + (sizes > FOUNDERS), workspace.is_private)
    rank = np.empty(len(rows), dtype=np.int64)
    # those with messages first
    smallest_first = np.lexsort((rows, messages == 0))
    for kind in range(4):
        of_kind = smallest_first[kinds[smallest_first] == kind]
        rank[of_kind] = np.arange(len(of_kind))
    chosen: list[int] = []
    total = 0
    for each in np.lexsort((rows, rank))[:CHANNELS].tolist():
        if not chosen or total + rows[each] <= CHANNEL_ROWS:
            chosen.append(each)
            total += int(rows[each])
    return sorted(chosen), np.flatnonzero(np.isin(channel, chosen))


def runs(ordinals: Ints) -> list[tuple[int, int]]:
    """Return the ranges, first and last exclusive, that ascending ``ordinals`` consist of."""
    if not len(ordinals):
        return []
    whole = ordinals.astype(np.int64)
    parts = np.split(whole, np.flatnonzero(np.diff(whole) > 1) + 1)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts]
