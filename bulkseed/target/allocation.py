"""Placing a plan in a target: ids of its own, and unique values that are not there yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

import pyarrow as pa
from anyio import to_thread

from bulkseed.errors import TargetError
from bulkseed.generators import Context
from bulkseed.generators.channels import join_codes
from bulkseed.generators.context import BATCH_ROWS
from bulkseed.generators.users import unique_values
from bulkseed.plan.estimate import expected_rows
from bulkseed.plan.ids import uuids_of
from bulkseed.plan.plan import Placement, Plan
from bulkseed.plan.tables import WITH_IDS
from bulkseed.postgres.connection import Connection
from bulkseed.target.reservation import is_taken, reserve_ids, room_for_ids, system_reactions
from bulkseed.target.target import Target
from bulkseed.text.corpus import Corpus

__all__ = ["place"]

MOST_VARIANTS: Final = 20
MOST_PAIRS: Final = 2**32
"""Pairs of a member and a reaction are drawn with 32 bits (draws.below)."""


async def place(
    connection: Connection,
    target: Target,
    plan: Plan,
    corpus: Corpus,
    reserved: dict[str, int] | None = None,
    taken: Mapping[str, int] | None = None,
) -> Context:
    """Reserve ids for ``plan`` and find values for its unique columns; the caller holds the load lock.

    ``reserved`` keeps the first id of each table whose sequence was moved: a second try, with the same, takes those.
    ``taken`` are the highest ids of runs before, by table, for tables whose ids are UUIDs: they have no sequence.
    Raises TargetError where the catalogue is missing (rule R0), before any sequence is moved, or ids do not fit.
    """
    reactions = await system_reactions(connection, target)
    if plan.largest_channel * len(reactions) > MOST_PAIRS:
        raise TargetError(
            f"channels of up to {plan.largest_channel:,} members and a catalogue of {len(reactions):,} reactions make "
            f"more pairs than {MOST_PAIRS:,}: give --max-members"
        )
    # look at all three before the first sequence is moved; of messages at what is expected
    expected = {name: round(rows) for name, rows in expected_rows(plan).items()}
    reserved = {} if reserved is None else reserved
    movable = set()
    uuids = tuple(table for table in WITH_IDS if table in target.columns and target.has_uuids(table))
    numbered = [table for table in WITH_IDS if table in target.columns and table not in uuids]
    for table in numbered:
        if table not in reserved:
            room = await room_for_ids(connection, target, table, "id", expected[table])
            movable |= {table} if room.sequence is not None else set()

    async def first_id(table: str, count: int) -> int:
        if table not in numbered:
            return (taken or {}).get(table, 0) + 1
        if table in reserved:
            return reserved[table]
        found = await reserve_ids(connection, target, table, "id", count)
        if table in movable:
            # no rollback moves the sequence back, so these ids stay ours
            reserved[table] = found
        return found

    placement = Placement(
        first_user=await first_id("users", plan.users),
        first_channel=await first_id("channels", plan.channels),
        first_message=1,
        reactions=reactions,
        uuids=uuids,
    )
    if "users" in uuids:
        placement = await apart(connection, target, plan, placement)
    # how many messages there are follows from the plan and the first user's id
    messages = await to_thread.run_sync(lambda: Context(plan, placement, corpus).layout.messages)
    first_message = await first_id("messages", messages)
    for variant in range(MOST_VARIANTS):
        context = Context(plan, replace(placement, first_message=first_message, variant=variant), corpus)
        if not await meets_values(connection, target, context):
            return context
    raise TargetError(
        f"{MOST_VARIANTS} tries at e-mail addresses and join codes all met values that {target.name('users')} or "
        f"{target.name('channels')} already has: give another --seed"
    )


async def apart(connection: Connection, target: Target, plan: Plan, placement: Placement) -> Placement:
    """The same with a first user whose UUID is not there yet: of a run with this seed that no ledger knows any more."""
    name, key = target.name("users"), target.column("users", "id")
    for _ in range(MOST_VARIANTS):
        first = uuids_of(plan, placement, 0)["users"].octets(pa.array([placement.first_user]))[0].as_py()
        there = f"SELECT EXISTS (SELECT FROM {name} WHERE {key} = encode($1::bytea, 'hex')::uuid)"
        if not await connection.fetchval(there, first):
            return placement
        placement = replace(placement, first_user=placement.first_user + plan.users)
    raise TargetError(f"{name} has the users of {MOST_VARIANTS} runs with the seed {plan.seed}: give another --seed")


async def meets_values(connection: Connection, target: Target, context: Context) -> bool:
    for table, values in (("users", user_values(context)), ("channels", channel_values(context))):
        columns = target.columns.get(table, {})
        if not columns or not await connection.fetchval(f"SELECT EXISTS (SELECT FROM {target.name(table)})"):
            continue
        for column, found in values:
            if column in columns and await is_taken(connection, target, table, column, found):
                return True
    return False


def user_values(context: Context) -> Iterator[tuple[str, list[str]]]:
    for start in range(0, context.plan.users, BATCH_ROWS):
        found = unique_values(context, start, min(BATCH_ROWS, context.plan.users - start))
        yield from ((column, array.to_pylist()) for column, array in found.items())


def channel_values(context: Context) -> Iterator[tuple[str, list[str]]]:
    for start in range(0, context.plan.channels, BATCH_ROWS):
        yield "join_code", join_codes(context, start, min(BATCH_ROWS, context.plan.channels - start)).to_pylist()
