"""The order of time: rules T1, T4 and M4 of loaded rows, the heap, and an app's column for the moment of joining."""

from __future__ import annotations

from pathlib import Path

import pytest

import bulkseed
from bulkseed.embedded import Server
from bulkseed.postgres.address import Address
from support.corruptions import UNCHECKED
from support.databases import MakeDatabase, address_of
from support.plans import planned
from support.queries import digest, rows, run_sql

SCENARIO = """
[columns.user_channels]
joined = "since"
"""

WRONG = {
    "UPDATE users SET created_at = '2026-05-31' WHERE id = 1": ("T1 the ids of users",),
    "UPDATE channels SET created_at = created_at - interval '9 days' WHERE id = 5": ("T1 the ids of channels",),
    "UPDATE messages SET created_at = '2026-05-31' WHERE id = 100": ("T1 the ids of messages",),
    "UPDATE user_channels SET since = since - interval '200 days'": (
        "T4 joined is from the later of",
        "T4 the owner has joined",
    ),
    "UPDATE user_channels SET since = '2026-06-01 00:00:01'": ("T4 joined is from the later of",),
    "UPDATE user_channels SET since = '2026-06-01'": (
        "T4 the author has joined before",
        "T4 the user has joined before",
    ),
    "CREATE TEMP TABLE dms AS SELECT id FROM channels WHERE is_dm ORDER BY id LIMIT 2; "
    "DELETE FROM user_channels WHERE channel_id = (SELECT max(id) FROM dms); "
    "INSERT INTO user_channels SELECT user_id, (SELECT max(id) FROM dms), since FROM user_channels "
    "WHERE channel_id = (SELECT min(id) FROM dms)": ("M4 no two DMs",),
}


async def test_moments_of_joining_are_loaded_verified_and_removed(
    make_database: MakeDatabase, server: Server, tmp_path: Path
) -> None:
    database = await make_database("reference")
    await run_sql(database, "ALTER TABLE user_channels ADD since timestamp NOT NULL")
    before = await digest(database)
    report = await bulkseed.load(planned(tmp_path, SCENARIO, "4x"), database)
    [verified] = await bulkseed.verify(database)
    assert failures(verified) == set()
    assert {"T1", "T4", "M4"} <= {rule.rule for rule in verified.rules}
    admin, name = address_of(server, "postgres"), database.url.database
    for statement, checks in WRONG.items():
        copy = f"{name}_wrong"
        await run_sql(admin, f"CREATE DATABASE {copy} TEMPLATE {name} STRATEGY file_copy")
        await run_sql(address_of(server, copy), UNCHECKED, statement)
        [verified] = await bulkseed.verify(address_of(server, copy))
        await run_sql(admin, f"DROP DATABASE {copy} WITH (FORCE)")
        for check in checks:
            assert any(failure.startswith(check) for failure in failures(verified)), (check, failures(verified))
    assert (await bulkseed.cleanup(database, [report.run])).removed == report.rows
    assert await digest(database) == before


def failures(report: bulkseed.VerifyReport) -> set[str]:
    return {f"{rule.rule} {rule.text}" for rule in report.rules if rule.violations}


async def test_rows_that_follow_memberships_are_not_before_the_joining(database: Address, tmp_path: Path) -> None:
    await run_sql(
        database,
        "ALTER TABLE user_channels ADD since timestamp",
        "CREATE TABLE welcomes (user_id bigint, channel_id bigint, created_at timestamp)",
    )
    await bulkseed.load(planned(tmp_path, 'plugins = ["plugins:welcomes"]' + SCENARIO, "2x"), database)
    [(count, early)] = await rows(
        database,
        "SELECT count(*), count(*) FILTER (WHERE n.created_at <> m.since) FROM welcomes AS n "
        "JOIN user_channels AS m USING (user_id, channel_id)",
    )
    assert count > 0
    assert early == 0


@pytest.mark.parametrize("scenario", ["default", "slack"])
async def test_the_heap_is_in_order_of_time(database: Address, scenario: str) -> None:
    plan = bulkseed.make_plan(scenario=scenario, scale="10x")
    # two workers exchange the places of whole slices, which are few here
    await bulkseed.load(plan, database, rows_per_shard=2_000, workers=1)
    await run_sql(database, "ANALYZE messages")
    [(of_times, of_ids, of_channels)] = await rows(
        database,
        "SELECT max(correlation) FILTER (WHERE attname = 'created_at'), "
        "max(correlation) FILTER (WHERE attname = 'id'), max(correlation) FILTER (WHERE attname = 'channel_id') "
        "FROM pg_stats WHERE tablename = 'messages'",
    )
    assert of_times > 0.95
    assert of_ids > 0.95
    assert abs(of_channels) < 0.15  # of 100 channels; the more there are, the nearer it is to that of all
