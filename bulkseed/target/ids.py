"""Ids for the rows of a run: a range of each table, reserved in the database, so that an app can go on inserting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa
from anyio import to_thread

from bulkseed.errors import TargetError
from bulkseed.generators import Context
from bulkseed.generators.channels import join_codes
from bulkseed.generators.context import BATCH_ROWS
from bulkseed.generators.users import unique_values
from bulkseed.plan.activity import expected_rows
from bulkseed.plan.plan import Placement, Plan
from bulkseed.plan.shards import uuids_of
from bulkseed.plan.tables import WITH_IDS
from bulkseed.postgres.connection import Connection
from bulkseed.sql import compose
from bulkseed.target.target import Target
from bulkseed.text.names import Corpus

__all__ = [
    "allocate_ids",
    "check_rights",
    "check_writable",
    "find_id_range",
    "is_taken",
    "reserve_ids",
    "system_reactions",
    "unlogged",
]

GAP: Final = 1000
"""Ids left out where rows are already there: an app may take some between reading and moving its sequence."""

SEQUENCE_SQL: Final = """
SELECT c.oid::regclass::text AS name, s.seqincrement AS increment, s.seqmax AS highest,
       CASE WHEN has_sequence_privilege(c.oid, 'USAGE') THEN pg_sequence_last_value(c.oid) END AS last
