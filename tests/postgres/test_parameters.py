"""Connection parameters by what they do to a connection; those that psql shows are compared in test_libpq.py."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bulkseed.embedded import Server
from bulkseed.errors import ConnectError, InputError, ServerUnavailableError
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.postgres.driver import DriverConnection
from bulkseed.postgres.keywords import parse_keywords
from bulkseed.postgres.libpq import Host, hosts
from bulkseed.postgres.parameters import KEYWORDS, VARIABLES
from support.commands import inside
from support.databases import address_of
from support.errors import raises
from support.plans import plan_of
from support.queries import run_sql

SECRET: Final = "s3cret"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of libpq but those that a test sets."""
    for name in [*VARIABLES.values(), "PGSERVICE", "PGREQUIRESSL"]:
        monkeypatch.delenv(name, raising=False)


def with_arguments(address: Address, **arguments: str) -> Address:
    return Address(address.url._replace(query=(*address.url.query, *arguments.items())))


@pytest.fixture(scope="module")
def tcp(listening: Server) -> str:
    """The URL of a database over TCP."""
    role = f"DO $$ BEGIN CREATE ROLE tcp LOGIN PASSWORD '{SECRET}'; EXCEPTION WHEN duplicate_object THEN END $$"
    anyio.run(run_sql, address_of(listening, "postgres"), role)
    return f"postgresql://tcp:{SECRET}@127.0.0.1:{listening.tcp_port}/postgres"


async def options_of(url: str) -> dict[str, int]:
    """The options of the client's socket, as the operating system has them."""
    async with open_connection(Address.parse(url)) as connection:
        assert isinstance(connection, DriverConnection)
        end = connection.socket
        found = {
            "idle": end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
            "interval": end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
            "count": end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
            "user_timeout": end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
        }
        return {"keepalive": end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), **found}


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="no TCP_USER_TIMEOUT on this system")
def test_keepalives_are_those_of_the_socket(tcp: str, any_loop: dict[str, Any]) -> None:
    def options(query: str = "") -> dict[str, int]:
        return anyio.run(options_of, f"{tcp}?{query}", backend_options=any_loop)

    with closing(socket.socket()) as fresh:
        system = {
            "idle": fresh.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
            "interval": fresh.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
            "count": fresh.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
            "user_timeout": 0,
        }
    quick = {"idle": 10, "interval": 5, "count": 3}
    assert options() == {"keepalive": 1, **system, **quick}
    assert options("keepalives_idle=0&keepalives_interval=0&keepalives_count=0") == {"keepalive": 1, **system}
    assert options("keepalives=0&keepalives_idle=7") == {"keepalive": 0, **system}
    given = "keepalives_idle=7&keepalives_interval=8&keepalives_count=9&tcp_user_timeout=1234"
    assert options(given) == {"keepalive": 1, "idle": 7, "interval": 8, "count": 9, "user_timeout": 1234}
    with raises("invalid-parameter", "keepalives_count", kind=ConnectError):
        options("keepalives_count=1000")


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("by", ["url", "environment"])
async def test_connect_timeout_is_the_limit_for_a_host(silent: int, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if by == "environment":
        monkeypatch.setenv("PGCONNECT_TIMEOUT", "1")
    query = "?connect_timeout=1" if by == "url" else ""
    began = time.monotonic()
    with raises("no-answer", f"127.0.0.1:{silent}", "1 s", kind=ServerUnavailableError):
        async with open_connection(Address.parse(f"postgresql://u@127.0.0.1:{silent}/d{query}")):
            pass
    assert time.monotonic() - began >= 1


async def test_connect_timeout_leaves_time_for_the_next_host(silent: int, tcp: str) -> None:
    url = tcp.replace("@", f"@127.0.0.1:{silent},") + "?connect_timeout=1&target_session_attrs=prefer-standby"
    async with open_connection(Address.parse(url)) as connection:
        assert await connection.fetchval("SELECT inet_server_port()") != silent


def test_a_connect_timeout_of_zero_is_no_limit() -> None:
    for text, seconds in (("0", None), ("-1", None), ("7", 7), ("", 20.0)):
        assert Address.parse(f"postgresql://h/d?connect_timeout={text}").client_options.seconds(20.0) == seconds


async def test_hosts_are_tried_in_random_order(tcp: str) -> None:
    port = tcp.rpartition(":")[2].partition("/")[0]
    url = tcp.replace(f"@127.0.0.1:{port}", f"@127.0.0.1:{port},localhost:{port}").replace(
        "localhost", "[::ffff:127.0.0.1]"
    )
    first = set()
    for _ in range(30):
        async with open_connection(Address.parse(f"{url}?load_balance_hosts=random")) as connection:
            assert isinstance(connection, DriverConnection)
            first.add(connection.socket.getpeername()[0])
    assert first == {"127.0.0.1", "::ffff:127.0.0.1"}


async def test_the_name_of_the_sessions_of_a_load(database: Address) -> None:
    """It reaches the workers too, which are processes of their own."""
    await run_sql(
        database,
        "CREATE TABLE names (name text)",
        "CREATE FUNCTION note_name() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO public.names VALUES (current_setting('application_name')); RETURN NULL; END $$",
        "CREATE TRIGGER note_name AFTER INSERT ON messages EXECUTE FUNCTION note_name()",
    )
    await load(plan_of("3x"), with_arguments(database, application_name="seeding"), workers=2, rows_per_shard=500)
    async with open_connection(database) as connection:
        assert [row["name"] for row in await connection.fetch("SELECT DISTINCT name FROM names")] == ["seeding"]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({}, "bulkseed"),
        ({"fallback_application_name": "b"}, "b"),
        ({"fallback_application_name": "b", "application_name": "a"}, "a"),
    ],
)
async def test_the_name_of_a_session(database: Address, arguments: dict[str, str], name: str) -> None:
    async with open_connection(with_arguments(database, **arguments)) as connection:
        assert await connection.fetchval("SHOW application_name") == name


