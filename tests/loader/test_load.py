"""Loads into a real server: the same rows each time, beside an app's rows, and all or nothing."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import anyio
import pytest

from bulkseed.cleaner.cleanup import cleanup
from bulkseed.errors import BulkseedError, ConnectionLostError, RunError, TargetError
from bulkseed.generators import Context
from bulkseed.loader import preflight
from bulkseed.loader.complete import LoadReport
from bulkseed.loader.load import load
from bulkseed.plan.plan import Placement
from bulkseed.plan.tables import Model
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection
from bulkseed.postgres.transaction import RetryPolicy
from bulkseed.target.target import Target, read_target
from bulkseed.text.faker_source import make_corpus
from support.app_rows import APP_ROWS
from support.databases import MakeDatabase
from support.errors import raises
from support.listeners import Interfering, Notes
from support.obstacles import CHECK, FAIL
from support.plans import plan_of
from support.queries import EMPTY, counts, digest, has_ledger, run_sql


async def test_the_report_counts_what_is_in_the_tables(database: Address) -> None:
    report = await load(plan_of("2x"), database)
    assert await counts(database) == report.rows
    assert report.rows["users"] == 40
    assert report.rows["channels"] == 20
    assert report.seconds["total"] >= sum(report.seconds[table] for table in EMPTY)


async def test_the_same_seed_gives_the_same_rows_whatever_the_shards_and_batches(
    make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, other = [await make_database() for _ in range(3)]
    await load(plan_of("5x", seed=7), first)
    await load(plan_of("5x", seed=8), other)
    for module in ("users", "channels", "messages"):
        monkeypatch.setattr(f"bulkseed.generators.{module}.BATCH_ROWS", 97)
    await load(plan_of("5x", seed=7), second, rows_per_shard=333)
    same, again, others = [await digest(address) for address in (first, second, other)]
    assert same == again
    assert all(same[table] != others[table] for table in EMPTY)


@pytest.mark.core
async def test_loads_beside_an_apps_rows_and_beside_each_other(database: Address) -> None:
    await run_sql(database, *APP_ROWS)
    before = await digest(database)
    await load(plan_of("2x"), database)
    await load(plan_of("2x"), database)
    async with open_connection(database) as connection:
        for column in ("auth0_id", "email"):
            assert await connection.fetchval(f"SELECT count(*) = count(DISTINCT {column}) FROM users")
        texts = await connection.fetchrow(
            "SELECT count(*), count(DISTINCT content) FROM messages WHERE content <> 'app'"
        )
        assert texts[1] >= 0.99 * texts[0]
        assert await connection.fetchval("SELECT count(*) FROM bulkseed.runs WHERE finished_at IS NOT NULL") == 2
        # the app goes on by its sequences
        await connection.execute(
            "DELETE FROM message_reactions WHERE message_id IN (SELECT id FROM messages WHERE content = 'app')"
        )
        for statement in APP_ROWS[3:]:
            await connection.execute(statement)
    assert (await counts(database))["users"] == before["users"][0] + 80


async def test_two_loads_at_once_run_one_after_the_other(database: Address) -> None:
    notes = Notes()
    first, second = await asyncio.gather(
        load(plan_of("2x"), database, listener=notes), load(plan_of("2x"), database, listener=notes)
    )
    assert {first.run, second.run} == {1, 2}
    assert (await counts(database))["users"] == 80
    assert any(re.search(r"\bprocess \d+ of the user bulkseed\b", note) for note in notes.said)


async def test_more_pairs_than_can_be_numbered_are_refused(database: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulkseed.target.ids.MAX_PAIRS", 10)
    with raises("too-many-pairs", "--max-members", kind=TargetError):
        await load(plan_of(), database)


async def test_unique_values_keep_clear_of_rows_that_are_there(
    make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = await make_database(), await make_database()
    await load(plan_of("2x"), ours)
    async with open_connection(ours) as connection:
        user = await connection.fetchrow("SELECT auth0_id, email FROM users WHERE id = 17")
        code = await connection.fetchval("SELECT join_code FROM channels WHERE join_code IS NOT NULL ORDER BY id DESC")
    # ids below zero leave the sequences alone, so that the load would make the very same values
    app_user = "INSERT INTO users VALUES (-1, $1, $2, true, now(), 'x')"
    app_channel = "INSERT INTO channels VALUES (-1, 'x', NULL, -1, now(), true, false, $1)"
    async with open_connection(theirs) as connection:
        await connection.execute(app_user, "app", user["email"])
        await connection.execute(app_channel, code)
    with monkeypatch.context() as patch:
        patch.setattr("bulkseed.target.ids.MAX_VARIANTS", 1)
        with raises("values-used-up", '"users"', '"channels"', "--seed", kind=TargetError):
            await load(plan_of("2x"), theirs)
    await run_sql(theirs, *(f"ALTER SEQUENCE {table}_id_seq RESTART" for table in ("users", "channels", "messages")))
    report = await load(plan_of("2x"), theirs)
    assert report.placement.variant > 0
    async with open_connection(theirs) as connection:
        assert await connection.fetchval("SELECT count(*) = count(DISTINCT email) FROM users")


@pytest.mark.core
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
async def test_timestamptz_columns_get_the_same_instants(make_database: MakeDatabase, zone: str) -> None:
    plain, zoned = await make_database(), await make_database()
    columns = {
        "users": ["created_at"],
        "channels": ["created_at"],
        "messages": ["created_at", "updated_at"],
        "message_reactions": ["created_at"],
    }
    for table, names in columns.items():
        for name in names:
            await run_sql(zoned, f"ALTER TABLE {table} ALTER {name} TYPE timestamptz")
    await run_sql(zoned, f"ALTER DATABASE {zoned.url.database} SET timezone TO '{zone}'")
    await load(plan_of("2x"), plain)
    await load(plan_of("2x"), zoned)
    for table, names in columns.items():
        for name in names:
            await run_sql(zoned, f"ALTER TABLE {table} ALTER {name} TYPE timestamp USING {name} AT TIME ZONE 'UTC'")
    assert await digest(plain) == await digest(zoned)


async def test_smaller_integers_and_defaults_of_the_target_are_respected(database: Address) -> None:
    await run_sql(
        database,
        "ALTER TABLE message_reactions ALTER user_id TYPE integer, ALTER message_id TYPE integer",
        "ALTER TABLE users ALTER id TYPE integer, ADD flavour text NOT NULL DEFAULT 'plain'",
        "ALTER TABLE users ADD name_length integer GENERATED ALWAYS AS (length(name)) STORED",
        "ALTER TABLE users ALTER id SET GENERATED ALWAYS",
    )
    await load(plan_of(), database)
    async with open_connection(database) as connection:
        assert await connection.fetchval("SELECT every(flavour = 'plain' AND name_length = length(name)) FROM users")


async def test_citext_is_taken_for_text(database: Address) -> None:
    await run_sql(database, "CREATE EXTENSION citext", "ALTER TABLE users ALTER email TYPE citext")
    await load(plan_of(), database)
    async with open_connection(database) as connection:
        email = await connection.fetchval("SELECT upper(email::text) FROM users ORDER BY id LIMIT 1")
        await connection.execute("DELETE FROM bulkseed.runs")
        await connection.execute("TRUNCATE users CASCADE")
        await connection.execute("ALTER SEQUENCE users_id_seq RESTART")
        await connection.execute("INSERT INTO users VALUES (-1, 'x', $1, true, now(), 'x')", email)
    assert (await load(plan_of(), database)).placement.variant == 1


@pytest.mark.parametrize("setting", ["lock_timeout", "statement_timeout", "transaction_timeout"])
async def test_timeouts_of_the_role_do_not_end_it(database: Address, setting: str) -> None:
    async with open_connection(database) as connection:
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_settings WHERE name = $1)", setting):
            pytest.skip(f"this PostgreSQL has no {setting}: it came with 17")
    await run_sql(database, f"ALTER DATABASE {database.url.database} SET {setting} TO '50ms'")
    await load(plan_of("3x"), database)


class TestIds:
    async def ids(self, database: Address, *before: str) -> tuple[int, int, LoadReport]:
        await run_sql(database, *before)
        report = await load(plan_of(), database)
        async with open_connection(database) as connection:
            row = await connection.fetchrow(
                "SELECT min(id), max(id) FROM users WHERE id >= $1", report.placement.first_user
            )
            assert row[1] - row[0] == 19
            next_shard = await connection.fetchval("SELECT nextval(pg_get_serial_sequence('users', 'id'))")
            assert next_shard is None or next_shard > row[1]
        return row[0], row[1], report

    async def test_begin_at_one_in_an_empty_table(self, database: Address) -> None:
        assert (await self.ids(database))[:2] == (1, 20)

    async def test_pass_by_rows_that_the_sequence_does_not_know(self, database: Address) -> None:
        await run_sql(database, "INSERT INTO users VALUES (5000, 'a', 'b', true, now(), 'c')")
        assert (await self.ids(database))[0] > 5000

    async def test_keep_the_step_of_the_sequence(self, database: Address) -> None:
        await self.ids(database, "ALTER TABLE users ALTER id SET INCREMENT BY 7")
        async with open_connection(database) as connection:
            next_shard = await connection.fetchval("SELECT nextval(pg_get_serial_sequence('users', 'id'))")
        assert next_shard % 7 == 1

    async def test_without_a_sequence(self, database: Address) -> None:
        await self.ids(database, "ALTER TABLE users ALTER id DROP IDENTITY")

    async def test_by_the_sequence_of_the_default_and_not_one_that_is_merely_owned(self, database: Address) -> None:
        await run_sql(
            database,
            "ALTER TABLE users ALTER id DROP IDENTITY",
            "CREATE SEQUENCE old OWNED BY users.id",
            "CREATE SEQUENCE used START 500",
            "ALTER TABLE users ALTER id SET DEFAULT nextval('used')",
        )
        assert (await load(plan_of(), database)).placement.first_user == 500

    async def test_by_a_sequence_that_only_the_default_names(self, database: Address) -> None:
        await run_sql(
            database,
            "ALTER TABLE users ALTER id DROP IDENTITY",
            "CREATE SEQUENCE elsewhere START 900",
            "ALTER TABLE users ALTER id SET DEFAULT nextval('elsewhere')",
        )
        report = await load(plan_of(), database)
        assert report.placement.first_user == 900
        async with open_connection(database) as connection:
            assert await connection.fetchval("SELECT nextval('elsewhere')") == 920

    @pytest.mark.parametrize(
        ("change", "code", "fact"),
        [
            (
                "ALTER TABLE messages ALTER id TYPE smallint; SELECT setval('messages_id_seq', 32600)",
                "ids-exhausted",
                "messages",
            ),
            ("ALTER TABLE messages ALTER id SET MAXVALUE 50", "ids-exhausted", "messages"),
            (
                "ALTER TABLE messages ALTER user_id TYPE smallint; SELECT setval('users_id_seq', 40000)",
                "ids-exhausted",
                '"users".id',
            ),
            (
                "ALTER TABLE messages ALTER id SET INCREMENT BY -1 SET MINVALUE -100 SET START -1 RESTART",
                "descending-sequence",
                "messages",
            ),
        ],
    )
    async def test_that_do_not_fit_are_refused(self, database: Address, change: str, code: str, fact: str) -> None:
        await run_sql(database, change)
        before = await digest(database)
        with raises(code, fact, kind=TargetError):
            await load(plan_of(), database)
        assert await digest(database) == before
        assert not await has_ledger(database)


async def test_a_missing_catalogue_stops_it_before_a_sequence_is_moved(database: Address) -> None:
    await run_sql(database, "UPDATE reactions SET is_system = false")
    with raises("empty-catalogue", "`bulkseed init`", kind=TargetError):
        await load(plan_of(), database)
    async with open_connection(database) as connection:
        assert await connection.fetchval("SELECT nextval(pg_get_serial_sequence('users', 'id'))") == 1
    assert not await has_ledger(database)


DROP = """
CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER skip BEFORE INSERT ON user_channels FOR EACH ROW WHEN (to_regnamespace('bulkseed') IS NOT NULL)
EXECUTE FUNCTION skip();
"""


@pytest.mark.parametrize(
    ("obstacle", "code", "facts"),
    [
        (FAIL, "server-error", ("message_reactions", "no more")),
        (DROP, "rows-dropped", ("user_channels", " 0 ")),
        (CHECK, "server-error", ("messages_id_check",)),
    ],
)
async def test_an_error_in_the_middle_leaves_nothing(
    database: Address, obstacle: str, code: str, facts: tuple[str, ...]
) -> None:
    await run_sql(database, *APP_ROWS, obstacle)
    before = await digest(database)
    with raises(code, *facts, "run 1", kind=RunError):
        await load(plan_of("3x"), database, rows_per_shard=500)
    assert await digest(database) == before
    assert not await has_ledger(database)


async def backends(address: Address) -> list[int]:
    async with open_connection(address) as connection:
        rows = await connection.fetch(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND application_name = 'bulkseed'"
        )
    return [row["pid"] for row in rows]


@pytest.mark.parametrize("table", ["users", "messages"])
def test_a_backend_that_dies_is_an_error_and_not_a_hang(table: str, seeded: Address, any_loop: dict[str, Any]) -> None:
    async def main() -> None:
        before = await digest(seeded)
        tasks: set[asyncio.Task[None]] = set()

        async def kill() -> None:
            async with open_connection(seeded) as connection:
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid() AND application_name = 'bulkseed'"
                )

        listener = Interfering(table, lambda: tasks.add(asyncio.ensure_future(kill())))
        with anyio.fail_after(30), raises("connection-lost", "run 2", kind=ConnectionLostError):
            await load(plan_of("20x"), seeded, listener=listener, retry_policy=RetryPolicy(seconds=0))
        await asyncio.gather(*tasks)
        assert await digest(seeded) == before

    anyio.run(main, backend_options=any_loop)


async def test_reading_the_tables_is_tried_again(database: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[int] = []

    async def read_when_lost(connection: Connection, model: Model) -> Target:
        if not lost:
            lost.append(await connection.fetchval("SELECT pg_backend_pid()"))
            async with open_connection(database) as other:
                await other.execute("SELECT pg_terminate_backend($1, 5000)", lost[0])
        return await read_target(connection, model)

    monkeypatch.setattr(preflight, "read_target", read_when_lost)
    notes = Notes()
    done = await load(plan_of(), database, listener=notes)
    assert sum(done.rows.values()) > 0
    assert lost
    assert notes.said


def test_a_cancelled_load_rolls_back_and_leaves_no_connection(seeded: Address, any_loop: dict[str, Any]) -> None:
    async def main() -> None:
        before = await digest(seeded)
        with anyio.CancelScope() as scope:
            await load(plan_of("20x"), seeded, listener=Interfering("messages", scope.cancel))
        assert scope.cancelled_caught
        with anyio.fail_after(5):
            while await backends(seeded):
                await anyio.sleep(0.02)
        assert (await digest(seeded, "messages"))["messages"] == before["messages"]
        await cleanup(seeded, [2])
        assert await digest(seeded) == before

    anyio.run(main, backend_options=any_loop)


async def test_a_login_called_bulkseed_finds_the_apps_tables_and_not_the_ledgers(database: Address) -> None:
    # "$user" in search_path names the ledger's schema, and the session's login has that name
    await load(plan_of(), database)
    async with open_connection(database) as connection:
        assert await connection.fetchval("SELECT current_user") == "bulkseed"
        assert await connection.fetchval("SELECT current_schema()") == "public"


async def test_generators_that_fail_are_errors_and_not_short_tables(
    database: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Any:
        raise BulkseedError("broken on purpose", code="broken")

    monkeypatch.setattr("bulkseed.generators.messages.contents", broken)
    with raises("broken", "broken on purpose", "run 1", kind=RunError):
        await load(plan_of(), database)
    assert await counts(database) == EMPTY


def test_the_rows_follow_from_plan_and_placement_alone() -> None:
    placement = Placement(first_user=5, first_channel=1, first_message=1, reactions=(1,))
    first, second = (Context(plan_of(), placement, make_corpus("en_US")) for _ in range(2))
    assert first.user_created.tolist() == second.user_created.tolist()
