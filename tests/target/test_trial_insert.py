"""Code of the database that judges rows by other rows: tried with rows of the load in the tables, and rolled back."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from bulkseed.errors import TargetError
from bulkseed.loader.check import check
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.target import trial_limits
from support.errors import raises
from support.listeners import Notes
from support.loads import accept, refuse
from support.plans import plan_of
from support.queries import rows, run_sql
from support.whole_database import state

MEMBER: Final = """
CREATE FUNCTION is_member(wanted bigint, room bigint) RETURNS bool LANGUAGE sql STABLE AS
'SELECT EXISTS (SELECT FROM user_channels WHERE user_id = wanted AND channel_id = room)'
"""
BY_MEMBER: Final = "ALTER TABLE messages ADD CONSTRAINT by_member CHECK ({}is_member(user_id, channel_id))"

NUMBERED: Final = (
    "CREATE TABLE audit (id bigserial PRIMARY KEY, kind text, row_id bigint)",
    "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN INSERT INTO audit (kind, row_id) VALUES (TG_TABLE_NAME, NEW.id); RETURN NULL; END $$",
    "CREATE TRIGGER note AFTER INSERT ON messages FOR EACH ROW EXECUTE FUNCTION note()",
    'CREATE SEQUENCE "Tickets"',
    "ALTER TABLE users ADD rank serial, ADD ticket text NOT NULL DEFAULT 't-' || nextval('\"Tickets\"')",
)
"""Sequences that defaults and triggers move."""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trials take their time on a machine that has much else to do."""
    monkeypatch.setattr(trial_limits, "SECONDS", 30)


@pytest.mark.parametrize("scale", ["1x", "2x"])
async def test_fault_10_check_that_reads_other_tables(database: Address, tmp_path: Path, scale: str) -> None:
    await run_sql(database, MEMBER, BY_MEMBER.format(""))
    await accept(database, tmp_path, "", scale)
    await run_sql(database, "ALTER TABLE messages DROP CONSTRAINT by_member", BY_MEMBER.format("NOT "))
    await refuse(database, tmp_path, "", scale, "check-constraint", "by_member", "messages")


async def test_fault_12_columns_that_triggers_fill_from_other_tables(database: Address, tmp_path: Path) -> None:
    await run_sql(
        database,
        "ALTER TABLE channels ADD topic text NOT NULL DEFAULT 'talk'",
        "ALTER TABLE messages ADD topic text NOT NULL, ADD words tsvector NOT NULL, ADD place int NOT NULL",
        "CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "SELECT c.topic INTO STRICT NEW.topic FROM channels AS c WHERE c.id = NEW.channel_id; "
        "NEW.words := to_tsvector('simple', NEW.content); "
        "NEW.place := (SELECT count(*) FROM user_channels AS u WHERE u.channel_id = NEW.channel_id); "
        "RETURN NEW; END $$",
        "CREATE TRIGGER fill BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION fill()",
        "ALTER TABLE messages ADD CHECK (topic = 'talk' AND place > 1)",
    )
    await accept(database, tmp_path, "")
    await run_sql(database, "ALTER TABLE messages ADD other text NOT NULL, ADD CONSTRAINT few CHECK (place < 0)")
    await refuse(database, tmp_path, "", "1x", "unfilled-column", "messages.other", "[fields.messages]")
    await run_sql(database, "ALTER TABLE messages DROP other")
    await refuse(database, tmp_path, "", "1x", "check-constraint", "few", "messages")


async def test_fault_12_values_that_a_trigger_changes_are_judged_afterwards(database: Address, tmp_path: Path) -> None:
    await run_sql(
        database,
        "ALTER TABLE users ADD handle text NOT NULL CHECK (handle = lower(handle))",
        "CREATE FUNCTION lowered() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.handle := lower(NEW.handle); RETURN NEW; END $$",
        "CREATE TRIGGER lowered BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION lowered()",
        "CREATE UNIQUE INDEX ON users (lower(handle))",
    )
    await accept(database, tmp_path, "[fields.users]\nhandle = { template = 'U-{id}' }")


REFUSING: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "before": (
        "CREATE TRIGGER closed BEFORE INSERT ON channels FOR EACH ROW EXECUTE FUNCTION closed()",
        ("channels", "no more rooms"),
    ),
    "after the statement": (
        "CREATE TRIGGER closed AFTER INSERT ON messages EXECUTE FUNCTION closed()",
        ("messages", "no more rooms"),
    ),
    "at the end of the transaction": (
        "CREATE CONSTRAINT TRIGGER closed AFTER INSERT ON user_channels DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION closed()",
        ("no more rooms",),
    ),
}


@pytest.mark.parametrize("kind", REFUSING)
async def test_fault_24_a_trigger_that_raises_is_met_before_the_load(
    database: Address, tmp_path: Path, kind: str
) -> None:
    trigger, facts = REFUSING[kind]
    await run_sql(
        database,
        "CREATE FUNCTION closed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no more rooms'; END $$",
        trigger,
    )
    await refuse(database, tmp_path, "", "1x", "refused-row", *facts)


