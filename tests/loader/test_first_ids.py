"""First ids that the user gives: the rows of a run again, in emptied tables."""

from __future__ import annotations

import json
from typing import Final

import pytest

import bulkseed
from bulkseed.cleaner.cleanup import cleanup
from bulkseed.errors import InputError, TargetError
from bulkseed.loader.check import check
from bulkseed.loader.load import load
from bulkseed.plan.tables import Model
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.target.ids import find_id_range, reserve_ids
from bulkseed.target.sequences import hold_sequence
from bulkseed.target.target import read_target
from bulkseed.verifier.verify import verify
from support.commands import inside
from support.errors import raises
from support.plans import plan_of
from support.queries import digest, rows, run_sql
from support.whole_database import state

TRUNCATE: Final = "TRUNCATE users, channels, user_channels, messages, message_reactions"
NEXT: Final = "SELECT nextval('users_id_seq'), nextval('channels_id_seq'), nextval('messages_id_seq')"
AT_ONE: Final = {"users": 1, "channels": 1, "messages": 1}


async def test_fault_19_the_rows_of_a_run_again_in_truncated_tables(database: Address) -> None:
    await load(plan_of(), database)
    loaded = await digest(database)
    await run_sql(database, TRUNCATE, NEXT)
    assert (await check(plan_of(), database, first_ids=1)).ids["users"] == (1, 20)
    report = await load(plan_of(), database, first_ids=1)
    assert report.to_dict()["first_ids"] == AT_ONE
    assert await digest(database) == loaded
    # one run has these rows, and the app goes on behind them
    assert await rows(database, "SELECT id, state FROM bulkseed.runs") == [(report.run, "whole")]
    assert await rows(database, NEXT) == [(22, 12, 242)]
    assert all(each.holds for each in await verify(database))
    # and of a run that is not recorded any more; the sequences are not past the ids then
    assert (await cleanup(database, [report.run])).other_rows
    await run_sql(database, *(f"ALTER TABLE {table} ALTER id RESTART" for table in AT_ONE))
    await load(plan_of(), database, first_ids=AT_ONE)
    assert await digest(database) == loaded
    assert await rows(database, NEXT) == [(21, 11, 241)]


async def test_fault_19_after_truncate_a_run_is_replaced_and_its_ids_are_given_back(database: Address) -> None:
    before = await state(database)
    await load(plan_of(), database)
    await run_sql(database, TRUNCATE)
    run = (await load(plan_of(), database, first_ids=1)).run
    report = await cleanup(database, [run])
    assert report.other_rows == ""
    assert report.returned_ids["users"] == (1, 20)
    assert (await state(database))[0] == before[0]


@pytest.mark.parametrize("first_ids", [1, AT_ONE, {"users": 5000, "channels": 10, "messages": 5000}])
async def test_ids_of_rows_are_refused(database: Address, first_ids: int | dict[str, int]) -> None:
    await load(plan_of(), database)
    before = await state(database)
    for command in (load, check):
        with raises("ids-in-use", "public.channels", kind=TargetError):
            await command(plan_of(), database, first_ids=first_ids)
    assert await state(database) == before


async def test_ids_of_a_recorded_run_are_refused_while_it_has_rows(database: Address) -> None:
    await load(plan_of(), database)
    await run_sql(database, "DELETE FROM message_reactions", "DELETE FROM messages WHERE id > 100")
    before = await state(database)
    with raises("ids-in-use", "run 1", "cleanup 1", kind=TargetError):
        await load(plan_of(), database, first_ids={"users": 5000, "channels": 5000, "messages": 101})
    assert await state(database) == before


async def test_ids_behind_the_sequences_are_skipped_by_the_app(database: Address) -> None:
    await run_sql(database, "ALTER TABLE users ALTER id SET INCREMENT 50")
    await load(plan_of(), database, first_ids={"users": 100, "channels": 7, "messages": 1})
    assert await rows(database, "SELECT min(id), max(id) FROM users") == [(100, 119)]
    [(user, channel, _)] = await rows(database, NEXT)
    assert (user, channel) == (201, 17)
    report = await cleanup(database, [1])
    assert report.returned_ids.keys() == set()


async def test_no_table_is_read_while_a_sequence_is_locked(database: Address) -> None:
    """An app's INSERTs wait for that long, and where no index begins with the ids all rows would be read."""
    async with open_connection(database) as connection, open_connection(database) as app:
        target = await read_target(connection, Model(plan_of().scenario))
        found = await find_id_range(connection, target, "users", "id", 20)
        await app.execute("SELECT nextval('users_id_seq')")
        async with app.transaction(), connection.transaction():
            await app.execute("LOCK TABLE users")
            await connection.execute("SET LOCAL lock_timeout = '3s'")
            first, reservation = await reserve_ids(connection, target, "users", "id", 20, found)
            # the limit on the lock of the sequence is not that of what follows
            async with hold_sequence(connection, "public.users_id_seq") as is_held:
                assert is_held
                assert await connection.fetchval("SHOW lock_timeout") == "3s"
    assert first == 2
    assert reservation is not None
    assert (reservation.last, reservation.end) == (1, 21)


async def test_wrong_first_ids(database: Address) -> None:
    wrong: tuple[tuple[object, str], ...] = (
        ({"users": 1}, "channels"),
        ({**AT_ONE, "guests": 1}, "guests"),
        ({**AT_ONE, "users": 0}, "0"),
        (0, "0"),
    )
    for value, fact in wrong:
        with raises("invalid-first-ids", fact, kind=InputError):
            await bulkseed.load(plan_of(), database, first_ids=value)  # type: ignore[arg-type]
    with raises("ids-exhausted", "public", kind=TargetError):
        await load(plan_of(), database, first_ids={**AT_ONE, "users": 2**63 - 5})
    with raises("no-runs", kind=InputError):
        await load(plan_of(), database, first_ids=1)


@pytest.mark.parametrize("text", ["x", "users", "users=1,users=2", "users=", "users=1;channels=1", "-3", "users=-1"])
def test_wrong_text(text: str) -> None:
    done = inside("load", "--first-ids", text, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "invalid-first-ids"


def test_the_option(database: Address) -> None:
    options = ["--database-url", str(database), "--yes", "--json", "--as-of", "2026-06-01"]
    done = inside("load", *options, "--first-ids", "users=11,channels=12,messages=13")
    assert json.loads(done.stdout)["first_ids"] == {"users": 11, "channels": 12, "messages": 13}
    recorded = json.loads(inside("runs", "--database-url", str(database), "--json").stdout)["runs"]
    assert recorded[0]["first_ids"] == {"users": 11, "channels": 12, "messages": 13}
    done = inside("load", *options, "--first-ids", "1")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "ids-in-use"


async def test_ids_of_a_run_in_another_ledger_are_refused(database: Address) -> None:
    await load(plan_of(), database, ledger_schema="theirs")
    await run_sql(database, TRUNCATE)
    with raises("ids-in-use", "run 1", "`bulkseed cleanup 1 --ledger-schema theirs`", kind=TargetError):
        await load(plan_of(), database, first_ids=AT_ONE)
