"""Processes that run Python with bulkseed's modules: how they are started, and one that answers requests."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import IO, Any, Final

__all__ = [
    "HANDSHAKE",
    "LENGTH",
    "MAX_PRINTED_BYTES",
    "AnsweringProcess",
    "ProcessEndedError",
    "describe_end",
    "frame",
    "python_environment",
    "read_frame",
]

LENGTH: Final = struct.Struct("!I")

HANDSHAKE: Final = b"\0bulkseed\0"
"""The first bytes of a process; everything before them was printed by its interpreter while it started."""

MAX_PRINTED_BYTES: Final = 2**20
"""The most that an interpreter may print before the handshake."""
EXIT_SECONDS: Final = 5
"""How long a process that has closed its pipes may take to end."""


def frame(value: object) -> bytes:
    """Return the value as bytes for a pipe: its length (4 bytes, network order) and its pickle."""
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(data)) + data


def read_frame(pipe: IO[bytes]) -> Any:
    """Return the next value from a pipe. Raises EOFError if the other end has closed it."""
    head = pipe.read(LENGTH.size)
    length = LENGTH.unpack(head)[0] if len(head) == LENGTH.size else 0
    data = pipe.read(length)
    if not length or len(data) < length:
        raise EOFError
    return pickle.loads(data)  # noqa: S301 - of our own process


def read_handshake(pipe: IO[bytes]) -> None:
    """Read up to the end of the handshake. Raises EOFError if it does not come."""
    printed = bytearray()
    while not printed.endswith(HANDSHAKE):
        octet = pipe.read(1)
        if not octet or len(printed) > MAX_PRINTED_BYTES:
            raise EOFError
        printed += octet


def is_connection_variable(name: str) -> bool:
    """Return whether an environment variable has connection parameters, such as a password."""
    return name.startswith("PG") or name.endswith("DATABASE_URL") or name == "BULKSEED_TEST_URL"


def python_environment() -> dict[str, str]:
    """Return the environment for a process of bulkseed: that of this one with the variables that the process needs.

    It has no connection parameters: a worker gets them over its pipe, and no other process needs any.
    """
    return {
        **{name: value for name, value in os.environ.items() if not is_connection_variable(name)},
        # the process must find the same packages as this one
        "PYTHONPATH": os.pathsep.join(absolute_paths(sys.path)),
        # Arrow's own pools take 40 MB more for each process, and are no faster here
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        # NumPy would start a thread for each core, and none of them would have work
        "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", "1"),
    }


def absolute_paths(folders: Iterable[str]) -> Iterator[str]:
    """Yield the absolute paths of ``folders``, without relative ones if the working directory is deleted."""
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):
            yield os.path.abspath(folder)  # noqa: PTH100 - Path("").absolute() would keep ..


def describe_end(status: int | None) -> str:
    """Return how a process ended, by its exit status: None if it has not."""
    if status is None:
        return "closed its pipes"
    if status < 0:
        return f"was ended by signal {-status} ({signal.strsignal(-status) or 'unknown'})"
    return f"ended with status {status}"


class ProcessEndedError(Exception):
    """A process ended without an answer. Its text is the end of a sentence: ``ended with status 1``."""


class AnsweringProcess:
    """A process that runs a module of bulkseed, and answers requests one at a time, from any thread.

    It is started by the first request, and again by a request after it has ended.
    """

    def __init__(self, module: str) -> None:
        self.module = module
        self.process: subprocess.Popen[bytes] | None = None
        self.handshaken = False
        self.closed = False
        self.starting, self.asking = Lock(), Lock()

    def start(self) -> subprocess.Popen[bytes]:
        """Return the process. One that does not run yet is started, without waiting for it. Raises OSError."""
        with self.starting:
            if self.closed:
                raise ProcessEndedError("is closed")
            if self.process is None:
                self.handshaken = False
                self.process = subprocess.Popen(
                    # -P: a file in the current directory must not be imported in place of a module of bulkseed
                    [sys.executable, "-P", "-m", self.module],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=python_environment(),
                    # Ctrl-C must reach this process alone
                    start_new_session=True,
                )
            return self.process

    def ask(self, request: object) -> Any:
        """Return the answer to ``request``; both are pickled.

        Raises OSError if the process cannot be started, and ProcessEndedError if it ends without an answer.
        """
        with self.asking:
            process = self.start()
            try:
                return self.exchange(process, request)
            except (OSError, EOFError) as error:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(EXIT_SECONDS)
                how = describe_end(process.returncode)
                self.end(process)
                raise ProcessEndedError(how) from error
            except BaseException:
                self.end(process)  # the answer would be taken for that to the next request
                raise

    def exchange(self, process: subprocess.Popen[bytes], request: object) -> Any:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(frame(request))
        process.stdin.flush()
        if not self.handshaken:
            read_handshake(process.stdout)
            self.handshaken = True
        return read_frame(process.stdout)

    def end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        self.process = None

    def stop(self) -> None:
        """End the process until the next request, after the answer to a present one."""
        with self.asking:
            if self.process is not None:
                self.end(self.process)

    def close(self) -> None:
        """End the process at once; a request that waits in another thread raises ProcessEndedError."""
        with self.starting:
            self.closed = True
            process = self.process
        if process is not None:
            process.kill()
            # with the lock of a request, which gets no answer now
            if self.asking.acquire(timeout=EXIT_SECONDS):
                if self.process is not None:
                    self.end(process)
                self.asking.release()