FROM pg_attribute a
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
JOIN pg_depend p ON (p.classid = 'pg_class'::regclass AND p.refclassid = 'pg_class'::regclass
                     AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum)
                 OR (p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_class'::regclass)
JOIN pg_class c ON c.relkind = 'S'
                AND c.oid = CASE WHEN p.classid = 'pg_class'::regclass THEN p.objid ELSE p.refobjid END
JOIN pg_sequence s ON s.seqrelid = c.oid
WHERE a.attrelid = $1::text::regclass AND a.attname = $2
ORDER BY p.classid = 'pg_attrdef'::regclass DESC
LIMIT 1
"""
"""The sequence of a column: the one that its default takes from, else its own (identity)."""


async def check_writable(connection: Connection) -> None:
    """Raises TargetError where nothing can be written."""
    if await connection.fetchval("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool"):
        raise TargetError(
            "the server only allows reading (a standby, or default_transaction_read_only): use the primary"
        )


async def check_rights(connection: Connection, target: Target) -> None:
    """Raises TargetError where this login may not do what a load does, naming the GRANT that is missing."""
    await check_writable(connection)
    user = await connection.fetchval("SELECT quote_ident(current_user)")
    grants: list[str] = []
    for name in target.columns:
        table = target.name(name)
        # DELETE, since a load that fails takes out again what it has put in
        wanted = ("SELECT", "INSERT", "DELETE") if name in target.model.names else ("SELECT",)
        lacking = [
            right
            for right in wanted
            if not await connection.fetchval("SELECT has_table_privilege($1::text::regclass, $2)", table, right)
        ]
        if lacking:
            grants.append(f"GRANT {', '.join(lacking)} ON {table} TO {user}")
        elif await connection.fetchval("SELECT row_security_active($1::text::regclass)", table):
            raise TargetError(
                f"row security is active on {table} for {user}, and COPY refuses that: "
                f"ALTER ROLE {user} BYPASSRLS, or load as the table's owner"
            )
    for table_name, column in serials(target):
        sequence = await connection.fetchrow(SEQUENCE_SQL, target.name(table_name), column)
        if sequence is not None and not await connection.fetchval(
            "SELECT has_sequence_privilege($1::text, 'USAGE') AND has_sequence_privilege($1::text, 'UPDATE')",
            sequence["name"],
        ):
            grants.append(f"GRANT USAGE, UPDATE ON SEQUENCE {sequence['name']} TO {user}")
    if grants:
        raise TargetError(f"the login {user} lacks rights: {'; '.join(grants)}")


async def unlogged(connection: Connection, target: Target) -> str:
    """What is to be said where a crash of the server would empty a table that is loaded; empty where none is so."""
    found = await connection.fetchval(
        "SELECT string_agg(oid::regclass::text, ', ' ORDER BY oid) FROM pg_class "
        "WHERE oid = ANY ($1::text[]::regclass[]) AND relpersistence = 'u'",
        target.tables(),
    )
    if found is None:
        return ""
    return f"{found}: UNLOGGED, so a crash of the server empties them, and the ledger does not know: then load anew"


def serials(target: Target) -> list[tuple[str, str]]:
    return [
        (table.name, target.model.column(table.name, table.serial))
        for table in target.model.tables
        if table.serial is not None and not target.has_uuids(table.name)
    ]


async def system_reactions(connection: Connection, target: Target) -> tuple[int | str, ...]:
    """The ids of the catalogue's system reactions, ascending; none where no table takes any.

    Raises TargetError where it has no such row (rule R0).
    """
    if (catalogue := target.model.catalogue) is None:
        return ()
    name, key = target.name(catalogue.name), target.column(catalogue.name, "id")
    marked = f"WHERE {target.column(catalogue.name, 'is_system')}" if "is_system" in catalogue.column_names else ""
    rows = await connection.fetch(f"SELECT {key} AS id FROM {name} {marked} ORDER BY {key}")
    if not rows:
        lacking = "row with is_system true" if marked else "row"
        raise TargetError(f"the catalogue {name} has no {lacking}: make it with `bulkseed init`")
    return tuple(row["id"] if isinstance(row["id"], int) else str(row["id"]) for row in rows)


@dataclass(frozen=True, slots=True)
class IdRange:
    """Where the next ids of a table go: its sequence (None: it has none), the highest id there, the gap to leave."""

    sequence: str | None
    step: int
    highest: int
    gap: int


async def find_id_range(connection: Connection, target: Target, table: str, column: str, count: int) -> IdRange:
    """Look, without moving anything, whether ``count`` more ids fit the column and those that point at it.

    Raises TargetError where they do not.
    """
    name = target.name(table)
    highest = await connection.fetchval(f"SELECT max({target.column(table, column)}) FROM {name}") or 0
    limit = target.highest_id(table, column)
    sequence = await connection.fetchrow(SEQUENCE_SQL, name, target.model.column(table, column))
    step = 1
    last = highest
    if sequence is not None:
        step = sequence["increment"]
        limit = min(limit, sequence["highest"])
        last = max(highest, sequence["last"] or 0)
        if step < 1:
            raise TargetError(f"the sequence {sequence['name']} counts down: give {name} one that counts up")
    gap = GAP if last else 0
    if last + gap + count + step > limit:
        raise TargetError(
            f"{count:,} more ids from {last + 1:,} pass {limit:,}, the most that {name}.{column} can hold: "
            "give the column and its sequence a larger type"
        )
    return IdRange(None if sequence is None else sequence["name"], step, highest, gap)


async def reserve_ids(connection: Connection, target: Target, table: str, column: str, count: int) -> int:
    """The first of ``count`` ids that are now ours: the table's own sequence has been moved past them.

    Like any use of a sequence this is not undone by a rollback. The caller holds the lock that keeps other
    loads out. Raises TargetError where the ids would not fit.
    """
    room = await find_id_range(connection, target, table, column, count)
    if room.sequence is None:
        return room.highest + 1
    # multiples of the step from the next value, so that the sequence keeps its phase
    end = await connection.fetchval(
        """
        WITH taken AS MATERIALIZED (SELECT nextval($1::text::regclass) AS following)
        SELECT setval(
            $1::text::regclass,
            following + $2::bigint * ((greatest($3::bigint + 1 - following, 0) + $4::bigint + $2 - 1) / $2)
        ) FROM taken
        """,
        room.sequence,
        room.step,
        room.highest,
        room.gap + count - 1,
    )
    return int(end) - count + 1


async def is_taken(connection: Connection, target: Target, table: str, column: str, values: Sequence[str]) -> bool:
    """Whether any of ``values`` is already in the column (rules U2 and C5)."""
    there, wanted = target.column(table, column), list(values)
    if target.columns[table][column].type == "citext":
        there, wanted = compose("lower({there}::text)", there=there), [value.lower() for value in values]
    sql = f"SELECT EXISTS (SELECT FROM {target.name(table)} WHERE {there} = ANY($1::text[]))"
    return bool(await connection.fetchval(sql, wanted))


MOST_VARIANTS: Final = 20
MOST_PAIRS: Final = 2**32
"""Pairs of a member and a reaction are drawn with 32 bits (draws.below)."""


async def allocate_ids(
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
            room = await find_id_range(connection, target, table, "id", expected[table])
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
        placement = await skip_used_uuid_range(connection, target, plan, placement)
    # how many messages there are follows from the plan and the first user's id
    messages = await to_thread.run_sync(lambda: Context(plan, placement, corpus).layout.messages)
    first_message = await first_id("messages", messages)
    for variant in range(MOST_VARIANTS):
        context = Context(plan, replace(placement, first_message=first_message, variant=variant), corpus)
        if not await collides_with_existing(connection, target, context):
            return context
    raise TargetError(
        f"{MOST_VARIANTS} tries at e-mail addresses and join codes all met values that {target.name('users')} or "
        f"{target.name('channels')} already has: give another --seed"
    )


async def skip_used_uuid_range(connection: Connection, target: Target, plan: Plan, placement: Placement) -> Placement:
    """The same with a first user whose UUID is not there yet: of a run with this seed that no ledger knows any more."""
    name, key = target.name("users"), target.column("users", "id")
    for _ in range(MOST_VARIANTS):
        first = uuids_of(plan, placement, 0)["users"].octets(pa.array([placement.first_user]))[0].as_py()
        there = f"SELECT EXISTS (SELECT FROM {name} WHERE {key} = encode($1::bytea, 'hex')::uuid)"
        if not await connection.fetchval(there, first):
            return placement
        placement = replace(placement, first_user=placement.first_user + plan.users)
    raise TargetError(f"{name} has the users of {MOST_VARIANTS} runs with the seed {plan.seed}: give another --seed")


async def collides_with_existing(connection: Connection, target: Target, context: Context) -> bool:
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
