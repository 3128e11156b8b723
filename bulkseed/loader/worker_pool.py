"""The pool of worker processes: started, given one shard after another over pipes, and watched."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from bulkseed.errors import BulkseedError, RunError, first_cause
from bulkseed.listeners import NullListener, ProgressListener
from bulkseed.loader.shard_load import Counted, Job
from bulkseed.plan.shards import Shard

__all__ = [
    "HELLO",
    "Done",
    "Failed",
    "Note",
    "Ready",
    "Rows",
    "ShardQueue",
    "Worker",
    "frame",
    "load_shards",
    "read_frame",
    "receive_frame",
    "start_workers",
]

LENGTH: Final = struct.Struct("!I")

HELLO: Final = b"\0bulkseed worker\0"
"""What a worker says first: whatever its interpreter printed while it started comes before it."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker is connected, and waits for shards."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A worker has sent more rows of some tables; fewer than none where a try did not succeed."""

    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the user should know now."""

    message: str


@dataclass(frozen=True, slots=True)
class Done:
    """A worker has committed a shard: its number, its rows by table, and its seconds by phase."""

    shard: int
    rows: Mapping[str, int]
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Failed:
    """A worker gives up, with an error of ours, or one that says what an unforeseen one was, and its traceback.

    An unforeseen error is not sent itself: not every exception survives pickling.
    """

    error: BulkseedError
    trace: str = ""


def frame(value: object) -> bytes:
    """The value as bytes to write to a pipe."""
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(data)) + data


def read_frame(pipe: BinaryIO) -> Any:
    """The next value. Raises EOFError where the other end has closed the pipe."""
    head = pipe.read(LENGTH.size)
    length = LENGTH.unpack(head)[0] if len(head) == LENGTH.size else 0
    data = pipe.read(length)
    if not length or len(data) < length:
        raise EOFError
    return pickle.loads(data)  # noqa: S301 - of our own process


async def receive_frame(pipe: BufferedByteReceiveStream) -> Any:
    """The same, awaited. Raises anyio's EndOfStream or IncompleteRead where the other end has closed the pipe."""
    (length,) = LENGTH.unpack(await pipe.receive_exactly(LENGTH.size))
    return pickle.loads(await pipe.receive_exactly(length))  # noqa: S301 - of our own process


