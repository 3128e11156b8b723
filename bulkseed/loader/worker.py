"""A worker process: loads the shards that it receives, over a connection of its own, until its stdin ends.

It is run as ``python -m bulkseed.loader.worker``, and imports neither Faker nor SQLAlchemy, to start quickly.
"""

from __future__ import annotations

import asyncio
import gc
import logging
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
from bulkseed.loader.load_shard import Job, ShardLoader
from bulkseed.loader.worker_pool import Done, Failed, Logged, Note, Ready, Rows
from bulkseed.plan.shards import Shard
from bulkseed.postgres.driver import LOOP, ignore_lost_connection
from bulkseed.processes import HANDSHAKE, frame, read_frame

SECONDS_BETWEEN_ROWS: Final = 0.05
YOUNG_OBJECTS: Final = 200_000


class PipeListener(NullListener):
    """Sends rows to the parent at intervals, and notes at once."""

    def __init__(self, out: BinaryIO) -> None:
        self.out = out
        self.counts: Counter[str] = Counter()
        self.last_sent = time.monotonic()

    def rows(self, table: str, count: int) -> None:
        """Count the rows, and send the counts if the interval has passed."""
        self.counts[table] += count
        if time.monotonic() - self.last_sent > SECONDS_BETWEEN_ROWS:
            self.flush()

    def note(self, message: str) -> None:
        """Send the message at once."""
        send(self.out, Note(message))

    def flush(self) -> None:
        """Send the counts that have not been sent."""
        if self.counts:
            send(self.out, Rows(dict(self.counts)))
            self.counts.clear()
        self.last_sent = time.monotonic()


class PipeHandler(logging.Handler):
    """Sends log records to the parent, whose handlers print them."""

    def __init__(self, out: BinaryIO) -> None:
        super().__init__()
        self.out = out

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record with its message formatted, as not every argument and exception can be pickled."""
        text = self.format(record)
        send(self.out, Logged({**vars(record), "msg": text, "args": None, "exc_info": None, "exc_text": None}))


def send(out: BinaryIO, value: object) -> None:
    out.write(frame(value))
    out.flush()


def receive(loop: asyncio.AbstractEventLoop, messages: asyncio.Queue[Any]) -> None:
    """Put the parent's messages into a queue, up to None. If the pipe closes before that, the parent has crashed: exit.

    It runs in a thread.
    """
    while True:
        try:
            value = read_frame(sys.stdin.buffer)
        except BaseException as error:
            if not isinstance(error, EOFError):
                traceback.print_exc()
            os._exit(1)
        loop.call_soon_threadsafe(messages.put_nowait, value)
        if value is None:
            return


async def work(out: BinaryIO) -> int:
    """Load the shards that the parent sends; return the exit status."""
    messages: asyncio.Queue[Any] = asyncio.Queue()
    asyncio.get_running_loop().set_exception_handler(ignore_lost_connection)
    threading.Thread(target=receive, args=(asyncio.get_running_loop(), messages), daemon=True).start()
    job: Job | None = await messages.get()
    if job is None:
        return 0
    # the user's code must import the same modules as in the process that planned
    sys.path += [folder for folder in job.import_path if folder not in sys.path]
    log = logging.getLogger("bulkseed")
    log.setLevel(job.log_level)
    log.addHandler(PipeHandler(out))
    try:
        context = job.make_context()
        listener = PipeListener(out)
        async with ShardLoader(job, context, listener) as loader:
            send(out, Ready())
            while (shard := await messages.get()) is not None:
                assert isinstance(shard, Shard)
                stopwatch = Stopwatch()
                rows = await loader.load(shard, stopwatch)
                listener.flush()
                send(out, Done(shard.number, rows, stopwatch.seconds))
    except BulkseedError as error:
        send(out, Failed(error))
        return 1
    except Exception as error:
        failure = RunError(f"{type(error).__name__}: {error}", code="worker-failed")
        send(out, Failed(failure, traceback.format_exc()))
        return 1
    return 0


def main(out: BinaryIO) -> int:
    """Run until the parent sends that no shard is left; ``out`` leads to it. Returns the exit status."""
    # a batch of tuples is ten thousands of young objects, none of them garbage; collecting them costs 0.06 µs a row
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    try:
        out.write(HANDSHAKE)
        out.flush()
        return anyio.run(work, out, backend_options=LOOP)
    except BrokenPipeError:
        return 1  # the parent is gone


if __name__ == "__main__":
    # text that a library prints must not get between the messages
    parent = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    status = main(parent)
    sys.stdout.flush()
    os._exit(status)  # the receiving thread is in a read, for which the interpreter would wait
