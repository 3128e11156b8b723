"""Transactions, and retries after temporary failures: limited in number and time."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import anyio
import anyio.lowlevel
import asyncpg
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, stop_after_delay
from tenacity.stop import stop_base
from tenacity.wait import wait_exponential, wait_random

from bulkseed.errors import (
    ConnectionLostError,
    ServerUnavailableError,
    is_transient_failure,
    reraise_first,
)
from bulkseed.listeners import ProgressListener
from bulkseed.load_options import RETRY_SECONDS
from bulkseed.postgres.connection import (
    NO_ANSWER,
    Connection,
    ConnectionParams,
    close,
    connect,
    translate_errors,
)
from bulkseed.postgres.liveness import Loss

__all__ = [
    "RetryPolicy",
    "RollBack",
    "connect_with_retry",
    "is_server_silent",
    "open_with_retry",
    "retry",
    "safe_transaction",
    "transaction",
    "trial_transaction",
]

logger = logging.getLogger(__name__)

ROLLBACK_SECONDS: Final = 5
COMMIT_SECONDS: Final = 2
"""How long a commit goes on after a cancellation."""


@asynccontextmanager
async def safe_transaction(connection: Connection, *, isolation: str | None = None) -> AsyncIterator[None]:
    """Run the block in a transaction: committed at the end, rolled back where the block raises or is cancelled.

    The rollback is shielded from cancellation and limited to 5 s; after that the connection is closed, which makes even
    a busy server roll back. The commit is shielded too, because it cannot be undone: for 2 s after a cancellation. Then
    the connection is closed, and it is unknown whether the transaction was committed. Raises asyncpg's errors.
    """
    block = connection.transaction(isolation=isolation)
    try:
        await block.start()
    except BaseException:
        # an interrupted BEGIN may have reached the server: the next one would be a savepoint in it, never committed
        connection.terminate()
        raise
    try:
        yield
    except BaseException:
        with anyio.move_on_after(ROLLBACK_SECONDS, shield=True) as limit:
            try:
                await block.rollback()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()
        if limit.cancelled_caught:
            connection.terminate()
        raise
    await commit(connection, block)


class RollBack(Exception):  # noqa: N818 - not an error
    """Ends a :func:`trial_transaction`, before the end of its block."""


@asynccontextmanager
async def trial_transaction(connection: Connection) -> AsyncIterator[None]:
    """Run the block in a :func:`safe_transaction` that is rolled back at its end too.

    It may write, also in a session that only reads by default, as that of ``bulkseed check``. Raises asyncpg's errors.
    """
    with suppress(RollBack):
        async with safe_transaction(connection):
            await connection.execute("SET TRANSACTION READ WRITE")
            yield
            raise RollBack


async def commit(connection: Connection, block: Any) -> None:
    shielded = anyio.CancelScope(shield=True)

    async def limit() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            shielded.deadline = anyio.current_time() + COMMIT_SECONDS

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(limit)
            with shielded:
                await block.commit()
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        reraise_first(group)
    if shielded.cancelled_caught:
        connection.terminate()
        await anyio.lowlevel.checkpoint_if_cancelled()


@asynccontextmanager
async def transaction(connection: Connection) -> AsyncIterator[None]:
    """Run the block in a :func:`safe_transaction` for the rows of a command.

    The isolation level is read committed, even if the role's default is another. Row security raises an error instead
    of hiding rows. Raises the errors of :func:`bulkseed.postgres.connection.translate_errors`, among them
    ConnectionLostError where the transaction cannot begin, or where it is unknown whether it was committed.
    """
    is_done = False
    try:
        async with safe_transaction(connection, isolation="read_committed"):
            await connection.execute("SET LOCAL row_security = off")
            yield
            is_done = True
    except Exception as error:
        doing = "committing" if is_done else "in a transaction"
        with translate_errors(connection, doing):
            if is_done and connection.is_closed() and connection.loss is not Loss.NO_SERVER:
                raise ConnectionLostError(
                    "the connection was lost during the commit, so it is unknown whether the transaction was committed",
                    code="commit-unknown",
                ) from error
            raise


Result = TypeVar("Result")

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
NOTED: Final = 6
"""Once the pauses have their full length, one in six is noted."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The limits of retries: ``tries`` of a piece of work, and ``seconds`` for a server that accepts no connection."""

    tries: int = 6
    seconds: float = RETRY_SECONDS


async def retry(
    retry_policy: RetryPolicy, listener: ProgressListener, doing: str, once: Callable[[], Awaitable[Result]]
) -> Result:
    """Return the result of ``once()``, repeated after temporary failures, with longer and longer pauses and jitter.

    ``once`` must be safe to repeat. ``doing`` names the work in the notes to ``listener``. Raises the last error;
    ServerUnavailableError where the connection was lost because the server was not reachable for ``seconds``.
    """
    try:
        return await retry_until(
            stop_after_attempt(retry_policy.tries if retry_policy.seconds else 1),
            # the time limit of connecting is used up after these errors
            lambda error: (
                is_transient_failure(error)
                and not isinstance(error, ServerUnavailableError)
                and not is_server_silent(error)
            ),
            listener,
            doing,
            once,
        )
    except ConnectionLostError as error:
        if is_server_silent(error):
            raise ServerUnavailableError(str(error), code=error.code) from error
        raise


def is_server_silent(error: BaseException) -> bool:
    """Return whether a connection was lost to a server that does not answer new connections either."""
    return isinstance(error, ConnectionLostError) and error.code == NO_ANSWER


async def connect_with_retry(
    params: ConnectionParams, retry_policy: RetryPolicy, listener: ProgressListener
) -> Connection:
    """Return a new connection, which the caller closes; repeated while the server accepts no connection.

    Raises the errors of :func:`bulkseed.postgres.connection.connect`.
    """
    return await retry_until(
        stop_after_delay(retry_policy.seconds),
        lambda error: isinstance(error, ServerUnavailableError),
        listener,
        f"connecting to {params.server}",
        lambda: connect(params, retry_policy.seconds),
    )


async def retry_until(
    stop: stop_base,
    is_retryable: Callable[[BaseException], bool],
    listener: ProgressListener,
    doing: str,
    once: Callable[[], Awaitable[Result]],
) -> Result:
    def note_retry(state: RetryCallState) -> None:
        assert state.outcome is not None
        pause = state.next_action.sleep if state.next_action else 0.0
        logger.info(
            "%s: try %s failed, the next follows in %.1f s: %s",
            doing,
            state.attempt_number,
            pause,
            state.outcome.exception(),
        )
        if pause >= LONGEST_PAUSE and state.attempt_number % NOTED:
            return
        listener.note(f"{state.outcome.exception()}; {doing} is tried again in {pause:.1f} s")

    retrying = AsyncRetrying(
        stop=stop,
        retry=retry_if_exception(is_retryable),
        wait=wait_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE) + wait_random(0, FIRST_PAUSE),
        before_sleep=note_retry,
        reraise=True,
    )

    async def call_once() -> Result:
        return await once()  # tenacity awaits the results of coroutine functions only, and once may be a lambda

    return await retrying(call_once)


@asynccontextmanager
async def open_with_retry(
    params: ConnectionParams, retry_policy: RetryPolicy, listener: ProgressListener
) -> AsyncIterator[Connection]:
    """Open a connection for the block as :func:`connect_with_retry` does, and close it at the end."""
    connection = await connect_with_retry(params, retry_policy, listener)
    try:
        yield connection
    finally:
        await close(connection)
