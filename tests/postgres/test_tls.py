"""TLS with libpq's parameters, against a real server with certificates of the tests. The embedded one has no TLS."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from bulkseed.__main__ import main
from bulkseed.embedded.programs import Account, account_for, run_as
from bulkseed.errors import InputError
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import connect
from support.errors import raises
from support.server_homes import enterable

SECRET: Final = "s3cret"

HBA: Final = """
local all all trust
hostssl all certain 127.0.0.1/32 cert
hostssl all me 127.0.0.1/32 scram-sha-256
host all plain 127.0.0.1/32 trust
"""


def programs() -> Path | None:
    """The folder of a PostgreSQL that knows TLS, as Debian's does."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    places = [Path(each) for each in [shutil.which("postgres")] if each] + found
    for each in reversed(places):
        libraries = subprocess.run(["ldd", each], capture_output=True, text=True, check=False).stdout
        if "libssl" in libraries:
            return each.parent
    return None


pytestmark = [
    pytest.mark.skipif(
        shutil.which("openssl") is None or shutil.which("ldd") is None or programs() is None,
        reason="no PostgreSQL with TLS, or no openssl",
    ),
    # asyncpg does not wait until a refused connection is closed; uvloop then warns as the loop ends
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@dataclass(frozen=True, slots=True)
class Tls:
    """The server's folder of certificates, and its port."""

    folder: Path
    port: int


def make_certificates(folder: Path) -> None:
    """Make two authorities, certificates for localhost and for the client ``certain``, lists of revoked ones."""
    config = folder / "openssl.cnf"
    config.write_text(
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=30\n"
        "policy=p\nnew_certs_dir=.\nserial=serial\ndefault_days=30\ncopy_extensions=copy\n[p]\ncommonName=supplied\n"
    )
    (folder / "index.txt").touch()
    (folder / "serial").write_text("01\n")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "rsa:2048", "-nodes")
    authority = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    for name in ("root", "other"):
        openssl(
            "req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}", *authority
        )
    for name, subject in (("server", "localhost"), ("client", "certain")):
        extra = ["-addext", "subjectAltName=DNS:localhost"] if name == "server" else []
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={subject}", *extra)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "root.crt", "-CAkey", "root.key", "-CAcreateserial",
                "-copy_extensions", "copy", "-out", f"{name}.crt", "-days", "30")  # fmt: skip
    ca = ("ca", "-config", "openssl.cnf", "-keyfile", "root.key", "-cert", "root.crt")
    openssl(*ca, "-gencrl", "-out", "none.crl")
    openssl(*ca, "-revoke", "server.crt")
    openssl(*ca, "-gencrl", "-out", "revoked.crl")


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    """A server with ssl = on, and the tables to load into."""
    folder = enterable(tmp_path_factory.mktemp("tls"))
    make_certificates(folder)
    binaries = programs()
    assert binaries is not None
    account = account_for(folder, folder / "data")
    if account is not None:
        for each in (folder, *folder.iterdir()):
            os.chown(each, account.uid, account.gid)
    # the client's key stays readable for this process, which is root or the same account
    for each in folder.glob("*.key"):
        each.chmod(0o600)
    with started(folder, binaries, account) as port:
        psql: list[str | Path] = [
            binaries / "psql",
            "-Xqw",
            "-h",
            folder,
            "-p",
            str(port),
            "-U",
            "bulkseed",
            "-d",
            "postgres",
        ]
        for statement in (
            f"CREATE ROLE me LOGIN SUPERUSER PASSWORD '{SECRET}'",
            "CREATE ROLE certain LOGIN SUPERUSER",
            "CREATE ROLE plain LOGIN SUPERUSER",
        ):
            subprocess.run([*psql, "-c", statement], check=True)
        yield Tls(folder, port)


