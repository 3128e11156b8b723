"""Wrong scenario files and schemas: all problems are reported at once, each with its fix, and nothing is written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from bulkseed.__main__ import main
from bulkseed.embedded import Server
from bulkseed.errors import BulkseedError, InputError
from bulkseed.postgres.address import Address
from bulkseed.scenarios.planning import make_plan
from support.commands import FIXED, bulkseed, reported_errors
from support.databases import address_of
from support.errors import raises
from support.queries import digest, run_sql

FILES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "no TOML": ("users = ", ("app.toml", "TOML")),
    "a section that nobody knows": ("[field.users]\nphone = 'x'", ("field: ", "did you mean fields")),
    "sections that are no tables": (
        "tables = 1\nfields = []",
        ("tables: ", "[tables], not 1", "fields: ", "[fields], not []"),
    ),
    "a base that does not ship": ("base = 'slak'", ("'slak'", "did you mean slack")),
    "a table that nobody knows": ("[tables]\nuser = 'accounts'", ("tables.user: ", "did you mean users")),
    "a table without which nothing goes": ("[tables]\nusers = false", ("tables.users: ",)),
    "a table's name that is a number": ("[tables]\nusers = 1", ("tables.users: ", "false", "not 1")),
    "a table that is 0": ("[tables]\nreactions = 0", ("tables.reactions: ", "false", "not 0")),
    "a table that is 0.0": ("[tables]\nreactions = 0.0", ("tables.reactions: ", "false", "not 0.0")),
    "a table with an empty name": ("[tables]\nchannels = ''", ("tables.channels: ", "false")),
    "a column that is 0": ("[columns.users]\nbio = 0", ("columns.users.bio: ", "false", "not 0")),
    "a column with an empty name": ("[columns.users]\nid = ''", ("columns.users.id: ", "false")),
    "a column that nobody knows": ("[columns.users]\nmail = 'e'", ("columns.users.mail: ", "did you mean email")),
    "a column that rows are known by": ("[columns.messages]\nid = false", ("columns.messages.id: ",)),
    "a column of a table that nobody knows": (
        "[columns.chanels]\nid = 'x'",
        ("columns.chanels: ", "did you mean channels"),
    ),
    "a field of what bulkseed fills": (
        "[fields.users]\nemail = 'faker:email'",
        ("fields.users.email: ", "[columns.users] email = false"),
    ),
    "a field of what bulkseed fills under another name": (
        "[columns.users]\nemail = 'mail'\n[fields.users]\nmail = 'faker:email'",
        ("fields.users.mail: ", "[columns.users] email = false"),
    ),
    "a field of no kind": ("[fields.users]\nphone = { fakr = 'x' }", ("fields.users.phone: ", "did you mean faker")),
    "a method that Faker lacks": (
        "[fields.users]\nphone = 'faker:phone_numer'",
        ("fields.users.phone: ", "'phone_numer'", "did you mean phone_number"),
    ),
    "weights that are too few": (
        "[fields.users]\na = { choice = [1, 2], weights = [1] }",
        ("fields.users.a: ", "1 weights", "2 values"),
    ),
    "a range upside down": ("[fields.users]\na = { uniform = [2, 1] }", ("fields.users.a: ", "uniform", "2 down to 1")),
    "a null that is no probability": (
        "[fields.users]\na = { value = 1, null = 2 }",
        ("fields.users.a.null: ", "0 to 1, not 2"),
    ),
    "a plugin that is not there": (
        "plugins = ['nowhere.seed:table']",
        ("plugins: ", "nowhere.seed", "ModuleNotFoundError", "PYTHONPATH"),
    ),
    "a plugin that is no table": ("plugins = ['json:dumps']", ("plugins: ", "json:dumps", "bulkseed.table")),
    "an entry point that is not there": ("plugins = ['statuses']", ("plugins: ", "'statuses'", "module:name")),
    "a relationship without columns": (
        "[relationships.follows]\nfrom = 'users'\nto = 'users'\nmin = 0\nmax = 3",
        ("relationships.follows.columns: ",),
    ),
    "a relationship with nothing": (
        "[relationships.f]\nfrom = 'users'\nto = 'posts'\nmin = 0\nmax = 3\ncolumns = ['a', 'b']",
        ("relationships.f.to: ", "users, channels or messages", '"posts"'),
    ),
    "a relationship upside down": (
        "[relationships.f]\nfrom = 'users'\nto = 'users'\nmin = 4\nmax = 3\ncolumns = ['a', 'b']",
        ("relationships.f: ", "min (4)", "max (3)"),
    ),
    "counts that are none": (
        "[counts]\nusers = 0\nchanels = 2",
        ("counts.users: ", "not 0", "counts.chanels: ", "did you mean channels"),
    ),
    "a probability above 1": ("[probabilities]\nchannel_dm = 1.5", ("probabilities.channel_dm: ", "0 to 1, not 1.5")),
    "a probability that nobody knows": ("[probabilities]\ndm = 0.5", ("probabilities.dm: ", "channel_dm")),
    "a parameter that nobody knows": ("[shape]\nhours = 0.5", ("shape.hours: ", "office_hours")),
    "UUIDs of version 5": ("uuid = 5", ("uuid: ", "4 or 7", "not 5")),
    "a rule without SQL": ("[[rules]]\nname = 'x'", ("rule 1 ('x'): sql: ",)),
    "a rule without a name": (
        "[[rules]]\nname = 'x'\nsql = 'SELECT 1'\n[[rules]]\nsql = 'SELECT 1'",
        ("rule 2: name: ",),
    ),
    "one user": ("[counts]\nusers = 1", ("counts.users: ", "from 2", "not 1")),
    "two columns of one name": (
        "[columns.users]\nname = 'title'\nbio = 'title'\npicture = 'email'",
        ("columns.users.name: title ", "columns.users.bio: title ", "columns.users.picture: email "),
    ),
    "a provider that no field uses": (
        "providers = ['nowhere.fakes:Provider']",
        ("providers: ", "nowhere.fakes", "ModuleNotFoundError"),
    ),
    "a provider that is none": ("providers = ['json:dumps']", ("providers: ", "json:dumps", "BaseProvider")),
    "NUL in a schema": ('schema = "a\\u0000b"', ("schema: ", r"a\x00b")),
    "NUL in a table": ('[tables]\nusers = "a\\u0000b"', ("tables.users: ", r"a\x00b")),
    "NUL in a column": ('[columns.users]\nbio = "a\\u0000b"', ("columns.users.bio: ", r"a\x00b")),
    "NUL in a field": ('[fields.users]\n"a\\u0000b" = { value = 1 }', ("fields.users.", r"a\x00b")),
    "NUL in a relationship": (
        "[relationships.f]\nfrom = 'users'\nto = 'users'\nmin = 0\nmax = 3\ncolumns = ['a', \"b\\u0000\"]",
        ("relationships.f: ", r"b\x00"),
    ),
    "three at once": (
        "uuid = 5\n[tables]\nuser = 'x'\n[fields.users]\nphone = 'faker:fone_number'",
        ("uuid: ", "tables.user: ", "did you mean users", "fields.users.phone: ", "did you mean phone_number"),
    ),
}
"""Files that are wrong in themselves: their text, and keys, names and values of their errors."""

CODES: Final = {
    "no TOML": "not-toml",
    "a method that Faker lacks": "unknown-faker-method",
    "weights that are too few": "wrong-weights",
    "a range upside down": "reversed-range",
    "a plugin that is not there": "missing-module",
    "a plugin that is no table": "not-a-plugin-table",
    "an entry point that is not there": "unknown-plugin",
    "a provider that no field uses": "missing-module",
    "a provider that is none": "not-a-faker-provider",
    **dict.fromkeys(
        ("NUL in a schema", "NUL in a table", "NUL in a column", "NUL in a field", "NUL in a relationship"),
        "invalid-name",
    ),
}
"""The codes of these files; those of the others, and of several problems with different codes, are ``wrong-scenario``.
"""

UNSUITED: Final[dict[str, tuple[str, str, tuple[str, ...]]]] = {
    "a schema that is not there": ("schema = 'pubic'", "missing-schema", ("'pubic'", "did you mean public")),
    "a table that the app lacks": ("[tables]\nusers = 'user'", "missing-table", ("table user ", "did you mean users")),
    "a column that the app lacks": ("[columns.users]\nbio = 'bios'", "missing-column", ("users.bios", "bio?")),
    "a field without its column": (
        "[fields.users]\nphone = 'faker:phone_number'",
        "field-without-column",
        ("[fields.users]", "phone"),
    ),
}
"""Files that are wrong for a database with the reference tables, and the code and facts of their errors."""

EXTRA: Final = "ALTER TABLE users ADD extra "
SCHEMAS: Final[dict[str, tuple[str, str, str, tuple[str, ...]]]] = {
    "a column that nothing fills": (f"{EXTRA} text NOT NULL", "", "unfilled-column", ("users.extra", "[fields.users]")),
    "two columns that nothing fills": (
        f"{EXTRA} text NOT NULL; ALTER TABLE messages ADD more int NOT NULL",
        "",
        "unfilled-column",
        ("users.extra", "messages.more"),
    ),
    "text for a number": (
        f"{EXTRA} integer",
        "[fields.users]\nextra = 'faker:city'",
        "column-type",
        ("users.extra", "int4", "text"),
    ),
    "a number too large": (
        f"{EXTRA} smallint",
        "[fields.users]\nextra = { uniform = [1, 100000] }",
        "value-out-of-range",
        ("users.extra", "int2"),
    ),
    "a label that the enumeration lacks": (
        f"CREATE TYPE tier AS ENUM ('free', 'pro'); {EXTRA} tier",
        "[fields.users]\nextra = { value = 'gold' }",
        "unknown-label",
        ("users.extra", "tier", "gold", "free, pro"),
    ),
    "text that is no JSON": (
        f"{EXTRA} jsonb",
        "[fields.users]\nextra = { template = 'no JSON' }",
        "server-error",
        ("users", "json"),
    ),
    "a type that nothing goes into": (
        f"{EXTRA} point",
        "[fields.users]\nextra = 'faker:ipv4'",
        "column-type",
        ("users.extra", "point"),
    ),
    "a domain": (
        f"CREATE DOMAIN short AS text CHECK (length(value) < 3); {EXTRA} short",
        "[fields.users]\nextra = { value = 'long' }",
        "server-error",
        ("users", "short"),
    ),
    "a CHECK of what is known": (
        "ALTER TABLE messages ADD CONSTRAINT loud CHECK (content = upper(content))",
        "",
        "check-constraint",
        ("CHECK", "loud", "messages", "upper(content)"),
    ),
    "two CHECKs of fields": (
        f"{EXTRA} integer CONSTRAINT small CHECK (extra < 3); ALTER TABLE channels ADD CONSTRAINT n CHECK (name < 'A')",
        "[fields.users]\nextra = { uniform = [1, 9] }",
        "check-constraint",
        ("small", "users", "extra < 3", " n ", "channels", "'A'"),
    ),
    "names that must differ": (
        "CREATE UNIQUE INDEX one_name ON channels (name)",
        "",
        "values-repeat",
        ("one_name", "name", "template"),
    ),
    "a field that must differ": (
        f"{EXTRA} text UNIQUE",
        "[fields.users]\nextra = { choice = ['a', 'b'] }",
        "values-repeat",
        ("users_extra_key", "template"),
    ),
    "a foreign key of the app's own": (
        f"CREATE TABLE teams (id int PRIMARY KEY); {EXTRA} integer REFERENCES teams",
        "[fields.users]\nextra = { uniform = [1, 9] }",
        "foreign-key",
        ("users_extra_fkey", "teams"),
    ),
    "ids of two types": (
        "ALTER TABLE message_reactions DROP user_id, ADD user_id uuid NOT NULL",
        "",
        "id-types-differ",
        ("message_reactions.user_id", "uuid", "users.id", "bigint"),
    ),
    "an e-mail that would be cut": (
        "ALTER TABLE users ALTER email TYPE varchar(20)",
        "",
        "column-too-short",
        ("users.email", "20", "varchar(80)"),
    ),
    "a column that is generated": (
        "ALTER TABLE users DROP bio, ADD bio text GENERATED ALWAYS AS (name) STORED",
        "",
        "generated-column",
        ("users.bio", "generated"),
    ),
    "a schema wrong in every way": (
        "DROP TABLE message_reactions; ALTER TABLE users DROP picture, ADD extra int NOT NULL; "
        "ALTER TABLE channels ALTER is_dm TYPE text",
        "",
        "unfit-tables",
        ("message_reactions", "users.picture", "users.extra", "channels.is_dm", "text"),
    ),
}


@pytest.fixture(scope="module")
def prepared(server: Server, templates: dict[str, str]) -> Iterator[Address]:
    """A database that every wrong file leaves as it is."""
    admin = address_of(server, "postgres")
    asyncio.run(run_sql(admin, f"CREATE DATABASE wrong TEMPLATE {templates['reference']} STRATEGY file_copy"))
    yield address_of(server, "wrong")
    asyncio.run(run_sql(admin, "DROP DATABASE wrong WITH (FORCE)"))


def refuse(
    address: Address, folder: Path, text: str, capsys: pytest.CaptureFixture[str], command: str = "load"
) -> tuple[str, str]:
    """Have a command refuse the scenario ``text``; return the code of the error, and what is printed."""
    file = folder / "app.toml"
    file.write_text(text)
    before = asyncio.run(digest(address))
    with reported_errors() as errors:
        status = main([command, *FIXED, "--scenario", str(file), "--database-url", address.dsn, "--quiet"])
    [error] = errors
    assert isinstance(error, BulkseedError)
    printed = capsys.readouterr()
    assert status == 2, printed.err
    assert printed.out == ""
    first, *others = printed.err.splitlines()
    assert first.startswith("bulkseed: ")
    assert all(line.startswith("  ") for line in others)
    assert "Traceback" not in printed.err
    assert asyncio.run(digest(address)) == before
    return error.code, printed.err


@pytest.mark.parametrize("kind", FILES)
def test_a_wrong_file(kind: str, prepared: Address, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, facts = FILES[kind]
    _, printed = refuse(prepared, tmp_path, text, capsys)
    assert [fact for fact in facts if fact not in printed] == [], printed
    with raises(CODES.get(kind, "wrong-scenario"), *facts, kind=InputError):
        make_plan(scenario=tmp_path / "app.toml")


@pytest.mark.parametrize("kind", UNSUITED)
def test_a_file_for_other_tables(
    kind: str, prepared: Address, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, code, facts = UNSUITED[kind]
    found, printed = refuse(prepared, tmp_path, text, capsys)
    assert found == code, printed
    assert refuse(prepared, tmp_path, text, capsys, "check") == (found, printed)
    assert [fact for fact in facts if fact not in printed] == [], printed


def test_each_problem_has_a_line_in_the_order_of_the_file(
    prepared: Address, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Problems of the structure among those of other checks; no problem follows from another."""
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
    code, printed = refuse(prepared, tmp_path, text, capsys)
    lines = printed.replace(f"bulkseed: error [{code}]: ", "  ", 1).splitlines()
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


