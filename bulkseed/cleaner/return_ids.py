"""Giving the ids of removed runs back to the sequences, so that the same load gets the same ids again."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import asyncpg

from bulkseed.cleaner.count_rows import find_tables_with_rows
from bulkseed.cleaner.triggers import find_writing_triggers
from bulkseed.deferral import describe_holders
from bulkseed.errors import BulkseedError
from bulkseed.ledger import Ledger, Record, Run, highest_ids, read_records
from bulkseed.plan.plan import Reservation
from bulkseed.plan.tables import WITH_IDS
from bulkseed.postgres.connection import Connection, server_message, translate_errors
from bulkseed.postgres.transaction import safe_transaction
from bulkseed.sql import SQL, compose, identifier, join, plain_names
from bulkseed.target.sequences import (
    GAP,
    SequenceState,
    find_sequence,
    is_owner,
    last_reserved,
    lock_sequence,
    read_state,
    set_state,
)

__all__ = ["ReturnedIds", "return_ids"]

logger = logging.getLogger(__name__)

LOCK_SECONDS: Final = 0.5
"""How long each sequence is waited for, while an app's INSERTs wait behind this."""
QUERY_SECONDS: Final = 1
"""The limit of the query under the lock, which has to read the tables where no index begins with the column."""
TRIES: Final = 2
PAUSE: Final = 1.0
"""Seconds between the tries, in which the app goes on."""


Column = tuple[SQL, SQL]
"""A table and a column of it, quoted."""


@dataclass(frozen=True, slots=True)
class ReturnedIds:
    """The first and the last of the ids that were given back, by table; and why the same load gets other ids.

    ``other_rows`` is a sentence, and empty if the same load gets the same ids.
    """

    ids: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    other_rows: str = ""


async def return_ids(connection: Connection, ledger: Ledger, removed: Sequence[Run]) -> ReturnedIds:
    """Give the ids of ``removed`` runs, which are no longer recorded, back to the sequences.

    The ids stay where others have taken later ones, and if triggers may have left rows that have them. The caller
    holds the load lock, and is in no transaction: each sequence is locked for a moment, in a transaction of its own.
    Raises no error, as the rows are removed already: what fails is a reason.
    """
    if not removed:
        return ReturnedIds()
    oldest = min(removed, key=lambda run: run.number)
    returning = Returning(connection, sorted(removed, key=lambda run: -run.number))
    try:
        with translate_errors(connection, "giving ids back"):
            await returning.return_all()
            returning.remaining = await read_records(connection, ledger)
            return ReturnedIds(returning.ids, await returning.describe_next_load(oldest))
    except BulkseedError as error:
        logger.info("%s", error)
        return ReturnedIds(returning.ids, other_rows_sentence(oldest, " ".join(str(error).split())))