async def test_a_service_file_in_the_url_names_the_session(
    database: Address, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "services").write_text("[it]\napplication_name=from the service\nconnect_timeout=7\n")
    monkeypatch.setenv("PGAPPNAME", "from the environment")
    address = with_arguments(database, service="it", servicefile=str(tmp_path / "services"))
    assert address.client_options.connect_timeout == 7
    async with open_connection(address) as connection:
        assert await connection.fetchval("SHOW application_name") == "from the service"


LIMITS: Final = ("statement_timeout", "lock_timeout", "idle_session_timeout", "idle_in_transaction_session_timeout")


async def test_limits_in_the_url_are_not_those_of_a_load(database: Address) -> None:
    short = with_arguments(database, **dict.fromkeys(LIMITS, "1ms"), search_path="public, pg_catalog")
    async with open_connection(short) as connection:
        assert {await connection.fetchval(f"SHOW {name}") for name in LIMITS} == {"0"}
        assert await connection.fetchval("SHOW search_path") == "public, pg_catalog"


async def test_a_limit_too_short_to_set_up_a_session(database: Address) -> None:
    with raises("session-limit", database.server, "statement_timeout", "ALTER ROLE", kind=ConnectError):
        async with open_connection(with_arguments(database, options="-c statement_timeout=1ms")):
            pass


@pytest.mark.parametrize(
    ("arguments", "code", "fact"),
    [
        ({"nonsense": "1"}, "unsupported-parameter", "nonsense"),
        ({"work_mem": "much"}, "invalid-parameter", "work_mem"),
        ({"shared_buffers": "1MB"}, "invalid-parameter", "shared_buffers"),
        ({"options": "-x"}, "invalid-parameter", "-x"),
    ],
)
async def test_settings_that_the_server_refuses(
    database: Address, arguments: dict[str, str], code: str, fact: str
) -> None:
    with raises(code, database.server, fact, kind=ConnectError):
        async with open_connection(with_arguments(database, **arguments)):
            pass


async def test_a_right_that_the_user_lacks(listening: Server, tcp: str) -> None:
    with raises("missing-privilege", "log_statement", kind=ConnectError):
        async with open_connection(Address.parse(f"{tcp}?log_statement=all")):
            pass