@contextmanager
def started(folder: Path, binaries: Path, account: Account | None) -> Iterator[int]:
    """Run the server as the account; the value is the server's port."""
    data = folder / "data"
    initdb: list[str | Path] = [
        binaries / "initdb",
        "-D",
        data,
        "-U",
        "bulkseed",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "-N",
    ]
    done = run_as(account, initdb)
    assert done.returncode == 0, done.stderr
    (data / "pg_hba.conf").write_text(HBA)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    options = {
        "port": str(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": str(folder), "fsync": "off",
        "ssl": "on", "ssl_cert_file": str(folder / "server.crt"), "ssl_key_file": str(folder / "server.key"),
        "ssl_ca_file": str(folder / "root.crt"), "log_min_messages": "fatal",
    }  # fmt: skip
    identity: dict[str, Any] = {"user": account.uid, "group": account.gid} if account else {}
    command: list[str | Path] = [
        binaries / "postgres",
        "-D",
        data,
        *(f"--{name}={value}" for name, value in options.items()),
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd="/", **identity) as server:
        try:
            until = time.monotonic() + 30
            while not (folder / f".s.PGSQL.{port}").exists() or "ready" not in (data / "postmaster.pid").read_text():
                assert time.monotonic() < until, "the server with TLS does not start"
                assert server.poll() is None, "the server with TLS has ended"
                time.sleep(0.02)
            yield port
        finally:
            server.send_signal(signal.SIGINT)


WORKS: Final = {
    "require": ("me:s3cret@localhost", "sslmode=require", {}),
    "prefer": ("me:s3cret@localhost", "", {}),
    "allow": ("me:s3cret@localhost", "sslmode=allow", {}),
    "verify-ca": ("me:s3cret@127.0.0.1", "sslmode=verify-ca&sslrootcert={folder}/root.crt", {}),
    "verify-full": ("me:s3cret@localhost", "sslmode=verify-full&sslrootcert={folder}/root.crt", {}),
    "by the environment": (
        "me:s3cret@localhost",
        "",
        {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "{folder}/root.crt"},
    ),
    "a list of revoked ones": (
        "me:s3cret@localhost",
        "sslmode=verify-full&sslrootcert={folder}/root.crt&sslcrl={folder}/none.crl",
        {},
    ),
    "a client's certificate": (
        "certain@localhost",
        "sslmode=verify-full&sslrootcert={folder}/root.crt&sslcert={folder}/client.crt&sslkey={folder}/client.key",
        {},
    ),
    "a client's by the environment": (
        "certain@localhost",
        "sslmode=require",
        {"PGSSLCERT": "{folder}/client.crt", "PGSSLKEY": "{folder}/client.key"},
    ),
    "none": ("plain@localhost", "sslmode=disable", {}),
    "parameters of TLS and TCP": (
        "me:s3cret@localhost",
        "sslmode=require&sslsni=1&sslcompression=0&sslcertmode=disable&keepalives_idle=9&tcp_user_timeout=60000",
        {"PGCHANNELBINDING": "prefer", "PGCONNECT_TIMEOUT": "9"},
    ),
}

FAILS: Final[dict[str, tuple[str, str, dict[str, str], str, tuple[str, ...]]]] = {
    "verify-ca by another's root": (
        "me:s3cret@localhost",
        "sslmode=verify-ca&sslrootcert={folder}/other.crt",
        {},
        "tls-failed",
        ("localhost:{port}", "sslmode"),
    ),
    "require by another's root": (
        "me:s3cret@localhost",
        "sslmode=require&sslrootcert={folder}/other.crt",
        {},
        "tls-failed",
        ("localhost:{port}", "sslmode"),
    ),
    "verify-full of another name": (
        "me:s3cret@127.0.0.1",
        "sslmode=verify-full&sslrootcert={folder}/root.crt",
        {},
        "tls-failed",
        ("127.0.0.1:{port}", "sslmode"),
    ),
    "verify-full without a root": ("me:s3cret@localhost", "sslmode=verify-full", {}, "invalid-url", ("root.crt",)),
    "the system's roots": (
        "me:s3cret@localhost",
        "sslrootcert=system",
        {},
        "tls-failed",
        ("localhost:{port}", "sslmode"),
    ),
    "a root that is none": (
        "me:s3cret@localhost",
        "sslmode=verify-ca&sslrootcert={folder}/openssl.cnf",
        {},
        "tls-failed",
        ("localhost:{port}", "sslmode"),
    ),
    "revoked": (
        "me:s3cret@localhost",
        "sslmode=verify-full&sslrootcert={folder}/root.crt&sslcrl={folder}/revoked.crl",
        {},
        "tls-failed",
        ("localhost:{port}", "sslmode"),
    ),
    "no client's certificate": (
        "certain@localhost",
        "sslmode=require",
        {},
        "login-rejected",
        ("localhost:{port}", "sslcert", "sslkey"),
    ),
    "a client's of another name": (
        "certain@localhost",
        "sslmode=require&sslcert={folder}/server.crt&sslkey={folder}/server.key",
        {},
        "login-rejected",
        ("localhost:{port}", "sslcert", "sslkey"),
    ),
    "a client's with another's key": (
        "certain@localhost",
        "sslmode=require&sslcert={folder}/client.crt&sslkey={folder}/server.key",
        {},
        "tls-failed",
        ("localhost:{port}", "sslmode"),
    ),
    "no such key": (
        "certain@localhost",
        "sslmode=require&sslcert={folder}/client.crt",
        {"PGSSLKEY": "{folder}/none"},
        "unreadable-tls-file",
        ("sslkey", "{folder}/none", "PGSSLKEY"),
    ),
    "no TLS where it is wanted": (
        "me:s3cret@localhost",
        "sslmode=disable",
        {},
        "login-rejected",
        ("localhost:{port}", "user", "database", "sslmode"),
    ),
}


@pytest.fixture
def url(tls: Tls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """With {login} and {query} to be filled in; the home folder is empty."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in os.environ:
        if name.startswith("PG"):
            monkeypatch.delenv(name)
    return "postgresql://{login}:" + str(tls.port) + "/postgres?{query}"


@pytest.mark.parametrize("case", WORKS)
def test_tls_that_works(
    case: str, tls: Tls, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    login, query, environment = WORKS[case]
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(folder=tls.folder))
    address = url.format(login=login, query=query.format(folder=tls.folder))
    assert main(["init", "--database-url", address]) == 0, capsys.readouterr()


@pytest.mark.parametrize("case", FAILS)
def test_tls_that_fails(
    case: str, tls: Tls, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    login, query, environment, code, facts = FAILS[case]
    facts = tuple(fact.format(folder=tls.folder, port=tls.port) for fact in facts)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(folder=tls.folder))
    address = url.format(login=login, query=query.format(folder=tls.folder))
    assert main(["init", "--database-url", address]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("bulkseed: ")
    assert printed.err.count("\n") == 1
    assert all(fact in printed.err for fact in facts), printed.err
    assert SECRET not in printed.err
    with raises(code, *facts, kind=InputError):
        asyncio.run(connect(Address.parse(address)))


def test_a_load_with_workers_over_tls(tls: Tls, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The workers use the same files."""
    query = f"sslmode=verify-full&sslrootcert={tls.folder}/root.crt"
    address = url.format(login=f"me:{SECRET}@localhost", query=query)
    assert main(["init", "--database-url", address]) == 0
    assert (
        main(["--scale", "5x", "--rows-per-shard", "2000", "--workers", "2", "--quiet", "--database-url", address]) == 0
    )
    assert main(["cleanup", "--yes", "--quiet", "--database-url", address]) == 0
    assert SECRET not in "".join(capsys.readouterr())
