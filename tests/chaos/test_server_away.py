"""The server stops during a load and starts again: the load continues, or is resumed."""

from __future__ import annotations

import asyncio
import random

import pytest

from chaos.commands import PLAN, begun, bulkseed
from chaos.own_server import OwnServer
from chaos.world import UNRECORDED, World
from support.databases import address_of
from support.hits import Hit
from support.queries import run_sql


@pytest.mark.rounds("restart")
async def test_stopped_at_any_moment_and_started_again(
    own: OwnServer, world: World, rng: random.Random, hit: Hit
) -> None:
    defer = rng.choices(["always", "never"], [4, 1])[0]
    # off: a commit that the server has confirmed may be lost
    asynchronous = rng.choice(["on", "off"])
    async with world.database() as address:
        admin = address_of(own.server, "postgres")
        await run_sql(admin, f"ALTER DATABASE {address.database} SET synchronous_commit = {asynchronous}")
        with begun(address, *PLAN, "--workers", str(rng.randint(1, 3)), "--defer", defer) as load:
            struck: list[str] = []
            for _ in range(rng.choices([1, 2], [3, 1])[0]):
                await load.sleep_until(world.sometime("load", rng, 0.25) + (load.age if struck else 0))
                if not load.running:
                    break
                struck.append(await world.moment(address))
                await asyncio.to_thread(own.stop, "immediate")
                await asyncio.sleep(rng.choice([0, rng.uniform(0, 3)]))
                await asyncio.to_thread(own.start)
            ended = await load.end()
        if not struck:
            world.learn("load", ended)
        how = "went on" if ended.status == 0 else "resumed"
        if ended.status and await world.moment(address) == UNRECORDED:
            assert set(struck) == {UNRECORDED}, ended
            how = "wrote nothing"
        for found in struck or ["too late"]:
            hit(f"{found}: {how}")
        if how == "wrote nothing":
            assert ended.status in {1, 4}, ended
            assert ended.said.splitlines()[-1].startswith("bulkseed: "), ended
            await world.is_as_before(address, sequences=False)
            return
        if how == "resumed":
            assert "bulkseed resume 1" in ended.said, ended
            resumed = await bulkseed(address, "resume", "--yes")
            assert resumed.status == 0, resumed
        if UNRECORDED in struck:
            await world.is_loaded_somewhere(address)
        else:
            await world.is_loaded(address)