class Returning:
    """The return of the ids of ``runs``, newest first; ``reasons`` say what could not be given back."""

    def __init__(self, connection: Connection, runs: Sequence[Run]) -> None:
        self.connection = connection
        self.runs = runs
        self.remaining: Sequence[Record] = ()
        """The runs that are still recorded."""
        self.ids: dict[str, tuple[int, int]] = {}
        self.reasons: list[str] = []
        self.kept: set[str] = set()
        """The sequences that are not set back to their state before the runs."""
        self.highest: dict[Column, Any] = {}
        """The highest values of columns of existing tables, read once: without an index that takes long."""

    @property
    def reservations(self) -> Iterator[tuple[Run, Reservation]]:
        """What the runs took from sequences, newest first."""
        for run in self.runs:
            for reservation in reversed(run.reservations):
                yield run, reservation

    async def read_highest(self, column: Column) -> int:
        """Return the highest value of a column; 0 without rows, without the table, and if it is no integer."""
        if column not in self.highest:
            table, name = column
            if not await self.connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
                return 0
            self.highest[column] = await self.connection.fetchval(
                compose("SELECT max({column}) FROM {table}", column=name, table=table)
            )
        highest = self.highest[column]
        return highest if isinstance(highest, int) else 0

    async def return_all(self) -> None:
        """Set the sequences back as far as nobody else has taken values, each in a transaction of its own."""
        if not any(run.reservations for run in self.runs):
            return
        self.kept = {reservation.sequence for _, reservation in self.reservations}
        tables = dict.fromkeys(table for run in self.runs for table in run.names.sql_tables())
        if triggers := await find_writing_triggers(self.connection, tables):
            self.reasons.append(
                f"the ids are not given back, since rows that triggers wrote may have them: {', '.join(triggers)}"
            )
            return
        for run, reservation in self.reservations:
            # before the locks, behind which an app's INSERTs wait
            await self.read_highest(column_of(run, reservation))
        for sequence in dict.fromkeys(reservation.sequence for _, reservation in self.reservations):
            earlier = len(self.reasons)
            for tries_left in reversed(range(TRIES)):
                try:
                    # setval() is not rolled back, and needs not be: it is right from the moment at which it is done
                    async with safe_transaction(self.connection, isolation="read_committed"):
                        await self.connection.execute(
                            compose(
                                "SET LOCAL lock_timeout = '{ms}ms'; SET LOCAL statement_timeout = '{limit}ms'",
                                ms=round(LOCK_SECONDS * 1000),
                                limit=round(QUERY_SECONDS * 1000),
                            )
                        )
                        await self.return_to(sequence)
                    break
                except asyncpg.LockNotAvailableError:
                    if not tries_left:
                        holders = await describe_holders(self.connection, [sequence])
                        self.reasons.append(f"the sequence {plain_names(sequence)} is in use, by {holders}")
                    await anyio.sleep(PAUSE if tries_left else 0)
                except asyncpg.QueryCanceledError:
                    self.reasons.append(
                        f"looking for later ids of the sequence {plain_names(sequence)} would take more than "
                        f"{QUERY_SECONDS} s, in which nobody else could take values"
                    )
                    break
                except asyncpg.PostgresError as error:
                    if self.connection.is_closed():
                        raise
                    # such as that of an event trigger
                    message = server_message(error)
                    self.reasons.append(f"the sequence {plain_names(sequence)} cannot be locked: {message}")
                    break
            if len(self.reasons) == earlier:
                self.kept.remove(sequence)

    async def return_to(self, sequence: str) -> None:
        """Set a sequence back to its state before the oldest run after which only these runs have used it."""
        name = plain_names(sequence)
        if await read_state(self.connection, sequence) is None:
            self.reasons.append(f"the sequence {name} is gone, or the user may not read it")
            return
        if not await lock_sequence(self.connection, sequence):
            self.reasons.append(f"only the owner of the sequence {name} can give its values back")
            return
        present = state = await read_state(self.connection, sequence)
        assert present is not None
        assert state is not None
        returned: dict[str, tuple[int, int]] = {}
        for run in self.runs:
            taken = [reservation for reservation in run.reservations if reservation.sequence == sequence]
            before = self.state_before(run, taken, state)
            if before is None:
                self.reasons.append(describe_other_state(name, state, taken))
                break
            if late := await self.describe_later_rows(run, taken):
                self.reasons.append(late)
                break
            state = before
            for reservation in taken:
                if reservation.end is not None:
                    first, last = run.ids(reservation.table)
                    returned[reservation.table] = first, max(last, returned.get(reservation.table, (0, 0))[1])
        if state != present and await self.have_rows_come(sequence):
            self.reasons.append(f"rows with later values of the sequence {name} came meanwhile")
        elif state != present:
            await set_state(self.connection, sequence, state.last, is_called=state.is_called)
            logger.info("the sequence %s is set back from %s to %s", sequence, present.last, state.last)
            self.ids |= returned

    def state_before(self, run: Run, taken: Sequence[Reservation], state: SequenceState) -> SequenceState | None:
        """Return the state before the run took its values, if it was the last to take any before ``state``; or None."""
        # the rows of a load take the values of defaults, one each, after the ids of all tables are reserved
        by_default = [reservation for reservation in taken if reservation.end is None]
        if by_default:
            start = state.at(by_default[0].last, is_called=by_default[0].is_called)
            if start.advanced(sum(run.rows[reservation.table] for reservation in by_default)) != state:
                return None
            state = start
        for reservation in reversed([reservation for reservation in taken if reservation.end is not None]):
            assert reservation.end is not None
            if state != state.at(reservation.end):
                return None
            state = state.at(reservation.last, is_called=reservation.is_called)
        return state

    async def describe_later_rows(self, run: Run, taken: Sequence[Reservation]) -> str:
        """Return a clause on rows that have values which would be given back; empty without such rows."""
        for reservation in taken:
            highest = await self.read_highest(column_of(run, reservation))
            if highest > max(reservation.highest, reservation.last - (not reservation.is_called)):
                table = run.names.sql_name(reservation.table)
                return f"{plain_names(table)} has rows with later ids, up to {highest:,}"
        return ""

    async def have_rows_come(self, sequence: str) -> bool:
        """Return whether rows have values of the sequence above the highest ones that were read before the lock."""
        columns = dict.fromkeys(
            column_of(run, reservation) for run, reservation in self.reservations if reservation.sequence == sequence
        )
        later = []
        for column in columns:
            table, name = column
            highest = self.highest.get(column, "")
            if highest is None:
                later.append(compose("EXISTS (SELECT FROM {table})", table=table))
            elif isinstance(highest, int):
                later.append(
                    compose(
                        "EXISTS (SELECT FROM {table} WHERE {column} > {highest})",
                        table=table,
                        column=name,
                        highest=highest,
                    )
                )
        # one statement, since statement_timeout is the limit of each
        return bool(later) and bool(await self.connection.fetchval(compose("SELECT {any}", any=join(" OR ", later))))

    async def describe_next_load(self, run: Run) -> str:
        """Return a sentence if the next load of the plan of ``run`` gets other ids; empty if it gets the same."""
        predicted = await self.predict_first_ids(run)
        differing = [table for table, first in predicted.items() if first != run.placement.first(table)]
        defaults = {reservation.sequence for _, reservation in self.reservations if reservation.end is None}
        if not differing and self.kept.isdisjoint(defaults):
            return ""
        ids = ",".join(f"{table}={first}" for table, first in run.placement.first_ids(run.plan.model.names).items())
        if run.ids_given and not self.reasons:
            return f"the load of run {run.number} gets the same ids again with --first-ids {ids}"
        later = [other.number for other in self.remaining if other.number > run.number]
        if not self.reasons and later:
            self.reasons.append(f"run{'s' * (len(later) > 1)} {', '.join(map(str, later))} came later")
        if not self.reasons:
            self.reasons += [await self.describe_other_id(run, table) for table in differing]
        sentence = other_rows_sentence(run, "; ".join(dict.fromkeys(self.reasons)))
        if await find_tables_with_rows(self.connection, run):
            return sentence
        return f"{sentence} (with --first-ids {ids} it gets the same)"

    async def describe_other_id(self, run: Run, table: str) -> str:
        """Return a clause on why the next load gets other ids for a table that has no reservation to give back."""
        name = run.names.sql_name(table)
        sequence = await find_sequence(self.connection, name, run.plan.model.column(table, "id"))
        if sequence is None or table in {reservation.table for reservation in run.reservations}:
            return f"{plain_names(name)} has other rows, and so other next ids"
        if not await is_owner(self.connection, sequence["qualified"]):
            return f"only the owner of the sequence {plain_names(sequence['qualified'])} can give its values back"
        return (
            f"it is not known how the sequence {plain_names(sequence['qualified'])} was before run {run.number}: "
            "it was in use then, or an older bulkseed loaded the run"
        )

    async def predict_first_ids(self, run: Run) -> dict[str, int]:
        """Return the first ids that a load of the plan of ``run`` would get now, for each table that has ids."""
        predicted: dict[str, int] = {}
        states: dict[str, SequenceState] = {}
        last_ids = highest_ids(self.remaining)
        for table in (name for name in WITH_IDS if name in run.plan.model.names):
            if table in run.placement.uuids:
                # more than needed where the UUIDs of a run that no ledger records were in the way
                predicted[table] = max(last_ids.get(table, 0) + 1, run.placement.first(table))
                continue
            column = run.names.sql_name(table), run.names.sql_column(table, "id")
            highest = await self.read_highest(column)
            if column in self.highest:
                predicted[table] = await self.predict_first_id(run, table, highest, states)
        return predicted

    async def predict_first_id(self, run: Run, table: str, highest: int, states: dict[str, SequenceState]) -> int:
        count = run.expected[table]
        column = run.plan.model.column(table, "id")
        sequence = await find_sequence(self.connection, run.names.sql_name(table), column)
        if sequence is None:
            return highest + 1
        name = sequence["qualified"]
        state = states.get(name) or await read_state(self.connection, name)
        if state is None:
            return 0
        gap = GAP if highest or state.is_called else 0
        states[name] = state.at(last_reserved(state, highest, gap, count))
        return states[name].last - count + 1


def describe_other_state(name: str, state: SequenceState, taken: Sequence[Reservation]) -> str:
    """Return a clause on a sequence that is not as a run left it."""
    ends = [reservation.end for reservation in taken if reservation.end is not None]
    if ends and state.last < max(ends):
        return f"the sequence {name} was set to {state.last:,} by others"
    return f"later values of the sequence {name} were taken, up to {state.last:,}"


def column_of(run: Run, reservation: Reservation) -> Column:
    return run.names.sql_name(reservation.table), identifier(reservation.column)


def other_rows_sentence(run: Run, reason: str) -> str:
    return f"the load of run {run.number}, given again, would get other ids: {reason}"
