"""Ids for the rows of a run: a range of each table, reserved in the database, so that an app can go on inserting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from bulkseed.plan.plan import Placement, Plan, Reservation
from bulkseed.plan.shards import uuids_of
from bulkseed.plan.tables import CATALOGUE, WITH_IDS
from bulkseed.postgres.connection import Connection
from bulkseed.postgres.row_security import find_active_row_security
from bulkseed.sql import SQL, compose, literal, plain_names
from bulkseed.target.copy_plan import columns_of
from bulkseed.target.sequences import GAP, find_sequence, find_sequences, hold_sequence, read_state, set_state
from bulkseed.target.target import ID_BITS, Problem, Target, raise_problems
from bulkseed.text.names import Corpus

__all__ = [
    "ChosenIds",
    "Reserved",
    "allocate_ids",
    "check_ids",
    "check_privileges",
    "check_readable",
    "check_writable",
    "find_id_range",
    "find_left_out_tables",
    "find_missing_privileges",
    "find_row_security",
    "find_unlogged_tables",
    "id_ranges",
    "is_taken",
    "list_reservations",
    "missing_privilege",
    "read_system_reactions",
    "reserve_chosen_ids",
    "reserve_ids",
    "return_reserved_ids",
]

READ_ONLY: Final = """
SELECT pg_is_in_recovery() OR (SELECT reset_val = 'on' FROM pg_settings WHERE name = 'default_transaction_read_only')
"""
"""Whether the server, the database or the role only allows reading. ``bulkseed check`` changes the present value."""


async def check_writable(connection: Connection) -> None:
    """Raise TargetError where nothing can be written."""
    if await connection.fetchval(READ_ONLY):
        raise TargetError(
            "the server is a standby, or default_transaction_read_only is on: name the primary, or set it to off",
            code="read-only",
        )


async def check_privileges(connection: Connection, target: Target) -> None:
    """Raise TargetError where the user may not load, with a line for each missing GRANT and each other reason."""
    await check_writable(connection)
    user = await connection.fetchval("SELECT quote_ident(current_user)")
    problems: list[Problem] = []
    for name in target.columns:
        table = target.sql_name(name)
        # DELETE, since the rows of a failed load are removed
        needed = ("SELECT", "INSERT", "DELETE") if name in target.model.names else ("SELECT",)
        problems += await find_missing_privileges(connection, [table], needed)
    problems += await find_row_security(connection, map(target.sql_name, target.columns), is_load=True)
    for table_name, column in serial_columns(target):
        sequence = await find_sequence(connection, target.sql_name(table_name), column)
        if sequence is not None and not await connection.fetchval(
            "SELECT has_sequence_privilege($1::text, 'USAGE') AND has_sequence_privilege($1::text, 'UPDATE')",
            sequence["name"],
        ):
            problems.append(missing_privilege(user, f"GRANT USAGE, UPDATE ON SEQUENCE {sequence['name']} TO {user}"))
    raise_problems(problems)


async def check_readable(connection: Connection, tables: Iterable[SQL]) -> None:
    """Raise TargetError where the user may not read existing tables, or row-level security hides rows of them."""
    names = list(tables)
    problems = await find_missing_privileges(connection, names, ("SELECT",))
    raise_problems([*problems, *await find_row_security(connection, names)])


async def find_missing_privileges(
    connection: Connection, tables: Iterable[SQL], needed: Sequence[str]
) -> list[Problem]:
    """Return a problem for each existing table on which the user lacks privileges, with the GRANT statement."""
    user = await connection.fetchval("SELECT quote_ident(current_user)")
    problems = []
    for table in tables:
        missing = [
            privilege
            for privilege in needed
            if not await connection.fetchval("SELECT has_table_privilege($1::text::regclass, $2)", table, privilege)
        ]
        if missing:
            problems.append(missing_privilege(user, f"GRANT {', '.join(missing)} ON {table} TO {user}"))
    return problems


async def find_row_security(connection: Connection, tables: Iterable[SQL], *, is_load: bool = False) -> list[Problem]:
    """Return a problem for each of ``tables`` whose row-level security applies to the user, with what ends that."""
    problems = []
    for table in tables:
        active = await find_active_row_security(connection, table)
        if active is not None:
            effect = "COPY FROM does not support it" if is_load else "it hides rows"
            message = f"row-level security applies to the user {active.user} on {table}, and {effect}: {active.fix}"
            problems.append(Problem("row-security", message))
    return problems


def missing_privilege(user: str, grant: str) -> Problem:
    """Return the problem of a missing privilege; ``user`` is quoted as in SQL."""
    return Problem("missing-privilege", f"the user {user} lacks privileges: {grant}")


async def find_unlogged_tables(connection: Connection, target: Target) -> str:
    """Return a warning where tables to load are UNLOGGED, which a crash of the server empties; else an empty text."""
    names = await connection.fetchval(
        "SELECT string_agg(oid::regclass::text, ', ' ORDER BY oid) FROM pg_class "
        "WHERE oid = ANY ($1::text[]::regclass[]) AND relpersistence = 'u'",
        target.sql_tables(),
    )
    if names is None:
        return ""
    return (
        f"{names}: UNLOGGED, so a crash of the server empties them, while the run stays recorded: "
        "after a crash, clean up this run and load again"
    )


async def find_left_out_tables(connection: Connection, target: Target) -> str:
    """Return a note where tables that the scenario leaves out exist all the same; else an empty text."""
    filled = {target.model.name(name) for name in target.columns}
    left_out = [name for name, app_name in target.model.scenario.tables.items() if app_name is None]
    names = await connection.fetchval(
        "SELECT string_agg(format('%I', relname), ', ' ORDER BY relname) FROM pg_class AS c "
        "JOIN pg_namespace AS n ON n.oid = relnamespace "
        "WHERE nspname = $1 AND relname = ANY ($2::text[]) AND relkind IN ('r', 'p')",
        target.schema,
        sorted({*left_out} - {*filled, CATALOGUE.name}),
    )
    return "" if names is None else f"{names}: not filled, because the scenario's [tables] has false there"


def serial_columns(target: Target) -> list[tuple[str, str]]:
    return [
        (table.name, target.model.column(table.name, table.serial))
        for table in target.model.tables
        if table.serial is not None and not target.has_uuids(table.name)
    ]


async def read_system_reactions(connection: Connection, target: Target) -> tuple[int | str, ...]:
    """Return the ids of the system reactions in the catalogue, ascending; none where the app has no table of reactions.

    Raises TargetError where the catalogue has no system reaction (rule R0).
    """
    if (catalogue := target.model.catalogue) is None:
        return ()
    name, key = target.sql_name(catalogue.name), target.sql_column(catalogue.name, "id")
    has_system = "is_system" in catalogue.column_names
    rows = await connection.fetch(
        compose(
            "SELECT {key} AS id FROM {catalogue} WHERE {is_system} ORDER BY {key}",
            key=key,
            catalogue=name,
            is_system=target.sql_column(catalogue.name, "is_system") if has_system else compose("true"),
        )
    )
    if not rows:
        missing = "row with is_system true" if has_system else "row"
        raise TargetError(
            f"the catalogue {name} has no {missing}: make it with `bulkseed init`", code="empty-catalogue"
        )
    return tuple(row["id"] if isinstance(row["id"], int) else str(row["id"]) for row in rows)


@dataclass(frozen=True, slots=True)
class IdRange:
    """The next ids of a table: its sequence, if any, and the step; the highest id so far; the gap to leave after it.

    ``first`` is the first of the next ids, unless the sequence was set by hand, or an app uses ids meanwhile.
    """

    sequence: str | None
    step: int
    highest: int
    gap: int
    first: int


async def read_highest(connection: Connection, target: Target, table: str, column: str) -> int:
    """Return the highest id of the column, 0 in an empty table. All rows are read where no index begins with it."""
    name, column_name = target.sql_name(table), target.sql_column(table, column)
    sql = compose("SELECT max({column}) FROM {table}", column=column_name, table=name)
    return await connection.fetchval(sql) or 0


async def find_id_range(
    connection: Connection, target: Target, table: str, column: str, count: int, highest: int | None = None
) -> IdRange:
    """Return where the next ``count`` ids of the column go; the sequence is not moved.

    ``highest`` is the highest id, if it was read already. Raises TargetError where the ids exceed the range of the
    column, of its sequence, or of a column that references it.
    """
    name = target.sql_name(table)
    if highest is None:
        highest = await read_highest(connection, target, table, column)
    limit = target.highest_id(table, column)
    sequence = await find_sequence(connection, name, target.model.column(table, column))
    step = 1
    last = highest
    if sequence is not None:
        step = sequence["increment"]
        limit = min(limit, sequence["highest"])
        last = max(highest, sequence["last"] or 0)
        if step < 1:
            raise TargetError(
                f"the sequence {sequence['name']} counts down: give {name} one that counts up",
                code="descending-sequence",
            )
    gap = GAP if last else 0
    if last + gap + count + step > limit:
        fixes = []
        if limit - last - gap - step > 0:
            fixes.append("load fewer rows with a smaller --scale")
        if sequence is not None and last > highest:
            # the ids after the highest row may be used again
            restart = compose(
                "SELECT setval({sequence}, {next}, false)", sequence=literal(sequence["name"]), next=highest + 1
            )
            fixes.append(f"let its sequence go on after the last row with `{restart}`")
        fixes.append("give the column and its sequence a larger type")
        raise TargetError(
            f"{count:,} more ids from {last + 1:,} pass {limit:,}, the most that {name}.{column} can hold: "
            f"{', or '.join(fixes)}",
            code="ids-exhausted",
        )
    return IdRange(None if sequence is None else sequence["name"], step, highest, gap, last + gap + 1)


async def reserve_ids(
    connection: Connection, target: Target, table: str, column: str, count: int, id_range: IdRange
) -> tuple[int, Reservation | None]:
    """Reserve ``count`` ids by moving the table's own sequence past them; return the first, and the reservation.

    ``id_range`` is what :func:`find_id_range` returned a moment ago: no table is read while the sequence is locked, and
    an app's INSERTs wait. Values that others took since then are in the state of the sequence.

    There is no reservation without a sequence, and where others could take values meanwhile: the ids can then not be
    given back later. Like any use of a sequence this is not undone by a rollback. The caller holds the load lock, which
    keeps other loads out.
    """
    name = target.model.column(table, column)
    sequence = await find_sequence(connection, target.sql_name(table), name)
    if sequence is None:
        return id_range.highest + 1, None
    async with hold_sequence(connection, sequence["qualified"]) as is_held:
        before = await read_state(connection, sequence["qualified"]) if is_held else None
        # multiples of the step from the next value, so that the sequence keeps its phase
        end = await connection.fetchval(
            """
            WITH next_id AS MATERIALIZED (SELECT nextval($1::text::regclass) AS first)
            SELECT setval(
                $1::text::regclass,
                first + $2::bigint * ((greatest($3::bigint + 1 - first, 0) + $4::bigint + $2 - 1) / $2)
            ) FROM next_id
            """,
            sequence["qualified"],
            id_range.step,
            id_range.highest,
            id_range.gap + count - 1,
        )
    reservation = None
    if before is not None:
        reservation = Reservation(
            table=table,
            column=name,
            sequence=sequence["qualified"],
            last=before.last,
            is_called=before.is_called,
            highest=id_range.highest,
            end=end,
        )
    return int(end) - count + 1, reservation


async def return_reserved_ids(connection: Connection, reserved: Reserved) -> None:
    """Give reserved ids back to the sequences, of a run that is not begun after all, newest first.

    Ids that stay taken, since others took later ones, stay in ``reserved``, and so do all that were reserved before
    them: another try uses these.
    """
    for table, (_, reservation) in reversed(list(reserved.items())):
        if reservation is None:
            return
        async with hold_sequence(connection, reservation.sequence) as is_held:
            state = await read_state(connection, reservation.sequence)
            if not is_held or state is None or (state.last, state.is_called) != (reservation.end, True):
                return
            await set_state(connection, reservation.sequence, reservation.last, is_called=reservation.is_called)
        del reserved[table]


async def list_reservations(connection: Connection, target: Target, reserved: Reserved) -> list[Reservation]:
    """Return those of ``reserved``, and then one for each column with a sequence that a load leaves to its default.

    Its values are taken by the rows: the state of the sequence is the present one.
    """
    found = [reservation for _, reservation in reserved.values() if reservation is not None]
    for table in target.model.tables:
        filled = set(columns_of(target, table).values())
        for column, sequence in (await find_sequences(connection, target.sql_name(table.name))).items():
            if column not in filled:
                state = await read_state(connection, sequence["qualified"])
                found.append(
                    Reservation(
                        table=table.name,
                        column=column,
                        sequence=sequence["qualified"],
                        last=state.last if state else 0,
                        is_called=state is not None and state.is_called,
                    )
                )
    return found


async def is_taken(connection: Connection, target: Target, table: str, column: str, values: Sequence[str]) -> bool:
    """Return whether any of ``values`` is already in the column (rules U2 and C5)."""
    expression, wanted = target.sql_column(table, column), list(values)
    if target.columns[table][column].type == "citext":
        expression, wanted = compose("lower({column}::text)", column=expression), [value.lower() for value in values]
    exists = compose(
        "SELECT EXISTS (SELECT FROM {table} WHERE {expression} = ANY($1::text[]))",
        table=target.sql_name(table),
        expression=expression,
    )
    return bool(await connection.fetchval(exists, wanted))


MAX_VARIANTS: Final = 20
"""Tries at values of unique columns that existing rows do not have."""
MAX_PAIRS: Final = 2**32
"""The limit of the pairs of a member and a reaction, which are drawn with 32 bits (draws.below)."""


async def check_ids(
    connection: Connection, target: Target, plan: Plan, highest: dict[str, int] | None = None
) -> tuple[int | str, ...]:
    """Return the ids of the system reactions, as :func:`read_system_reactions` does. No sequence is moved.

    ``highest`` gets the highest id of each table, unless it has it. Raises TargetError, with a line for each problem,
    where the catalogue of reactions is missing (rule R0), or has too many, or the ids of a table are exhausted;
    messages count by their expected number.
    """
    problems: list[Problem] = []
    reactions: tuple[int | str, ...] = ()
    try:
        reactions = await read_system_reactions(connection, target)
    except TargetError as error:
        problems.append(Problem(error.code, str(error)))
    if plan.largest_channel * len(reactions) > MAX_PAIRS:
        problems.append(
            Problem(
                "too-many-pairs",
                f"channels of up to {plan.largest_channel:,} members and a catalogue of {len(reactions):,} reactions "
                f"make more pairs than {MAX_PAIRS:,}: give a smaller --max-members",
            )
        )
    expected = expected_rows(plan)
    highest = {} if highest is None else highest
    for table in numbered_tables(target):
        if table not in highest:
            highest[table] = await read_highest(connection, target, table, "id")
        try:
            await find_id_range(connection, target, table, "id", round(expected[table]), highest[table])
        except TargetError as error:
            problems.append(Problem(error.code, str(error)))
    raise_problems(problems)
    return reactions


def numbered_tables(target: Target) -> list[str]:
    """Return the tables whose ids are numbers and not UUIDs."""
    return [table for table in WITH_IDS if table in target.columns and not target.has_uuids(table)]


Reserved = dict[str, tuple[int, Reservation | None]]
"""The first id of each table whose sequence was moved, and what is needed to give the ids back, if that is possible."""


@dataclass(frozen=True, slots=True)
class ChosenIds:
    """The first ids that the user gives, by table, and the variant to try first."""

    first: Mapping[str, int]
    variant: int = 0


async def allocate_ids(
    connection: Connection,
    target: Target,
    plan: Plan,
    corpus: Corpus,
    reserved: Reserved | None = None,
    last_ids: Mapping[str, int] | None = None,
    *,
    chosen: ChosenIds | None = None,
    reserve: bool = True,
) -> Context:
    """Reserve ids for ``plan``, find values for its unique columns, and return the context of the run.

    The caller holds the load lock. ``reserved`` gets the first id of each table whose sequence was moved, with the
    reservation, and another try with the same dictionary uses these. ``last_ids`` are the highest ids of earlier runs,
    by table, for tables whose ids are UUIDs, which have no sequence. Without ``reserve`` no sequence is moved, and the
    ids are those that a load would probably get. With ``chosen`` ids, which :func:`reserve_chosen_ids` reserves, none
    is moved either. Raises TargetError as :func:`check_ids`, before any sequence is moved; where no variant of the
    values is unused; and where rows have the chosen ids.
    """
    highest: dict[str, int] = {}
    reactions = await check_ids(connection, target, plan, highest)
    reserved = {} if reserved is None else reserved
    uuids = tuple(table for table in WITH_IDS if table in target.columns and target.has_uuids(table))
    numbered = numbered_tables(target)

    async def reserve_first_id(table: str, count: int) -> int:
        if chosen is not None and table in chosen.first:
            return chosen.first[table]
        if table not in numbered:
            return (last_ids or {}).get(table, 0) + 1
        if table in reserved:
            return reserved[table][0]
        id_range = await find_id_range(connection, target, table, "id", count, highest[table])
        if not reserve:
            return id_range.first
        first, reservation = await reserve_ids(connection, target, table, "id", count, id_range)
        if id_range.sequence is not None:
            # no rollback moves the sequence back, so these ids stay reserved
            reserved[table] = first, reservation
        return first

    placement = Placement(
        first_user=await reserve_first_id("users", plan.users),
        first_channel=await reserve_first_id("channels", plan.channels),
        first_message=1,
        reactions=reactions,
        uuids=uuids,
    )
    if "users" in uuids and chosen is None:
        placement = await skip_used_uuid_range(connection, target, plan, placement)
    # the number of messages follows from the plan and the first user's id
    messages = await to_thread.run_sync(lambda: Context(plan, placement, corpus).layout.messages)
    placement = replace(placement, first_message=await reserve_first_id("messages", messages))
    if chosen is not None:
        await check_chosen_ids(connection, target, Context(plan, placement, corpus))
    first_variant = 0 if chosen is None else chosen.variant
    for variant in range(first_variant, first_variant + MAX_VARIANTS):
        context = Context(plan, replace(placement, variant=variant), corpus)
        if not await collides_with_existing(connection, target, context):
            return context
    raise TargetError(
        f"{MAX_VARIANTS} tries at e-mail addresses and join codes all met values that {target.sql_name('users')} or "
        f"{target.sql_name('channels')} already has: give another --seed",
        code="values-used-up",
    )


def id_ranges(context: Context) -> dict[str, tuple[int, int]]:
    """Return the first and the last id of the run, by table."""
    return {table: context.ids(table) for table in WITH_IDS if table in context.plan.model.names}


async def check_chosen_ids(connection: Connection, target: Target, context: Context) -> None:
    """Raise TargetError, with a line for each table, if chosen ids are out of range, or rows have or hold them."""
    ranges, problems = id_ranges(context), []
    uuids = uuids_of(context.plan, context.placement, context.layout.messages)
    for table, (first, last) in ranges.items():
        highest = 2 ** ID_BITS["uuid"] - 1 if table in uuids else target.highest_id(table, "id")
        sequence = await find_sequence(connection, target.sql_name(table), target.model.column(table, "id"))
        if last > (highest if sequence is None else min(highest, sequence["highest"])):
            problems.append(
                Problem(
                    "ids-exhausted",
                    f"the ids {first:,} to {last:,} pass {highest:,}, the most that {target.sql_name(table)} or its "
                    "sequence can have: give lower --first-ids",
                )
            )
    for table in target.model.names:
        column, parent = target.model.belonging(table)
        held = target.sql_column(table, column)
        first, last = ranges[parent]
        in_use = await connection.fetchval(
            compose(
                "SELECT EXISTS (SELECT FROM {table} WHERE {id} BETWEEN {first} AND {last})",
                table=target.sql_name(table),
                id=uuids[parent].decoded(held) if parent in uuids else held,
                first=first,
                last=last,
            )
        )
        if in_use:
            problems.append(
                Problem(
                    "ids-in-use",
                    f"{plain_names(target.sql_name(table))} has rows with {held} of the ids that --first-ids gives, "
                    f"{parent} {first:,} to {last:,}: remove these rows, or give other ids",
                )
            )
    raise_problems(problems)


async def reserve_chosen_ids(
    connection: Connection, target: Target, context: Context, reserved: Reserved, earlier: Sequence[Reservation]
) -> None:
    """Move the sequences past the chosen ids of a run, unless they are past them already.

    ``reserved`` gets the reservations; where a sequence is past the ids already, the one of ``earlier`` is taken over.
    """
    for table, (first, last) in id_ranges(context).items():
        name = target.model.column(table, "id")
        sequence = await find_sequence(connection, target.sql_name(table), name)
        if table in reserved or sequence is None or target.has_uuids(table):
            continue
        same = [each for each in earlier if (each.table, each.sequence) == (table, sequence["qualified"]) and each.end]
        reserved[table] = first, same[0] if same else None
        # before the lock, behind which an app's INSERTs wait
        highest = await read_highest(connection, target, table, "id")
        async with hold_sequence(connection, sequence["qualified"]) as is_held:
            before = await read_state(connection, sequence["qualified"]) if is_held else None
            # multiples of the step, as reserve_ids() has them
            end = await connection.fetchval(
                """
                WITH next_id AS MATERIALIZED (
                    SELECT nextval($1::text::regclass) AS first
                    WHERE $2::bigint > coalesce(pg_sequence_last_value($1::text::regclass), 0)
                )
                SELECT setval($1::text::regclass, first + $3::bigint * (greatest($2 - first + $3 - 1, 0) / $3))
                FROM next_id
                """,
                sequence["qualified"],
                last,
                sequence["increment"],
            )
        if before is not None and end is not None:
            reservation = Reservation(
                table=table,
                column=name,
                sequence=sequence["qualified"],
                last=before.last,
                is_called=before.is_called,
                highest=highest,
                end=end,
            )
            reserved[table] = first, reservation


async def skip_used_uuid_range(connection: Connection, target: Target, plan: Plan, placement: Placement) -> Placement:
    """Return the placement with a first user whose UUID is not used yet.

    It is used where the users of a run with this seed exist that no ledger records any more.
    """
    exists = compose(
        "SELECT EXISTS (SELECT FROM {users} WHERE {id} = encode($1::bytea, 'hex')::uuid)",
        users=target.sql_name("users"),
        id=target.sql_column("users", "id"),
    )
    for _ in range(MAX_VARIANTS):
        first = uuids_of(plan, placement, 0)["users"].octets(pa.array([placement.first_user]))[0].as_py()
        if not await connection.fetchval(exists, first):
            return placement
        placement = replace(placement, first_user=placement.first_user + plan.users)
    raise TargetError(
        f"{target.sql_name('users')} has the users of {MAX_VARIANTS} runs with the seed {plan.seed}: "
        "give another --seed",
        code="values-used-up",
    )


async def collides_with_existing(connection: Connection, target: Target, context: Context) -> bool:
    for table, values in (("users", user_values(context)), ("channels", channel_values(context))):
        columns = target.columns.get(table, {})
        has_rows = compose("SELECT EXISTS (SELECT FROM {table})", table=target.sql_name(table))
        if not columns or not await connection.fetchval(has_rows):
            continue
        for column, new in values:
            if column in columns and await is_taken(connection, target, table, column, new):
                return True
    return False


def user_values(context: Context) -> Iterator[tuple[str, list[str]]]:
    for start in range(0, context.plan.users, BATCH_ROWS):
        arrays = unique_values(context, start, min(BATCH_ROWS, context.plan.users - start))
        yield from ((column, array.to_pylist()) for column, array in arrays.items())


def channel_values(context: Context) -> Iterator[tuple[str, list[str]]]:
    for start in range(0, context.plan.channels, BATCH_ROWS):
        yield "join_code", join_codes(context, start, min(BATCH_ROWS, context.plan.channels - start)).to_pylist()
