"""The reference schema itself, and how `bulkseed init` makes what is missing of it."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from bulkseed.errors import ConnectionLostError, TargetError
from bulkseed.ledger import LOCK
from bulkseed.listeners import NullListener
from bulkseed.plan.tables import CATALOGUE, TABLE_NAMES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection
from bulkseed.target.reference_schema import create_missing, read_statements
from support.databases import MakeDatabase
from support.errors import raises
from support.queries import digest, run_sql

COLUMNS: Final = """
channels.id bigint NOT NULL BY DEFAULT AS IDENTITY
channels.name character varying(255) NOT NULL
channels.description character varying(100)
channels.owner_id bigint NOT NULL
channels.created_at timestamp without time zone NOT NULL
channels.is_private boolean NOT NULL
channels.is_dm boolean NOT NULL
channels.join_code character varying(8)
message_reactions.message_id bigint NOT NULL
message_reactions.reaction_id bigint NOT NULL
message_reactions.user_id bigint NOT NULL
message_reactions.created_at timestamp without time zone NOT NULL
messages.id bigint NOT NULL BY DEFAULT AS IDENTITY
messages.content text NOT NULL
messages.created_at timestamp without time zone NOT NULL
messages.updated_at timestamp without time zone NOT NULL
messages.user_id bigint NOT NULL
messages.channel_id bigint NOT NULL
messages.parent_id bigint
reactions.id bigint NOT NULL BY DEFAULT AS IDENTITY
reactions.code character varying(32) NOT NULL
reactions.is_system boolean NOT NULL
user_channels.user_id bigint NOT NULL
user_channels.channel_id bigint NOT NULL
users.id bigint NOT NULL BY DEFAULT AS IDENTITY
users.auth0_id character varying(64) NOT NULL
users.email character varying(255) NOT NULL
users.is_active boolean NOT NULL
users.created_at timestamp without time zone NOT NULL
users.name character varying(255) NOT NULL
users.picture character varying(255)
users.bio character varying(200)
"""

CONSTRAINTS: Final = """
channels_join_code_key UNIQUE (join_code)
channels_owner_id_fkey FOREIGN KEY (owner_id) REFERENCES users(id)
channels_pkey PRIMARY KEY (id)
message_reactions_message_id_fkey FOREIGN KEY (message_id) REFERENCES messages(id)
message_reactions_pkey PRIMARY KEY (message_id, reaction_id, user_id)
message_reactions_reaction_id_fkey FOREIGN KEY (reaction_id) REFERENCES reactions(id)
message_reactions_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id)
messages_channel_id_fkey FOREIGN KEY (channel_id) REFERENCES channels(id)
messages_parent_id_fkey FOREIGN KEY (parent_id) REFERENCES messages(id)
messages_pkey PRIMARY KEY (id)
messages_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id)
reactions_code_key UNIQUE (code)
reactions_pkey PRIMARY KEY (id)
user_channels_channel_id_fkey FOREIGN KEY (channel_id) REFERENCES channels(id)
user_channels_pkey PRIMARY KEY (user_id, channel_id)
user_channels_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id)
users_auth0_id_key UNIQUE (auth0_id)
users_email_key UNIQUE (email)
users_pkey PRIMARY KEY (id)
"""

INDEXES: Final = """
channels_owner_id_idx ON public.channels USING btree (owner_id)
message_reactions_user_id_idx ON public.message_reactions USING btree (user_id)
messages_channel_id_created_at_idx ON public.messages USING btree (channel_id, created_at)
messages_parent_id_idx ON public.messages USING btree (parent_id) WHERE (parent_id IS NOT NULL)
messages_user_id_idx ON public.messages USING btree (user_id)
user_channels_channel_id_idx ON public.user_channels USING btree (channel_id)
"""

CATALOGUE_ROWS: Final = """
1 thumbs_up true
2 thumbs_down true
3 heart true
4 joy true
5 tada true
6 eyes true
7 fire true
8 rocket true
9 pray true
10 clap true
11 thinking true
12 check true
"""

SCHEMA: Final = {
    COLUMNS: """
        SELECT concat_ws(' ', c.relname || '.' || attname, format_type(atttypid, atttypmod),
                         CASE WHEN attnotnull THEN 'NOT NULL' END,
                         CASE attidentity WHEN 'd' THEN 'BY DEFAULT AS IDENTITY' WHEN 'a' THEN 'ALWAYS' END,
                         pg_get_expr(adbin, adrelid))
        FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid
             LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND attnum > 0
        ORDER BY c.relname, attnum
        """,
    # NOT NULL, which PostgreSQL 18 has among the constraints, is the columns' here
    CONSTRAINTS: """
        SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND contype <> 'n' ORDER BY conname
        """,
    INDEXES: """
        SELECT replace(pg_get_indexdef(indexrelid), 'CREATE INDEX ', '') AS made FROM pg_index
        WHERE NOT indisunique AND indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
        ORDER BY made
        """,
    CATALOGUE_ROWS: "SELECT concat_ws(' ', id, code, is_system::text) FROM reactions ORDER BY id",
}


async def test_the_schema_is_this(database: Address) -> None:
    async with open_connection(database) as connection:
        for expected, query in SCHEMA.items():
            assert [row[0] for row in await connection.fetch(query)] == expected.strip().splitlines()


def test_statements_are_there_for_every_table_in_an_order_that_foreign_keys_allow() -> None:
    statements = read_statements()
    *tables, rows = statements
    assert rows == "catalogue"
    assert set(tables) == {*TABLE_NAMES, CATALOGUE.name}
    for number, name in enumerate(tables):
        later = [f"REFERENCES {each} " for each in tables[number + 1 :]]
        assert not any(each in statements[name] for each in later)


@pytest.mark.parametrize("name", [*TABLE_NAMES, CATALOGUE.name])
async def test_each_table_is_made_with_its_indexes(database: Address, name: str) -> None:
    await run_sql(database, f"DROP TABLE {name} CASCADE")
    made = [f"table {name}"] + ["12 reactions in the catalogue"] * (name == CATALOGUE.name)
    assert await create_missing(database) == made
    async with open_connection(database) as connection:
        indexes = [row[0] for row in await connection.fetch(SCHEMA[INDEXES])]
    assert indexes == INDEXES.strip().splitlines()


async def test_a_table_that_is_there_keeps_the_indexes_that_it_has(database: Address) -> None:
    await run_sql(database, "DROP INDEX messages_user_id_idx", "DROP TABLE message_reactions")
    assert await create_missing(database) == ["table message_reactions"]
    async with open_connection(database) as connection:
        assert await connection.fetchval("SELECT to_regclass('messages_user_id_idx')") is None


async def test_tables_are_found_in_every_schema_of_the_search_path(database: Address) -> None:
    await run_sql(
        database, "CREATE SCHEMA app", f"ALTER DATABASE {database.url.database} SET search_path TO app, public"
    )
    assert await create_missing(database) == []


@pytest.mark.parametrize(
    ("change", "code", "facts"),
    [
        ("CREATE MATERIALIZED VIEW users AS SELECT 1", "not-a-table", ["users", "a materialized view"]),
        (
            "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; "
            "CREATE FOREIGN TABLE users () SERVER s",
            "not-a-table",
            ["users", "a foreign table"],
        ),
        ("CREATE SEQUENCE users", "not-a-table", ["users", "a sequence"]),
        ("CREATE TYPE users AS (id int)", "not-a-table", ["users", "a type"]),
        ("CREATE TABLE t (id int); CREATE INDEX users ON t (id)", "not-a-table", ["users", "an index"]),
        (
            "CREATE VIEW users AS SELECT 1; CREATE VIEW channels AS SELECT 1",
            "not-a-table",
            ["relation channels", "\nthe relation users", "a view"],
        ),
        ("CREATE TYPE message_reactions AS ENUM ('a')", "cannot-create-tables", ["message_reactions", "migrations"]),
        (
            "CREATE TABLE t (id int); CREATE INDEX messages_user_id_idx ON t (id)",
            "cannot-create-tables",
            ["messages_user_id_idx"],
        ),
    ],
)
async def test_names_that_are_taken(make_database: MakeDatabase, change: str, code: str, facts: list[str]) -> None:
    database = await make_database("empty")
    await run_sql(database, change)
    before = await digest(database)
    with raises(code, *facts, kind=TargetError):
        await create_missing(database)
    assert await digest(database) == before


async def test_a_login_that_may_make_no_tables(make_database: MakeDatabase) -> None:
    database = await make_database("empty")
    await run_sql(
        database,
        "DO $$ BEGIN CREATE ROLE visitor LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "REVOKE CREATE ON SCHEMA public FROM public",  # as it is from PostgreSQL 15
    )
    with raises("cannot-create-tables", "public", "grant", kind=TargetError):
        await create_missing(Address(database.url._replace(username="visitor")))
    assert await digest(database) == {}


class Notes(NullListener):
    """What a command said, and that it did."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.event = asyncio.Event()

    def note(self, message: str) -> None:
        """Keep it."""
        self.said.append(message)
        self.event.set()


