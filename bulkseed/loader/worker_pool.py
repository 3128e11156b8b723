"""The pool of worker processes: they are started, get one shard after another over pipes, and are supervised."""

from __future__ import annotations

import contextlib
import logging
import pickle
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from bulkseed.errors import BulkseedError, InputError, RunError, reraise_first
from bulkseed.listeners import NullListener, ProgressListener
from bulkseed.load_options import has_interpreter
from bulkseed.loader.load_shard import CountingListener, Job
from bulkseed.plan.shards import Shard
from bulkseed.plan.tables import Stage
from bulkseed.processes import HANDSHAKE, LENGTH, MAX_PRINTED_BYTES, describe_end, frame, python_environment

__all__ = [
    "Done",
    "Failed",
    "Logged",
    "Note",
    "Ready",
    "Rows",
    "ShardQueue",
    "Worker",
    "load_shards",
    "receive_frame",
    "start_workers",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ready:
    """Message: the worker is connected, and waits for shards."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Message: the worker has sent more rows, by table; a count is negative when a failed attempt is rolled back."""

    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Note:
    """Message: a text for the user."""

    message: str


@dataclass(frozen=True, slots=True)
class Logged:
    """Message: the attributes of a log record, whose message is formatted already."""

    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """Message: the worker has committed a shard; its number, its rows by table, and its seconds by phase."""

    shard: int
    rows: Mapping[str, int]
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Failed:
    """Message: the worker ends with an error of bulkseed, or with the text and traceback of any other exception.

    Other exceptions are not sent themselves, because not every exception can be pickled.
    """

    error: BulkseedError
    trace: str = ""


async def receive_frame(pipe: BufferedByteReceiveStream) -> Any:
    """Return the next value from a pipe. Raises EndOfStream or IncompleteRead if the other end has closed it."""
    (length,) = LENGTH.unpack(await pipe.receive_exactly(LENGTH.size))
    return pickle.loads(await pipe.receive_exactly(length))  # noqa: S301 - of our own process


class ShardQueue:
    """Shards in their order, each handed out once; those of a stage only when all of the stage before are loaded.

    A foreign key that stays in place during the load requires the users first. The shards of the stages ``alone`` are
    handed out only when no other one is in progress.
    """

    def __init__(self, shards: Iterable[Shard], alone: Collection[Stage] = ()) -> None:
        self.shards = iter(shards)
        self.alone = alone
        self.waiting: Shard | None = next(self.shards, None)
        self.stage = self.waiting.stage if self.waiting else "users"
        self.in_progress = 0
        self.changed = anyio.Event()

    async def next_shard(self) -> Shard | None:
        """Return the next shard as soon as it may be begun; None if none is left."""
        while (
            self.waiting is not None
            and self.in_progress
            and (self.waiting.stage != self.stage or self.waiting.stage in self.alone)
        ):
            await self.changed.wait()
        shard = self.waiting
        if shard is not None:
            self.waiting = next(self.shards, None)
            self.stage = shard.stage
            self.in_progress += 1
        return shard

    def close(self) -> None:
        """Hand out no more shards."""
        self.waiting = None
        self.wake()

    def mark_done(self) -> None:
        """Record that a shard that was handed out is loaded."""
        self.in_progress -= 1
        self.wake()

    def wake(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()


EXIT_SECONDS: Final = 5
COMMAND: Final = ("-P", "-m", "bulkseed.loader.worker")
"""-P: a file in the current directory must not be imported in place of a module of bulkseed."""
BROKEN: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
ENDING: Final = "ending"
MAX_CRASHES: Final = 3
"""How many times a crashed process of a worker is replaced; more crashes than that have a cause that stays."""


class WorkerCrashedError(RunError):
    """A worker process ended without sending an error."""


class Worker:
    """A worker process, with its number, from 2: the first worker is this process."""

    def __init__(self, number: int, process: Process) -> None:
        self.number = number
        self.crashes = 0
        self.attach(process)

    def attach(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.stdin = process.stdin
        self.stdout = BufferedByteReceiveStream(process.stdout)
        self.doing = "starting"
        self.handshaken = False
        logger.info("worker %s is started: process %s", self.number, process.pid)

    async def load(
        self, job: Job, queue: ShardQueue, listener: ProgressListener, on_done: Callable[[Shard, Done], None]
    ) -> None:
        """Load shards until the queue is empty.

        A process that crashes is replaced, and its shard is loaded again: the shard either is in the ledger, or has
        left no row. Raises the error that the worker sends, and RunError after too many crashes.
        """
        shard: Shard | None = None
        ready = False
        while not ready or shard is not None:
            counting = CountingListener(listener)
            try:
                if not ready:
                    await self.send(job)
                    await self.receive(counting)
                    ready = True
                    shard = shard or await queue.next_shard()
                if shard is not None:
                    self.doing = f"loading shard {shard.number}"
                    await self.send(shard)
                    message = await self.receive(counting)
                    assert isinstance(message, Done)
                    on_done(shard, message)
                    queue.mark_done()
                    shard = await queue.next_shard()
            except WorkerCrashedError as crash:
                self.crashes += 1
                if self.crashes > MAX_CRASHES:
                    raise
                counting.take_back()
                listener.note(f"{crash}; another process replaces it")
                await self.process.aclose()
                self.attach(await start_process())
                ready = False
        self.doing = ENDING
        with contextlib.suppress(*BROKEN):  # all its shards are loaded, so a crash does no harm now
            await self.stdin.send(frame(None))

    async def send(self, value: object) -> None:
        try:
            await self.stdin.send(frame(value))
        except BROKEN:
            # the worker may have sent an error before it ended
            await self.receive(NullListener())

    async def receive(self, listener: ProgressListener) -> Done | Ready:
        """Return the worker's next message; rows and notes go to ``listener``, the log to its loggers; raise errors."""
        while True:
            try:
                if not self.handshaken:
                    await self.stdout.receive_until(HANDSHAKE, MAX_PRINTED_BYTES)
                    self.handshaken = True
                message = await receive_frame(self.stdout)
            except (anyio.EndOfStream, anyio.IncompleteRead, anyio.DelimiterNotFound, *BROKEN) as error:
                raise WorkerCrashedError(await self.describe_exit(), code="worker-crashed") from error
            if isinstance(message, Done | Ready):
                return message
            if isinstance(message, Note):
                listener.note(f"worker {self.number}: {message.message}")
                continue
            if isinstance(message, Logged):
                self.log(message.record)
                continue
            if isinstance(message, Failed):
                if not message.trace:
                    raise message.error
                failure = RunError(
                    f"worker {self.number} failed while {self.doing}: {message.error}", code=message.error.code
                )
                failure.add_note(message.trace)
                raise failure
            assert isinstance(message, Rows)
            for table, count in message.counts.items():
                listener.rows(table, count)

    def log(self, attributes: Mapping[str, Any]) -> None:
        """Pass a record of the worker on to the handlers of this process."""
        record = logging.makeLogRecord({**attributes, "msg": f"worker {self.number}: {attributes['msg']}"})
        origin = logging.getLogger(record.name)
        if origin.isEnabledFor(record.levelno):
            origin.handle(record)

    def kill(self) -> None:
        """End the process at once."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def end(self) -> None:
        """Wait for the process if it has been told to end, else kill it; no process is left."""
        with anyio.move_on_after(EXIT_SECONDS if self.doing == ENDING else 0):
            await self.process.wait()
        if self.process.returncode is None:
            self.kill()
            await self.process.wait()
        await self.process.aclose()
        logger.info("worker %s has ended with status %s", self.number, self.process.returncode)

    async def describe_exit(self) -> str:
        """Return how the process ended, as a sentence."""
        with anyio.move_on_after(EXIT_SECONDS):
            await self.process.wait()
        how = describe_end(self.process.returncode)
        return (
            f"worker {self.number} (process {self.process.pid}) {how} while {self.doing}: "
            "find the cause, for example in the system's log if the machine ran out of memory"
        )


@asynccontextmanager
async def start_workers(count: int) -> AsyncIterator[Sequence[Worker]]:
    """Start ``count`` worker processes beside this one; end all of them when the block ends.

    Raises RunError if a process cannot be started.
    """
    workers: list[Worker] = []
    try:
        for number in range(2, count + 2):
            workers.append(Worker(number, await start_process()))
        yield workers
    finally:
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                for worker in workers:
                    tasks.start_soon(worker.end)


async def start_process() -> Process:
    if not has_interpreter():
        raise InputError(
            f"worker processes need a Python interpreter, and this program runs in none ({sys.executable!r}): "
            "load with one worker",
            code="no-worker-process",
        )
    try:
        return await anyio.open_process(
            [sys.executable, *COMMAND],
            stderr=None,
            env=python_environment(),
            # Ctrl-C must reach this process alone
            start_new_session=True,
        )
    except OSError as error:
        raise RunError(
            f"no worker process can be started ({error.strerror or error}): give --workers 1, or free some memory",
            code="no-worker-process",
        ) from error


async def load_shards(
    workers: Sequence[Worker],
    job: Job,
    queue: ShardQueue,
    listener: ProgressListener,
    on_done: Callable[[Shard, Done], None],
    load_here: Callable[[], Awaitable[None]],
) -> None:
    """Load the shards of ``queue`` in the workers, and in this process by ``load_here``.

    Raises the first error of any of them, and RunError if a worker crashes too often; the others are then killed.
    """
    try:
        async with anyio.create_task_group() as tasks:
            for worker in workers:
                tasks.start_soon(worker.load, job, queue, listener, on_done)
            await load_here()
    except BaseException as error:
        for worker in workers:
            # the undoing would have to wait for the shards of workers that go on
            worker.kill()
        if isinstance(error, BaseExceptionGroup):
            reraise_first(error)
        raise