async def test_a_trigger_that_drops_rows_is_met_before_the_load(database: Address, tmp_path: Path) -> None:
    await run_sql(
        database,
        "CREATE FUNCTION dropped() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
        "CREATE TRIGGER dropped BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION dropped()",
    )
    await refuse(database, tmp_path, "", "1x", "rows-dropped", "messages")


async def test_several_tables_refuse_at_once(database: Address, tmp_path: Path) -> None:
    await run_sql(
        database,
        "CREATE FUNCTION closed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no %', TG_TABLE_NAME; END $$",
        "CREATE TRIGGER closed BEFORE INSERT ON user_channels EXECUTE FUNCTION closed()",
        "CREATE TRIGGER closed BEFORE INSERT ON messages EXECUTE FUNCTION closed()",
    )
    await refuse(database, tmp_path, "", "1x", "refused-row", "no user_channels", "no messages")


async def test_no_sequence_is_moved(database: Address, tmp_path: Path) -> None:
    await run_sql(database, *NUMBERED, "INSERT INTO audit (kind) SELECT 'app' FROM generate_series(1, 9)")
    before = await state(database)
    for _ in range(2):
        await check(plan_of("1x"), database)
        assert await state(database) == before
    await load(plan_of("1x"), database)
    [(lowest, highest, ranks)] = await rows(
        database, "SELECT min(id), max(id) - count(*), (SELECT max(rank) FROM users) FROM audit"
    )
    assert (lowest, highest, ranks) == (1, 0, 20)


async def test_code_that_may_move_any_sequence_is_not_tried(database: Address) -> None:
    await run_sql(
        database,
        "CREATE TABLE audit (id bigserial PRIMARY KEY, at timestamptz)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN EXECUTE format('INSERT INTO %I (at) VALUES (now())', 'audit'); RETURN NULL; END $$",
        "CREATE TRIGGER note AFTER INSERT ON messages FOR EACH ROW EXECUTE FUNCTION note()",
    )
    before = await state(database)
    report = await check(plan_of("1x"), database)
    assert await state(database) == before
    assert [note for note in report.notes if "note" in note and "any sequence" in note]


async def test_a_slow_trigger_does_not_keep_an_app_waiting(database: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that takes an id from a sequence of the trial waits no longer than its limit."""
    monkeypatch.setattr(trial_limits, "SECONDS", 1)
    await run_sql(
        database,
        *NUMBERED[:3],
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(0.1); RETURN NULL; END $$",
        "CREATE TRIGGER slow AFTER INSERT ON messages FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    before = await state(database)
    report = await check(plan_of("1x"), database)
    assert await state(database) == before
    assert [note for note in report.notes if "longer than 1 s" in note]


async def test_sequences_of_others_are_left_alone_and_it_is_said(database: Address) -> None:
    await run_sql(
        database,
        *NUMBERED,
        "DROP ROLE IF EXISTS loader",
        "CREATE ROLE loader LOGIN",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO loader",
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO loader",
        f"GRANT CREATE ON DATABASE {database.url.database} TO loader",
    )
    loader = Address(database.url._replace(username="loader"))
    before = await state(database)
    report = await check(plan_of("1x"), loader)
    assert await state(database) == before
    [said] = [note for note in report.notes if "sequence" in note]
    listener = Notes()
    await load(plan_of("1x"), loader, listener=listener)
    assert said in listener.said
    await run_sql(database, "DROP OWNED BY loader CASCADE", "DROP ROLE loader")


async def test_a_locked_table_is_not_waited_for(database: Address) -> None:
    """The app's lock would make the load wait too, but a check must not."""
    await run_sql(database, *NUMBERED)
    async with open_connection(database) as app, app.transaction():
        await app.execute("LOCK TABLE audit IN ACCESS EXCLUSIVE MODE")
        report = await check(plan_of("1x"), database)
        assert [note for note in report.notes if "audit" in note or "lock" in note]


async def test_rows_of_earlier_runs_do_not_get_in_the_way(database: Address) -> None:
    await run_sql(database, *NUMBERED[:3])
    for _ in range(2):
        await load(plan_of("1x"), database)
    with raises("refused-row", "enough", kind=TargetError):
        await run_sql(
            database,
            "CREATE FUNCTION enough() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF (SELECT count(*) FROM users) > 40 THEN RAISE 'enough'; END IF; RETURN NULL; END $$",
            "CREATE TRIGGER enough AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION enough()",
        )
        await load(plan_of("1x"), database)


async def test_a_trigger_writes_to_a_schema_that_the_user_may_not_use(database: Address) -> None:
    name = f"writer_to_{database.url.database}"
    await run_sql(
        database,
        "CREATE SCHEMA audit; CREATE TABLE audit.log (n int PRIMARY KEY)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS "
        "$$ BEGIN INSERT INTO audit.log VALUES (1); RETURN NULL; END $$",
        "CREATE TRIGGER note AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION note()",
        f"CREATE ROLE {name} LOGIN",
        f"GRANT CREATE ON DATABASE {database.url.database} TO {name}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {name}",
    )
    try:
        user = Address(database.url._replace(username=name))
        before = await state(database)
        for command in (load, check):
            with raises("refused-row", "users", "log_pkey", kind=TargetError):
                await command(plan_of(), user)
        assert await state(database) == before
    finally:
        await run_sql(database, f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")