REFUSED: Final = {
    "connect_timeout=abc": ("invalid-parameter", "'abc'", "PGCONNECT_TIMEOUT"),
    "keepalives=yes": ("invalid-parameter", "'yes'"),
    "keepalives_idle=1.5": ("invalid-parameter", "'1.5'"),
    "keepalives_interval=--1": ("invalid-parameter", "'--1'"),
    "keepalives_count=9999999999": ("invalid-parameter", "'9999999999'"),
    "tcp_user_timeout=1s": ("invalid-parameter", "'1s'"),
    "client_encoding=LATIN1": ("invalid-parameter", "'LATIN1'", "UTF8", "PGCLIENTENCODING"),
    "load_balance_hosts=yes": ("invalid-parameter", "random", "PGLOADBALANCEHOSTS"),
    "sslnegotiation=none": ("invalid-parameter", "direct", "PGSSLNEGOTIATION"),
    "gsslib=mit": ("invalid-parameter", "gssapi", "PGGSSLIB"),
    "channel_binding=require": ("unsupported-parameter", "channel_binding=prefer"),
    "channel_binding=always": ("invalid-parameter", "prefer", "PGCHANNELBINDING"),
    "gssencmode=require": ("unsupported-parameter", "gssencmode=prefer"),
    "gssdelegation=1": ("unsupported-parameter", "gssdelegation=0"),
    "sslcertmode=require": ("unsupported-parameter", "sslcertmode=allow"),
    "sslcompression=1": ("unsupported-parameter", "sslcompression=0"),
    "sslsni=0": ("unsupported-parameter", "sslsni=1"),
    "min_protocol_version=3.2": ("unsupported-parameter", "min_protocol_version=3.0"),
    "max_protocol_version=2": ("invalid-parameter", "3.2", "PGMAXPROTOCOLVERSION"),
    "require_auth=scram-sha-256": ("unsupported-parameter", "require_auth"),
    "sslcrldir=/tmp": ("unsupported-parameter", "sslcrl"),
    "sslkeylogfile=/tmp/x": ("unsupported-parameter", "SSLKEYLOGFILE"),
    "scram_client_key=s3cret": ("unsupported-parameter", "scram_client_key"),
    "scram_server_key=s3cret": ("unsupported-parameter", "scram_server_key"),
    "oauth_issuer=https://x": ("unsupported-parameter", "oauth_issuer"),
    "oauth_client_id=x": ("unsupported-parameter", "oauth_client_id"),
    "oauth_client_secret=s3cret": ("unsupported-parameter", "oauth_client_secret"),
    "oauth_scope=x": ("unsupported-parameter", "oauth_scope"),
    "oauth_ca_file=x": ("unsupported-parameter", "oauth_ca_file"),
    "replication=true": ("unsupported-parameter", "replication"),
}


