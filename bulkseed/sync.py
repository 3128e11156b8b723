"""The functions of bulkseed that are coroutines, for programs without an event loop.

from bulkseed import make_plan, sync
report = sync.load(make_plan("10x"), "postgresql:///staging")

Each has the arguments, result and errors of the coroutine of the same name, and runs it in an event loop of its own, in
any thread: on uvloop where that is installed. Ctrl-C cancels it and raises KeyboardInterrupt: a load then keeps its
run, whose number is in a note of the exception. Raises InputError where an event loop is running in this thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import anyio

from bulkseed import api
from bulkseed.errors import InputError
from bulkseed.postgres.driver import LOOP, ignore_lost_connection

__all__ = ["check", "cleanup", "load", "resume", "verify"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def blocking(coroutine: Callable[Arguments, Awaitable[Result]]) -> Callable[Arguments, Result]:
    """Return the function that runs ``coroutine`` in an event loop of its own; with its signature and docstring."""

    @wraps(coroutine)
    def run(*args: Arguments.args, **options: Arguments.kwargs) -> Result:
        async def main() -> Result:
            asyncio.get_running_loop().set_exception_handler(ignore_lost_connection)
            return await coroutine(*args, **options)

        name = coroutine.__name__
        if is_loop_running():
            raise InputError(
                f"bulkseed.sync.{name}() is called in a running event loop, which it would block: "
                f"write `await bulkseed.{name}(…)`",
                code="running-event-loop",
            )
        try:
            return anyio.run(main, backend_options=LOOP)
        except KeyboardInterrupt as interrupt:
            # asyncio raises it in place of the cancellation, whose notes name the run that is kept
            for note in getattr(interrupt.__context__, "__notes__", ()):
                interrupt.add_note(note)
            raise interrupt from None

    run.__module__ = __name__
    return run


def is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


check = blocking(api.check)
load = blocking(api.load)
resume = blocking(api.resume)
verify = blocking(api.verify)
cleanup = blocking(api.cleanup)
