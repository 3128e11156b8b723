"""The rows of a load with which its tables are tried: some small channels with all that belongs to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bulkseed.copy.column_mapping import Keys
from bulkseed.generators import Context, shard_tables
from bulkseed.generators.context import channel_kinds
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
SEARCHED: Final = 1000
"""The channels among which small ones are chosen."""
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

    def add(self, shards: Iterable[Shard]) -> None:
        """Add rows of each of ``shards``. Raises InputError and RunError for errors of the user's code."""
        for shard in shards:
            for name, batches in shard_tables(self.context, shard):
                taken = self.batches.setdefault(name, [])
                for batch in batches:
                    missing = ROWS - sum(each.num_rows for each in taken)
                    taken.append(batch.slice(0, max(missing, 0)))
                    if batch.num_rows >= missing:
                        self.partial.add(name)
                        break

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
    chosen = choose_channels(context)
    channels = runs(np.array(chosen))
    gathered.add(Shard(0, "channels", start, stop) for start, stop in channels)
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
    whole = {"users": plan.users <= USERS, "channels": len(chosen) == plan.channels}
    return Samples(
        context,
        uuids_of(plan, context.placement, context.layout.messages),
        {name: gathered.batches[name] for name in model.names if name in gathered.batches},
        frozenset(name for name in model.names if whole[model.root(name)] and name not in gathered.partial),
        frozenset(gathered.partial),
    )


def choose_channels(context: Context) -> list[int]:
    """Return the ordinals of some channels: small ones of each kind, so that all that belongs to them can be tried."""
    count = min(SEARCHED, context.plan.channels)
    is_dm, is_private, sizes = channel_kinds(context, 0, count)
    messages = np.diff([context.top_level(channel) for channel in range(count + 1)])
    rows = messages + sizes
    kinds = np.where(is_dm, 2 + (sizes > 2), is_private)
    rank = np.empty(count, dtype=np.int64)
    smallest_first = np.argsort(rows, kind="stable")
    for kind in range(4):
        of_kind = smallest_first[kinds[smallest_first] == kind]
        rank[of_kind] = np.arange(len(of_kind))
    chosen: list[int] = []
    total = 0
    for channel in np.lexsort((rows, rank))[:CHANNELS].tolist():
        if not chosen or total + rows[channel] <= CHANNEL_ROWS:
            chosen.append(channel)
            total += int(rows[channel])
    return sorted(chosen)


def runs(ordinals: Ints) -> list[tuple[int, int]]:
    """Return the ranges, first and last exclusive, that ascending ``ordinals`` consist of."""
    if not len(ordinals):
        return []
    whole = ordinals.astype(np.int64)
    parts = np.split(whole, np.flatnonzero(np.diff(whole) > 1) + 1)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts]
