"""What an application does while a command is at a certain point, and an application that writes all the time."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from bulkseed.listeners import Phase
from bulkseed.postgres.address import Address
from support.listeners import Notes
from support.queries import run_sql


class Meanwhile(Notes):
    """Executes statements on a connection of its own, and commits them, when ``phase`` begins for the first time.

    The command waits for them. Keeps the notes.
    """

    def __init__(self, address: Address, phase: Phase, *statements: str, times: int = 1) -> None:
        super().__init__()
        self.address = address
        self.at = phase
        self.statements = statements
        self.times = times

    def phase(self, phase: Phase, step: int = 0, steps: int | None = None) -> None:
        """Execute the statements."""
        if phase == self.at and self.times:
            self.times -= 1
            thread = threading.Thread(target=lambda: asyncio.run(run_sql(self.address, *self.statements)))
            thread.start()
            thread.join(10)
            assert not thread.is_alive(), "the statements wait for the command"


class Writer:
    """An application that inserts rows, each in a transaction, until it is stopped; counts those that it committed."""

    def __init__(self, connection: asyncpg.Connection, label: str) -> None:
        self.connection = connection
        self.label = label
        self.committed: dict[str, set[str]] = {"users": set(), "notes": set(), "messages": set()}
        self.done = False
        self.refused = 0

    async def write(self) -> None:
        """Insert a row of its own, a row that references a loaded user, and a message in a loaded channel."""
        for number in itertools.count():
            if self.done:
                return
            name = f"{self.label} {number}"
            await self.insert(
                "users",
                name,
                "INSERT INTO users (auth0_id, email, is_active, created_at, name) VALUES ($1, $1, true, now(), $1)",
            )
            await self.insert("notes", name, "INSERT INTO notes SELECT $1, id FROM users ORDER BY random() LIMIT 1")
            await self.insert(
                "messages",
                name,
                "INSERT INTO messages (content, created_at, updated_at, user_id, channel_id) "
                "SELECT $1, now(), now(), owner_id, id FROM channels ORDER BY random() LIMIT 1",
            )
            await asyncio.sleep(0.002)

    async def insert(self, table: str, name: str, statement: str) -> None:
        try:
            if await self.connection.execute(statement, name) == "INSERT 0 1":
                self.committed[table].add(name)
        except (asyncpg.ForeignKeyViolationError, asyncpg.DeadlockDetectedError):
            self.refused += 1

    async def lost(self, address: Address) -> dict[str, set[str]]:
        """Return the names of committed rows that are not there."""
        columns = {"users": "name", "notes": "name", "messages": "content"}
        lost = {}
        connection = await asyncpg.connect(address.dsn)
        for table, column in columns.items():
            rows = await connection.fetch(f"SELECT {column} FROM {table} WHERE {column} LIKE '{self.label} %'")
            lost[table] = self.committed[table] - {row[0] for row in rows}
        await connection.close()
        return {table: names for table, names in lost.items() if names}


NOTES = "CREATE TABLE notes (name text, who bigint REFERENCES users ON DELETE CASCADE)"


@asynccontextmanager
async def writing(address: Address, label: str = "app") -> AsyncIterator[Writer]:
    """Let an application write during the block; the table ``notes`` (:data:`NOTES`) must exist."""
    connection = await asyncpg.connect(address.dsn)
    writer = Writer(connection, label)
    task = asyncio.create_task(writer.write())
    try:
        yield writer
    finally:
        writer.done = True
        await task
        await connection.close()
