"""The target is checked before anything is written, and each problem is named with its fix."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from bulkseed.errors import TargetError
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.scenarios.planning import make_plan
from bulkseed.target.guard import check_server, survey
from bulkseed.target.reference_schema import create_missing
from bulkseed.target.target import Problem, raise_problems
from support.databases import MakeDatabase
from support.errors import raises
from support.plans import plan_of
from support.queries import digest, run_sql

PROBLEMS: dict[str, tuple[str, str, list[str]]] = {
    "a missing table": (
        "DROP TABLE message_reactions",
        "missing-table",
        ["message_reactions", "'public'", "`bulkseed init`"],
    ),
    "missing tables": (
        "DROP TABLE message_reactions, user_channels",
        "missing-table",
        ["user_channels, message_reactions"],
    ),
    "a missing column": ("ALTER TABLE users DROP bio", "missing-column", ["users.bio", "[columns.users]"]),
    "a text that is too short": (
        "ALTER TABLE users ALTER email TYPE varchar(50)",
        "column-too-short",
        ["users.email", "50", "80"],
    ),
    "another type": (
        "ALTER TABLE users ALTER is_active TYPE text",
        "column-type",
        ["users.is_active is of type text", "make it boolean"],
    ),
    "a number": (
        "ALTER TABLE users ALTER name TYPE int USING 1",
        "column-type",
        ["users.name is of type int4", "make it text"],
    ),
    "a uuid": (
        "ALTER TABLE message_reactions DROP user_id, ADD user_id uuid",
        "id-types-differ",
        ["message_reactions.user_id is of type uuid", "users.id of bigint"],
    ),
    "NOT NULL where null must be": (
        "ALTER TABLE channels ALTER join_code SET NOT NULL",
        "column-not-null",
        ["channels.join_code"],
    ),
    "a column that nothing fills": (
        "ALTER TABLE users ADD phone text NOT NULL",
        "unfilled-column",
        ["users.phone", "[fields.users]"],
    ),
    "a column that only an inner domain would fill": (
        "CREATE DOMAIN inner_one AS text; CREATE DOMAIN outer_one AS inner_one NOT NULL; ALTER DOMAIN inner_one "
        "SET DEFAULT 'late'; ALTER TABLE users ADD phone outer_one",
        "unfilled-column",
        ["users.phone"],
    ),
    "a default of null over a domain's": (
        "CREATE DOMAIN three AS int DEFAULT 3; CREATE DOMAIN none_of_three AS three DEFAULT NULL; "
        "ALTER TABLE users ADD phone none_of_three NOT NULL; ALTER TABLE users ADD fax three DEFAULT NULL NOT NULL",
        "unfilled-column",
        ["users.phone", "users.fax"],
    ),
    "a sequence": (
        "ALTER TABLE user_channels RENAME TO uc; CREATE SEQUENCE user_channels",
        "not-a-table",
        ["user_channels", "a sequence"],
    ),
    "a type that pads": (
        "ALTER TABLE users ALTER name TYPE char(255)",
        "column-type",
        ["users.name", "character(255)"],
    ),
    "a view": (
        "ALTER TABLE users RENAME TO people; CREATE VIEW users AS SELECT * FROM people",
        "not-a-table",
        ["users", "'public'", "a view"],
    ),
    "a generated column": (
        "ALTER TABLE users DROP bio, ADD bio text GENERATED ALWAYS AS (name) STORED",
        "generated-column",
        ["users.bio"],
    ),
}


@pytest.mark.parametrize("kind", PROBLEMS)
async def test_a_problem_is_named_before_anything_is_written(database: Address, kind: str) -> None:
    change, code, facts = PROBLEMS[kind]
    await run_sql(database, change)
    before = await digest(database)
    with raises(code, *facts, kind=TargetError):
        await load(plan_of(), database)
    assert await digest(database) == before
    async with open_connection(database) as connection:
        assert not await connection.fetchval("SELECT is_called FROM users_id_seq")


async def test_each_problem_has_a_line_and_several_codes_become_one(database: Address) -> None:
    await run_sql(
        database,
        "ALTER TABLE users DROP picture, ADD phone text NOT NULL",
        "DROP TABLE message_reactions",
        "ALTER TABLE user_channels RENAME TO uc; CREATE SEQUENCE user_channels",
    )
    before = await digest(database)
    with raises("unfit-tables", kind=TargetError) as refused:
        await load(plan_of(), database)
    lines = str(refused.value).splitlines()
    named = ["user_channels", "message_reactions", "users.picture", "users.phone"]
    assert [name for name, line in zip(named, lines, strict=True) if name not in line] == []
    assert await digest(database) == before


@pytest.fixture
async def login(database: Address) -> Address:
    """A login that may do all that a load needs, on ``database``."""
    await run_sql(
        database,
        "DROP OWNED BY clerk; DROP ROLE clerk" if await has_role(database) else "SELECT 1",
        "CREATE ROLE clerk LOGIN",
        f"GRANT CREATE ON DATABASE {database.url.database} TO clerk",
        "GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA public TO clerk",
        "GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA public TO clerk",
    )
    return Address(database.url._replace(username="clerk"))


async def has_role(database: Address) -> bool:
    async with open_connection(database) as connection:
        return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'clerk')"))


RIGHTS: dict[str, tuple[str, str, list[str]]] = {
    "INSERT": (
        "REVOKE INSERT ON messages FROM clerk",
        "missing-privilege",
        ['GRANT INSERT ON "public"."messages" TO clerk'],
    ),
    "DELETE": ("REVOKE DELETE ON users FROM clerk", "missing-privilege", ['GRANT DELETE ON "public"."users" TO clerk']),
    "SELECT": (
        "REVOKE SELECT ON reactions FROM clerk",
        "missing-privilege",
        ['GRANT SELECT ON "public"."reactions" TO clerk'],
    ),
    "two tables": (
        "REVOKE INSERT ON users, messages FROM clerk",
        "missing-privilege",
        ['INSERT ON "public"."users" TO clerk\n', 'INSERT ON "public"."messages" TO clerk'],
    ),
    "sequence": (
        "REVOKE UPDATE ON SEQUENCE channels_id_seq FROM clerk",
        "missing-privilege",
        ["GRANT USAGE, UPDATE ON SEQUENCE channels_id_seq TO clerk"],
    ),
    "row security": (
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
        "row-security",
        ['"public"."users"', "ALTER ROLE clerk BYPASSRLS"],
    ),
    "row security, and a right": (
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY; REVOKE INSERT ON users, messages FROM clerk",
        "unfit-tables",
        [
            'INSERT ON "public"."users" TO clerk\n',
            "ALTER ROLE clerk BYPASSRLS",
            'INSERT ON "public"."messages" TO clerk',
        ],
    ),
    "read only": ("ALTER ROLE clerk SET default_transaction_read_only = on", "read-only", ["primary"]),
}

LEDGER_RIGHTS = {
    "ledger": (
        "CREATE SCHEMA bulkseed CREATE TABLE runs (placement int) CREATE TABLE version (number int)",
        "missing-privilege",
        ['GRANT USAGE ON SCHEMA "bulkseed" TO clerk'],
    ),
    "ledger's tables": (
        "CREATE SCHEMA bulkseed; GRANT USAGE ON SCHEMA bulkseed TO clerk",
        "missing-privilege",
        ['GRANT USAGE, CREATE ON SCHEMA "bulkseed" TO clerk', "--ledger-schema"],
    ),
    "ledger's names": (
        "CREATE SCHEMA bulkseed; CREATE TABLE bulkseed.runs (id int)",
        "ledger-name-in-use",
        ["'bulkseed'", "'runs'", "--ledger-schema"],
    ),
    "schema": (
        "REVOKE CREATE ON DATABASE {database} FROM clerk",
        "missing-privilege",
        ["GRANT CREATE ON DATABASE", " TO clerk", "--ledger-schema"],
    ),
}


@pytest.mark.parametrize("right", RIGHTS)
async def test_a_login_without_a_right_is_told_the_grant(database: Address, login: Address, right: str) -> None:
    revoke, code, facts = RIGHTS[right]
    await run_sql(database, revoke)
    before = await digest(database)
    with raises(code, *facts, kind=TargetError):
        await load(plan_of(), login)
    assert await digest(database) == before


@pytest.mark.parametrize("right", LEDGER_RIGHTS)
async def test_a_login_without_a_right_on_the_ledger_is_told_the_grant(
    database: Address, login: Address, right: str
) -> None:
    revoke, code, facts = LEDGER_RIGHTS[right]
    await run_sql(database, revoke.format(database=database.url.database))
    before = await digest(database)
    with raises(code, *facts, kind=TargetError):
        await load(plan_of(), login)
    assert await digest(database) == before


@pytest.mark.parametrize("right", ["read only", "SELECT", "INSERT"])
async def test_a_right_is_missed_before_a_trial(database: Address, login: Address, right: str) -> None:
    revoke, code, facts = RIGHTS[right]
    await run_sql(database, "ALTER TABLE users ADD CHECK (id > 0)", revoke)
    with raises(code, *facts, kind=TargetError):
        await load(plan_of(), login)


async def test_columns_of_types_that_nobody_knows_are_no_concern(database: Address) -> None:
    await run_sql(database, "ALTER TABLE users ADD place point, ADD tags int4multirange")
    await load(plan_of(), database)


async def test_columns_that_the_server_fills_are_left_to_it(database: Address) -> None:
    await run_sql(
        database,
        "CREATE DOMAIN phone AS text NOT NULL DEFAULT 'none'",
        "CREATE DOMAIN mobile AS phone",
        "ALTER TABLE users ADD a phone, ADD b mobile, ADD c serial, ADD d bigint GENERATED ALWAYS AS IDENTITY, "
        "ADD e text NOT NULL GENERATED ALWAYS AS (upper(name)) STORED, ADD f text NOT NULL DEFAULT 'x'",
    )
    await load(plan_of(), database)
    async with open_connection(database) as connection:
        filled = "a = 'none' AND b = 'none' AND c > 0 AND d > 0 AND e = upper(name) AND f = 'x'"
        assert await connection.fetchval(f"SELECT bool_and({filled}) FROM users")


LOOKING: dict[str, Callable[[Address], Awaitable[object]]] = {
    "for the tables": lambda login: load(make_plan(schema="chat"), login),
    "for rows": lambda login: survey(login, ["chat.users"]),
    "for folders": lambda login: check_server(login, {"chat.users": 1}),
}


@pytest.mark.parametrize("what", LOOKING)
async def test_a_schema_that_a_login_may_not_use(database: Address, login: Address, what: str) -> None:
    await run_sql(database, "CREATE SCHEMA chat CREATE TABLE users (id int)")
    with raises("missing-privilege", "chat", kind=TargetError):
        await LOOKING[what](login)


async def test_a_refused_load_moves_no_sequence(database: Address) -> None:
    await run_sql(database, "ALTER SEQUENCE messages_id_seq MAXVALUE 50")
    with raises("ids-exhausted", '"messages".id', 50, kind=TargetError):
        await load(plan_of(), database)
    async with open_connection(database) as connection:
        assert not await connection.fetchval("SELECT is_called FROM users_id_seq")


@pytest.mark.core
async def test_a_login_with_just_these_rights_can_load(login: Address) -> None:
    await load(plan_of(), login)
    await load(plan_of(), login)


async def test_without_a_schema_there_is_nothing_to_look_in(database: Address) -> None:
    await run_sql(database, f"ALTER DATABASE {database.url.database} SET search_path TO ''")
    with raises("no-schema", "--schema", "search_path", kind=TargetError):
        await load(plan_of(), database)


async def test_tables_are_found_by_the_search_path(make_database: MakeDatabase) -> None:
    database = await make_database("empty")
    name = '"My "" Schema"'
    await run_sql(
        database, f"CREATE SCHEMA {name}", f"ALTER DATABASE {database.url.database} SET search_path TO {name}"
    )
    await create_missing(database)
    await load(plan_of(), database)
    async with open_connection(database) as connection:
        assert await connection.fetchval(f"SELECT count(*) FROM {name}.users") == 20


class TestInit:
    async def test_makes_all_and_twice_is_once(self, make_database: MakeDatabase) -> None:
        database = await make_database("empty")
        made = await create_missing(database)
        assert "table message_reactions" in made
        assert "12 reactions in the catalogue" in made
        before = await digest(database)
        assert await create_missing(database) == []
        assert await digest(database) == before
        assert before["reactions"][0] == 12

    async def test_makes_what_is_missing_and_leaves_the_rest(self, database: Address) -> None:
        await run_sql(
            database,
            "DROP TABLE message_reactions",
            "DELETE FROM reactions",
            "INSERT INTO reactions (code, is_system) VALUES ('mine', true)",
            "ALTER TABLE users ADD extra text",
        )
        assert await create_missing(database) == ["table message_reactions"]
        async with open_connection(database) as connection:
            assert [row[0] for row in await connection.fetch("SELECT code FROM reactions")] == ["mine"]

    async def test_a_catalogue_without_system_reactions_is_not_guessed_at(self, database: Address) -> None:
        await run_sql(database, "UPDATE reactions SET is_system = false")
        with raises("no-system-reactions", "reactions", "is_system", kind=TargetError):
            await create_missing(database)

    @pytest.mark.parametrize(
        ("change", "code", "facts"),
        [
            ("ALTER TABLE reactions DROP is_system", "unreadable-tables", ["is_system"]),
            (
                "DROP TABLE message_reactions; CREATE VIEW message_reactions AS SELECT 1",
                "not-a-table",
                ["message_reactions", "a view"],
            ),
        ],
    )
    async def test_tables_that_are_not_as_they_should_be(
        self, database: Address, change: str, code: str, facts: list[str]
    ) -> None:
        await run_sql(database, change)
        before = await digest(database)
        with raises(code, *facts, kind=TargetError):
            await create_missing(database)
        assert await digest(database) == before

    async def test_a_catalogue_that_may_not_be_read(self, database: Address, login: Address) -> None:
        await run_sql(database, "REVOKE SELECT ON reactions FROM clerk")
        with raises("unreadable-tables", "reactions", "grant", kind=TargetError):
            await create_missing(login)

    async def test_tables_that_do_not_go_together(self, make_database: MakeDatabase) -> None:
        database = await make_database("empty")
        await run_sql(database, "CREATE TABLE users (id text PRIMARY KEY)")
        with raises("cannot-create-tables", "migrations", kind=TargetError):
            await create_missing(database)
        assert list(await digest(database)) == ["users"]


def test_a_problem_that_several_tables_share_is_told_once() -> None:
    shared = Problem("missing-privilege", "GRANT USAGE ON SEQUENCE ids")
    with raises("missing-privilege", kind=TargetError) as caught:
        raise_problems([shared, shared])
    assert str(caught.value) == shared.message
