"""The start and the expected end of all rounds: a template database, and its state after an undisturbed load."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg

from bulkseed.cleaner.cleanup import cleanup
from bulkseed.embedded import Server
from bulkseed.ledger.runs import read_history
from bulkseed.plan.tables import TABLE_NAMES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.sql import identifier
from bulkseed.verifier.verify import verify
from chaos.commands import PLAN, Ended, bulkseed
from chaos.proxy import proxied
from support.app_rows import APP_ROWS
from support.databases import address_of, make_reference
from support.museum import MUSEUM
from support.pg_dump import dump
from support.queries import run_sql

__all__ = ["UNRECORDED", "State", "World", "nobody_left", "recorded", "state"]

DIGEST: Final = "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text"
UNRECORDED: Final = "before it was recorded"
NUMBERS = itertools.count()

BOOKMARKS = """INSERT INTO app.bookmarks (user_id, channel_id, message_id)
    SELECT user_id, channel_id, id FROM messages WHERE content = 'app'"""


@dataclass(frozen=True)
class State:
    """The contents of a database without the ledger: rows and digests by table, sequences, invalid indexes, schema."""

    tables: dict[str, tuple[int, str]]
    sequences: dict[str, int | None]
    invalid: list[str]
    schema: str


async def state(server: Server, address: Address) -> State:
    """Read the state of a database."""
    ours = "NOT LIKE ALL (ARRAY['pg\\_%', 'information\\_schema', 'bulkseed'])"
    tables = {}
    async with open_connection(address) as connection:
        for row in await connection.fetch(f"SELECT schemaname, tablename FROM pg_tables WHERE schemaname {ours}"):
            found = await connection.fetchrow(f"{DIGEST} FROM {identifier(*row)} AS t")
            tables[f"{row[0]}.{row[1]}"] = (found[0], found[1])
        sequences = await connection.fetch(
            f"SELECT schemaname || '.' || sequencename, last_value FROM pg_sequences WHERE schemaname {ours}"
        )
        invalid = await connection.fetch(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT (indisvalid AND indisready AND indislive)"
        )
    return State(tables, {row[0]: row[1] for row in sequences}, [row[0] for row in invalid], dump(server, address))


async def nobody_left(address: Address, seconds: float = 30.0) -> None:
    """Fail if a backend of a command is still running after ``seconds``."""
    until = time.monotonic() + seconds
    async with open_connection(address) as connection:
        while left := await connection.fetch(
            "SELECT pid, state, left(query, 60) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'bulkseed' AND pid <> pg_backend_pid()"
        ):
            assert time.monotonic() < until, f"remaining backends: {left}"
            await asyncio.sleep(0.02)


MADE = """
SELECT (SELECT count(*) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid
        WHERE i.indisvalid AND c.relnamespace::regnamespace::text IN ('public', 'app'))
     + (SELECT count(*) FROM pg_constraint WHERE connamespace::regnamespace::text IN ('public', 'app') AND convalidated)