class ShardQueue:
    """Shards in their order, each given out once. Those of a stage wait until all of the one before are in.

    A foreign key that stays in place wants the users there first.
    """

    def __init__(self, shards: Iterable[Shard]) -> None:
        self.shards = iter(shards)
        self.waiting: Shard | None = next(self.shards, None)
        self.stage = self.waiting.stage if self.waiting else "users"
        self.out = 0
        self.changed = anyio.Event()

    async def next_shard(self) -> Shard | None:
        """The next shard, when it may be begun; None where none is left."""
        while self.waiting is not None and self.waiting.stage != self.stage and self.out:
            await self.changed.wait()
        shard = self.waiting
        if shard is not None:
            self.waiting = next(self.shards, None)
            self.stage = shard.stage
            self.out += 1
        return shard

    def close(self) -> None:
        """Give out no more."""
        self.waiting = None
        self.wake()

    def done(self, shard: Shard) -> None:
        """The shard is in."""
        self.out -= 1
        self.wake()

    def wake(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()


GOODBYE_SECONDS: Final = 5
COMMAND: Final = ("-P", "-m", "bulkseed.loader.worker")
"""-P: what lies in the current directory is no module of ours."""
MOST_PRINTED: Final = 2**20
BROKEN: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
ENDING: Final = "ending"
MOST_DEATHS: Final = 3
"""So often another process takes the place of one that died; what kills more of them than that will not pass."""


class WorkerDied(RunError):
    """A worker process ended without having said why."""


class Worker:
    """A worker process, by its number from 2: the first worker is this process."""

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

    async def load(
        self, job: Job, turns: ShardQueue, listener: ProgressListener, on_done: Callable[[Shard, Done], None]
    ) -> None:
        """Load shards as long as there are any.

        A process that dies is replaced, and its shard is loaded again: it either is in the ledger, or left nothing.
        Raises what the worker raises, and RunError where that has happened too often.
        """
        shard: Shard | None = None
        ready = False
        while not ready or shard is not None:
            counted = Counted(listener)
            try:
                if not ready:
                    await self.say(job)
                    await self.receive(counted)
                    ready = True
                    shard = shard or await turns.next_shard()
                if shard is not None:
                    self.doing = f"loading shard {shard.number}"
                    await self.say(shard)
                    said = await self.receive(counted)
                    assert isinstance(said, Done)
                    on_done(shard, said)
                    turns.done(shard)
                    shard = await turns.next_shard()
            except WorkerDied as death:
                self.crashes += 1
                if self.crashes > MOST_DEATHS:
                    raise
                counted.take_back()
                listener.note(f"{death}; another takes its place")
                await self.process.aclose()
                self.attach(await started())
                ready = False
        self.doing = ENDING
        with contextlib.suppress(*BROKEN):  # all that it was to do is done
            await self.stdin.send(frame(None))

    async def say(self, value: object) -> None:
        try:
            await self.stdin.send(frame(value))
        except BROKEN:
            # it may have said why, before it ended
            await self.receive(NullListener())

    async def receive(self, listener: ProgressListener) -> Done | Ready:
        """What the worker says next, but for rows, of which ``listener`` is told."""
        while True:
            try:
                if not self.handshaken:
                    await self.stdout.receive_until(HELLO, MOST_PRINTED)
                    self.handshaken = True
                said = await receive_frame(self.stdout)
            except (anyio.EndOfStream, anyio.IncompleteRead, anyio.DelimiterNotFound, *BROKEN) as error:
                raise WorkerDied(await self.last_words()) from error
            if isinstance(said, Done | Ready):
                return said
            if isinstance(said, Note):
                listener.note(f"worker {self.number}: {said.message}")
                continue
            if isinstance(said, Failed):
                if not said.trace:
                    raise said.error
                failure = RunError(f"worker {self.number} failed while {self.doing}: {said.error}")
                failure.add_note(said.trace)
                raise failure
            assert isinstance(said, Rows)
            for table, count in said.counts.items():
                listener.rows(table, count)

    def kill(self) -> None:
        """End the process now."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def end(self) -> None:
        """Let the process end if it was told that there is nothing more, else end it; no process is left."""
        with anyio.move_on_after(GOODBYE_SECONDS if self.doing == ENDING else 0):
            await self.process.wait()
        if self.process.returncode is None:
            self.kill()
            await self.process.wait()
        await self.process.aclose()

    async def last_words(self) -> str:
        """How the process ended, in a sentence."""
        with anyio.move_on_after(GOODBYE_SECONDS):
            await self.process.wait()
        status = self.process.returncode
        if status is None:
            how = "closed its pipes"
        elif status < 0:
            how = f"was ended by signal {-status} ({signal.strsignal(-status) or 'unknown'})"
        else:
            how = f"ended with status {status}"
        return (
            f"worker {self.number} (process {self.process.pid}) {how} while {self.doing}: "
            "look for what ended it (the system's log says if it ran out of memory)"
        )


@asynccontextmanager
async def start_workers(count: int) -> AsyncIterator[Sequence[Worker]]:
    """So many worker processes beside this one, starting; none of them is left when the block ends.

    Raises RunError where a process cannot be started.
    """
    workers: list[Worker] = []
    try:
        for number in range(2, count + 2):
            workers.append(Worker(number, await started()))
        yield workers
    finally:
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                for worker in workers:
                    tasks.start_soon(worker.end)


def of_database(variable: str) -> bool:
    """Whether an environment variable is for those who connect: a worker is told all of that over its pipe."""
    return variable.startswith("PG") or variable.endswith("DATABASE_URL")


async def started() -> Process:
    try:
        return await anyio.open_process(
            [sys.executable, *COMMAND],
            stderr=None,
            env={
                **{name: value for name, value in os.environ.items() if not of_database(name)},
                # it finds the same packages as this process
                "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
                # Arrow's own pools keep 40 MB more of each worker, and are no quicker here
                "ARROW_DEFAULT_MEMORY_POOL": "system",
                # NumPy would start a thread for each core, of which none has work here
                "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", "1"),
            },
            # Ctrl-C is the parent's to hear
            start_new_session=True,
        )
    except OSError as error:
        raise RunError(
            f"no worker process can be started ({error.strerror or error}): give --workers 1, or free some memory"
        ) from error


async def load_shards(
    workers: Sequence[Worker],
    job: Job,
    turns: ShardQueue,
    listener: ProgressListener,
    on_done: Callable[[Shard, Done], None],
    own: Callable[[], Awaitable[None]],
) -> None:
    """Have the workers, and ``own`` in this process, load the shards of ``turns``: each the next one as it gets free.

    Raises the first error of any of them, and RunError where one dies; the others are then ended at once.
    """
    try:
        async with anyio.create_task_group() as tasks:
            for worker in workers:
                tasks.start_soon(worker.load, job, turns, listener, on_done)
            await own()
    except BaseException as error:
        for worker in workers:
            # a shard that they went on with would hold up its undoing
            worker.kill()
        if isinstance(error, BaseExceptionGroup):
            raise first_cause(error) from error
        raise