def test_what_follows_from_a_wrong_plugin_or_provider_is_no_problem(tmp_path: Path) -> None:
    file = tmp_path / "app.toml"
    file.write_text(
        "plugins = ['nowhere:pins']\nproviders = ['nowhere:Provider']\nuuid = 5\n"
        "[tables]\npinned_messages = 'pins'\nuser = 'x'\n[fields.pinned_messages]\nnote = 'faker:word'\n"
        "[fields.users]\nnick = 'faker:nickname'\nage = { uniform = [2, 1] }\n"
    )
    with raises("wrong-scenario", kind=InputError) as caught:
        make_plan(scenario=file)
    places = [line.removeprefix(f"{file}: ").split(": ")[0] for line in str(caught.value).splitlines()]
    assert places == ["plugins", "providers", "uuid", "tables.user", "fields.users.age"]


@pytest.mark.parametrize("name", ["a\0b", "\udcff"])
def test_a_schema_on_the_command_line_that_cannot_exist(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("plan", "load", "check"):
        assert main([command, "--schema", name]) == 2
        assert ascii(name)[1:-1] in capsys.readouterr().err
    with raises("invalid-name", ascii(name), kind=InputError):
        make_plan(schema=name)


def test_plugins_of_the_command_line_are_no_part_of_the_file() -> None:
    with raises("not-a-plugin-table", "'json:dumps'", kind=InputError) as caught:
        make_plan(scenario="slack", plugins=["json:dumps"])
    assert "slack" not in str(caught.value)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_wrong_schema(
    kind: str, server: Server, templates: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, text, code, facts = SCHEMAS[kind]
    admin = address_of(server, "postgres")
    asyncio.run(run_sql(admin, f"CREATE DATABASE wrong_schema TEMPLATE {templates['reference']} STRATEGY file_copy"))
    database = address_of(server, "wrong_schema")
    try:
        asyncio.run(run_sql(database, change))
        found, printed = refuse(database, tmp_path, text, capsys)
        assert found == code, printed
        assert refuse(database, tmp_path, text, capsys, "check") == (found, printed)
        assert [fact for fact in facts if fact not in printed] == [], printed
    finally:
        asyncio.run(run_sql(admin, "DROP DATABASE wrong_schema WITH (FORCE)"))


def test_a_file_that_is_not_there(prepared: Address, capsys: pytest.CaptureFixture[str]) -> None:
    for named, code, fix in (
        ("slak", "unknown-scenario", "did you mean slack"),
        ("nowhere.toml", "unreadable-scenario", "default"),
    ):
        assert main(["plan", "--scenario", named]) == 2
        assert fix in capsys.readouterr().err
        with raises(code, named, fix, kind=InputError):
            make_plan(scenario=named)


def test_point_15_problems_come_in_the_order_of_the_file_whatever_the_hash_seed(tmp_path: Path) -> None:
    """Names that bulkseed does not know are not iterated as a set."""
    file = tmp_path / "app.toml"
    names = ("zebra", "yak", "ape", "mouse", "cat", "owl")
    file.write_text(
        "".join(f"[{section}]\n" + "".join(f"{name} = 1\n" for name in names) for section in ("counts", "shape"))
        + "[tables]\n"
        + "".join(f'{name} = "x_{name}"\n' for name in names)
        + "[columns.users]\n"
        + "".join(f'{name} = "x_{name}"\n' for name in names)
        + "".join(f"[fields.{name}]\ncolumn = {{ value = 1 }}\n" for name in names)
    )
    printed = {bulkseed("plan", "--scenario", str(file), PYTHONHASHSEED=seed).stderr for seed in ("1", "2")}
    [lines] = [text.splitlines() for text in printed]
    found = [next(name for name in names if f".{name}" in line) for line in lines if "app.toml" in line]
    assert found == [*names] * (len(found) // len(names))
    assert len(found) == 5 * len(names)
