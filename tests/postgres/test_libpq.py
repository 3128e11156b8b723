"""Where a connection goes: always where libpq itself, in psql, would go with the same URL, files and environment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final
from urllib.parse import quote

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkseed.embedded import Server
from bulkseed.errors import ConnectError, InputError
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from support.databases import MakeDatabase
from support.errors import raises
from support.plans import plan_of

SECRET: Final = "s3 cr%e:t\\'"
ASKED: Final = """
SELECT concat_ws(' ', current_user, current_database(),
                 regexp_replace(current_setting('application_name'), '^(bulkseed|psql|)$', 'default'),
                 coalesce(host(inet_server_addr()), 'socket'), current_setting('search_path'))
"""

SERVICES: Final = """
# of the tests
[whole]
host={socket}
port={port}
dbname=other
user=bulkseed
options=-c search_path=pg_catalog

[by tcp]
hostaddr=127.0.0.1
host=nowhere.invalid
port={port}
user=me
dbname=other
password={secret}

[first wins]
host={socket}
host=/nowhere
port={port}
user=bulkseed
dbname=other
[spaces]
host = /nowhere
[unknown]
hots=/nowhere
[nested]
service=whole
[binding]
channel_binding=require
[empty]
"""

PGPASS: Final = """# *:*:*:*:wrong
localhost:*:*:somebody:wrong
nowhere:*:*:*:wrong
127.0.0.1:1:*:*:wrong
127.0.0.1:*:other:me:{escaped}
*:*:*:*:wrong
"""


@pytest.fixture(scope="session", autouse=True)
def logins(listening: Server) -> None:
    """A database and logins on it."""
    psql: list[str | Path] = [listening.binaries / "psql", "-Xqw", "-d", listening.url]
    literal = SECRET.replace("'", "''")
    for statement in (
        "CREATE DATABASE other",
        f"CREATE ROLE me LOGIN PASSWORD '{literal}'",
        "CREATE ROLE \"od:d\\ro le\" LOGIN PASSWORD 'p'",
    ):
        subprocess.run([*psql, "-c", statement], check=True)


@pytest.fixture
def files(listening: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Values for what is written {so} below; the home folder is empty but for what a test puts there."""
    for name in os.environ:
        if name.startswith("PG"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    values = {
        "socket": str(listening.socket_dir),
        "quoted": quote(str(listening.socket_dir), safe=""),
        "port": str(listening.tcp_port),
        "secret": SECRET,
        "escaped": SECRET.replace("\\", "\\\\").replace(":", "\\:"),
        "uri": quote(SECRET, safe=""),
        "home": str(tmp_path),
    }
    (tmp_path / "services").write_text(SERVICES.format(**values))
    passwords = tmp_path / "passwords"
    passwords.write_text(PGPASS.format(**values))
    passwords.chmod(0o600)
    (tmp_path / "loose").write_text(f"127.0.0.1:*:other:me:{values['escaped']}:ignored\n127.0.0.1:*:*:*:wrong")
    (tmp_path / "loose").chmod(0o600)
    (tmp_path / "raw").write_text(f"127.0.0.1:*:other:me:{SECRET}\n")
    (tmp_path / "raw").chmod(0o600)
    return values


ALIKE: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "socket in the query": ("postgresql://bulkseed@/other?host={socket}&port={port}", {}),
    "socket as the host": ("postgresql://bulkseed@{quoted}:{port}/other", {}),
    "all in the query": ("postgresql:///?user=bulkseed&dbname=other&host={socket}&port={port}", {}),
    "the query wins": (
        "postgresql://nobody@nowhere.invalid/none?host={socket}&port={port}&user=bulkseed&dbname=other",
        {},
    ),
    "the environment": (
        "postgresql://",
        {"PGHOST": "{socket}", "PGPORT": "{port}", "PGUSER": "bulkseed", "PGDATABASE": "other"},
    ),
    "the user's database": ("postgresql://bulkseed@", {"PGHOST": "{socket}", "PGPORT": "{port}"}),
    "PGOPTIONS": (
        "postgresql://bulkseed@/other",
        {"PGHOST": "{socket}", "PGPORT": "{port}", "PGOPTIONS": "-c search_path=pg_catalog"},
    ),
    "a password": ("postgresql://me:{uri}@127.0.0.1:{port}/other", {}),
    "PGPASSWORD": ("postgresql://me@127.0.0.1:{port}/other", {"PGPASSWORD": "{secret}"}),
    "the password file": ("postgresql://me@127.0.0.1:{port}/other", {"PGPASSFILE": "{home}/passwords"}),
    "the password file in the query": ("postgresql://me@127.0.0.1:{port}/other?passfile={home}/passwords", {}),
    "a password with a colon, not escaped": ("postgresql://me@127.0.0.1:{port}/other?passfile={home}/raw", {}),
    "more fields in the password file": ("postgresql://me@127.0.0.1:{port}/other?passfile={home}/loose", {}),
    "another's line of the password file": (
        "postgresql://me@localhost:{port}/other",
        {"PGPASSFILE": "{home}/passwords"},
    ),
    "no password": ("postgresql://me@127.0.0.1:{port}/other", {}),
    "a wrong password": ("postgresql://me:wrong@127.0.0.1:{port}/other", {"PGPASSWORD": "{secret}"}),
    "?service=": ("postgresql://?service=whole", {"PGSERVICEFILE": "{home}/services"}),
    "///?service=": ("postgresql:///?service=whole", {"PGSERVICEFILE": "{home}/services"}),
    "PGSERVICE": ("postgresql://", {"PGSERVICE": "whole", "PGSERVICEFILE": "{home}/services"}),
    "the URL before the service": ("postgresql:///bulkseed?service=whole", {"PGSERVICEFILE": "{home}/services"}),
    "the service before the environment": (
        "postgresql://?service=whole",
        {"PGSERVICEFILE": "{home}/services", "PGHOST": "/nowhere", "PGDATABASE": "none", "PGUSER": "nobody"},
    ),
    "hostaddr, port and password of a service": (
        "postgresql://?service=by%20tcp",
        {"PGSERVICEFILE": "{home}/services"},
    ),
    "the first of two": ("postgresql://?service=first%20wins", {"PGSERVICEFILE": "{home}/services"}),
    "no such service": (
        "postgresql://bulkseed@{quoted}:{port}/other?service=none",
        {"PGSERVICEFILE": "{home}/services"},
    ),
    "no such service by PGSERVICE": ("postgresql://bulkseed@{quoted}:{port}/other", {"PGSERVICE": "none"}),
    "no such service file": ("postgresql://?service=whole", {"PGSERVICEFILE": "/nowhere"}),
    "spaces in a service": ("postgresql://?service=spaces", {"PGSERVICEFILE": "{home}/services"}),
    "a service of unknown things": ("postgresql://?service=unknown", {"PGSERVICEFILE": "{home}/services"}),
    "a service within one": ("postgresql://?service=nested", {"PGSERVICEFILE": "{home}/services"}),
    "an empty service": (
        "postgresql://bulkseed@{quoted}:{port}/other?service=empty",
        {"PGSERVICEFILE": "{home}/services"},
    ),
    "hostaddr": ("postgresql://me:{uri}@nowhere.invalid:{port}/other?hostaddr=127.0.0.1", {}),
    "PGHOSTADDR": ("postgresql://me:{uri}@nowhere.invalid:{port}/other", {"PGHOSTADDR": "127.0.0.1"}),
    "two hosts, one down": ("postgresql://me:{uri}@127.0.0.1:1,127.0.0.1:{port}/other", {}),
    "two hosts, one port": ("postgresql://me:{uri}@/other?host=127.0.0.9,127.0.0.1&port={port}", {}),
    "two hosts, three ports": ("postgresql://me:{uri}@/other?host=127.0.0.9,127.0.0.1&port=1,2,3", {}),
    "no port": ("postgresql://me@127.0.0.1/other", {"PGPORT": "many"}),
    "a port too high": ("postgresql://me@127.0.0.1/other", {"PGPORT": "65536"}),
    "sslmode=require without TLS": ("postgresql://me:{uri}@127.0.0.1:{port}/other?sslmode=require", {}),
    "PGSSLMODE=require without TLS": ("postgresql://me:{uri}@127.0.0.1:{port}/other", {"PGSSLMODE": "require"}),
    "sslmode=prefer without TLS": ("postgresql://me:{uri}@127.0.0.1:{port}/other?sslmode=prefer", {}),
    "ssl=true without TLS": ("postgresql://me:{uri}@127.0.0.1:{port}/other?ssl=true", {}),
    "no such sslmode": ("postgresql://me:{uri}@127.0.0.1:{port}/other?sslmode=maybe", {}),
    "sslmode=verify-full without a root": ("postgresql://me:{uri}@127.0.0.1:{port}/other?sslmode=verify-full", {}),
    "the system's roots for less": (
        "postgresql://me:{uri}@127.0.0.1:{port}/other?sslrootcert=system&sslmode=require",
        {},
    ),
    "odd names": ("postgresql://od%3Ad%5Cro%20le:p@127.0.0.1:{port}/other", {}),
    "what is for clients": (
        "postgresql://me:{uri}@127.0.0.1:{port}/other?connect_timeout=9&keepalives=1&keepalives_idle=9&gssencmode=disable"
        "&load_balance_hosts=random&client_encoding=UTF8&channel_binding=prefer&sslsni=1"
        "&sslcompression=0&min_protocol_version=3.0&max_protocol_version=latest&tcp_user_timeout=1000",
        {},
    ),
    "a name": ("postgresql://me:{uri}@127.0.0.1:{port}/other?application_name=x", {"PGAPPNAME": "y"}),
    "PGAPPNAME": ("postgresql://me:{uri}@127.0.0.1:{port}/other", {"PGAPPNAME": "y"}),
    "a connection string": ("host=127.0.0.1 port = {port} user='me' dbname=other application_name='a \\'b\\\\'", {}),
    "a connection string with a password": (
        "host={socket} port={port} user=bulkseed password=a\\ \\'b options='-c search_path=pg_catalog' dbname=other",
        {},
    ),
    "a connection string with a service": ("service=whole dbname=bulkseed", {"PGSERVICEFILE": "{home}/services"}),
    "a connection string without an =": ("host={socket} port {port} user=bulkseed", {}),
    "a connection string without a quote": ("host={socket} port={port} user='bulkseed", {}),
    "a connection string with an unknown word": ("host={socket} port={port} user=bulkseed hots=x", {}),
    "a timeout that is no number": ("postgresql://me:{uri}@127.0.0.1:{port}/other?connect_timeout=abc", {}),
    "PGCONNECT_TIMEOUT that is no number": (
        "postgresql://me:{uri}@127.0.0.1:{port}/other",
        {"PGCONNECT_TIMEOUT": "5s"},
    ),
    "a number with a sign and spaces": ("postgresql://me:{uri}@127.0.0.1:{port}/other?connect_timeout=%20%2b9%20", {}),
    "a number that is too large": ("postgresql://me:{uri}@127.0.0.1:{port}/other?keepalives=2147483648", {}),
    "keepalives that the system refuses": ("postgresql://me:{uri}@127.0.0.1:{port}/other?keepalives_count=1000", {}),
    "an option that is no option": ("postgresql://me:{uri}@127.0.0.1:{port}/other?options=-x", {}),
    "a setting that needs a restart": (
        "postgresql://me:{uri}@127.0.0.1:{port}/other",
        {"PGOPTIONS": "-c shared_buffers=1MB"},
    ),
    "no such load_balance_hosts": ("postgresql://me:{uri}@127.0.0.1:{port}/other?load_balance_hosts=maybe", {}),
    "no such protocol": ("postgresql://me:{uri}@127.0.0.1:{port}/other?max_protocol_version=4", {}),
    "no such channel_binding": ("postgresql://me:{uri}@127.0.0.1:{port}/other", {"PGCHANNELBINDING": "maybe"}),
    "no such encoding": ("postgresql://me:{uri}@127.0.0.1:{port}/other?client_encoding=utf9", {}),
    "requirepeer is for sockets": ("postgresql://me:{uri}@127.0.0.1:{port}/other?requirepeer=nobody", {}),
    "requirepeer of another": ("postgresql://bulkseed@/other?host={socket}&port={port}", {"PGREQUIREPEER": "nobody_"}),
    "requiressl=1 without TLS": ("host=127.0.0.1 port={port} user=me dbname=other requiressl=1", {}),
    "PGREQUIRESSL without TLS": ("postgresql://me:{uri}@127.0.0.1:{port}/other", {"PGREQUIRESSL": "1"}),
}


