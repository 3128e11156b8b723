"""Which shard is next, for workers that ask as they get free."""

from __future__ import annotations

from collections.abc import Iterable

import anyio

from bulkseed.plan.shards import Shard

__all__ = ["Turns"]


class Turns:
    """Shards in their order, each given out once. Those of a stage wait until all of the one before are in.

    A foreign key that stays in place wants the users there first.
    """

    def __init__(self, shards: Iterable[Shard]) -> None:
        self.shards = iter(shards)
        self.waiting: Shard | None = next(self.shards, None)
        self.stage = self.waiting.stage if self.waiting else "users"
        self.out = 0
        self.changed = anyio.Event()

    async def following(self) -> Shard | None:
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