@pytest.mark.parametrize("argument", REFUSED)
def test_parameters_that_are_refused(argument: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one line, from the URL, a connection string and the environment alike."""
    name, _, value = argument.partition("=")
    code, *facts = REFUSED[argument]
    for text in (f"postgresql://h/d?{argument}", f"host=h dbname=d {name}='{value}'"):
        with raises(code, name, *facts, kind=InputError) as caught:
            Address.parse(text)
        assert "\n" not in str(caught.value)
        assert SECRET not in str(caught.value)
    if name in VARIABLES:
        monkeypatch.setenv(VARIABLES[name], value)
        with raises(code, name, *facts, kind=InputError):
            Address.parse("postgresql://h/d")
        # these variables are not for the embedded server
        assert name not in Address.parse("postgresql://h/d", {}).parameters


def test_a_certificate_is_not_for_sslcertmode_disable(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Address.parse("postgresql://h/d?sslcertmode=disable")
    own = tmp_path / ".postgresql" / "postgresql.crt"
    own.parent.mkdir()
    own.touch()
    for query, file in (("", own), ("&sslcert=/no/such", "/no/such")):
        with raises("conflicting-parameters", "sslcertmode=disable", file, kind=InputError):
            Address.parse(f"postgresql://h/d?sslcertmode=disable{query}")


def test_no_parameter_of_libpq_is_sent_to_the_server_as_a_setting() -> None:
    accepted = {
        **dict.fromkeys(("keepalives", "sslsni", "connect_timeout", "keepalives_idle", "keepalives_count"), "1"),
        **dict.fromkeys(("keepalives_interval", "tcp_user_timeout", "requiressl"), "1"),
        **dict.fromkeys(("channel_binding", "gssencmode"), "prefer"),
        **dict.fromkeys(("sslcompression", "gssdelegation"), "0"),
        **dict.fromkeys(("min_protocol_version", "max_protocol_version"), "3.0"),
        **{"client_encoding": "utf-8", "load_balance_hosts": "random", "sslcertmode": "allow", "sslmode": "require"},
        **{"fallback_application_name": "x", "prepared_statement_cache_size": "0", "statement_cache_size": "0"},
    }
    query = "&".join(f"{name}={value}" for name, value in accepted.items())
    settings = Address.parse(f"postgresql://h/d?{query}&search_path=x").arguments["server_settings"]
    assert settings == {"application_name": "x", "search_path": "x"}


WORDS: Final = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


@given(st.dictionaries(st.sampled_from(sorted(KEYWORDS)), WORDS, max_size=4), st.data())
def test_a_connection_string_is_read_as_it_was_quoted(parameters: dict[str, str], data: st.DataObject) -> None:
    def quoted(value: str) -> str:
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        plain = "".join(f"\\{each}" if each.isspace() else each for each in escaped)
        return data.draw(st.sampled_from([f"'{escaped}'", plain]))

    spaces = st.sampled_from(["", " ", "\n\t"])
    text = " ".join(
        f"{name}{data.draw(spaces)}={data.draw(spaces)}{quoted(value)}" for name, value in parameters.items()
    )
    assert parse_keywords(text) == parameters


@given(WORDS, WORDS)
@example(before="\r", password="0")
def test_a_password_is_not_in_the_message_about_a_connection_string(before: str, password: str) -> None:
    secret = f"{password}{SECRET}"
    try:
        # doubled: a backslash at the end would make the password a part of the name
        user = before.replace("\\", "\\\\")
        shown = str(Address.parse(f"user={user} password={secret}"))
    except InputError as error:
        shown = str(error)
    assert SECRET not in shown


@pytest.mark.parametrize(
    "text", ["host=h hots=x", "host=h port", "host='h", "host=h password=two words", "=x", "a.b=1"]
)
def test_connection_strings_that_are_refused(text: str) -> None:
    with raises("invalid-connection-string", "parameter", kind=InputError) as caught:
        parse_keywords(text)
    assert "words" not in str(caught.value).replace("two words", "")


@pytest.mark.parametrize("text", ["user= password={}", "host=h  sslcert =\tsslpassword={} user=u"])
def test_a_parameter_without_a_value_before_a_password_is_refused(text: str) -> None:
    with raises("invalid-connection-string", "has no value before the next", kind=InputError) as caught:
        Address.parse(text.format(SECRET))
    assert SECRET not in str(caught.value)
    advised = re.search(r"write (\w+='')", str(caught.value))
    assert advised is not None
    keyword = advised[1].partition("=")[0]
    corrected = re.sub(rf"{keyword}\s*=", advised[1], text).format(SECRET)
    assert parse_keywords(corrected)[keyword] == ""


@pytest.mark.parametrize("argument", ["connect_timeout=abc", "sslmod=require"])
def test_a_command_with_a_wrong_parameter(database: Address, argument: str) -> None:
    done = inside("runs", DATABASE_URL=f"{database}&{argument}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert argument.partition("=")[0] in done.stderr


def test_a_command_with_a_connection_string(database: Address) -> None:
    parameters = {**database.parameters, "application_name": "seeding", "password": SECRET}
    text = " ".join(f"{name}='{value}'" for name, value in parameters.items())
    done = inside("load", "--scale", "3x", "--database-url", text, "--quiet", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    shown = json.loads(done.stdout)["database_url"]
    assert "application_name=seeding" in shown
    assert SECRET not in done.stdout
    assert inside("runs", "--database-url", shown).returncode == 0


NAMES: Final = st.sampled_from(["user", "password", "dbname", "host", "application_name", "options", "sslpassword"])


def meaning(address: Address) -> tuple[list[Host], dict[str, str]]:
    """The hosts, of which each gets a port of its own in the URL if there are several, and the other parameters."""
    others = {name: value for name, value in address.parameters.items() if name not in {"host", "port"}}
    return hosts(address.parameters), others


@given(st.dictionaries(NAMES, WORDS, min_size=1))
@example({"host": ","})
def test_the_url_of_a_connection_string_has_its_parameters(parameters: dict[str, str]) -> None:
    """But for hosts, which may have a port in them, as SQLAlchemy writes it."""
    if "password" in parameters:
        parameters["password"] += SECRET
    text = " ".join(
        f"{name}='{value.replace(chr(92), chr(92) * 2).replace(chr(39), chr(92) + chr(39))}'"
        for name, value in parameters.items()
    )
    try:
        address = Address.parse(text, {})
    except InputError:
        assert "host" in parameters
        return
    assert {name: address.parameters[name] for name in parameters if name != "sslpassword"} == {
        name: value for name, value in parameters.items() if name != "sslpassword"
    }
    assert meaning(Address.parse(address.dsn, {})) == meaning(address)
    assert SECRET not in f"{address} {address!r} {address.without_passwords.dsn}"
