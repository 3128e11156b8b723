"""The connection that plans, drops and records a run, and holds the turn; made again where it is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import anyio

from bulkseed import ledger
from bulkseed.errors import TransientError, first_cause
from bulkseed.listeners import ProgressListener
from bulkseed.postgres.connection import Connection, ConnectionParams, close, connect, keep_alive
from bulkseed.postgres.transaction import RetryPolicy, connect_with_retry, retry

__all__ = ["Control", "controlled"]

Result = TypeVar("Result")

PAUSE_SECONDS: Final = 0.2
"""Before a lost connection is made again: a server that ends each at once is not to be asked without a pause."""


class Control:
    """A connection that holds the lock of all that writes seeded rows (:func:`bulkseed.ledger.acquire_load_lock`).

    Where it is lost the lock is lost too, and another command may have its turn before this one goes on; what tells
    that is the run's token.
    """

    def __init__(
        self, place: ConnectionParams, retry_policy: RetryPolicy, listener: ProgressListener, connection: Connection
    ) -> None:
        self.place = place
        self.retry_policy = retry_policy
        self.listener = listener
        self.connection = connection

    async def do(
        self, doing: str, once: Callable[[Connection], Awaitable[Result]], retry_policy: RetryPolicy | None = None
    ) -> Result:
        """The result of ``once`` with the connection, tried again after what passes; it must bear being repeated.

        ``retry_policy``: the command's own where None. Raises what it raises, and ConnectError.
        """

        async def again() -> Result:
            return await once(await self.live())

        return await retry(retry_policy or self.retry_policy, self.listener, doing, again)

    async def live(self) -> Connection:
        if self.connection.is_closed():
            found = await connect_with_retry(self.place, self.retry_policy, self.listener)
            try:
                await ledger.acquire_load_lock(found, self.listener)
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
                async with keep_alive(await self.live()):
                    await anyio.sleep_forever()
            except TransientError as error:
                self.listener.note(f"{error}; the load goes on, and connects again")
                await anyio.sleep(PAUSE_SECONDS)


@asynccontextmanager
async def controlled(
    place: ConnectionParams, retry_policy: RetryPolicy, listener: ProgressListener
) -> AsyncIterator[Control]:
    """A connection that has waited for its turn, closed at the end. Raises ConnectError where there is none."""
    # at first at once or not at all: a wrong address does not get better by waiting
    control = Control(place, retry_policy, listener, await connect(place))
    try:
        await ledger.acquire_load_lock(control.connection, listener)
        yield control
    finally:
        await close(control.connection)
