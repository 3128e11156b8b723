"""Wrong scenario files and schemas: all that is wrong is named at once, with its mend, and nothing is written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from bulkseed.__main__ import main
from bulkseed.embedded import Server
from bulkseed.errors import InputError
from bulkseed.postgres.address import Address
from bulkseed.scenarios.planning import make_plan
from support.databases import address_of
from support.queries import digest, run_sql

FILES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "no TOML": ("users = ", ("is not TOML", "correct it there")),
    "a section that nobody knows": ("[field.users]\nphone = 'x'", ("field: ", "did you mean fields")),
    "sections that are no tables": (
        "tables = 1\nfields = []",
        ("tables: write it as a table, [tables]", "fields: write it as a table, [fields]"),
    ),
    "a base that does not ship": ("base = 'slak'", ("'slak'", "did you mean slack")),
    "a table that nobody knows": ("[tables]\nuser = 'accounts'", ("tables.user: ", "did you mean users")),
    "a table without which nothing goes": ("[tables]\nusers = false", ("tables.users: ", "name the app's table")),
    "a table's name that is a number": ("[tables]\nusers = 1", ("tables.users: ", "or false", "not 1")),
    "a column that nobody knows": ("[columns.users]\nmail = 'e'", ("columns.users.mail: ", "did you mean email")),
    "a column that rows are known by": ("[columns.messages]\nid = false", ("columns.messages.id: ", "name the app's")),
    "a column of a table that nobody knows": (
        "[columns.chanels]\nid = 'x'",
        ("columns.chanels: ", "did you mean channels"),
    ),
    "a field of what bulkseed fills": ("[fields.users]\nemail = 'faker:email'", ("fills email", "email = false")),
    "a field of no kind": ("[fields.users]\nphone = { fakr = 'x' }", ("fields.users.phone", "did you mean faker")),
    "a method that Faker lacks": (
        "[fields.users]\nphone = 'faker:phone_numer'",
        ("'phone_numer'", "did you mean phone_number"),
    ),
    "weights that are too few": (
        "[fields.users]\na = { choice = [1, 2], weights = [1] }",
        ("fields.users.a", "weights"),
    ),
    "a range upside down": ("[fields.users]\na = { uniform = [2, 1] }", ("fields.users.a", "uniform")),
    "a null that is no probability": (
        "[fields.users]\na = { value = 1, null = 2 }",
        ("fields.users.a.null: ", "0 to 1, not 2"),
    ),
    "a plugin that is not there": ("plugins = ['nowhere.seed:table']", ("nowhere.seed", "cannot be imported")),
    "a plugin that is no table": ("plugins = ['json:dumps']", ("json:dumps", "bulkseed.table")),
    "an entry point that is not there": ("plugins = ['statuses']", ("'statuses'", "module:name")),
    "a relationship without columns": (
        "[relationships.follows]\nfrom = 'users'\nto = 'users'\nmin = 0\nmax = 3",
        ("relationships.follows.columns: ", "missing"),
    ),
    "a relationship with nothing": (
        "[relationships.f]\nfrom = 'users'\nto = 'posts'\nmin = 0\nmax = 3\ncolumns = ['a', 'b']",
        ("relationships.f.to: ", "users, channels or messages", '"posts"'),
    ),
    "a relationship upside down": (
        "[relationships.f]\nfrom = 'users'\nto = 'users'\nmin = 4\nmax = 3\ncolumns = ['a', 'b']",
        ("relationships.f: min (4) is above max (3)", "give the smaller"),
    ),
    "counts that are none": (
        "[counts]\nusers = 0\nchanels = 2",
        ("counts.users: ", "not 0", "counts.chanels: ", "did you mean channels"),
    ),
    "a probability above 1": ("[probabilities]\nchannel_dm = 1.5", ("probabilities.channel_dm: ", "0 to 1, not 1.5")),
    "a probability that nobody knows": ("[probabilities]\ndm = 0.5", ("probabilities.dm: ", "channel_dm")),
    "a parameter that nobody knows": ("[shape]\nhours = 0.5", ("shape.hours: ", "office_hours")),
    "UUIDs of version 5": ("uuid = 5", ("uuid: give 4 or 7", "not 5")),
    "a rule without SQL": ("[[rules]]\nname = 'x'", ("rules.0.sql: ", "missing")),
    "a schema that is not there": ("schema = 'pubic'", ("'pubic'", "did you mean public")),
    "a table that the app lacks": (
        "[tables]\nusers = 'user'",
        ("table user is missing", "did you mean users for user?"),
    ),
    "a column that the app lacks": ("[columns.users]\nbio = 'bios'", ("users.bios is missing (did you mean bio?)",)),
    "a field without its column": ("[fields.users]\nphone = 'faker:phone_number'", ("fills phone", "migrations")),
    "three at once": (
        "uuid = 5\n[tables]\nuser = 'x'\n[fields.users]\nphone = 'faker:fone_number'",
        ("uuid: give 4 or 7", "did you mean users", "did you mean phone_number"),
    ),
}

EXTRA: Final = "ALTER TABLE users ADD extra "
SCHEMAS: Final[dict[str, tuple[str, str, tuple[str, ...]]]] = {
    "a column that nothing fills": (f"{EXTRA} text NOT NULL", "", ("users.extra", "[fields.users]")),
    "two columns that nothing fills": (
        f"{EXTRA} text NOT NULL; ALTER TABLE messages ADD more int NOT NULL",
        "",
        ("users.extra", "messages.more"),
    ),
    "text for a number": (
        f"{EXTRA} integer",
        "[fields.users]\nextra = 'faker:city'",
        ("users.extra is of type int4", "text"),
    ),
    "a number too large": (
        f"{EXTRA} smallint",
        "[fields.users]\nextra = { uniform = [1, 100000] }",
        ("users.extra is of type int2", "widen the column"),
    ),
    "a label that the enumeration lacks": (
        f"CREATE TYPE tier AS ENUM ('free', 'pro'); {EXTRA} tier",
        "[fields.users]\nextra = { value = 'gold' }",
        ("users.extra is of type tier", "gold", "free, pro"),
    ),
    "text that is no JSON": (
        f"{EXTRA} jsonb",
        "[fields.users]\nextra = { template = 'no JSON' }",
        ("users", "json"),
    ),
    "a type that nothing goes into": (
        f"{EXTRA} inet",
        "[fields.users]\nextra = 'faker:ipv4'",
        ("users.extra", "inet"),
    ),
    "a domain": (
        f"CREATE DOMAIN short AS text CHECK (length(value) < 3); {EXTRA} short",
        "[fields.users]\nextra = { value = 'long' }",
        ("users", "short"),
    ),
    "a CHECK of what is known": (
        "ALTER TABLE messages ADD CONSTRAINT loud CHECK (content = upper(content))",
        "",
        ("CHECK constraint loud of messages", "upper(content)"),
    ),
    "two CHECKs of fields": (
        f"{EXTRA} integer CONSTRAINT small CHECK (extra < 3); ALTER TABLE channels ADD CONSTRAINT n CHECK (name < 'A')",
        "[fields.users]\nextra = { uniform = [1, 9] }",
        ("CHECK constraint small of users", "CHECK constraint n of channels"),
    ),
    "names that must differ": (
        "CREATE UNIQUE INDEX one_name ON channels (name)",
        "",
        ("unique index one_name over name", "template"),
    ),
    "a field that must differ": (
        f"{EXTRA} text UNIQUE",
        "[fields.users]\nextra = { choice = ['a', 'b'] }",
        ("users_extra_key", "template"),
    ),
    "a foreign key of the app's own": (
        f"CREATE TABLE teams (id int PRIMARY KEY); {EXTRA} integer REFERENCES teams",
        "[fields.users]\nextra = { uniform = [1, 9] }",
        ("users_extra_fkey", "teams"),
    ),
    "ids of two types": (
        "ALTER TABLE message_reactions DROP user_id, ADD user_id uuid NOT NULL",
        "",
        ("message_reactions.user_id is of type uuid", "make them alike"),
    ),
    "an e-mail that would be cut": ("ALTER TABLE users ALTER email TYPE varchar(20)", "", ("email holds 20",)),
    "a column that is generated": (
        "ALTER TABLE users DROP bio, ADD bio text GENERATED ALWAYS AS (name) STORED",
        "",
        ("users.bio is generated",),
    ),
    "a schema wrong in every way": (
        "DROP TABLE message_reactions; ALTER TABLE users DROP picture, ADD extra int NOT NULL; "
        "ALTER TABLE channels ALTER is_dm TYPE text",
        "",
        ("message_reactions is missing", "users.picture is missing", "users.extra", "channels.is_dm is of type text"),
    ),
}


@pytest.fixture(scope="module")
def prepared(server: Server, templates: dict[str, str]) -> Iterator[Address]:
    """A database that every wrong file leaves as it is."""
    admin = address_of(server, "postgres")
    asyncio.run(run_sql(admin, f"CREATE DATABASE wrong TEMPLATE {templates['reference']} STRATEGY file_copy"))
    yield address_of(server, "wrong")
    asyncio.run(run_sql(admin, "DROP DATABASE wrong WITH (FORCE)"))


def refused(address: Address, folder: Path, text: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a load says that ends with status 2."""
    file = folder / "app.toml"
    file.write_text(text)
    before = asyncio.run(digest(address))
    status = main(["load", "--scenario", str(file), "--database-url", address.dsn, "--quiet"])
    said = capsys.readouterr()
    assert status == 2, said.err
    assert said.out == ""
    first, *others = said.err.splitlines()
    assert first.startswith("bulkseed: ")
    assert all(line.startswith("  ") for line in others)
    assert "Traceback" not in said.err
    assert asyncio.run(digest(address)) == before
    return said.err


