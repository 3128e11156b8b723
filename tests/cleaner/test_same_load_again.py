"""The same load again, after a cleanup or an undone load: the same ids and rows, or a sentence that says why not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from bulkseed.cleaner.cleanup import CleanupReport, cleanup
from bulkseed.cleaner.triggers import find_writing_triggers
from bulkseed.errors import RunError, TargetError
from bulkseed.load_options import Defer, Format
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.postgres.transaction import RetryPolicy
from bulkseed.sql import identifier
from support.app_rows import APP_ROWS
from support.errors import raises
from support.listeners import Notes
from support.obstacles import FAIL
from support.plans import plan_of, planned
from support.queries import EMPTY, counts, digest, rows, run_sql

SEQUENCES: Final = """
SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'public' ORDER BY 1
"""
TABLES: Final = ("users", "channels", "messages")


async def states(address: Address) -> list[tuple[object, ...]]:
    """The state of each sequence in schema public."""
    return await rows(address, SEQUENCES)


async def load_and_clean(address: Address, **options: object) -> tuple[dict[str, tuple[int, str]], CleanupReport]:
    """Load 1x, and remove it; return the digests of the loaded tables, and the report of the cleanup."""
    run = (await load(plan_of(), address, **options)).run  # type: ignore[arg-type]
    loaded = await digest(address)
    return loaded, await cleanup(address, [run])


@pytest.mark.core
@pytest.mark.parametrize(("defer", "copy_format"), [("always", "binary"), ("never", "records")])
async def test_fault_19_a_load_after_a_cleanup_makes_the_same_rows(
    database: Address, defer: Defer, copy_format: Format
) -> None:
    before = await states(database)
    first, report = await load_and_clean(database, defer=defer, copy_format=copy_format)
    assert report.other_rows == ""
    assert report.returned_ids["users"] == (1, 20)
    assert report.returned_ids.keys() == set(TABLES)
    assert await states(database) == before
    again, _ = await load_and_clean(database)
    assert again == first


async def test_fault_19_beside_rows_of_an_app(database: Address) -> None:
    await run_sql(database, *APP_ROWS)
    before = await states(database)
    first, report = await load_and_clean(database)
    assert report.other_rows == ""
    assert await states(database) == before
    # the app goes on with the ids that it would have had without the load
    assert await rows(database, "SELECT nextval('users_id_seq')") == [(8,)]
    await run_sql(database, "SELECT setval('users_id_seq', 7)")
    assert (await load_and_clean(database))[0] == first


async def test_fault_19_after_a_failed_load(database: Address) -> None:
    before = await states(database)
    first, _ = await load_and_clean(database)
    await run_sql(database, FAIL.replace("> 900", "> 100"))
    with raises("server-error", kind=RunError):
        await load(plan_of(), database)
    assert await states(database) == before
    await run_sql(database, "DROP TRIGGER fail ON message_reactions")
    assert (await load_and_clean(database))[0] == first


async def test_fault_19_later_ids_are_never_given_back(database: Address) -> None:
    await load(plan_of(), database)
    await run_sql(database, "SELECT nextval('channels_id_seq')")  # kept by an app for a row to come
    (taken,) = await rows(database, "SELECT last_value FROM channels_id_seq")
    report = await cleanup(database, [1])
    assert report.returned_ids.keys() == {"users", "messages"}
    assert "public.channels_id_seq" in report.other_rows
    assert await rows(database, "SELECT last_value FROM channels_id_seq") == [taken]


async def test_fault_19_rows_with_ids_of_the_run_stay(database: Address) -> None:
    """Such as rows that a cleanup keeps, or that an app has given an id by hand."""
    await load(plan_of(), database)
    await run_sql(
        database,
        "INSERT INTO users (id, auth0_id, email, is_active, created_at, name) OVERRIDING SYSTEM VALUE "
        "VALUES (1005, 'app', 'app@corp.test', true, now(), 'App')",
    )
    report = await cleanup(database, [1])
    assert "public.users" in report.other_rows
    assert "1,005" in report.other_rows
    assert report.returned_ids.keys() == {"channels", "messages"}


async def test_fault_19_several_runs(database: Address) -> None:
    before = await states(database)
    await load(plan_of(), database)
    one = await states(database), await digest(database)
    await load(plan_of(), database)
    two = await states(database), await digest(database)
    assert (await cleanup(database, [2])).other_rows == ""
    assert (await states(database), await digest(database)) == one
    await load(plan_of(), database)
    assert (await states(database), await digest(database)) == two
    report = await cleanup(database, [1])
    assert not report.returned_ids
    assert report.other_rows
    await load(plan_of(), database)
    report = await cleanup(database, [4, 3])
    assert report.other_rows == ""
    assert (await states(database)) == one[0]  # the ids of run 1 are behind those of run 2, which were given back
    await run_sql(database, "SELECT setval('users_id_seq', 1, false)", "SELECT setval('channels_id_seq', 1, false)")
    await run_sql(database, "SELECT setval('messages_id_seq', 1, false)")
    assert await states(database) == before
    await load(plan_of(), database)
    await load(plan_of(), database)
    assert (await cleanup(database, [1, 2])).other_rows == ""
    assert await states(database) == before


async def test_fault_19_load_cleanup_load_at_a_scale(database: Address, pytestconfig: pytest.Config) -> None:
    """Print the digests, which ``-k at_a_scale --again-scale 10x -rP`` shows."""
    plan, before = plan_of(pytestconfig.getoption("--again-scale")), await states(database)
    digests = []
    for workers, defer in ((2, "always"), (1, "never")):
        report = await load(plan, database, workers=workers, defer=defer)  # type: ignore[arg-type]
        digests.append(await digest(database))
        removed = await cleanup(database, [report.run])
        print(f"{sum(report.rows.values()):,} rows, {workers} workers, --defer {defer}: {removed.other_rows or 'same'}")
        print(*(f"  {table} {rows} {found}" for table, (rows, found) in digests[-1].items()), sep="\n")
        assert removed.other_rows == ""
        assert await states(database) == before
    assert digests[0] == digests[1]


ODD: Final = (
    "ALTER SEQUENCE users_id_seq INCREMENT 50 CACHE 20 RESTART 7 CYCLE",
    "SELECT nextval('channels_id_seq'), nextval('channels_id_seq')",
    "ALTER SEQUENCE messages_id_seq RESTART 1000",
    "CREATE SEQUENCE shared",
    "ALTER TABLE user_channels ADD number bigint DEFAULT nextval('shared'), ADD serial_number bigserial",
    "ALTER TABLE message_reactions ADD number bigint DEFAULT nextval('shared')",
    "ALTER TABLE message_reactions ADD word text DEFAULT nextval('shared')",
)


async def test_fault_19_sequences_of_other_steps_and_of_columns_left_to_their_defaults(database: Address) -> None:
    await run_sql(database, *ODD)
    before = await states(database)
    first, report = await load_and_clean(database)
    assert report.other_rows == ""
    assert await states(database) == before
    assert (await load_and_clean(database))[0] == first
    await load(plan_of(), database)
    await run_sql(database, "SELECT nextval('shared')")
    assert "public.shared" in (await cleanup(database, [1])).other_rows


async def test_fault_19_one_sequence_for_several_tables(database: Address) -> None:
    await run_sql(
        database,
        "CREATE SEQUENCE every_id START 10",
        *(f"ALTER TABLE {table} ALTER id DROP IDENTITY IF EXISTS" for table in TABLES),
        *(f"ALTER TABLE {table} ALTER id SET DEFAULT nextval('every_id')" for table in TABLES),
        "ALTER TABLE user_channels ADD id bigint DEFAULT nextval('every_id')",
    )
    before = await states(database)
    first, report = await load_and_clean(database)
    assert report.other_rows == ""
    assert await states(database) == before
    assert (await load_and_clean(database))[0] == first


async def test_fault_19_uuid_keys(make_database: object, tmp_path: Path) -> None:
    address: Address = await make_database("empty")  # type: ignore[operator]
    await run_sql(address, UUID_TABLES)
    plan = planned(tmp_path, UUID_SCENARIO, "1x")
    digests = []
    for _ in range(2):
        run = (await load(plan, address)).run
        digests.append(await digest(address))
        report = await cleanup(address, [run])
        assert report.other_rows == ""
        assert not report.returned_ids
    assert digests[0] == digests[1]
    await load(plan, address)
    await load(plan, address)
    assert "2" in (await cleanup(address, [1])).other_rows


UUID_TABLES: Final = """
CREATE TABLE users (id uuid PRIMARY KEY, name text, created_at timestamptz);
CREATE TABLE channels (id uuid PRIMARY KEY, name text, owner_id uuid REFERENCES users, created_at timestamptz);
CREATE TABLE user_channels (user_id uuid REFERENCES users, channel_id uuid, PRIMARY KEY (user_id, channel_id));
CREATE TABLE messages (id uuid PRIMARY KEY, content text, created_at timestamptz, user_id uuid, channel_id uuid);
"""
UUID_SCENARIO: Final = """
[tables]
message_reactions = false
[columns.users]
auth0_id = false
email = false
is_active = false
picture = false
bio = false
[columns.channels]
description = false
is_private = false
is_dm = false
join_code = false
[columns.messages]
updated_at = false
parent_id = false
"""


async def test_fault_19_a_user_that_does_not_own_the_sequences(database: Address) -> None:
    guest = f"guest_of_{database.url.database}"
    await run_sql(
        database,
        f"CREATE ROLE {guest} LOGIN",
        f"GRANT CREATE ON DATABASE {database.url.database} TO {guest}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {guest}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {guest}",
    )
    other = Address(database.url._replace(username=guest))
    try:
        await load(plan_of(), other)
        report = await cleanup(other, [1])
        assert not report.returned_ids
        assert "public.users_id_seq" in report.other_rows
    finally:
        await run_sql(database, f"DROP OWNED BY {guest}", f"DROP ROLE {guest}")


async def test_fault_19_a_transaction_that_has_taken_ids_is_waited_for(
    database: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkseed.cleaner.return_ids.TRIES", 1)
    await load(plan_of(), database)
    async with open_connection(database) as app, app.transaction():
        await app.execute("SELECT nextval('users_id_seq')")
        report = await cleanup(database, [1])
        assert "public.users_id_seq" in report.other_rows
    # a load beside such a transaction is not disturbed, and its ids are not given back either
    async with open_connection(database) as app:
        async with app.transaction():
            await app.execute("SELECT nextval('users_id_seq')")
            await load(plan_of(), database)
        assert "public.users_id_seq" in (await cleanup(database, [1])).other_rows


async def test_fault_19_a_sequence_is_not_locked_for_long(database: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no index begins with the ids, all rows are read to find later ones."""
    await load(plan_of(), database)
    await run_sql(
        database,
        "ALTER TABLE messages DROP CONSTRAINT messages_pkey CASCADE, DROP CONSTRAINT messages_user_id_fkey, "
        "DROP CONSTRAINT messages_channel_id_fkey",
        "INSERT INTO messages OVERRIDING SYSTEM VALUE "
        "SELECT -n, 'app', now(), now(), -1, -1 FROM generate_series(1, 60000) AS n",
    )
    monkeypatch.setattr("bulkseed.cleaner.return_ids.QUERY_SECONDS", 0.001)
    report = await cleanup(database, [1])
    assert "messages" not in report.returned_ids
    assert "later ids of the sequence public.messages_id_seq" in report.other_rows


