"""A TCP proxy in front of a server's socket, which cuts connections in the ways in which networks do."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from bulkseed.embedded import Server
from bulkseed.postgres.address import Address

__all__ = ["CUTS", "Cut", "Proxy", "proxied"]

Cut = Literal["reset", "end", "refuse", "swallow"]
CUTS: Final[tuple[Cut, ...]] = ("reset", "end", "refuse", "swallow")
"""An RST; a FIN; either, and no new connections for a while; the server's answers lost for a while, then an RST."""

RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)
COMMIT: Final = b"COMMIT;\0"
CHUNK: Final = 64 * 1024


class Pair:
    """A client's connection and the one to the server in its stead."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.swallows = False

    def reset(self) -> None:
        """End both at once, the client's with an RST."""
        raw = self.client.get_extra_info("socket")
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        self.client.transport.abort()
        self.server.transport.abort()

    def end(self) -> None:
        """End both as if the other side had."""
        self.client.close()
        self.server.close()

    async def answers(self, server: asyncio.StreamReader) -> None:
        """Hand on what the server says until it ends."""
        with suppress(OSError):
            while data := await server.read(CHUNK):
                if not self.swallows:
                    self.client.write(data)
                    await self.client.drain()
        self.end()


class Proxy:
    """Listens on a port of 127.0.0.1 and hands on to a socket's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pairs: set[Pair] = set()
        self.port = 0
        self.refuses = False
        self.commits = 0
        self.lost: dict[int, bool] = {}
        """The COMMITs, by their number from 1, that are not to be answered: whether the server hears of them."""

    def address(self, database: str) -> Address:
        """A database behind the proxy."""
        return Address.parse(f"postgresql://bulkseed@127.0.0.1:{self.port}/{database}")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        if self.refuses:
            writer.transport.abort()
            return
        there, back = await asyncio.open_unix_connection(self.path)
        pair = Pair(writer, back)
        self.pairs.add(pair)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.questions(reader, pair))
                tasks.create_task(pair.answers(there))
        finally:
            self.pairs.discard(pair)

    async def questions(self, client: asyncio.StreamReader, pair: Pair) -> None:
        """Hand on what a client says until it ends, or until one of its COMMITs is lost."""
        with suppress(OSError):
            while data := await client.read(CHUNK):
                committing = COMMIT in data
                self.commits += committing
                heard = self.lost.get(self.commits, True) or not committing
                pair.swallows |= committing and self.commits in self.lost
                if heard:
                    pair.server.write(data)
                    await pair.server.drain()
                if committing and pair.swallows:
                    await asyncio.sleep(0.1)
                    pair.reset()
                    return
        pair.end()

    async def split_into_shards(self, how: Cut, rng: random.Random, *, all_of_them: bool) -> int:
        """Cut one connection, or all; how many there were to cut."""
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
async def proxied(server: Server) -> AsyncIterator[Proxy]:
    """A proxy in front of the server, while the block runs."""
    proxy = Proxy(server.socket_dir / f".s.PGSQL.{server.port}")
    listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = listening.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listening.close()
        for pair in list(proxy.pairs):
            pair.reset()
