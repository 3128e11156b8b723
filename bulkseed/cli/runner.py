"""Run a command: open its database, start the event loop, and handle signals."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final, Literal, TypeVar

import anyio
import click

from bulkseed.cli.command import is_from_environment
from bulkseed.cli.output import Interrupted, find_interruption
from bulkseed.cli.progress import show_progress
from bulkseed.embedded import Listen, Server, run_server
from bulkseed.errors import ConnectionLostError, StoppedError, first_cause, reraise_first
from bulkseed.listeners import Stop
from bulkseed.postgres.address import Address, named_address
from bulkseed.postgres.driver import LOOP, ignore_lost_connection

__all__ = ["Database", "Interrupted", "open_database", "run"]

Result = TypeVar("Result")

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if sys.platform != "win32" else ()
"""The signals that end a command in order. Event loops on Windows handle none; Ctrl-C cancels the command there."""


Source = Literal["option", "BULKSEED_DATABASE_URL", "DATABASE_URL", "embedded"]


@dataclass(frozen=True, slots=True)
class Database:
    """The database that a command works on. ``server`` is None unless it is on the embedded server."""

    address: Address
    server: Server | None
    source: Source
    """What names it."""

    def __str__(self) -> str:
        """Return how messages name it: the URL of the embedded server would be useless when the command has ended."""
        return str(self.address) if self.server is None else f"the embedded PostgreSQL in {self.server.home}"


@contextmanager
def open_database(
    option: str | None, *, listen: Listen | None = None, tables: bool = True, quiet: bool = False
) -> Iterator[Database]:
    """Yield the database that ``option`` or the environment names, else that of the embedded server.

    The embedded server runs during the block, and with ``tables`` the reference tables are created if missing, without
    a message if ``quiet``.
    Raises InputError for a wrong URL, EmbeddedError, and ConnectError.
    """
    address = None if listen else named_address(option, os.environ)
    if address is not None:
        yield Database(address, None, source_of(option))
        return
    with run_server(listen=listen) as server:
        # libpq's variables are about other servers
        database = Database(Address.parse(server.url, {}), server, "embedded")
        if tables:
            # imported here: a named database has its tables
            from bulkseed.target.reference_schema import create_missing

            with show_progress(quiet=quiet, bars=False) as listener:
                run(lambda: create_missing(database.address, listener=listener))
        try:
            yield database
        except ConnectionLostError as error:
            log = server.last_words()
            message = f"{error}\nthe end of the server's log: {log}" if log else str(error)
            raise ConnectionLostError(message, code=error.code) from error


def source_of(option: str | None) -> Source:
    """Return what names the database, which is not the embedded one; ``option`` is the value of ``--database-url``."""
    context = click.get_current_context(silent=True)
    if option is None:
        return "DATABASE_URL"
    if context is not None and is_from_environment(context, "database_url"):
        return "BULKSEED_DATABASE_URL"
    return "option"


def run(command: Callable[..., Awaitable[Result]], *arguments: object, stop: Stop | None = None) -> Result:
    """Return the result of ``await command(*arguments)``, run on uvloop where it is installed.

    A first signal sets ``stop.asked``, and cancels the command unless it is in a graceful section; a second signal
    cancels it in any case. Then raises Interrupted, after the command has cleaned up.
    """
    try:
        return anyio.run(run_interruptible, command, arguments, stop or Stop(), backend_options=LOOP)
    except (OSError, RuntimeError) as error:
        # of an event loop that a further signal found while it was closing
        if (interruption := find_interruption(error)) is None:
            raise
        raise interruption from error


async def run_interruptible(
    command: Callable[..., Awaitable[Result]], arguments: tuple[object, ...], stop: Stop
) -> Result:
    caught: list[int] = []
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().set_exception_handler(ignore_lost_connection)

    async def watch(scope: anyio.CancelScope) -> None:
        # an ignored signal stays ignored, as nohup and background jobs of a shell expect
        handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        try:
            with anyio.open_signal_receiver(*handled) as signals:
                async for number in signals:
                    caught.append(number)
                    if len(caught) == 1:
                        stop.asked.set()
                        if not stop.graceful:
                            scope.cancel()
                    else:
                        # the undoing that a first signal starts is shielded from anyio's cancellation, not from this
                        task.cancel()
        finally:
            if caught:
                ignore_ctrl_c_briefly()

    try:
        async with anyio.create_task_group() as watching:
            with anyio.CancelScope() as scope:
                watching.start_soon(watch, scope)
                result = await command(*arguments)
            watching.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        error = first_cause(group)
        if isinstance(error, StoppedError) and caught:
            raise Interrupted(caught[0], f"interrupted: {error}") from error
        reraise_first(group)
    except asyncio.CancelledError:
        if len(caught) > 1:
            # the cancellation is our own
            raise Interrupted(caught[0], interruption_message(stop)) from None
        raise
    if caught and scope.cancelled_caught:
        raise Interrupted(caught[0], interruption_message(stop))
    return result


DEAF_SECONDS: Final = 2.0


def ignore_ctrl_c_briefly() -> None:
    """Ignore Ctrl-C for DEAF_SECONDS: the command has yet to print how it ended. Later it ends a long wait, as ever."""
    until = time.monotonic() + DEAF_SECONDS

    def handle(_: int, __: FrameType | None) -> None:
        if time.monotonic() >= until:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handle)


def interruption_message(stop: Stop) -> str:
    return f"interrupted: {stop.message}" if stop.message else "interrupted"