async def test_fault_19_an_event_trigger_that_forbids_locks(database: Address) -> None:
    await load(plan_of(), database)
    await run_sql(
        database,
        "CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'frozen'; END $$",
        "CREATE EVENT TRIGGER no ON ddl_command_start WHEN TAG IN ('ALTER SEQUENCE') EXECUTE FUNCTION no()",
    )
    report = await cleanup(database, [1])
    assert "frozen" in report.other_rows
    notes = Notes()
    await load(plan_of(), database, listener=notes)
    assert not [note for note in notes.said if "frozen" in note]
    assert (await cleanup(database, [1])).other_rows


async def test_fault_19_an_app_that_takes_ids_meanwhile_gets_each_once(database: Address) -> None:
    taken: list[int] = []
    ended = asyncio.Event()

    async def take_ids() -> None:
        async with open_connection(database) as app:
            while not ended.is_set():
                taken.append(await app.fetchval("SELECT nextval('channels_id_seq')"))
                await asyncio.sleep(0.005 if len(taken) % 50 else 0.3)

    app = asyncio.create_task(take_ids())
    for _ in range(2):
        report = await load(plan_of(), database)
        first = report.placement.first_channel
        await cleanup(database, [report.run])
        assert not set(taken) & set(range(first, first + 10))
    ended.set()
    await app
    assert len(set(taken)) == len(taken)


