"""What a table refuses by itself: constraints of every state, values that must differ, missing partitions."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from bulkseed.generators import Context
from bulkseed.loader.check import check
from bulkseed.plan.plan import Placement
from bulkseed.postgres.address import Address
from bulkseed.target import trial_limits, trial_rows
from bulkseed.text.faker_source import make_corpus
from support.loads import accept, refuse
from support.plans import plan_of, planned
from support.queries import rows, run_sql


async def test_fault_22_not_valid_check(database: Address, tmp_path: Path) -> None:
    await run_sql(database, "ALTER TABLE messages ADD CONSTRAINT loud CHECK (content = upper(content)) NOT VALID")
    await refuse(database, tmp_path, "", "1x", "check-constraint", "loud", "messages")


async def test_a_check_that_is_not_enforced(database: Address, tmp_path: Path) -> None:
    [(version,)] = await rows(database, "SELECT current_setting('server_version_num')::int")
    if version < 180000:
        pytest.skip("PostgreSQL has such constraints since version 18")
    await run_sql(database, "ALTER TABLE messages ADD CHECK (content = upper(content)) NOT ENFORCED")
    await accept(database, tmp_path, "")


async def test_fault_24_a_check_that_raises_is_named_with_its_table(database: Address, tmp_path: Path) -> None:
    await run_sql(
        database,
        "CREATE FUNCTION tidy(t text) RETURNS bool LANGUAGE plpgsql AS "
        "$$ BEGIN IF t LIKE '% %' THEN RAISE 'untidy'; END IF; RETURN true; END $$",
        "ALTER TABLE users ADD CONSTRAINT tidy_name CHECK (tidy(name))",
        "ALTER TABLE messages ADD CONSTRAINT loud CHECK (content = upper(content))",
    )
    await refuse(database, tmp_path, "", "1x", "check-constraint", "tidy_name", "users", "untidy", "loud", "messages")


async def test_fault_24_a_check_that_raises_by_what_it_reads(database: Address, tmp_path: Path) -> None:
    await run_sql(
        database,
        "CREATE FUNCTION owned(wanted bigint) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN "
        "IF EXISTS (SELECT FROM users WHERE id = wanted) THEN RAISE 'taken'; END IF; RETURN true; END $$",
        "ALTER TABLE channels ADD CONSTRAINT free CHECK (owned(owner_id))",
    )
    await refuse(database, tmp_path, "", "1x", "refused-row", "channels", "taken")


PARTITIONED: Final = (
    "CREATE TABLE parts (LIKE messages) PARTITION BY RANGE (created_at)",
    "DROP TABLE message_reactions, messages",
    "ALTER TABLE parts RENAME TO messages",
    "ALTER TABLE messages ADD CONSTRAINT from_user FOREIGN KEY (user_id) REFERENCES users",
    "CREATE TABLE messages_early PARTITION OF messages FOR VALUES FROM ('2026-01-01') TO ('2026-03-01')",
    "CREATE TABLE messages_late PARTITION OF messages FOR VALUES FROM ('2026-03-08') TO ('2026-07-01')",
)
NO_REACTIONS: Final = "[tables]\nreactions = false"


async def test_fault_22_missing_partition(database: Address, tmp_path: Path) -> None:
    """A week is missing, in which few rows of the load lie."""
    await run_sql(database, *PARTITIONED)
    await refuse(database, tmp_path, NO_REACTIONS, "2x", "missing-partition", "messages", "created_at")
    await run_sql(
        database,
        "CREATE TABLE messages_week PARTITION OF messages FOR VALUES FROM ('2026-03-01') TO ('2026-03-08')",
        "DROP TABLE messages_late",
        "CREATE TABLE messages_late PARTITION OF messages FOR VALUES FROM ('2026-03-08') TO ('2026-07-01') "
        "PARTITION BY HASH (id)",
        "CREATE TABLE messages_even PARTITION OF messages_late FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
    )
    await refuse(database, tmp_path, NO_REACTIONS, "2x", "missing-partition", "messages")
    await run_sql(
        database, "CREATE TABLE messages_odd PARTITION OF messages_late FOR VALUES WITH (MODULUS 2, REMAINDER 1)"
    )
    await accept(database, tmp_path, NO_REACTIONS, "2x")


async def test_a_default_partition_takes_all(database: Address, tmp_path: Path) -> None:
    await run_sql(database, *PARTITIONED[:-2])
    await refuse(database, tmp_path, NO_REACTIONS, "1x", "missing-partition", "messages")
    await run_sql(database, "CREATE TABLE messages_all PARTITION OF messages DEFAULT")
    await accept(database, tmp_path, NO_REACTIONS)


HANDLE: Final = "ALTER TABLE users ADD username text NOT NULL"
NAMED: Final = "[fields.users]\nusername = {{ template = '{}' }}"


async def test_fault_22_unique_expression_index(database: Address, tmp_path: Path) -> None:
    await run_sql(database, HANDLE, "CREATE UNIQUE INDEX one_name ON users (lower(username))")
    faker = "[fields.users]\nusername = { choice = ['Ada', 'ada', 'ADA', 'Bob'] }"
    await refuse(database, tmp_path, faker, "1x", "values-repeat", "one_name", "users")
    await accept(database, tmp_path, NAMED.format("U{id}"))


async def test_fault_22_values_that_repeat_rarely(database: Address, tmp_path: Path) -> None:
    """Only two of 4,000 users have the same, far from each other."""
    await run_sql(database, HANDLE, "CREATE UNIQUE INDEX one_name ON users (replace(lower(username), 'u3999', 'u7'))")
    await refuse(database, tmp_path, NAMED.format("U{id}"), "200x", "values-repeat", "one_name", "users", "u7")


async def test_fault_22_values_that_existing_rows_have(database: Address, tmp_path: Path) -> None:
    await run_sql(
        database,
        HANDLE,
        "CREATE UNIQUE INDEX one_name ON users (lower(username)) WHERE is_active",
        "INSERT INTO users (auth0_id, email, is_active, created_at, name, picture, bio, username) "
        "VALUES ('x', 'x', true, now(), 'x', 'x', 'x', 'U1005'), ('y', 'y', false, now(), 'y', 'y', 'y', 'U1006')",
    )
    await refuse(database, tmp_path, NAMED.format("u{id}"), "1x", "values-taken", "one_name", "users", "u1005")
    await accept(database, tmp_path, NAMED.format("v{id}"))


async def test_fault_22_unique_index_over_some_rows(database: Address, tmp_path: Path) -> None:
    await run_sql(
        database,
        "ALTER TABLE channels ADD archived_at timestamptz, ADD kind text NOT NULL DEFAULT 'chat'",
        "CREATE UNIQUE INDEX one_each ON channels (owner_id) WHERE archived_at IS NOT NULL",
    )
    await accept(database, tmp_path, "")
    await run_sql(database, "CREATE UNIQUE INDEX one_chat ON channels (owner_id) WHERE kind = 'chat' AND NOT is_dm")
    await refuse(database, tmp_path, "", "6x", "values-repeat", "one_chat", "channels", "owner_id")


async def test_fault_22_rows_that_exclude_each_other(database: Address, tmp_path: Path) -> None:
    await run_sql(
        database,
        "ALTER TABLE users ADD stay int4range NOT NULL",
        "ALTER TABLE users ADD CONSTRAINT one_stay EXCLUDE USING gist (stay WITH &&)",
    )
    await refuse(
        database, tmp_path, "[fields.users]\nstay = { value = '[1,3)' }", "1x", "values-repeat", "one_stay", "users"
    )
    await accept(database, tmp_path, "[fields.users]\nstay = { template = '[{id},{id}]' }")


def test_rows_that_are_tried_are_spread_over_a_large_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_rows, "ROWS", 1000)
    monkeypatch.setattr(trial_rows, "PARTS", 10)
    placement = Placement(first_user=1, first_channel=1, first_message=1, reactions=(1, 2))
    context = Context(plan_of("50x"), placement, make_corpus("en_US"))
    for table, count in (("messages", context.layout.messages), ("users", 1000), ("channels", 500)):
        ids = [each for batch in trial_rows.many_rows(context, table) for each in batch.column("id").to_pylist()]
        assert len(set(ids)) > 0.4 * min(1000, count)
        assert len(ids) <= 1200
        assert min(ids) == 1
        assert max(ids) > 0.99 * count


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        ("CREATE UNIQUE INDEX one_null ON channels (join_code) NULLS NOT DISTINCT", "one_null"),
        ("ALTER TABLE users ADD initial text GENERATED ALWAYS AS (left(name, 1)) STORED UNIQUE", "users_initial_key"),
        ("ALTER TABLE users ADD level integer NOT NULL DEFAULT 1 UNIQUE", "users_level_key"),
    ],
    ids=["equal nulls", "generated column", "default"],
)
async def test_fault_22_unique_values_that_the_server_makes(
    database: Address, tmp_path: Path, sql: str, index: str
) -> None:
    await run_sql(database, sql)
    await refuse(database, tmp_path, "", "1x", "values-repeat", index)


async def test_unique_values_that_the_server_makes_and_that_differ(database: Address, tmp_path: Path) -> None:
    await run_sql(
        database,
        "ALTER TABLE users ADD folded text GENERATED ALWAYS AS (upper(email)) STORED UNIQUE NULLS NOT DISTINCT",
        "ALTER TABLE users ADD number serial UNIQUE, ADD token uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE",
        "ALTER TABLE users ADD known text GENERATED ALWAYS AS (coalesce(number, 0)::text) STORED UNIQUE",
    )
    await accept(database, tmp_path, "")


async def test_fault_22_a_null_that_an_existing_row_has(database: Address, tmp_path: Path) -> None:
    await run_sql(
        database,
        "INSERT INTO users (auth0_id, email, is_active, created_at, name) VALUES ('a', 'a', true, now(), 'A')",
        "INSERT INTO channels (name, owner_id, created_at, is_private, is_dm) "
        "SELECT 'a', id, now(), false, false FROM users",
        "CREATE UNIQUE INDEX one_null ON channels (join_code) NULLS NOT DISTINCT",
    )
    # one DM, which has no code
    text = "[counts]\nchannels = 1\n[probabilities]\nchannel_dm = 1"
    await refuse(database, tmp_path, text, "1x", "values-taken", "one_null", "null")


async def test_null_values_are_looked_for_in_large_tables_too(database: Address, tmp_path: Path) -> None:
    await run_sql(
        database,
        HANDLE,
        "ALTER TABLE users ADD CONSTRAINT one_each UNIQUE NULLS NOT DISTINCT (username, bio)",
        "INSERT INTO users (auth0_id, email, is_active, created_at, name, username, bio) "
        "SELECT n, n, true, now(), 'A', n, CASE WHEN n % 2 = 0 THEN n END FROM generate_series(1, 20000) AS n",
    )
    report = await check(planned(tmp_path, NAMED.format("u{id}"), "50x"), database)
    assert not [note for note in report.notes if "one_each" in note]


async def test_what_takes_long_is_not_judged_and_it_is_said(
    database: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_limits, "QUERY_SECONDS", 1)
    await run_sql(
        database,
        "CREATE FUNCTION slow(value text) RETURNS text LANGUAGE sql IMMUTABLE AS "
        "'SELECT value FROM (SELECT pg_sleep(0.2)) AS nap'",
        "CREATE UNIQUE INDEX one_slow ON users (slow(email))",
        "ALTER TABLE users ADD CONSTRAINT is_slow CHECK (slow(name) <> '')",
    )
    report = await check(planned(tmp_path, "", "1x"), database)
    for slow in ("one_slow", "is_slow"):
        assert [note for note in report.notes if slow in note and "within 1 s" in note]
