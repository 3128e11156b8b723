"""The connection that plans, drops and records a run, and holds the turn; made again where it is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import anyio

from bulkseed import ledger
from bulkseed.errors import TransientError, first_cause
from bulkseed.listeners import Watcher
from bulkseed.postgres.connection import Connection, Place, close, connect, kept_alive
from bulkseed.postgres.transaction import Patience, connected_patiently, patiently

__all__ = ["Control", "controlled"]

Result = TypeVar("Result")

PAUSE_SECONDS: Final = 0.2
"""Before a lost connection is made again: a server that ends each at once is not to be asked without a pause."""


class Control:
    """A connection that holds the lock of all that writes seeded rows (:func:`bulkseed.ledger.take_turn`).

    Where it is lost the lock is lost too, and another command may have its turn before this one goes on; what tells
    that is the run's token.
    """

    def __init__(self, place: Place, patience: Patience, watcher: Watcher, connection: Connection) -> None:
        self.place = place
        self.patience = patience
        self.watcher = watcher
        self.connection = connection

    async def do(
        self, doing: str, once: Callable[[Connection], Awaitable[Result]], patience: Patience | None = None
    ) -> Result:
        """The result of ``once`` with the connection, tried again after what passes; it must bear being repeated.

        ``patience``: the command's own where None. Raises what it raises, and ConnectError.
        """

        async def again() -> Result:
            return await once(await self.live())

        return await patiently(patience or self.patience, self.watcher, doing, again)

    async def live(self) -> Connection:
        if self.connection.is_closed():
            found = await connected_patiently(self.place, self.patience, self.watcher)
            try:
                await ledger.take_turn(found, self.watcher)
            except BaseException:
                # without its turn it must not be taken for one that has it
                await close(found)
                raise
            self.connection = found
        return self.connection

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """For a block that leaves the connection idle: it is kept in use, and made again where it is lost.

        Raises ConnectError, cancelling the block, where it cannot be had again.
        """
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.hold)
                yield
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise first_cause(group) from group

    async def hold(self) -> None:
        while True:
            try:
                async with kept_alive(await self.live()):
                    await anyio.sleep_forever()
            except TransientError as error:
                self.watcher.note(f"{error}; the load goes on, and connects again")
                await anyio.sleep(PAUSE_SECONDS)


@asynccontextmanager
async def controlled(place: Place, patience: Patience, watcher: Watcher) -> AsyncIterator[Control]:
    """A connection that has waited for its turn, closed at the end. Raises ConnectError where there is none."""
    # at first at once or not at all: a wrong address does not get better by waiting
    control = Control(place, patience, watcher, await connect(place))
    try:
        await ledger.take_turn(control.connection, watcher)
        yield control
    finally:
        await close(control.connection)