async def test_fault_19_a_load_that_cannot_begin_gives_its_ids_back(
    database: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await states(database)
    monkeypatch.setattr("bulkseed.target.ids.MAX_VARIANTS", 0)  # as if an app had the values of all variants
    with raises("values-used-up", kind=TargetError):
        await load(plan_of(), database)
    assert await states(database) == before


async def test_fault_19_a_load_that_cannot_be_recorded_gives_its_ids_back(
    database: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkseed.ledger.locks.WRITE_SECONDS", 1)
    await load(plan_of(), database)
    before = await states(database)
    async with open_connection(database) as holder, holder.transaction():
        await holder.execute("LOCK TABLE bulkseed.runs IN EXCLUSIVE MODE")
        with raises("ledger-locked"):
            await load(plan_of(), database, retry_policy=RetryPolicy(tries=1))
    assert await states(database) == before


async def test_fault_19_a_wait_for_a_sequence_that_is_cancelled(
    database: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkseed.cleaner.return_ids.PAUSE", 60)
    await load(plan_of(), database)
    notes = Notes()
    async with open_connection(database) as app, app.transaction():
        await app.execute("SELECT nextval('users_id_seq')")
        removing = asyncio.create_task(cleanup(database, [1], listener=notes))
        while await rows(database, "SELECT FROM pg_namespace WHERE nspname = 'bulkseed'"):
            await asyncio.sleep(0.05)
        removing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await removing
    assert [note for note in notes.said if "the rows are removed" in note]
    assert await counts(database) == EMPTY


STATS: Final = """
CREATE TABLE user_stats (user_id bigint PRIMARY KEY, logins int NOT NULL DEFAULT 0);
CREATE FUNCTION add_stats(id bigint) RETURNS void LANGUAGE sql AS 'INSERT INTO user_stats VALUES (id)';
CREATE FUNCTION new_user() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM add_stats(NEW.id); RETURN NULL; END $$;
CREATE TRIGGER new_user AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION new_user();
"""
"""No foreign key: the rows of removed users stay."""
NEW_USER: Final = """
INSERT INTO users (auth0_id, email, is_active, created_at, name)
VALUES ('app', 'app@corp.test', true, now(), 'App') RETURNING id
"""


async def test_fault_19_ids_are_kept_where_triggers_left_rows(database: Address) -> None:
    await run_sql(database, STATS)
    first, report = await load_and_clean(database)
    assert report.returned_ids == {}
    assert "new_user of public.users" in report.other_rows
    assert "--first-ids users=1,channels=1,messages=1" in report.other_rows
    # the app's next user is none of those whose rows are left
    [(user,)] = await rows(database, NEW_USER)
    assert user == 21
    assert await rows(database, "SELECT count(*) FROM user_stats") == [(21,)]
    # the ids can be had again once the rows are removed
    await run_sql(database, "DELETE FROM users", "TRUNCATE user_stats")
    await load(plan_of(), database, first_ids={"users": 1, "channels": 1, "messages": 1})
    assert await digest(database) == first


HARMLESS: Final = """
CREATE FUNCTION check_name() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    -- an insert or update
    IF TG_OP = 'INSERT' THEN NEW.updated_at = NEW.updated_at; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_name BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION check_name();
"""
BODIES: Final = {
    "an insert": "BEGIN INSERT INTO log VALUES (1); RETURN NULL; END",
    "an update": "BEGIN UPDATE log SET n = 2; RETURN NULL; END",
    "a statement in a text": "BEGIN EXECUTE TG_ARGV[0]; RETURN NULL; END",
    "an escaped quote": r"BEGIN RAISE DEBUG E'\''; INSERT INTO log VALUES (1); RAISE DEBUG ''; RETURN NULL; END",
    "a write of a called function": "BEGIN PERFORM app.write(1); RETURN NULL; END",
}


async def test_fault_19_triggers_that_may_write_other_rows(database: Address) -> None:
    await run_sql(
        database,
        HARMLESS,
        "CREATE SCHEMA app",
        "CREATE TABLE log (n int)",
        "CREATE FUNCTION app.write(int) RETURNS void LANGUAGE sql BEGIN ATOMIC INSERT INTO log VALUES (1); END",
        "CREATE TABLE parted (id int) PARTITION BY LIST (id)",
        "CREATE TABLE part PARTITION OF parted DEFAULT",
    )
    async with open_connection(database) as connection:
        tables = [identifier("public", "messages"), identifier("public", "parted")]
        assert await find_writing_triggers(connection, tables) == []
        for name, body in BODIES.items():
            await run_sql(
                database,
                f"CREATE OR REPLACE FUNCTION write() RETURNS trigger LANGUAGE plpgsql AS $body$ {body} $body$",
                "CREATE OR REPLACE TRIGGER write AFTER INSERT ON part FOR EACH ROW EXECUTE FUNCTION write()",
            )
            assert await find_writing_triggers(connection, tables) == ["write of public.parted"], name
    assert (await load_and_clean(database))[1].other_rows == ""


async def test_fault_19_a_sequence_that_was_restarted_gives_the_same_ids(database: Address) -> None:
    await load(plan_of(), database)
    loaded = await digest(database)
    await run_sql(database, "TRUNCATE users, channels, user_channels, messages, message_reactions RESTART IDENTITY")
    assert (await cleanup(database, [1])).other_rows == ""
    await load(plan_of(), database)
    assert await digest(database) == loaded
