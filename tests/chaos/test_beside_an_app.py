"""An app that reads and writes during a load: it gets no error, loses no row, and never waits long."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter

import asyncpg
import pytest

from bulkseed.embedded import Server
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.verifier.verify import verify
from support.commands import FIXED, bulkseed
from support.pg_dump import dump

OURS = {
    "users": "t.auth0_id LIKE 'app|%'",
    "channels": "t.name LIKE 'app %'",
    "user_channels": "t.user_id IN (SELECT id FROM users WHERE auth0_id LIKE 'app|%')",
    "messages": "t.content LIKE 'app %'",
    "message_reactions": "t.user_id IN (SELECT id FROM users WHERE auth0_id LIKE 'app|%')",
}
"""The conditions for rows that an app has written."""


class App:
    """A session of an app, with short timeouts: the rows that it has committed, and its longest wait."""

    def __init__(self, connection: asyncpg.Connection, number: int) -> None:
        self.connection = connection
        self.number = number
        self.random = random.Random(number)
        self.counter = itertools.count()
        self.users: dict[int, str] = {}
        self.messages: dict[int, str] = {}
        self.longest = 0.0
        self.turns = 0

    async def ask(self, sql: str, *values: object) -> int | None:
        begun = perf_counter()
        found: int | None = await self.connection.fetchval(sql, *values)
        self.longest = max(self.longest, perf_counter() - begun)
        return found

    async def write(self) -> None:
        """Insert a user with a channel, messages and a reaction; update and delete messages, as apps do."""
        name = f"app {self.number}-{next(self.counter)}"
        async with self.connection.transaction():
            user = await self.ask(
                "INSERT INTO users (auth0_id, email, is_active, created_at, name) "
                "VALUES ('app|' || $2::text, $2 || '@corp.test', true, now(), $1) RETURNING id",
                name,
                name.replace("app ", ""),
            )
            channel = await self.ask(
                "INSERT INTO channels (name, owner_id, created_at, is_private, is_dm) "
                "VALUES ($1, $2, now(), false, false) RETURNING id",
                name,
                user,
            )
            for _ in range(2):  # the second one conflicts
                await self.ask("INSERT INTO user_channels VALUES ($1, $2) ON CONFLICT DO NOTHING", user, channel)
            message = await self.ask(
                "INSERT INTO messages (content, created_at, updated_at, user_id, channel_id) "
                "VALUES ($1, now(), now(), $2, $3) RETURNING id",
                name,
                user,
                channel,
            )
            await self.ask(
                "INSERT INTO message_reactions SELECT $1, id, $2, now() FROM reactions LIMIT 1", message, user
            )
        assert user is not None
        assert message is not None
        self.users[user], self.messages[message] = name, name
        changed = self.random.choice(list(self.messages))
        await self.ask("UPDATE messages SET content = content || '!' WHERE id = $1", changed)
        self.messages[changed] += "!"
        if len(self.messages) > 20:
            gone = self.random.choice(list(self.messages))
            async with self.connection.transaction():
                await self.ask("DELETE FROM message_reactions WHERE message_id = $1", gone)
                await self.ask("DELETE FROM messages WHERE id = $1", gone)
            del self.messages[gone]

    async def read(self) -> None:
        """Read each table, seeded rows too."""
        for table in OURS:
            await self.ask(f"SELECT count(*) FROM (SELECT FROM {table} LIMIT 50) AS t")

    async def write_nothing(self) -> None:
        """Run an UPDATE that changes no row."""
        await self.ask("UPDATE messages SET content = content WHERE id = -1")


@asynccontextmanager
async def working(address: Address, limit: str, turn: Callable[[App], Awaitable[None]]) -> AsyncIterator[list[App]]:
    """Run apps that repeat ``turn`` during the block. Raises the error of any of them."""
    connections = [
        await asyncpg.connect(address.dsn, server_settings={"statement_timeout": limit, "lock_timeout": limit})
        for _ in range(3)
    ]
    apps = [App(connection, number) for number, connection in enumerate(connections)]
    done = asyncio.Event()

    async def work(app: App) -> None:
        while not done.is_set():
            await turn(app)
            app.turns += 1
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as tasks:
        for app in apps:
            tasks.create_task(work(app))
        try:
            yield apps
        finally:
            done.set()
    for connection in connections:
        await connection.close()


async def rows(address: Address, where: dict[str, str]) -> dict[str, list[str]]:
    async with open_connection(address) as connection:
        return {
            table: [
                row[0] for row in await connection.fetch(f"SELECT t::text FROM {table} AS t WHERE {which} ORDER BY 1")
            ]
            for table, which in where.items()
        }


async def test_an_app_writes_during_a_load_in_place(database: Address) -> None:
    url = {"BULKSEED_DATABASE_URL": database.dsn}

    async def turn(app: App) -> None:
        await app.write()
        await app.read()

    async with working(database, "2s", turn) as apps:
        load = ["--scale", "10x", *FIXED, "--workers", "2", "--defer", "never", "--quiet"]
        done = await asyncio.to_thread(bulkseed, *load, **url)
        assert (done.returncode, done.stderr) == (0, "")
    assert min(app.turns for app in apps) > 20
    made = await rows(database, OURS)
    async with open_connection(database) as connection:
        for table, kept in (("users", "users"), ("messages", "messages")):
            column = {"users": "name", "messages": "content"}[table]
            found = {
                row["id"]: row[column]
                for row in await connection.fetch(f"SELECT id, {column} FROM {table} AS t WHERE {OURS[table]}")
            }
            assert found == {key: text for app in apps for key, text in getattr(app, kept).items()}
    assert all(report.holds for report in await verify(database))
    async with working(database, "2s", App.read):
        done = await asyncio.to_thread(bulkseed, "cleanup", "--yes", "--quiet", **url)
        assert (done.returncode, done.stderr) == (0, "")
    assert await rows(database, dict.fromkeys(OURS, "true")) == made


async def test_a_deferred_load_gives_up_and_blocks_no_app(seeded: Address, server: Server) -> None:
    before = await rows(seeded, dict.fromkeys(OURS, "true")), dump(server, seeded)
    async with open_connection(seeded) as reader, working(seeded, "3s", App.read) as apps:
        await reader.execute("BEGIN; SELECT FROM messages")  # as pg_dump does, for hours
        done = await asyncio.to_thread(bulkseed, "--defer", "always", "--quiet", BULKSEED_DATABASE_URL=seeded.dsn)
        assert done.returncode == 2
        assert done.stderr.startswith("bulkseed: ")
        assert re.search(rf"\b{reader.get_server_pid()}\b", done.stderr), done.stderr
    assert max(app.longest for app in apps) > 0.3, "no app had to wait: the load did not ask for its locks"
    assert (await rows(seeded, dict.fromkeys(OURS, "true")), dump(server, seeded)) == before
    async with open_connection(seeded) as connection:
        assert await connection.fetchval("SELECT count(*) FROM bulkseed.runs") == 1


@pytest.mark.parametrize(
    ("mode", "turn"),
    [
        pytest.param("ACCESS SHARE", App.read, marks=pytest.mark.long),
        ("ROW EXCLUSIVE", App.write_nothing),
    ],
    ids=["reading", "writing"],
)
async def test_a_rebuild_waits_for_a_long_transaction_and_blocks_no_app(
    database: Address, server: Server, mode: str, turn: Callable[[App], Awaitable[None]]
) -> None:
    before = dump(server, database)
    load = ["--scale", "10x", "--defer", "always", "--workers", "2", "--quiet"]
    async with (
        open_connection(database) as holder,
        open_connection(database) as watching,
        working(database, "3s", turn) as apps,
    ):
        running = asyncio.create_task(asyncio.to_thread(bulkseed, *load, BULKSEED_DATABASE_URL=database.dsn))
        while await watching.fetchval("SELECT to_regclass('messages_pkey') IS NOT NULL"):
            assert not running.done(), running.result()
            await asyncio.sleep(0.002)
        await holder.execute(f"BEGIN; LOCK TABLE messages IN {mode} MODE")
        await asyncio.sleep(4)
        assert not running.done()
        await holder.execute("COMMIT")
        done = await running
        assert (done.returncode, done.stderr) == (0, "")
    assert max(app.longest for app in apps) > 0.3
    assert dump(server, database) == before
