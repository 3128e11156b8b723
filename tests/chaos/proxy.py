"""A TCP proxy in front of the socket of a server, which cuts connections as networks do."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from bulkseed.embedded import Server
from bulkseed.postgres.address import Address

__all__ = ["CUTS", "Cut", "Proxy", "proxied"]

Cut = Literal["reset", "end", "refuse", "swallow"]
CUTS: Final[tuple[Cut, ...]] = ("reset", "end", "refuse", "swallow")
"""An RST; a FIN; either of them, then no new connections for a while; lost answers of the server, then an RST."""

RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)
COMMIT: Final = b"COMMIT;\0"
CHUNK: Final = 64 * 1024


class Pair:
    """The connection of a client, and the proxy's own connection to the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter, *, stays_open: bool) -> None:
        self.client = client
        self.stays_open = stays_open
        self.server = server
        self.swallows = False
        self.flows = asyncio.Event()
        self.flows.set()

    def stall(self) -> None:
        """Forward nothing, in either direction, and close nothing, from now on."""
        self.flows.clear()

    def reset(self) -> None:
        """Abort both connections, that of the client with an RST."""
        raw = self.client.get_extra_info("socket")
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        self.client.transport.abort()
        self.server.transport.abort()

    def end(self) -> None:
        """Close both connections as if the other side had closed them."""
        self.client.close()
        self.server.close()

    async def forward_answers(self, server: asyncio.StreamReader) -> None:
        """Forward the server's answers until the connection ends."""
        with suppress(OSError):
            while data := await server.read(CHUNK):
                await self.flows.wait()
                if not self.swallows:
                    self.client.write(data)
                    await self.client.drain()
        if not self.stays_open:
            self.end()


class Proxy:
    """Forwards connections from a port to a Unix socket."""

    def __init__(self, host: str, path: Path) -> None:
        self.host = host
        self.path = path
        self.pairs: set[Pair] = set()
        self.port = 0
        self.refuses = False
        self.stays_open = False
        """Whether connections of clients stay open after the server has closed them."""
        self.is_black_hole = False
        self.on_request: tuple[bytes, Callable[[], None]] | None = None
        """Bytes, and what is called once, before the first request that contains them is forwarded."""
        self.silent: set[asyncio.StreamWriter] = set()
        self.commits = 0
        self.lost: dict[int, bool] = {}
        """The COMMITs that get no answer, by number from 1: whether the server receives them."""

    def address(self, database: str) -> Address:
        """Return the address of a database through the proxy."""
        return Address.parse(f"postgresql://bulkseed@{self.host}:{self.port}/{database}")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        if self.refuses:
            writer.transport.abort()
            return
        if self.is_black_hole:
            self.silent.add(writer)
            return
        answers, requests = await asyncio.open_unix_connection(self.path)
        pair = Pair(writer, requests, stays_open=self.stays_open)
        self.pairs.add(pair)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.forward_requests(reader, pair))
                tasks.create_task(pair.forward_answers(answers))
        finally:
            self.pairs.discard(pair)

    async def forward_requests(self, client: asyncio.StreamReader, pair: Pair) -> None:
        """Forward the client's requests until the connection ends, or one of its COMMITs gets no answer."""
        with suppress(OSError):
            while data := await client.read(CHUNK):
                if self.on_request is not None and self.on_request[0] in data:
                    _, call = self.on_request
                    self.on_request = None
                    call()
                await pair.flows.wait()
                committing = COMMIT in data
                self.commits += committing
                is_received = self.lost.get(self.commits, True) or not committing
                pair.swallows |= committing and self.commits in self.lost
                if is_received:
                    pair.server.write(data)
                    await pair.server.drain()
                if committing and pair.swallows:
                    await asyncio.sleep(0.1)
                    pair.reset()
                    return
        pair.end()

    def black_hole(self) -> None:
        """Forward nothing more, and accept connections without an answer, as a network that drops packets silently."""
        self.is_black_hole = True
        for pair in self.pairs:
            pair.stall()

    def heal(self) -> None:
        """Forward again, with nothing lost: TCP sends again what a network has dropped."""
        self.is_black_hole = False
        for pair in self.pairs:
            pair.flows.set()
        for writer in self.silent:
            writer.transport.abort()
        self.silent.clear()

    async def cut(self, how: Cut, rng: random.Random, *, all_of_them: bool) -> int:
        """Cut one connection, or all; return how many were cut."""
        pairs = list(self.pairs)
        chosen = pairs if all_of_them or not pairs else [rng.choice(pairs)]
        self.refuses = how == "refuse"
        if how == "swallow":
            for pair in chosen:
                pair.swallows = True
            await asyncio.sleep(rng.uniform(0.02, 0.4))
        for pair in chosen:
            if how == "end" or (how == "refuse" and rng.random() < 0.5):
                pair.end()
            else:
                pair.reset()
        if how == "refuse":
            await asyncio.sleep(rng.uniform(0.1, 1.5))
            self.refuses = False
        return len(chosen)


@asynccontextmanager
async def proxied(server: Server, host: str = "127.0.0.1") -> AsyncIterator[Proxy]:
    """Run a proxy in front of the server during the block, at an address of this machine."""
    proxy = Proxy(host, server.socket_dir / f".s.PGSQL.{server.port}")
    listening = await asyncio.start_server(proxy.serve, host, 0)
    proxy.port = listening.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listening.close()
        proxy.heal()
        for pair in list(proxy.pairs):
            pair.reset()