async def test_two_at_a_time_take_turns(make_database: MakeDatabase) -> None:
    database = await make_database("empty")
    watchers = [Notes(), Notes()]
    async with open_connection(database) as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        waiting = [asyncio.create_task(create_missing(database, listener=each)) for each in watchers]
        for each in watchers:
            await asyncio.wait_for(each.event.wait(), 60)
        assert await digest(database) == {}
    made = sorted(await asyncio.gather(*waiting), key=len)
    assert [len(each) for each in made] == [0, 7]
    assert all("waiting for another bulkseed in this database" in each.said[0] for each in watchers)


async def until_blocked(connection: Connection) -> int:
    """The process of this database that waits for a lock, as soon as there is one."""
    while True:
        found = await connection.fetchval(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        if found is not None:
            return int(found)
        await asyncio.sleep(0.01)


async def test_a_connection_that_is_lost_in_the_middle_leaves_nothing_half_made(make_database: MakeDatabase) -> None:
    database = await make_database("empty")
    async with open_connection(database) as other, open_connection(database) as connection, connection.transaction():
        await connection.execute("CREATE TABLE users (id bigint PRIMARY KEY)")
        await connection.execute("CREATE TABLE messages (id bigint PRIMARY KEY)")
        # it makes reactions, and then waits for what becomes of these users
        making = asyncio.create_task(create_missing(database))
        blocked = await asyncio.wait_for(until_blocked(other), 60)
        await other.execute("SELECT pg_terminate_backend($1)", blocked)
        with raises("connection-lost", kind=ConnectionLostError):
            await making
    assert list(await digest(database)) == ["messages", "users"]
