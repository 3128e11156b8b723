"""Transactions, and retries of what failed for a transient reason: bounded in tries and in time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import anyio
import asyncpg
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, stop_after_delay
from tenacity.stop import stop_base
from tenacity.wait import wait_exponential, wait_random

from bulkseed.errors import ConnectionLost, ServerUnavailable, is_transient_failure
from bulkseed.listeners import ProgressListener
from bulkseed.postgres.connection import Connection, ConnectionParams, close, connect, translate_errors

__all__ = ["RetryPolicy", "connect_with_retry", "open_with_retry", "retry", "safe_transaction", "transaction"]

ROLLBACK_SECONDS: Final = 5


@asynccontextmanager
async def safe_transaction(connection: Connection, *, isolation: str | None = None) -> AsyncIterator[None]:
    """A transaction that is rolled back when the block raises or is cancelled, and else committed.

    The rollback is shielded from a cancellation, and bounded: a server too busy to hear of it finds the connection
    closed, which rolls back as well. So is the commit, which cannot be taken back. Raises what asyncpg raises.
    """
    block = connection.transaction(isolation=isolation)
    try:
        await block.start()
    except BaseException:
        # a BEGIN that was cut off may have been heard: what comes next would be a savepoint in it, never committed
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
    with anyio.CancelScope(shield=True):
        await block.commit()


@asynccontextmanager
async def transaction(connection: Connection) -> AsyncIterator[None]:
    """A transaction, as :func:`safe_transaction` has it, for a command's own rows.

    Each statement sees what was committed before it, whatever the login's default. Row security raises an error
    instead of hiding rows. Raises ConnectionLost where it cannot begin, and where it is not known whether it was
    committed.
    """
    done = False
    try:
        async with safe_transaction(connection, isolation="read_committed"):
            await connection.execute("SET LOCAL row_security = off")
            yield
            done = True
    except Exception as error:
        doing = "committing" if done else "in a transaction"
        with translate_errors(connection, doing):
            if done and connection.is_closed():
                raise ConnectionLost(
                    "the connection was lost while committing, so it is not known whether that was done"
                ) from error
            raise


Result = TypeVar("Result")

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
TOLD: Final = 6
"""Of the longest pauses one in so many is told."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a piece of work is tried at most, and how many seconds a server that takes no connection is given."""

    tries: int = 6
    seconds: float = 120.0


async def retry(
    retry_policy: RetryPolicy, listener: ProgressListener, doing: str, once: Callable[[], Awaitable[Result]]
) -> Result:
    """The result of ``once()``, again after an error that passes, each time after a longer pause with some jitter.

    ``listener`` is told of each. Raises the last error. What ``once`` does must be such that it can be done again.
    """
    return await retried(
        stop_after_attempt(retry_policy.tries if retry_policy.seconds else 1),
        # who waited for the server to come back has waited enough
        lambda error: is_transient_failure(error) and not isinstance(error, ServerUnavailable),
        listener,
        doing,
        once,
    )


async def connect_with_retry(
    place: ConnectionParams, retry_policy: RetryPolicy, listener: ProgressListener
) -> Connection:
    """A connection that is the caller's to close, waited for while the server takes none.

    Raises ConnectError.
    """
    return await retried(
        stop_after_delay(retry_policy.seconds),
        lambda error: isinstance(error, ServerUnavailable),
        listener,
        f"connecting to {place.server}",
        lambda: connect(place),
    )


async def retried(
    stop: stop_base,
    passing: Callable[[BaseException], bool],
    listener: ProgressListener,
    doing: str,
    once: Callable[[], Awaitable[Result]],
) -> Result:
    def tell(state: RetryCallState) -> None:
        assert state.outcome is not None
        pause = state.next_action.sleep if state.next_action else 0.0
        if pause >= LONGEST_PAUSE and state.attempt_number % TOLD:
            return  # it was told often enough
        listener.note(f"{state.outcome.exception()}; {doing} is tried again in {pause:.1f} s")

    trying = AsyncRetrying(
        stop=stop,
        retry=retry_if_exception(passing),
        wait=wait_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE) + wait_random(0, FIRST_PAUSE),
        before_sleep=tell,
        reraise=True,
    )

    async def again() -> Result:
        return await once()  # tenacity awaits what a coroutine function gives, and nothing else

    return await trying(again)


@asynccontextmanager
async def open_with_retry(
    place: ConnectionParams, retry_policy: RetryPolicy, listener: ProgressListener
) -> AsyncIterator[Connection]:
    """The same, closed at the end."""
    connection = await connect_with_retry(place, retry_policy, listener)
    try:
        yield connection
    finally:
        await close(connection)