def through_psql(server: Server, url: str, environment: dict[str, str]) -> str | None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    done = subprocess.run(
        [server.binaries / "psql", "-XAtwq", "-d", url, "-c", ASKED],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode in {0, 2}, done.stderr
    return done.stdout.strip() if done.returncode == 0 else None


async def through_us(url: str) -> tuple[str | None, str]:
    try:
        async with open_connection(Address.parse(url)) as connection:
            return await connection.fetchval(ASKED), ""
    except InputError as error:
        return None, str(error)


@pytest.mark.parametrize("case", ALIKE)
async def test_as_psql(case: str, listening: Server, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    url = ALIKE[case][0].format(**files)
    environment = {name: value.format(**files) for name, value in ALIKE[case][1].items()}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    theirs = through_psql(listening, url, environment)
    ours, said = await through_us(url)
    assert ours == theirs, said
    if ours is None:
        assert "\n" not in said
        assert SECRET not in said
        assert files["uri"] not in said


@pytest.mark.parametrize("named", ["url", "environment"])
async def test_tls_is_not_for_sockets(named: str, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The psql at hand may know no TLS, so that it cannot be asked."""
    url = f"postgresql://bulkseed@{files['quoted']}:{files['port']}/other"
    monkeypatch.setenv("PGSSLNEGOTIATION", "direct")
    monkeypatch.setenv("PGSSLMODE", "prefer" if named == "url" else "verify-full")
    assert await through_us(f"{url}?sslmode=verify-full" if named == "url" else url) == (
        "bulkseed other default socket public",
        "",
    )


@given(st.text("a '\\=\n", max_size=10))
@settings(max_examples=40)
def test_a_connection_string_is_read_as_psql_does(listening: Server, rest: str) -> None:
    text = f"host={listening.socket_dir} port={listening.tcp_port} user=bulkseed application_name={rest}"
    theirs = through_psql(listening, text, {})
    ours, said = anyio.run(through_us, text)
    assert ours == theirs, said


async def test_files_in_the_home_folder(listening: Server, files: dict[str, str]) -> None:
    (Path(files["home"]) / "services").rename(Path(files["home"]) / ".pg_service.conf")
    (Path(files["home"]) / "passwords").rename(Path(files["home"]) / ".pgpass")
    for url in ("postgresql://?service=whole", f"postgresql://me@127.0.0.1:{files['port']}/other"):
        assert await through_us(url) == (through_psql(listening, url, {}), "")


async def test_the_systems_service_file(
    listening: Server, files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSYSCONFDIR", str(tmp_path))
    (tmp_path / "services").rename(tmp_path / "pg_service.conf")
    (tmp_path / ".pg_service.conf").write_text("[something else]\nhost=/nowhere\n")
    url = "postgresql://?service=whole"
    theirs = through_psql(listening, url, {"PGSYSCONFDIR": str(tmp_path)})
    assert theirs
    assert await through_us(url) == (theirs, "")


async def test_a_password_file_that_others_can_read_is_not_used(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords = Path(files["home"]) / "passwords"
    passwords.chmod(0o640)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    url = f"postgresql://me@127.0.0.1:{files['port']}/other"
    with raises("login-rejected", f"127.0.0.1:{files['port']}", passwords, "chmod 600", kind=ConnectError):
        async with open_connection(Address.parse(url)):
            pass


REFUSED: Final[dict[str, tuple[str, str, tuple[str, ...]]]] = {
    "a missing service": ("?service=none", "missing-service", ("'none'", "{home}/services", "PGSERVICEFILE")),
    "a service with spaces": ("?service=spaces", "invalid-service-file", ("line 25", "{home}/services", "name=value")),
    "a port": ("h:1/d?port=x", "invalid-parameter", ("port", "'x'", "PGPORT")),
    "ports": ("/d?host=a,b,c&port=1,2", "invalid-parameter", ("port", "2", "3 hosts")),
    "sslmode": ("h/d?sslmode=maybe", "invalid-parameter", ("sslmode", "'maybe'", "disable", "verify-full")),
    "session attributes": (
        "h/d?target_session_attrs=odd",
        "invalid-parameter",
        ("target_session_attrs", "'odd'", "standby"),
    ),
    "a NUL byte": ("h/d?user=a%00b", "invalid-parameter", ("user",)),
    "a root certificate": (
        "h/d?sslmode=verify-ca&sslrootcert=/no/such",
        "unreadable-tls-file",
        ("sslrootcert", "/no/such", "PGSSLROOTCERT"),
    ),
    "a certificate": ("h/d?sslcert=/no/such", "unreadable-tls-file", ("sslcert", "/no/such", "PGSSLCERT")),
    "the system's roots for less": (
        "h/d?sslmode=require&sslrootcert=system",
        "conflicting-parameters",
        ("sslrootcert=system", "sslmode=require", "verify-full"),
    ),
    "the system's roots and a certificate": (
        "h/d?sslcert=/no/such&sslrootcert=system",
        "conflicting-parameters",
        ("sslrootcert=system", "sslcert"),
    ),
    "hostaddr": (
        "h/d?sslmode=verify-full&hostaddr=127.0.0.1",
        "conflicting-parameters",
        ("sslmode=verify-full", "hostaddr"),
    ),
    "replication": ("h/d?replication=database", "unsupported-parameter", ("replication",)),
    "channel binding from a service": ("?service=binding", "unsupported-parameter", ("channel_binding=require",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_parameters_that_are_refused(case: str, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSERVICEFILE", f"{files['home']}/services")
    rest, code, facts = REFUSED[case]
    with raises(code, *(fact.format(**files) for fact in facts), kind=InputError) as caught:
        Address.parse(f"postgresql://{rest}")
    assert "\n" not in str(caught.value)


def test_a_service_file_that_is_not_text(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path(files["home"]) / "latin"
    file.write_bytes("[é]".encode("latin-1"))
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    with raises("unreadable-service-file", file, "UTF-8", kind=InputError):
        Address.parse("postgresql://?service=whole")


def test_a_service_tells_the_host(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path(files["home"]) / ".pg_service.conf"
    file.write_text("[far]\nhost=db-prod-1.example.com\nport=6000\ndbname=app\nuser=me\npassword=s3cret\n")
    for url in ("postgresql://?service=far", "postgresql:///?service=far", "postgresql://you@/?service=far"):
        address = Address.parse(url)
        assert address.hosts == ["db-prod-1.example.com"]
        assert not address.is_local
        assert (address.server, address.database) == ("db-prod-1.example.com:6000", "app")
        assert "s3cret" not in f"{address} {address!r}"
    monkeypatch.setenv("PGSERVICE", "far")
    assert not Address.parse("postgresql:///d").is_local
    monkeypatch.delenv("PGSERVICE")
    # what is connected to decides, not what it is called
    assert not Address.parse("postgresql://localhost/d?hostaddr=192.0.2.1").is_local
    assert not Address.parse("postgresql://localhost/d?host=192.0.2.1").is_local
    assert Address.parse("postgresql://192.0.2.1/d?host=/tmp").hosts == ["/tmp"]
    for url in ("postgresql://h1:1,h2:2/d", "postgresql:///d?host=h1:1&host=h2:2", "postgresql://h1,h2/d?port=1,2"):
        assert Address.parse(url).server == "h1:1, h2:2"
    assert Address.parse("postgresql://u:p,w@h/d").hosts == ["h"]
    assert Address.parse("postgresql:///d?host=::1&port=7").server == "[::1]:7"


async def test_a_load_by_a_service(
    make_database: MakeDatabase, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers, which are processes of their own, get there too."""
    database = await make_database()
    given = database.parameters
    file = Path(files["home"]) / "mine"
    file.write_text(f"[test]\nhost={given['host']}\nport={given['port']}\ndbname={given['dbname']}\nuser=bulkseed\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    address = Address.parse("postgresql://?service=test")
    report = await load(plan_of("3x"), address, workers=2, rows_per_shard=500)
    assert report.workers == 2
    with raises("missing-service", "'tset'", file, kind=InputError):
        Address.parse("postgresql://?service=tset")
