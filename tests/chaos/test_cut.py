"""Connections that are cut: the load opens new ones, and loads nothing twice."""

from __future__ import annotations

import random

import pytest

from chaos.commands import PLAN, begun, bulkseed
from chaos.proxy import CUTS, proxied
from chaos.world import UNRECORDED, World
from support.hits import Hit


@pytest.mark.rounds("cut")
async def test_cut_at_any_moment(world: World, rng: random.Random, hit: Hit) -> None:
    defer = rng.choices(["always", "never"], [4, 1])[0]
    async with world.database() as address, proxied(world.server) as proxy:
        through = proxy.address(address.database)
        with begun(through, *PLAN, "--workers", str(rng.randint(1, 3)), "--defer", defer) as load:
            struck: list[str] = []
            for _ in range(rng.randint(1, 3)):
                await load.sleep_until(world.sometime("load", rng, 0.25) + (load.age if struck else 0))
                if not load.running:
                    break
                struck.append(await world.moment(address))
                how, every = rng.choice(CUTS), rng.random() < 0.5
                cut = await proxy.cut(how, rng, all_of_them=every)
                hit(f"{how} of {'none' if not cut else 'all' if every else 'one'}: {struck[-1]}")
            ended = await load.end()
        if not struck:
            world.learn("load", ended)
        if ended.status and set(struck) == {UNRECORDED} and await world.moment(address) == UNRECORDED:
            hit("wrote nothing")
            assert ended.status in {1, 4}, ended
            assert ended.said.splitlines()[-1].startswith("bulkseed: "), ended
            await world.is_as_before(address, sequences=False)
            return
        assert ended.status == 0, ended
        if UNRECORDED in struck:
            await world.is_loaded_somewhere(address)
        else:
            await world.is_loaded(address)


@pytest.mark.rounds("commit")
async def test_a_commit_that_is_not_answered(world: World, rng: random.Random, hit: Hit) -> None:
    """Whether the server received the COMMIT or not: a committed shard is not loaded again, any other is."""
    commits = world.commits
    async with world.database() as address, proxied(world.server) as proxy:
        # of the run, of shards, of the rebuild, and of the end
        number = rng.choice([rng.randint(1, 5), rng.randint(1, commits), rng.randint(commits - 2, commits)])
        proxy.lost = {number: rng.random() < 0.6}
        done = await bulkseed(proxy.address(address.database), *PLAN, "--workers", "2", "--defer", "always")
        where = "the first" if number <= 5 else "the last" if number > commits - 3 else "any"
        hit(where if number <= proxy.commits else "too late")
        assert done.status == 0, done
        await world.is_loaded_somewhere(address)
