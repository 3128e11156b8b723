"""Foreign keys of the app's own: those that hold once all rows are loaded are accepted, others refused before."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

import bulkseed
from bulkseed.errors import TargetError
from bulkseed.postgres.address import Address
from support.errors import raises
from support.loads import accept, refuse
from support.plans import planned
from support.queries import rows, run_sql
from support.whole_database import state

WORKSPACES: Final = (
    "CREATE TABLE workspaces (id int PRIMARY KEY)",
    "INSERT INTO workspaces VALUES (1), (2)",
    "ALTER TABLE users ADD workspace_id int NOT NULL REFERENCES workspaces, ADD UNIQUE (workspace_id, id)",
    "ALTER TABLE channels ADD workspace_id int NOT NULL, "
    "ADD CONSTRAINT owned FOREIGN KEY (workspace_id, owner_id) REFERENCES users (workspace_id, id)",
)
IN_WORKSPACE: Final = """
[fields.users]
workspace_id = {{ value = 1 }}
[fields.channels]
workspace_id = {{ value = {} }}
"""
HANDLES: Final = (
    "ALTER TABLE users ADD handle text NOT NULL UNIQUE",
    "ALTER TABLE channels ADD owner text NOT NULL CONSTRAINT named REFERENCES users (handle)",
)
WITH_HANDLES: Final = """
[fields.users]
handle = {{ template = "u-{{id}}" }}
[fields.channels]
owner = {{ template = "{}-{{owner_id}}" }}
"""
THREADS: Final = (
    "ALTER TABLE messages ADD thread_id bigint CONSTRAINT threaded REFERENCES messages",
    "CREATE INDEX ON messages (thread_id)",
)
VOTES: Final = (
    "CREATE TABLE polls (message_id bigint PRIMARY KEY REFERENCES messages, number int NOT NULL, "
    "created_at timestamptz NOT NULL, UNIQUE (message_id, number))",
    "CREATE TABLE votes (message_id bigint, number int, choice int NOT NULL, "
    "CONSTRAINT counted FOREIGN KEY (message_id, number) REFERENCES polls (message_id, number) MATCH FULL)",
)


SCALES: Final = ("1x", "6x")
"""All rows of the first are tried, and a few of the second."""


@pytest.mark.parametrize("scale", SCALES)
async def test_fault_10_composite_key(database: Address, tmp_path: Path, scale: str) -> None:
    await run_sql(database, *WORKSPACES)
    await refuse(database, tmp_path, IN_WORKSPACE.format(2), scale, "foreign-key", "owned", "channels", "users")
    await accept(database, tmp_path, IN_WORKSPACE.format(1), scale)


async def test_fault_10_key_to_another_column_than_id(database: Address, tmp_path: Path) -> None:
    await run_sql(database, *HANDLES)
    await accept(database, tmp_path, WITH_HANDLES.format("u"), "1x")
    await refuse(database, tmp_path, WITH_HANDLES.format("U"), "1x", "foreign-key", "named", "channels", "users")


async def test_fault_10_field_that_points_at_a_loaded_table(database: Address, tmp_path: Path) -> None:
    await run_sql(database, *THREADS)
    wrong = "[fields.messages]\nthread_id = { uniform = [1_000_000, 2_000_000] }"
    await refuse(database, tmp_path, wrong, "6x", "foreign-key", "threaded", "messages")
    await accept(database, tmp_path, '[fields.messages]\nthread_id = { copy = "parent_id" }', "6x")


async def test_fault_10_field_that_points_at_ids_of_the_load(database: Address, tmp_path: Path) -> None:
    """Most of these users are not among the rows that are tried."""
    await run_sql(database, "ALTER TABLE messages ADD reviewer bigint REFERENCES users")
    await accept(database, tmp_path, "[fields.messages]\nreviewer = { uniform = [1, 160], null = 0.5 }", "8x")


@pytest.mark.parametrize("scale", SCALES)
async def test_fault_10_key_between_further_tables(database: Address, tmp_path: Path, scale: str) -> None:
    await run_sql(database, *VOTES)
    wrong = 'plugins = ["plugins:polls", "plugins:stray_votes"]'
    await refuse(database, tmp_path, wrong, scale, "foreign-key", "counted", "votes", "polls")
    await accept(database, tmp_path, 'plugins = ["plugins:polls", "plugins:votes"]', scale)


async def test_fault_10_key_of_loaded_columns_to_a_table_of_the_apps(database: Address, tmp_path: Path) -> None:
    await run_sql(
        database,
        "CREATE TABLE profiles (id bigint PRIMARY KEY)",
        "ALTER TABLE messages ADD extra int, ADD CONSTRAINT profiled FOREIGN KEY (user_id) REFERENCES profiles",
    )
    text = "[fields.messages]\nextra = { value = 1 }"
    await refuse(database, tmp_path, text, "1x", "foreign-key", "profiled", "messages", "profiles")
    await run_sql(database, "INSERT INTO profiles SELECT generate_series(1, 20)")
    await bulkseed.load(planned(tmp_path, text, "1x"), database)


async def test_a_default_that_no_row_of_the_other_table_has(database: Address, tmp_path: Path) -> None:
    await run_sql(
        database,
        "CREATE TABLE workspaces (id int PRIMARY KEY)",
        "ALTER TABLE users ADD workspace_id int NOT NULL DEFAULT 7 CONSTRAINT placed REFERENCES workspaces",
    )
    await refuse(database, tmp_path, "", "1x", "foreign-key", "placed", "users", "workspaces")
    await run_sql(database, "INSERT INTO workspaces VALUES (7)")
    await accept(database, tmp_path, "", "1x")


async def test_fault_10_key_that_is_not_enforced(database: Address, tmp_path: Path) -> None:
    [(version,)] = await rows(database, "SELECT current_setting('server_version_num')::int")
    if version < 180000:
        pytest.skip("PostgreSQL has such keys since version 18")
    await run_sql(
        database,
        "CREATE TABLE teams (id int PRIMARY KEY)",
        "ALTER TABLE users ADD team_id int REFERENCES teams NOT ENFORCED",
    )
    await accept(database, tmp_path, "[fields.users]\nteam_id = { uniform = [1, 9] }", "1x")


LATER: Final = "ALTER TABLE channels ADD pinned bigint CONSTRAINT pinned REFERENCES messages"
PINNED: Final = "[fields.channels]\npinned = { uniform = [1, 150] }"


async def test_key_to_rows_that_are_loaded_later(database: Address, tmp_path: Path) -> None:
    await run_sql(database, LATER)
    await refuse(database, tmp_path, PINNED, "1x", "foreign-key", "pinned", "channels", "messages")
    report = await bulkseed.load(planned(tmp_path, PINNED, "1x"), database, defer="always")
    assert report.rows["channels"] == 10


async def test_key_to_rows_of_the_same_shard(database: Address, tmp_path: Path) -> None:
    await run_sql(database, "ALTER TABLE users ADD boss bigint CONSTRAINT led REFERENCES users")
    plan = planned(tmp_path, "[fields.users]\nboss = { uniform = [1, 300] }", "15x")
    before = await state(database)
    with raises("foreign-key", "led", "users", kind=TargetError):
        await bulkseed.load(plan, database, rows_per_shard=100, defer="never")
    assert await state(database) == before
    assert (await bulkseed.load(plan, database, defer="never")).rows["users"] == 300
