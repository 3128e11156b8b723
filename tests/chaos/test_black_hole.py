"""A network that swallows everything without a word: commands wait a while for it, and end."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final

import pytest

from bulkseed.embedded import Server
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import CONNECT_SECONDS
from chaos.commands import IMPATIENT_PROGRAM, PLAN, begun, bulkseed
from chaos.proxy import proxied
from chaos.world import UNRECORDED, World
from support.hits import Hit

SMALL: Final = ("--scale", "1x", "--as-of", "2026-06-01", "--quiet", "--workers", "1")


@pytest.mark.rounds("hole")
async def test_a_black_hole_at_any_moment(world: World, rng: random.Random, number: int, hit: Hit) -> None:
    defer = rng.choices(["always", "never"], [4, 1])[0]
    how = rng.choice(["heals", "stays", "stays", "SIGINT twice"]) if number else "stays"
    retry_for = 30 if how == "heals" else 2
    async with world.database() as address, proxied(world.server) as proxy:
        arguments = (*PLAN, "--workers", str(rng.randint(1, 3)), "--defer", defer, "--retry-for", str(retry_for))
        with begun(proxy.address(address.database), *arguments, program=IMPATIENT_PROGRAM) as load:
            await load.sleep_until(world.sometime("load", rng, 0.25))
            struck = await world.moment(address)
            proxy.black_hole()
            began = time.monotonic()
            if how == "heals":
                await asyncio.sleep(rng.uniform(0, 4))
                proxy.heal()
            elif how == "SIGINT twice":
                for _ in range(2):
                    await asyncio.sleep(0.3)
                    if load.running:
                        load.child.send_signal(signal.SIGINT)
            ended = await load.end()
            if how != "heals":
                # an attempt to connect takes CONNECT_SECONDS; then the last look, closing, and a busy machine
                limit = (retry_for if how == "stays" else 1) + CONNECT_SECONDS + 15
                assert time.monotonic() - began < limit, ended
        hit(f"{how}: {struck}, {ended.status}")
        # what was under way still arrives
        proxy.heal()
        if ended.status:
            assert how != "heals", ended
            assert ended.status in {1, 4, 130}, ended
            assert ended.said.splitlines()[-1].startswith(("bulkseed: ", "  ")), ended
            if struck != UNRECORDED:
                assert ended.status != 4, ended
                assert "bulkseed resume 1" in ended.said, ended
        moment = await world.moment(address)
        if moment == UNRECORDED:
            await world.is_as_before(address, sequences=False)
            return
        if ended.status:
            resumed = await bulkseed(address, "resume", "--yes")
            assert resumed.status == 0, resumed
        if struck == UNRECORDED:
            await world.is_loaded_somewhere(address)
        else:
            await world.is_loaded(address)


INIT: Final = ("init", "--yes")
LOAD: Final = ("load", "--yes", *SMALL)


def commands(*quick: tuple[str, ...]) -> pytest.MarkDecorator:
    """Give the commands to a test; those that are not ``quick`` only to a long run."""
    all_of_them = [INIT, LOAD, ("runs",), ("verify",), ("check",), ("cleanup", "--yes")]
    marked = [pytest.param(one, id=one[0], marks=[] if one in quick else pytest.mark.long) for one in all_of_them]
    return pytest.mark.parametrize("arguments", marked)


@commands(LOAD)
async def test_a_command_ends_though_the_server_is_silent(
    server: Server, database: Address, arguments: tuple[str, ...]
) -> None:
    """Before anything is written."""
    async with proxied(server) as proxy:
        proxy.on_request = b"pg_backend_pid" if arguments is INIT else b"pg_class", proxy.black_hole
        retry = ("--retry-for", "1") if arguments is LOAD else ()
        ended = await bulkseed(proxy.address(database.database), *arguments, *retry, program=IMPATIENT_PROGRAM)
    assert ended.status == 4, ended
    assert "[no-" in ended.said, ended
    assert "Traceback" not in ended.said
    assert ended.seconds < CONNECT_SECONDS + 15


@commands(INIT)
async def test_a_command_ends_though_its_connections_stay_open(
    server: Server, seeded: Address, arguments: tuple[str, ...]
) -> None:
    """As behind a proxy that keeps the socket open after the client has terminated the session."""
    async with proxied(server) as proxy:
        proxy.stays_open = True
        ended = await bulkseed(proxy.address(seeded.database), *arguments)
    assert ended.status == 0, ended


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_a_command_whose_server_is_silent(
    server: Server, database: Address, number: signal.Signals
) -> None:
    async with proxied(server) as proxy:
        proxy.on_request = b"pg_class", proxy.black_hole
        with begun(proxy.address(database.database), "init", "--yes") as command:
            while not proxy.is_black_hole:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            began = time.monotonic()
            command.child.send_signal(number)
            ended = await command.end()
    assert ended.status == 128 + number, ended
    assert time.monotonic() - began < 6


class Network:
    """A network of its own for a client, over which this machine has the address ``host``."""

    def __init__(self) -> None:
        number = os.getpid() % 16_000
        self.name = f"bulkseed{number}"
        first, second = f"s{number}", f"c{number}"
        base = f"198.18.{number // 64}.{number % 64 * 4}".rpartition(".")
        self.host, client = (f"{base[0]}.{int(base[2]) + offset}" for offset in (1, 2))
        self.lose = f"-n {self.name} neigh replace {self.host} lladdr 02:00:00:00:00:01 dev {second} nud permanent"
        self.setup = (
            f"netns add {self.name}",
            f"link add {first} type veth peer name {second} netns {self.name}",
            f"addr add {self.host}/30 dev {first}",
            f"link set {first} up",
            f"-n {self.name} addr add {client}/30 dev {second}",
            f"-n {self.name} link set {second} up",
        )

    def ip(self, arguments: str) -> bool:
        """Run ip, and return whether it succeeds."""
        return subprocess.run(["ip", *arguments.split()], capture_output=True, check=False).returncode == 0

    def black_hole(self) -> None:
        """Send the client's packets where nobody takes them, the confirmations of the server's packets too."""
        assert self.ip(self.lose)

    @property
    def program(self) -> tuple[str, ...]:
        """The beginning of a command in the network."""
        return ("ip", "netns", "exec", self.name, sys.executable)


@pytest.fixture
def network() -> Iterator[Network]:
    """A network that can swallow packets as a firewall does: nothing confirms them."""
    made = Network()
    if not shutil.which("ip") or not all(made.ip(step) for step in made.setup):
        made.ip(f"netns del {made.name}")
        pytest.skip("no network namespace can be made (this needs root and iproute2)")
    yield made
    made.ip(f"netns del {made.name}")


WAITING: Final = """
import sys, anyio
from bulkseed.errors import ConnectionLostError
from bulkseed.postgres import liveness
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection, translate_errors
liveness.FIRST_LOOK_SECONDS = float(sys.argv[2])
async def wait():
    async with open_connection(Address.parse(sys.argv[1])) as connection:
        with translate_errors(connection, "waiting"):
            await connection.execute("SELECT 'sleeping', pg_sleep(60)")
try:
    anyio.run(wait)
except ConnectionLostError as error:
    print(error.code)
"""


async def test_keepalives_end_a_statement_that_waits(server: Server, database: Address, network: Network) -> None:
    async with proxied(server, network.host) as proxy:
        address = proxy.address(database.database)
        url = f"{address.dsn}?keepalives_idle=1&keepalives_interval=1&keepalives_count=2"
        proxy.on_request = b"sleeping", network.black_hole
        child = await asyncio.create_subprocess_exec(
            *network.program, "-c", WAITING, url, "1000", stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(20):
            out, _ = await child.communicate()
    assert out == b"connection-lost\n"


async def test_a_load_ends_whose_packets_are_swallowed(server: Server, database: Address, network: Network) -> None:
    async with proxied(server, network.host) as proxy:
        # inside the first COPY
        proxy.on_request = b"COPY", network.black_hole
        address = proxy.address(database.database)
        child = await asyncio.create_subprocess_exec(
            *(*network.program, *IMPATIENT_PROGRAM, *LOAD, "--retry-for", "1", "--database-url", address.dsn),
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            _, said = await child.communicate()
    assert child.returncode == 1, said
    assert b"[no-answer]" in said, said
    assert b"bulkseed resume 1" in said, said
