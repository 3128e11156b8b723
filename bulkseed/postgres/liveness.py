"""Whether a server that does not answer is at work or gone: asked beside a statement that waits long for its answer.

A statement may take hours, so no time limit tells a slow server from a network that swallows packets. TCP keepalives
notice a lost peer only while no data is under way, and a proxy between may acknowledge everything. TCP_USER_TIMEOUT
would end the COPY of a server that is well but does not read for a while: it counts a closed receive window as silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Final

__all__ = ["LOOK_SECONDS", "Liveness", "Loss", "Sign"]

FIRST_LOOK_SECONDS: Final = 10.0
"""How long a statement waits before the first look at the server."""
LATER_LOOK_SECONDS: Final = 30.0
"""The pause after the server was seen at work."""
REPEATED_LOOK_SECONDS: Final = 2.0
"""The pause after any other sign."""
LOOK_SECONDS: Final = 10.0
"""The time limit of a look."""
IDLE_SECONDS: Final = 60.0
"""How long the server is seen waiting for this client before the connection counts as lost.

Data of a slow connection are under way for a while without either end noticing.
"""


class Sign(Enum):
    """What a look at the server found."""

    WORKING = auto()
    """It works on the statement, or is reachable at least."""
    IDLE = auto()
    """It waits for the client, or has ended the session."""
    NONE = auto()
    """No answer."""


class Loss(Enum):
    """Why a connection was given up."""

    NO_SERVER = auto()
    """The server does not answer new connections either."""
    NO_ANSWER = auto()
    """The server has nothing to answer on this connection: what one of the two sent was lost."""


class Liveness:
    """Looks at the server while a statement waits for its answer, and gives the connection up if it is lost.

    ``look`` and ``end_session`` are limited to :data:`LOOK_SECONDS`; the latter ends the server's part of a connection
    that is lost while the server is not. ``give_up`` ends the connection, which ends the waiting. A server that is not
    reachable is waited for ``patience`` seconds. ``unsent`` returns the number of bytes that wait to be sent.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[Sign]],
        end_session: Callable[[], Awaitable[None]],
        give_up: Callable[[Loss], None],
        unsent: Callable[[], int],
        patience: float,
    ) -> None:
        self.look = look
        self.end_session = end_session
        self.give_up = give_up
        self.unsent = unsent
        self.patience = patience
        self.waiting_since: float | None = None
        """The event loop's time; None while the server waits for rows that are being made."""

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Look at the server for as long as the block lasts, which is one statement."""
        loop = asyncio.get_running_loop()
        before, self.waiting_since = self.waiting_since, loop.time()
        watching: list[asyncio.Task[None]] = []
        timer = loop.call_later(FIRST_LOOK_SECONDS, lambda: watching.append(loop.create_task(self.watch())))
        try:
            yield
        finally:
            self.waiting_since = before  # the driver itself may call a method in another
            timer.cancel()
            for task in watching:
                task.cancel()

    @contextmanager
    def making_rows(self) -> Iterator[None]:
        """Take the block as no waiting for the server: it makes the rows of a COPY, or waits for them."""
        self.waiting_since = None
        try:
            yield
        finally:
            self.waiting_since = asyncio.get_running_loop().time()

    async def watch(self) -> None:
        clock = asyncio.get_running_loop().time
        unreachable_since: float | None = None
        idle_since: float | None = None
        while True:
            since, unsent = self.waiting_since, self.unsent()
            waited = 0.0 if since is None else clock() - since
            if waited < FIRST_LOOK_SECONDS:
                unreachable_since = idle_since = None
                await asyncio.sleep(FIRST_LOOK_SECONDS - waited)
                continue
            began = clock()
            sign = await self.look()
            if sign is Sign.WORKING or self.waiting_since != since:
                unreachable_since = idle_since = None
                await asyncio.sleep(LATER_LOOK_SECONDS if sign is Sign.WORKING else REPEATED_LOOK_SECONDS)
                continue
            if sign is Sign.NONE:
                unreachable_since = began if unreachable_since is None else unreachable_since
                if clock() - unreachable_since >= self.patience:
                    self.give_up(Loss.NO_SERVER)
                    return
            else:
                unreachable_since = None
                idle_since = began if idle_since is None or unsent != self.unsent() else idle_since
                if clock() - idle_since >= IDLE_SECONDS:
                    await self.end_session()
                    self.give_up(Loss.NO_ANSWER)
                    return
            await asyncio.sleep(REPEATED_LOOK_SECONDS)
