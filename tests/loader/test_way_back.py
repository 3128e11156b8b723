"""What would keep a load's rows from being removed again is refused before anything is written."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from bulkseed.cleaner.cleanup import cleanup
from bulkseed.cleaner.removal_trial import find_trigger_problems
from bulkseed.errors import RunError, TargetError
from bulkseed.loader.check import check
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.target import trial_limits
from bulkseed.target.copy_plan import plan_copies
from bulkseed.target.target import read_target
from bulkseed.text.faker_source import make_corpus
from support.errors import raises
from support.obstacles import FAIL
from support.plans import plan_of
from support.queries import EMPTY, counts, digest, has_ledger, run_sql
from support.whole_database import state

NOTES = """
CREATE SCHEMA crm;
CREATE TABLE crm.notes (id int PRIMARY KEY, author bigint REFERENCES public.users, message bigint);
ALTER TABLE crm.notes ADD FOREIGN KEY (message) REFERENCES public.messages ON DELETE CASCADE;
"""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trials take their time on a machine that has much else to do."""
    monkeypatch.setattr(trial_limits, "SECONDS", 30)


@pytest.fixture
async def loader(database: Address) -> AsyncIterator[Address]:
    """A user that owns the tables of ``database``, and is no superuser."""
    name = f"loader_of_{database.url.database}"
    await run_sql(
        database,
        f"CREATE ROLE {name} LOGIN",
        f"GRANT CREATE ON DATABASE {database.url.database} TO {name}",
        *(f"ALTER TABLE {table} OWNER TO {name}" for table in (*EMPTY, "reactions")),
    )
    yield Address(database.url._replace(username=name))
    await run_sql(database, f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")


async def assert_refused(database: Address, user: Address, code: str, *facts: str) -> None:
    """Assert that a check and a load are refused before anything is written."""
    before = await digest(database)
    for command in (check, load):
        with raises(code, *facts, kind=TargetError):
            await command(plan_of(), user)
    assert await digest(database) == before
    assert not await has_ledger(database)


async def assert_loads_and_cleans(database: Address, user: Address) -> None:
    """Assert that a load and a cleanup leave no row of bulkseed."""
    before = await digest(database)
    await load(plan_of(), user)
    await cleanup(user, [1])
    assert await digest(database) == before


async def assert_undoes(database: Address, user: Address) -> None:
    """Assert that a failing load leaves no row of bulkseed."""
    before = await digest(database)
    await run_sql(database, FAIL.replace("NEW.message_id > 900", "true"))
    with pytest.raises(RunError):
        await load(plan_of(), user)
    assert await digest(database) == before


async def test_fault_6_tables_of_others_that_reference_ours_must_be_readable(
    database: Address, loader: Address
) -> None:
    name = loader.url.username
    await run_sql(database, NOTES)
    grants = (f'GRANT USAGE ON SCHEMA "crm" TO {name}', f'GRANT SELECT ON "crm"."notes" TO {name}')
    await assert_refused(database, loader, "missing-privilege", *grants)
    await run_sql(database, *grants)
    await assert_loads_and_cleans(database, loader)
    await assert_undoes(database, loader)


async def test_fault_6_the_referencing_columns_are_enough(database: Address, loader: Address) -> None:
    name = loader.url.username
    await run_sql(
        database, NOTES, f"GRANT USAGE ON SCHEMA crm TO {name}", f"GRANT SELECT (author) ON crm.notes TO {name}"
    )
    await assert_refused(database, loader, "missing-privilege", f'GRANT SELECT ON "crm"."notes" TO {name}')
    await run_sql(database, f"GRANT SELECT (message) ON crm.notes TO {name}")
    await assert_loads_and_cleans(database, loader)


async def test_fault_6_row_security_of_referencing_tables(database: Address, loader: Address) -> None:
    name = loader.url.username
    await run_sql(
        database,
        NOTES,
        f"GRANT USAGE ON SCHEMA crm TO {name}",
        f"ALTER TABLE crm.notes OWNER TO {name}",
        "ALTER TABLE crm.notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    )
    fix = 'ALTER TABLE "crm"."notes" NO FORCE ROW LEVEL SECURITY'
    await assert_refused(database, loader, "row-security", fix, f"ALTER ROLE {name} BYPASSRLS")
    await run_sql(database, fix)
    await assert_loads_and_cleans(database, loader)


async def test_fault_6_all_that_is_missing_is_named_at_once(database: Address, loader: Address) -> None:
    name = loader.url.username
    await run_sql(
        database,
        NOTES,
        "CREATE TABLE crm.tags (channel_id bigint REFERENCES public.channels)",
        "CREATE PUBLICATION p FOR TABLE users",
        "ALTER TABLE users REPLICA IDENTITY NOTHING",
        "CREATE RULE kept AS ON DELETE TO messages DO INSTEAD NOTHING",
    )
    await assert_refused(
        database,
        loader,
        "unfit-tables",
        f'GRANT SELECT ON "crm"."notes" TO {name}',
        f'GRANT SELECT ON "crm"."tags" TO {name}',
        'ALTER TABLE "public"."users" REPLICA IDENTITY DEFAULT',
        'ALTER TABLE "public"."messages" DISABLE RULE kept',
    )


async def test_fault_6_cleanup_names_what_came_after_the_load(database: Address, loader: Address) -> None:
    name = loader.url.username
    await load(plan_of(), loader)
    await run_sql(database, NOTES, "CREATE RULE kept AS ON DELETE TO messages DO INSTEAD NOTHING")
    before = await digest(database)
    with raises("unfit-tables", f'GRANT SELECT ON "crm"."notes" TO {name}', "DISABLE RULE kept", kind=TargetError):
        await cleanup(loader, [1])
    assert await digest(database) == before


@pytest.mark.parametrize(
    ("preparation", "fix"),
    [
        (
            "ALTER TABLE user_channels DROP CONSTRAINT user_channels_pkey; CREATE PUBLICATION p FOR ALL TABLES",
            'ALTER TABLE "public"."user_channels" REPLICA IDENTITY FULL',
        ),
        (
            "CREATE PUBLICATION p FOR TABLE user_channels; ALTER TABLE user_channels REPLICA IDENTITY NOTHING",
            'ALTER TABLE "public"."user_channels" REPLICA IDENTITY DEFAULT',
        ),
        (
            "CREATE PUBLICATION p FOR TABLE users WHERE (is_active)",
            'ALTER TABLE "public"."users" REPLICA IDENTITY FULL',
        ),
        (
            "ALTER TABLE message_reactions RENAME TO plain; ALTER TABLE plain DROP CONSTRAINT message_reactions_pkey;"
            "CREATE TABLE message_reactions (LIKE plain) PARTITION BY HASH (message_id);"
            "CREATE TABLE part PARTITION OF message_reactions FOR VALUES WITH (MODULUS 1, REMAINDER 0);"
            "CREATE PUBLICATION p FOR TABLE message_reactions",
            'ALTER TABLE "public"."part" REPLICA IDENTITY FULL',
        ),
        (
            "CREATE PUBLICATION p FOR TABLE messages (content)",
            'ALTER PUBLICATION p DROP TABLE "public"."messages"; '
            'ALTER PUBLICATION p ADD TABLE "public"."messages" (id, content)',
        ),
    ],
    ids=["without a key", "none", "filter", "partition", "columns"],
)
async def test_fault_7_publications_that_refuse_deletions(database: Address, preparation: str, fix: str) -> None:
    await run_sql(database, preparation)
    await assert_refused(database, database, "no-replica-identity", fix, "publication p")
    await run_sql(database, fix)
    await assert_undoes(database, database)


PINS = """
CREATE TABLE "Pins" (message bigint REFERENCES messages ON DELETE CASCADE, pinned_by bigint);
ALTER TABLE "Pins" ADD FOREIGN KEY (pinned_by) REFERENCES users ON DELETE SET NULL;
"""


@pytest.mark.parametrize("published", ["delete", "update"])
async def test_fault_7_publications_that_refuse_the_actions_of_foreign_keys(database: Address, published: str) -> None:
    """The server acts on the referencing table for each removed row, also where no row references it."""
    await run_sql(database, PINS, f"CREATE PUBLICATION p FOR ALL TABLES WITH (publish = 'insert, {published}')")
    fix = 'ALTER TABLE "public"."Pins" REPLICA IDENTITY FULL'
    await assert_refused(database, database, "no-replica-identity", fix, "publication p")
    await run_sql(database, fix)
    await assert_loads_and_cleans(database, database)


@pytest.mark.parametrize("event", ["DELETE", "UPDATE"])
async def test_fault_24_rules_that_replace_the_actions_of_foreign_keys(database: Address, event: str) -> None:
    await run_sql(database, PINS, f'CREATE RULE "never, ever" AS ON {event} TO "Pins" DO INSTEAD NOTHING')
    fix = 'ALTER TABLE "public"."Pins" DISABLE RULE "never, ever"'
    await assert_refused(database, database, "delete-rule", fix)
    await run_sql(database, fix)
    await assert_loads_and_cleans(database, database)


async def test_fault_6_temporary_tables_are_needed(database: Address, loader: Address) -> None:
    name, place = loader.url.username, loader.database
    await run_sql(database, f"REVOKE TEMPORARY ON DATABASE {place} FROM PUBLIC")
    fix = f"GRANT TEMPORARY ON DATABASE {place} TO {name}"
    await assert_refused(database, loader, "missing-privilege", fix)
    await run_sql(database, fix)
    await assert_loads_and_cleans(database, loader)


async def test_fault_7_publications_of_inserts_are_no_obstacle(database: Address) -> None:
    await run_sql(
        database,
        "ALTER TABLE user_channels DROP CONSTRAINT user_channels_pkey",
        "CREATE PUBLICATION p FOR TABLE user_channels WITH (publish = 'insert')",
    )
    await assert_loads_and_cleans(database, database)


async def test_fault_24_rules_that_replace_deletions(database: Address) -> None:
    await run_sql(database, "CREATE RULE kept AS ON DELETE TO users DO INSTEAD NOTHING")
    fix = 'ALTER TABLE "public"."users" DISABLE RULE kept'
    await assert_refused(database, database, "delete-rule", fix)
    await run_sql(database, fix)
    await assert_loads_and_cleans(database, database)
    assert await counts(database) == EMPTY


TRIGGERS = {
    "keeps": ("rows-kept", "BEFORE DELETE ON message_reactions FOR EACH ROW", "RETURN NULL;"),
    "keeps parents": ("rows-kept", "BEFORE DELETE ON users FOR EACH ROW", "RETURN NULL;"),
    "refuses": ("rows-kept", "AFTER DELETE ON messages FOR EACH STATEMENT", "RAISE 'append only';"),
    "changes": (
        "trigger-changes-rows",
        "BEFORE DELETE ON users FOR EACH ROW",
        "UPDATE users SET is_active = true WHERE id = OLD.id; RETURN OLD;",
    ),
}


@pytest.mark.parametrize("kind", TRIGGERS)
async def test_fault_24_triggers_that_prevent_deletions(database: Address, kind: str) -> None:
    code, event, body = TRIGGERS[kind]
    await run_sql(
        database,
        f"CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$",
        f'CREATE TRIGGER "Act" {event} EXECUTE FUNCTION act()',
    )
    table = event.split()[3]
    fix = f'ALTER TABLE "public"."{table}" DISABLE TRIGGER "Act"'
    await assert_refused(database, database, code, "Act", fix, f'ALTER TABLE "public"."{table}" ENABLE TRIGGER "Act"')
    await run_sql(database, fix)
    await assert_undoes(database, database)


async def test_fault_24_triggers_that_allow_deletions_are_no_obstacle(database: Address) -> None:
    await run_sql(
        database,
        "ALTER TABLE messages ADD reply_count int NOT NULL DEFAULT 0; CREATE TABLE gone (id bigint)",
        """CREATE FUNCTION uncount() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               UPDATE messages SET reply_count = reply_count - 1 WHERE id = OLD.parent_id;
               INSERT INTO gone VALUES (OLD.id);
               RETURN OLD;
           END $$""",
        "CREATE TRIGGER uncount BEFORE DELETE ON messages FOR EACH ROW EXECUTE FUNCTION uncount()",
    )
    before = await digest(database)
    await check(plan_of(), database)
    assert await digest(database) == before
    await load(plan_of(), database)
    await cleanup(database, [1])
    assert await counts(database) == EMPTY


async def test_the_check_of_publications_waits_for_no_lock(database: Address) -> None:
    await run_sql(database, "CREATE PUBLICATION all_of_it FOR ALL TABLES")
    async with open_connection(database) as builder:
        await builder.execute("BEGIN; LOCK TABLE users IN SHARE MODE")  # as CREATE INDEX does
        with anyio.fail_after(30):
            await check(plan_of(), database)
        await builder.execute("COMMIT")


HARMLESS = (
    "ALTER TABLE users ADD seq bigserial",
    "CREATE TABLE gone (number bigserial, id bigint)",
    """CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           INSERT INTO gone (id) VALUES (OLD.id); RETURN OLD;
       END $$""",
    "CREATE TRIGGER gone BEFORE DELETE ON users FOR EACH ROW EXECUTE FUNCTION gone()",
)


async def test_the_trial_of_the_removal_moves_no_sequence(database: Address) -> None:
    await run_sql(database, *HARMLESS)
    before = await state(database)
    report = await check(plan_of(), database)
    assert await state(database) == before
    assert not [note for note in report.notes if "could not be tried" in note]


async def test_a_removal_that_takes_long_is_not_tried(database: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_limits, "SECONDS", 1)
    await run_sql(
        database,
        *HARMLESS,
        """CREATE OR REPLACE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               PERFORM pg_sleep(1); RETURN OLD;
           END $$""",
    )
    before = await state(database)
    report = await check(plan_of(), database)
    assert await state(database) == before
    assert [note for note in report.notes if "removal" in note and "gone of" in note and "longer than 1 s" in note]


async def test_the_removal_is_tried_where_the_tables_are_of_the_same_transaction(database: Address) -> None:
    """As those that a check of the embedded database makes."""
    await run_sql(database, "CREATE FUNCTION kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$")
    plan = plan_of()
    corpus = make_corpus(plan.locale)
    async with open_connection(database) as connection, connection.transaction():
        await connection.execute("CREATE TRIGGER kept BEFORE DELETE ON users FOR EACH ROW EXECUTE FUNCTION kept()")
        target = await read_target(connection, plan.model)
        copy_plans = await plan_copies(connection, target, "auto")
        problems, note = await find_trigger_problems(connection, target, copy_plans, plan, corpus)
    assert [problem.code for problem in problems] == ["rows-kept"]
    assert not note
