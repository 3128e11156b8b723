"""What a load and its worker processes say to each other: frames of a length and a pickled value, over pipes.

Both ends are the same program on the same machine, and the pipes are private to them.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from anyio.streams.buffered import BufferedByteReceiveStream

from bulkseed.errors import BulkseedError

__all__ = ["HELLO", "Done", "Failed", "Note", "Ready", "Rows", "frame", "read_frame", "receive_frame"]

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
