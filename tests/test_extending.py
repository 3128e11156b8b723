"""Tables of the user's own, and relationships: loaded, verified, resumed and cleaned up as the built-in ones are."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import AS_OF, digest, run_sql
from test_scenario import planned, rows

from bulkseed.address import Address
from bulkseed.cleaning import cleanup
from bulkseed.loading import load
from bulkseed.verifying import verify

STATUSES = """
CREATE TABLE user_statuses (
    id bigserial PRIMARY KEY, user_id bigint NOT NULL REFERENCES users, status_text text NOT NULL, emoji text,
    created_at timestamp NOT NULL, expires_at timestamp, is_active boolean NOT NULL);
CREATE UNIQUE INDEX one_active ON user_statuses (user_id) WHERE is_active;
"""
APP_ROWS = (
    "INSERT INTO users VALUES (DEFAULT, 'x', 'x', true, now(), 'x', 'x', 'x')",
    "INSERT INTO user_statuses (user_id, status_text, created_at, is_active) SELECT id, 'app', now(), true FROM users",
)
FOLLOWS = """
CREATE TABLE follows (
    follower_id bigint REFERENCES users, followed_id bigint REFERENCES users, since timestamp NOT NULL,
    PRIMARY KEY (follower_id, followed_id), CHECK (follower_id <> followed_id));
CREATE TABLE stars (room bigint REFERENCES channels, who bigint REFERENCES users, PRIMARY KEY (room, who));
CREATE TABLE bookmarks (who bigint REFERENCES users, message bigint REFERENCES messages, PRIMARY KEY (who, message));
"""
RELATIONSHIPS = """
[relationships.follows]
from = "users"
to = "users"
min = 0
max = 10
columns = ["follower_id", "followed_id", "since"]

[relationships.stars]
from = "channels"
to = "users"
min = 1
max = 3
columns = ["room", "who"]

[relationships.bookmarks]
from = "users"
to = "messages"
min = 2
max = 2
columns = ["who", "message"]
"""


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_table_of_the_users_own(database: Address, tmp_path: Path, workers: int) -> None:
    await run_sql(database, STATUSES, *APP_ROWS)
    before = await digest(database)
    plan = planned(tmp_path, 'plugins = ["examples.statuses:user_statuses"]', "10x")
    done = await load(plan, database, workers=workers, rows_per_shard=2000, defer="always")
    assert done.rows["user_statuses"] == 5 * 200
    [(wrong,)] = await rows(
        database,
        "SELECT count(*) FROM user_statuses AS s JOIN users AS u ON u.id = s.user_id WHERE s.created_at < u.created_at "
        f"OR s.created_at > '{AS_OF:%Y-%m-%d}' AND status_text <> 'app' OR s.expires_at < s.created_at",
    )
    assert wrong == 0
    [report] = await verify(database)
    assert report.holds
    assert any("user_statuses" in rule.text for rule in report.rules)
    await cleanup(database, [1])
    assert await digest(database) == before


async def fewest_and_most(address: Address, parent: str, table: str, column: str) -> tuple[int, int]:
    """How many rows of ``table`` point at one of the parent's."""
    counts = (
        f"SELECT count(t.{column}) AS n FROM {parent} AS p LEFT JOIN {table} AS t ON t.{column} = p.id GROUP BY p.id"
    )
    [(fewest, most)] = await rows(address, f"SELECT min(n), max(n) FROM ({counts}) AS c")
    return fewest, most


async def test_relationships(database: Address, tmp_path: Path) -> None:
    await run_sql(database, FOLLOWS)
    before = await digest(database)
    plan = planned(tmp_path, RELATIONSHIPS, "10x")
    made = []
    for rows_per_shard in (100_000, 1500):
        done = await load(plan, database, rows_per_shard=rows_per_shard, defer="never")
        assert await fewest_and_most(database, "users", "follows", "follower_id") == (0, 10)
        assert await fewest_and_most(database, "channels", "stars", "room") == (1, 3)
        assert await fewest_and_most(database, "users", "bookmarks", "who") == (2, 2)
        [(early,)] = await rows(
            database,
            "SELECT count(*) FROM follows JOIN users AS a ON a.id = follower_id JOIN users AS b ON b.id = followed_id "
            f"WHERE since < a.created_at OR since < b.created_at OR since > '{AS_OF:%Y-%m-%d}'",
        )
        assert early == 0
        made.append({name: done.rows[name] for name in done.rows})
        await cleanup(database, [done.run])
        assert await digest(database) == before
