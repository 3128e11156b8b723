"""Scenarios: an app's own tables and columns, its further columns, tables and rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bulkseed.cleaner.cleanup import cleanup
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from bulkseed.verifier.verify import verify
from support.databases import MakeDatabase
from support.plans import plan_of, planned
from support.queries import digest, rows, run_sql
from support.scenario_texts import APP_SCENARIO

APP = """
CREATE SCHEMA chat;
CREATE TYPE chat.tier AS ENUM ('free', 'pro');
CREATE TABLE chat.accounts (
    account_id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY, "E-Mail" varchar(120) NOT NULL UNIQUE,
    joined timestamp NOT NULL, display_name varchar(200) NOT NULL, phone text NOT NULL, visits integer NOT NULL,
    note text DEFAULT 'none');
CREATE TABLE chat.rooms (
    id bigserial PRIMARY KEY, title text NOT NULL, "user" integer NOT NULL REFERENCES chat.accounts,
    made timestamp NOT NULL, is_private boolean NOT NULL, is_dm boolean NOT NULL, join_code text UNIQUE);
CREATE TABLE chat.room_members (
    id bigserial PRIMARY KEY, account integer NOT NULL REFERENCES chat.accounts,
    room bigint NOT NULL REFERENCES chat.rooms, UNIQUE (room, account));
CREATE TABLE chat.posts (
    id bigserial PRIMARY KEY, body text NOT NULL, created_at timestamp NOT NULL,
    account integer NOT NULL REFERENCES chat.accounts, room bigint NOT NULL REFERENCES chat.rooms,
    thread bigint REFERENCES chat.posts, words integer NOT NULL);
INSERT INTO chat.accounts ("E-Mail", joined, display_name, phone, visits) VALUES ('a@b.c', now(), 'an app''s', '1', 0);
"""


@pytest.mark.parametrize("defer", ["always", "never"])
async def test_an_apps_own_tables(make_database: MakeDatabase, tmp_path: Path, defer: Any) -> None:
    database = await make_database("empty")
    await run_sql(database, APP)
    plan = planned(tmp_path, APP_SCENARIO)
    done = await load(plan, database, defer=defer, rows_per_shard=300)
    assert set(done.rows) == {"users", "channels", "user_channels", "messages"}
    assert done.rows["users"] == 60
    [(accounts, phones, visits)] = await rows(
        database, "SELECT count(*), count(DISTINCT phone), max(visits) FROM chat.accounts"
    )
    assert (accounts, phones, visits) == (61, 61, 5)
    [(posts, words, first)] = await rows(database, "SELECT count(*), count(DISTINCT words), min(words) FROM chat.posts")
    assert (posts, words, first) == (done.rows["messages"], posts, 1)
    [report] = await verify(database)
    broken = [rule for rule in report.rules if rule.violations]
    assert [rule.text for rule in broken] == ["nobody visits more than twice"]
    assert {rule.rule for rule in report.rules} >= {"N", "U2", "C4", "M1", "M2", "G1", "G3", "G4", "own"}
    await cleanup(database, [1])
    assert await rows(database, "SELECT display_name FROM chat.accounts") == [("an app's",)]
    assert await rows(database, "SELECT (SELECT count(*) FROM chat.posts) + (SELECT count(*) FROM chat.rooms)") == [
        (0,)
    ]


async def test_names_touch_no_value(make_database: MakeDatabase, tmp_path: Path, database: Address) -> None:
    """The rows are those of the reference schema, under other names."""
    app = await make_database("empty")
    await run_sql(app, APP, "DELETE FROM chat.accounts", "ALTER TABLE chat.accounts ALTER account_id RESTART")
    await load(planned(tmp_path, APP_SCENARIO), app)
    await load(plan_of("3x"), database)
    for theirs, ours in {
        'SELECT account_id, "E-Mail", joined, display_name FROM chat.accounts ORDER BY 1': (
            "SELECT id, email, created_at, name FROM users ORDER BY 1"
        ),
        "SELECT account, room FROM chat.room_members ORDER BY 2, 1": (
            "SELECT user_id, channel_id FROM user_channels ORDER BY 2, 1"
        ),
        "SELECT id, body, created_at, account, room, thread FROM chat.posts ORDER BY 1": (
            "SELECT id, content, created_at, user_id, channel_id, parent_id FROM messages ORDER BY 1"
        ),
    }.items():
        assert await rows(app, theirs) == await rows(database, ours)


NARROW = """
CREATE TYPE shade AS ENUM ('t', 'f');
CREATE DOMAIN handle AS varchar(30);
ALTER TABLE users ALTER bio TYPE varchar(50), ALTER picture TYPE json USING NULL, ALTER name TYPE handle,
    ALTER created_at TYPE timestamptz USING created_at AT TIME ZONE 'UTC', ALTER auth0_id TYPE text;
