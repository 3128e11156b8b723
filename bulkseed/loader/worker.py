"""A worker process: loads the shards that it is told to, over a connection of its own, until its stdin ends.

It is run as ``python -m bulkseed.loader.worker``, and imports neither Faker nor SQLAlchemy, to start
quickly.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
import traceback
from collections import Counter
from typing import Any, BinaryIO, Final

import anyio

from bulkseed.errors import BulkseedError, RunError
from bulkseed.listeners import NullListener, Stopwatch
from bulkseed.loader.shard_load import Job, ShardLoader
from bulkseed.loader.worker_pool import HELLO, Done, Failed, Note, Ready, Rows, frame, read_frame
from bulkseed.plan.shards import Shard
from bulkseed.postgres.driver import LOOP, ignore_lost_connection

SECONDS_BETWEEN_ROWS: Final = 0.05
YOUNG_OBJECTS: Final = 200_000


class PipeListener(NullListener):
    """Tells the parent of rows, now and then."""

    def __init__(self, out: BinaryIO) -> None:
        self.out = out
        self.counts: Counter[str] = Counter()
        self.told = time.monotonic()

    def rows(self, table: str, count: int) -> None:
        """Count, and tell if it is time."""
        self.counts[table] += count
        if time.monotonic() - self.told > SECONDS_BETWEEN_ROWS:
            self.flush()

    def note(self, message: str) -> None:
        """Tell it at once."""
        tell(self.out, Note(message))

    def flush(self) -> None:
        """Tell what has not been told."""
        if self.counts:
            tell(self.out, Rows(dict(self.counts)))
            self.counts.clear()
        self.told = time.monotonic()


def tell(out: BinaryIO, value: object) -> None:
    out.write(frame(value))
    out.flush()


def listen(loop: asyncio.AbstractEventLoop, heard: asyncio.Queue[Any]) -> None:
    """Hand over what the parent says. When its end of the pipe closes unannounced it is dead, and so are we."""
    while True:
        try:
            value = read_frame(sys.stdin.buffer)
        except BaseException as error:
            if not isinstance(error, EOFError):
                traceback.print_exc()
            os._exit(1)
        loop.call_soon_threadsafe(heard.put_nowait, value)
        if value is None:
            return


async def work(out: BinaryIO) -> int:
    """Load what comes; returns the exit status."""
    heard: asyncio.Queue[Any] = asyncio.Queue()
    asyncio.get_running_loop().set_exception_handler(ignore_lost_connection)
    threading.Thread(target=listen, args=(asyncio.get_running_loop(), heard), daemon=True).start()
    job: Job | None = await heard.get()
    if job is None:
        return 0
    # an import of the user's code finds what it finds in the process that planned
    sys.path += [each for each in job.path if each not in sys.path]
    try:
        context = job.context()
        telling = PipeListener(out)
        async with ShardLoader(job, context, telling) as loader:
            tell(out, Ready())
            while (shard := await heard.get()) is not None:
                assert isinstance(shard, Shard)
                stopwatch = Stopwatch()
                rows = await loader.load(shard, stopwatch)
                telling.flush()
                tell(out, Done(shard.number, rows, stopwatch.seconds))
    except BulkseedError as error:
        tell(out, Failed(error))
        return 1
    except Exception as error:
        tell(out, Failed(RunError(f"{type(error).__name__}: {error}"), traceback.format_exc()))
        return 1
    return 0


def main(out: BinaryIO) -> int:
    """Run until the parent, told by ``out``, says that it is enough; returns the exit status."""
    # a batch of tuples is young objects by the ten thousand, none of them garbage: 0.06 µs a row
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    try:
        out.write(HELLO)
        out.flush()
        return anyio.run(work, out, backend_options=LOOP)
    except BrokenPipeError:
        return 1  # the parent is gone


if __name__ == "__main__":
    # whatever a library prints must not get between the frames
    parent = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    status = main(parent)
    sys.stdout.flush()
    os._exit(status)  # the listening thread is in a read that would hold up the interpreter's end
