"""How a command runs: on which database, in which event loop, and what a signal does to it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import anyio

from bulkseed.cli.progress import progress_display
from bulkseed.embedded import Listen, Server, running
from bulkseed.errors import ConnectionLost, Stopped, first_cause, reraise_first
from bulkseed.listeners import Stop
from bulkseed.postgres.address import Address, named_address
from bulkseed.postgres.driver import LOOP, ignore_lost_connection
from bulkseed.target.reference_schema import create_missing

__all__ = ["Database", "Interrupted", "opened", "run"]

Result = TypeVar("Result")

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if sys.platform != "win32" else (signal.SIGINT,)


class Interrupted(BaseException):
    """A signal ended the command, which has told its watcher what came of what it had begun."""

    def __init__(self, number: int, said: str = "interrupted") -> None:
        super().__init__(said)
        self.exit_status = 128 + number


@dataclass(frozen=True, slots=True)
class Database:
    """The database that a command works on; ``server`` where it is the embedded one."""

    address: Address
    server: Server | None


@contextmanager
def opened(option: str | None, *, listen: Listen | None = None, tables: bool = True) -> Iterator[Database]:
    """The database that the option or the environment names; else the embedded one, running, with ``tables`` made."""
    address = None if listen else named_address(option, os.environ)
    if address is not None:
        yield Database(address, None)
        return
    with running(listen=listen) as server:
        database = Database(Address.parse(server.url), server)
        if tables:
            with progress_display(quiet=False, bars=False) as listener:
                run(lambda: create_missing(database.address, listener=listener))
        try:
            yield database
        except ConnectionLost as error:
            said = server.last_words()
            raise ConnectionLost(f"{error}; the server's last words: {said}" if said else str(error)) from error


def run(command: Callable[..., Awaitable[Result]], *arguments: object, stop: Stop | None = None) -> Result:
    """The result of ``await command(*arguments)``, on uvloop where there is one.

    Raises Interrupted when a signal comes, after the command has cleaned up. ``stop``, where the command has one, is
    asked first; a second signal cancels.
    """
    return anyio.run(interruptible, command, arguments, stop or Stop(), backend_options=LOOP)


async def interruptible(command: Callable[..., Awaitable[Result]], arguments: tuple[object, ...], stop: Stop) -> Result:
    caught: list[int] = []
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().set_exception_handler(ignore_lost_connection)

    async def watch(scope: anyio.CancelScope) -> None:
        # one that is ignored stays so: nohup, and a shell's background jobs, mean it
        heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        try:
            with anyio.open_signal_receiver(*heard) as signals:
                async for number in signals:
                    caught.append(number)
                    if len(caught) == 1:
                        stop.asked.set()
                        if not stop.graceful:
                            scope.cancel()
                    else:
                        # what a first signal lets a command undo is shielded from anyio's cancellation, not from this
                        task.cancel()
        finally:
            if caught:
                # the command ends, and has yet to say what came of it: another Ctrl-C must not take that away
                signal.signal(signal.SIGINT, signal.SIG_IGN)

    try:
        async with anyio.create_task_group() as watching:
            with anyio.CancelScope() as scope:
                watching.start_soon(watch, scope)
                result = await command(*arguments)
            watching.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        error = first_cause(group)
        if isinstance(error, Stopped) and caught:
            raise Interrupted(caught[0], f"interrupted: {error}") from None
        reraise_first(group)
    except asyncio.CancelledError:
        if len(caught) > 1:
            raise Interrupted(caught[0], interrupted(stop)) from None
        raise
    if caught and scope.cancelled_caught:
        raise Interrupted(caught[0], interrupted(stop))
    return result


def interrupted(stop: Stop) -> str:
    return f"interrupted: {stop.message}" if stop.message else "interrupted"