ALTER TABLE channels ALTER name TYPE varchar(12), ALTER owner_id TYPE integer,
    ALTER description TYPE jsonb USING NULL;
ALTER TABLE messages ALTER content TYPE varchar(40), ALTER updated_at TYPE date;
"""


async def test_types_are_adapted_to(database: Address) -> None:
    """Columns of other types and lengths than the reference schema's: values fit, what cannot be judged is not."""
    await run_sql(database, NARROW)
    before = await digest(database)
    done = await load(plan_of("3x"), database, workers=2, rows_per_shard=1000)
    [found] = await rows(
        database,
        "SELECT (SELECT max(length(content)) FROM messages), (SELECT max(length(bio)) FROM users), "
        "(SELECT bool_and(picture #>> '{}' LIKE 'https://%') FROM users), "
        "(SELECT bool_and(updated_at = created_at::date) FROM messages), (SELECT max(length(name)) FROM channels)",
    )
    assert found == (40, 50, True, True, 12)
    [report] = await verify(database)
    assert [rule for rule in report.rules if rule.violations] == []
    assert {"U1", "U4", "C4", "G1", "G4", "R2"} <= {rule.rule for rule in report.rules}
    assert "G3" not in {rule.rule for rule in report.rules}
    await cleanup(database, [done.run])
    assert await digest(database) == before


VARIED = """
DROP TABLE user_channels, message_reactions;
CREATE TABLE user_channels (
    key uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id bigint NOT NULL REFERENCES users,
    channel_id bigint NOT NULL REFERENCES channels, joined date DEFAULT current_date, UNIQUE (user_id, channel_id));
CREATE TABLE message_reactions (
    message_id bigint NOT NULL REFERENCES messages, reaction_id bigint NOT NULL REFERENCES reactions,
    user_id bigint NOT NULL REFERENCES users, created_at timestamptz NOT NULL,
    PRIMARY KEY (message_id, reaction_id, user_id)) PARTITION BY HASH (message_id);
CREATE TABLE reactions_0 PARTITION OF message_reactions FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE reactions_1 PARTITION OF message_reactions FOR VALUES WITH (MODULUS 2, REMAINDER 1);
ALTER TABLE users ALTER id DROP IDENTITY, ALTER id ADD GENERATED ALWAYS AS IDENTITY,
    ADD shown text GENERATED ALWAYS AS (upper(name)) STORED, ADD score numeric(6, 2) NOT NULL DEFAULT 1.5;
"""


@pytest.mark.parametrize("defer", ["always", "never"])
async def test_partitions_identities_and_defaults(database: Address, defer: Any) -> None:
    await run_sql(database, VARIED)
    before = await digest(database)
    done = await load(plan_of("3x"), database, defer=defer, rows_per_shard=300)
    [found] = await rows(
        database,
        "SELECT (SELECT count(DISTINCT key) FROM user_channels), (SELECT count(*) FROM reactions_0) > 0, "
        "(SELECT count(*) FROM reactions_1) > 0, (SELECT bool_and(shown = upper(name) AND score = 1.5) FROM users)",
    )
    assert found == (done.rows["user_channels"], True, True, True)
    [report] = await verify(database)
    assert report.holds
    await cleanup(database, [done.run])
    assert await digest(database) == before


OWN_BIO = """
[columns.users]
bio = false
picture = "photo"
[columns.messages]
parent_id = false
[fields.users]
bio = { choice = ["baker", "miller"] }
picture = { template = "{email}.png" }
[fields.messages]
parent_id = { value = 7 }
"""


async def test_fields_for_columns_that_bulkseed_leaves_out_or_has_under_another_name(
    database: Address, tmp_path: Path
) -> None:
    await run_sql(
        database,
        "ALTER TABLE users ADD photo text",
        "ALTER TABLE messages DROP parent_id, ADD parent_id int NOT NULL CHECK (parent_id > 0)",
    )
    done = await load(planned(tmp_path, OWN_BIO), database, workers=1, rows_per_shard=1000)
    [found] = await rows(
        database,
        "SELECT array_agg(DISTINCT bio ORDER BY bio), bool_and(picture = email || '.png'), "
        "bool_and(photo LIKE 'https://%') FROM users",
    )
    assert found == (["baker", "miller"], True, True)
    assert await rows(database, "SELECT DISTINCT parent_id FROM messages") == [(7,)]
    [report] = await verify(database)
    assert [rule for rule in report.rules if rule.violations] == []
    await cleanup(database, [done.run])
    assert await rows(database, "SELECT count(*) FROM users") == [(0,)]


async def test_a_field_copies_the_column_that_it_replaces(database: Address, tmp_path: Path) -> None:
    text = "[columns.users]\nbio = false\n[fields.users]\nbio = { copy = 'bio' }"
    await load(planned(tmp_path, text), database)
    assert (await rows(database, "SELECT count(bio), bool_and(bio <> '') FROM users")) == [(60, True)]
