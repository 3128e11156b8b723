"""The connection that plans, drops and records a run, and holds the load lock; opened again if it is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import anyio

from bulkseed.errors import ServerUnavailableError, TransientError, reraise_first
from bulkseed.ledger.claims import acquire_load_lock
from bulkseed.listeners import ProgressListener
from bulkseed.postgres.connection import Connection, ConnectionParams, close, connect, is_answering, keep_alive
from bulkseed.postgres.transaction import RetryPolicy, connect_with_retry, is_server_silent, retry

__all__ = ["Control", "open_control"]

Result = TypeVar("Result")

PAUSE_SECONDS: Final = 0.2
"""The pause before a lost connection is opened again, for a server that ends each connection at once."""


class Control:
    """A connection that holds the load lock (:func:`bulkseed.ledger.acquire_load_lock`).

    If the connection is lost, the lock is lost too, and another command may acquire it before this one does. The run's
    token (:class:`bulkseed.ledger.Claim`) tells whether that command has taken the run over.
    """

    def __init__(
        self, params: ConnectionParams, retry_policy: RetryPolicy, listener: ProgressListener, connection: Connection
    ) -> None:
        self.params = params
        self.retry_policy = retry_policy
        self.listener = listener
        self.connection = connection

    async def do(
        self, doing: str, once: Callable[[Connection], Awaitable[Result]], retry_policy: RetryPolicy | None = None
    ) -> Result:
        """Return the result of ``once``, called with the connection, and again after transient errors.

        ``once`` must be safe to repeat. ``retry_policy`` defaults to the command's own. Raises the errors of ``once``,
        and ConnectError.
        """

        async def try_once() -> Result:
            return await once(await self.live_connection())

        return await retry(retry_policy or self.retry_policy, self.listener, doing, try_once)

    async def live_connection(self) -> Connection:
        if self.connection.is_closed():
            connection = await connect_with_retry(self.params, self.retry_policy, self.listener)
            try:
                await acquire_load_lock(connection, self.listener)
            except BaseException:
                # a connection without the lock must not become that of this object
                await close(connection)
                raise
            self.connection = connection
        return self.connection

    async def is_connected(self) -> bool:
        """Return whether the connection, idle now, answers within a few seconds; one that does not is closed."""
        return not self.connection.is_closed() and await is_answering(self.connection)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Keep the connection alive during a block that leaves it idle, and open it again if it is lost.

        Raises ConnectError, and cancels the block, if it cannot be opened again.
        """
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.keep_alive)
                yield
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            reraise_first(group)

    async def keep_alive(self) -> None:
        while True:
            try:
                async with keep_alive(await self.live_connection()):
                    await anyio.sleep_forever()
            except TransientError as error:
                if is_server_silent(error):
                    raise ServerUnavailableError(str(error), code=error.code) from error
                self.listener.note(f"{error}; the load goes on, and connects again")
                await anyio.sleep(PAUSE_SECONDS)


@asynccontextmanager
async def open_control(
    params: ConnectionParams, retry_policy: RetryPolicy, listener: ProgressListener
) -> AsyncIterator[Control]:
    """Open a connection, acquire the load lock, and close the connection at the end. Raises ConnectError."""
    # the first attempt is not repeated: waiting does not make a wrong address right
    control = Control(params, retry_policy, listener, await connect(params, retry_policy.seconds))
    try:
        await acquire_load_lock(control.connection, listener)
        yield control
    finally:
        await close(control.connection)