"""
"""The number of indexes that are valid and of constraints that are validated."""


@dataclass
class World:
    """A server with a template database, its state, and its state after :data:`PLAN` was loaded.

    ``shards`` and ``commits`` are the numbers of its shards and COMMITs; ``made`` is the result of :data:`MADE`.
    ``paces`` are the seconds that successful commands take, by name; they are updated, as machines are shared.
    """

    server: Server
    before: State
    after: State
    paces: dict[str, float]
    shards: int = 0
    commits: int = 0
    made: int = 0

    @classmethod
    async def make(cls, server: Server) -> World:
        """Create the template, and load a copy of it."""
        await run_sql(address_of(server, "postgres"), "CREATE DATABASE template_museum TEMPLATE template0")
        template = address_of(server, "template_museum")
        await make_reference(template)
        await run_sql(template, *APP_ROWS, MUSEUM, BOOKMARKS)
        before = await state(server, template)
        world = cls(server, before, before, {})
        async with open_connection(template) as connection:
            world.made = await connection.fetchval(MADE)
        async with world.database() as address, proxied(server) as proxy:
            through = proxy.address(address.database)
            loaded = await bulkseed(through, *PLAN, "--workers", "2", "--defer", "always", "--quiet")
            assert loaded.status == 0, loaded
            world.learn("load", loaded)
            world.commits = proxy.commits
            world.after = await state(server, address)
            async with open_connection(address) as connection:
                world.shards = await connection.fetchval("SELECT count(*) FROM bulkseed.shards")
        assert world.commits > world.shards > 30
        assert world.after.schema == before.schema
        assert world.after.tables["public.users"][0] == before.tables["public.users"][0] + 200
        return world

    @asynccontextmanager
    async def database(self, template: str = "template_museum") -> AsyncIterator[Address]:
        """Yield a copy of a template."""
        name = f"chaos_{next(NUMBERS)}"
        admin = address_of(self.server, "postgres")
        await run_sql(admin, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        yield address_of(self.server, name)
        # not if the test failed: the database can be examined while the server runs
        await run_sql(admin, f"DROP DATABASE {name} WITH (FORCE)")

    def learn(self, name: str, ended: Ended) -> None:
        """Record the seconds that a successful command took."""
        if ended.status == 0:
            self.paces[name] = (self.paces.get(name, ended.seconds) + ended.seconds) / 2

    def sometime(self, name: str, rng: random.Random, after: float) -> float:
        """Return a random moment of a command, in seconds after its start, past the share ``after`` of its time."""
        # a command of a few seconds spends half of them on starting and checking
        after = rng.choice([after, 0.5, 0.5])
        return rng.uniform(after, 1) * self.paces.get(name, self.paces["load"])

    async def moment(self, address: Address) -> str:
        """Return the progress of run 1, as another connection sees it."""
        async with open_connection(address) as connection:
            try:
                found = await connection.fetchrow(
                    "SELECT state, (SELECT count(*) FROM bulkseed.shards WHERE run = r.id) AS shards "
                    "FROM bulkseed.runs AS r WHERE id = 1"
                )
            except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
                return UNRECORDED
            if found is None or found["state"] != "loading":
                return UNRECORDED if found is None else str(found["state"])
            shards = found["shards"]
            made = await connection.fetchval(MADE)
        if shards == self.shards:
            return "all shards in, " + ("all rebuilt" if made == self.made else "rebuilding")
        return "loading" if shards else "recorded, no shard in"

    async def has_reserved(self, address: Address) -> bool:
        """Return whether a load has reserved ids, which no rollback gives back."""
        return (await state(self.server, address)).sequences != self.before.sequences

    async def is_as_before(self, address: Address, *, sequences: bool = True) -> None:
        """Fail if anything differs from the template; sequences are compared only if ``sequences``."""
        found = await state(self.server, address)
        assert found.tables == self.before.tables
        assert found.invalid == []
        assert found.schema == self.before.schema
        if sequences:
            assert found.sequences == self.before.sequences

    async def is_loaded_somewhere(self, address: Address) -> None:
        """Check a complete load whose ids may differ, because ids were reserved before the run was recorded.

        Other ids give other rows. These are checked by verify(), and removed again.
        """
        await nobody_left(address)
        found = await state(self.server, address)
        if found.sequences == self.after.sequences:
            await self.is_loaded(address)
            return
        assert found.schema == self.before.schema
        assert await self.moment(address) == "whole"
        assert all(report.holds for report in await verify(address))
        await cleanup(address, [1])
        await self.is_as_before(address, sequences=False)

    async def is_loaded(self, address: Address, run: int = 1) -> None:
        """Fail if anything differs from an undisturbed load: rows, ids, indexes, keys, statistics, the ledger."""
        await nobody_left(address)
        found = await state(self.server, address)
        assert found.tables == self.after.tables
        assert found.invalid == []
        assert found.schema == self.before.schema
        assert found.sequences == self.after.sequences
        async with open_connection(address) as connection:
            for table in TABLE_NAMES:
                estimate = await connection.fetchval(f"SELECT reltuples FROM pg_class WHERE oid = '{table}'::regclass")
                rows = found.tables[f"public.{table}"][0]
                assert abs(estimate - rows) <= 0.05 * rows, f"{table} was not analyzed: {estimate} of {rows} rows"
            assert await connection.fetchval("SELECT state FROM bulkseed.runs WHERE id = $1", run) == "whole"
            assert await connection.fetchval("SELECT every(rebuilt_at IS NOT NULL) FROM bulkseed.deferred") is not False


async def recorded(address: Address) -> dict[int, str]:
    """Return the state of each run, by number."""
    return {entry.run.number: entry.state for entry in await read_history(address)}
