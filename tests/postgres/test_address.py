"""Database URLs as users write them, and failures to connect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bulkseed.embedded import Server
from bulkseed.errors import ConnectError, InputError
from bulkseed.postgres.address import Address, named_address
from bulkseed.postgres.connection import open_connection
from support.databases import address_of
from support.errors import raises

SECRET = "s3cret"


@contextmanager
def refused(code: str, *facts: str, kind: type[InputError] = InputError) -> Iterator[None]:
    """Expect an error with this code, whose only line has the facts and no password."""
    with raises(code, *facts, kind=kind) as caught:
        yield
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "dsn"),
    [
        ("postgresql://u:p@h:1/d", "postgresql://u:p@h:1/d"),
        ("postgres://u@h/d", "postgresql://u@h/d"),
        ("postgresql+asyncpg://u:p%40@h/d?ssl=require", "postgresql://u:p%40@h/d?sslmode=require"),
        ("postgresql+psycopg://u@h/d", "postgresql://u@h/d"),
        ("postgres+psycopg_async://u@h/d", "postgresql://u@h/d"),
        ("PostgreSQL+pg8000://u@h/d", "postgresql://u@h/d"),
        ("postgis://u@h/d", "postgresql://u@h/d"),
        ("pgsql://u@h/d", "postgresql://u@h/d"),
        (" host=h port=1 user=u dbname=d password='a b' ", "postgresql://u:a%20b@h:1/d"),
        ("host=/tmp dbname=d sslmode=disable", "postgresql:///d?host=/tmp&sslmode=disable"),
        ("host=a,b port=1,2 dbname=d", "postgresql:///d?host=a,b&port=1,2"),
        ("postgresql:///d?host=/var/run/postgresql&port=5433", None),
        ("postgresql+asyncpg://h/d?prepared_statement_cache_size=0", "postgresql://h/d"),
        ("postgresql://h/d?ssl=true", "postgresql://h/d?sslmode=require"),
        (
            "postgresql://h/d?connect_timeout=5&channel_binding=prefer&sslmode=prefer",
            "postgresql://h/d?connect_timeout=5&channel_binding=prefer&sslmode=prefer",
        ),
        (
            "postgresql://h/d?search_path=a\\ b&statement_timeout=5s&options=-c%20x.y=1",
            "postgresql://h/d?options=-c%20x.y%3D1%20-c%20search_path%3Da%5C%5C%5C%20b%20-c%20statement_timeout%3D5s",
        ),
        (
            "postgresql:///d?host=a:1&host=b:2",
            "postgresql:///d?host=a,b&port=1,2",
        ),
        ("postgresql://u@h:5/", "postgresql://u@h:5"),
    ],
)
def test_valid_urls(text: str, dsn: str | None) -> None:
    address = Address.parse(text)
    if dsn is not None:
        assert address.dsn == dsn
    else:
        assert address.server == "/var/run/postgresql"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost/db",
        "mysql://u:s3cret@h/d",
        "cockroachdb://u:s3cret@h/d",
        "jdbc:postgresql:d",
        "u:s3cret@h/d?sslmode=require",
        "postgresql://u:s3cret@h:port/d",
        "x y",
    ],
)
def test_invalid_urls(text: str) -> None:
    with refused("invalid-url", "postgresql://user:password@host:port/database"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "rewritten"),
    [
        (f"jdbc:postgresql://h:1/d?user=u&password={SECRET}", "postgresql://h:1/d?user=u&password=***"),
        (f"postgresql+ssh://u:{SECRET}@h/d", "postgresql://u:***@h/d"),
        (f"jdbc:postgresql://h/d?user=u&passwrod={SECRET}", "postgresql://h/d?user=u&passwrod=***"),
    ],
)
def test_urls_for_other_programs_are_rewritten_in_the_message(text: str, rewritten: str) -> None:
    with refused("invalid-url", rewritten):
        Address.parse(text)


def test_an_argument_without_a_value_is_refused() -> None:
    with refused("invalid-url", "%26"):
        Address.parse(f"postgresql://h/d?password=a&{SECRET}")


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://u:{SECRET}@h/d",
        f"postgresql://u@h/d?password={SECRET}",
        f"postgres://:{SECRET}@h/d",
        f"postgresql+psycopg2://u:{SECRET}@h/d?sslpassword={SECRET}",
        f"postgresql://u@h/d?passwrod={SECRET}",
    ],
)
def test_passwords_are_never_shown(text: str) -> None:
    address = Address.parse(text)
    assert SECRET in address.dsn
    assert SECRET not in f"{address} {address!r} {address.server} {address.url!r}"
    assert str(address) == re.sub(r"^postgres.*?:", "postgresql:", text.replace(SECRET, "***"))


@pytest.mark.parametrize("text", [f"host=h password={SECRET}", f"user=u password = '{SECRET}' sslpassword={SECRET}"])
def test_passwords_in_connection_strings_are_never_shown(text: str) -> None:
    address = Address.parse(text)
    assert SECRET in address.dsn
    assert SECRET not in f"{address} {address!r} {address.server} {address.url!r} {address.without_passwords.dsn}"
    assert address.parameters["password"] == SECRET


def test_an_address_without_its_passwords() -> None:
    address = Address.parse(f"postgresql://u:{SECRET}@h:5/d?sslpassword={SECRET}&sslmode=require")
    assert address.without_passwords.dsn == "postgresql://u@h:5/d?sslmode=require"


def test_an_at_in_a_password_must_be_escaped() -> None:
    with refused("unescaped-at", "%40"):
        Address.parse(f"postgresql://u:half@{SECRET}@h/d")


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("postgresql:///d", True),
        ("postgresql://[::1]/d", True),
        ("postgresql://127.3.2.1/d", True),
        ("postgresql:///d?host=/tmp", True),
        ("postgresql://127.example.com/d", False),
        ("postgresql:///d?host=127.0.0.1,192.0.2.2", False),
        ("postgresql:///d?host=127.0.0.1&host=192.0.2.2", False),
    ],
)
def test_hosts_that_are_this_machine(text: str, local: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGHOST", raising=False)
    assert Address.parse(text).is_local is local


def test_the_option_comes_before_the_variables_and_they_in_order() -> None:
    both = {"BULKSEED_DATABASE_URL": "postgresql://one/d", "DATABASE_URL": "postgresql://two/d"}
    for option, environment, host in (
        ("postgresql://zero/d", both, "zero"),
        (None, both, "one"),
        (None, {"DATABASE_URL": "postgresql://two/d"}, "two"),
        (None, {"BULKSEED_DATABASE_URL": "", "DATABASE_URL": "postgresql://two/d"}, "two"),
    ):
        found = named_address(option, environment)
        assert found is not None
        assert found.url.host == host
    assert named_address(None, {}) is None
    with raises("empty-url", "--database-url", kind=InputError):
        named_address(" ", both)


async def assert_refused(address: Address, code: str, *facts: str) -> None:
    with refused(code, *facts, kind=ConnectError):
        async with open_connection(address):
            pass


@pytest.mark.parametrize(
    ("text", "server"),
    [
        (f"postgresql://u:{SECRET}@127.0.0.1:1/d", "127.0.0.1:1"),
        ("postgresql://no-such-host.invalid/d", "no-such-host.invalid:5432"),
        ("postgresql:///d?host=/no/such/folder", "/no/such/folder"),
    ],
)
async def test_no_server_answers(text: str, server: str) -> None:
    await assert_refused(Address.parse(text), "no-answer", server)


async def test_a_missing_database(server: Server) -> None:
    address = address_of(server, "nowhere")
    await assert_refused(address, "missing-database", "'nowhere'", address.server)


async def test_a_missing_login(server: Server) -> None:
    address = Address(address_of(server, "postgres").url._replace(username="nobody_here"))
    await assert_refused(address, "login-rejected", "nobody_here", address.server)


async def test_a_server_of_the_wrong_kind(server: Server) -> None:
    url = address_of(server, "postgres").url
    address = Address(url._replace(query=(*url.query, ("target_session_attrs", "standby"))))
    await assert_refused(address, "invalid-url", address.server)


async def test_an_option_that_the_server_does_not_know(server: Server) -> None:
    url = address_of(server, "postgres").url
    address = Address(url._replace(query=(*url.query, ("nonsense", "1"))))
    await assert_refused(address, "unsupported-parameter", "nonsense", address.server)
