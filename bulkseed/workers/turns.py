"""Which shard is next, for workers that ask as they get free."""

from __future__ import annotations

from collections.abc import Iterable

import anyio

from bulkseed.shards import Shard

__all__ = ["Turns"]


class Turns:
    """Shards in their order, each given out once. Those of channels wait until all of users are in.

    A foreign key that stays in place wants the users there first.
    """

    def __init__(self, shards: Iterable[Shard]) -> None:
        self.shards = iter(shards)
        self.waiting: Shard | None = next(self.shards, None)
        self.users_out = 0
        self.changed = anyio.Event()

    async def following(self) -> Shard | None:
        """The next shard, when it may be begun; None where none is left."""
        while self.waiting is not None and self.waiting.kind != "users" and self.users_out:
            await self.changed.wait()
        shard = self.waiting
        if shard is not None:
            self.waiting = next(self.shards, None)
            self.users_out += shard.kind == "users"
        return shard

    def close(self) -> None:
        """Give out no more."""
        self.waiting = None
        self.wake()

    def done(self, shard: Shard) -> None:
        """The shard is in."""
        self.users_out -= shard.kind == "users"
        self.wake()

    def wake(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()