@pytest.mark.parametrize("kind", FILES)
def test_a_wrong_file(kind: str, prepared: Address, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, parts = FILES[kind]
    said = refused(prepared, tmp_path, text, capsys)
    assert [part for part in parts if part not in said] == [], said


def test_each_problem_has_a_line_in_the_order_of_the_file(
    prepared: Address, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of the structure among those that only bulkseed can tell; no problem follows from another."""
    text = """
        plugins = ["json:dumps"]
        [fields.users]
        phone = { faker = "fone_number" }
        plan = { choice = [], wieghts = [1] }
        [fields.follows]
        since = { value = nan }
        [tables]
        user = "accounts"
        channels = 1
        [shape]
        idle = 0.5
        viral = 2
        [relationships.follows]
        from = "posts"
        to = "users"
        min = 0
        max = 3
        columns = ["a", "b"]
        [relationships.blocks]
        from = "users"
        to = "messages"
        min = 4
        max = 3
        columns = ["a", "a", "at"]
        [columns.follows]
        a = "who"
    """
    file = tmp_path / "app.toml"
    lines = refused(prepared, tmp_path, text, capsys).replace("bulkseed: ", "  ", 1).splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        [f"  {file}", place]
        for place in (
            "plugins",
            "fields.users.plan.choice",
            "fields.users.plan.wieghts",
            "fields.users.phone",
            "tables.channels",
            "tables.user",
            "shape.viral",
            "relationships.follows.from",
            *["relationships.blocks"] * 3,
        )
    ]


def test_plugins_of_the_command_line_are_no_part_of_the_file() -> None:
    with pytest.raises(InputError) as error:
        make_plan(scenario="slack", plugins=["json:dumps"])
    assert str(error.value).startswith("the plugin 'json:dumps'")


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_wrong_schema(
    kind: str, server: Server, templates: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, text, parts = SCHEMAS[kind]
    admin = address_of(server, "postgres")
    asyncio.run(run_sql(admin, f"CREATE DATABASE wrong_schema TEMPLATE {templates['reference']} STRATEGY file_copy"))
    database = address_of(server, "wrong_schema")
    try:
        asyncio.run(run_sql(database, change))
        said = refused(database, tmp_path, text, capsys)
        assert [part for part in parts if part not in said] == [], said
    finally:
        asyncio.run(run_sql(admin, "DROP DATABASE wrong_schema WITH (FORCE)"))


def test_a_file_that_is_not_there(prepared: Address, capsys: pytest.CaptureFixture[str]) -> None:
    for named, mend in (("slak", "did you mean slack"), ("nowhere.toml", "default")):
        assert main(["plan", "--scenario", named]) == 2
        assert mend in capsys.readouterr().err
