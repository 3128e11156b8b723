"""SIGKILL and other signals at any moment: after a resume or a cleanup, the database is as without them."""

from __future__ import annotations

import json
import random
import re
import signal
from dataclasses import dataclass
from typing import Final

import pytest

from bulkseed.postgres.address import Address
from chaos.commands import PLAN, Command, begun, bulkseed, gone
from chaos.world import UNRECORDED, World, nobody_left
from support.hits import Hit

WHOM: Final = {"parent": 5, "all": 4, "worker": 4, "two workers": 1, "SIGINT": 2, "SIGINT twice": 1, "SIGTERM": 1}
"""The processes that are killed or signalled, and how often of 18 times."""


async def strike(command: Command, whom: str, rng: random.Random) -> None:
    """Send the signals; if a worker is to be killed and none is running yet, send none."""
    match whom:
        case "parent":
            command.kill_parent()
        case "all":
            command.kill_all(rng)
        case "worker":
            command.kill_worker(rng)
        case "two workers":
            command.kill_worker(rng)
            await command.sleep_until(command.age + rng.uniform(0, 1))
            command.kill_worker(rng)
        case "SIGINT twice":
            command.child.send_signal(signal.SIGINT)
            await command.sleep_until(command.age + rng.uniform(0.01, 0.3))
            if command.running:
                command.child.send_signal(signal.SIGINT)
        case _:
            command.child.send_signal(signal.Signals[whom])


@dataclass(frozen=True, slots=True)
class Struck:
    """The result of a command that was struck: the progress of its run, and whether the command succeeded anyway."""

    moment: str
    done: bool


async def struck(
    world: World, address: Address, arguments: tuple[str, ...], whom: str, rng: random.Random, after: float = 0.0
) -> Struck:
    """Run a command and strike it after the share ``after`` of its usual time; wait until its processes are gone."""
    with begun(address, *arguments) as command:
        await command.sleep_until(world.sometime(pace_of(arguments), rng, after))
        found = await world.moment(address)
        if not command.running:
            whom = "nobody"
        else:
            await strike(command, whom, rng)
        ended = await command.end()
        await gone(command)
    world.learn(pace_of(arguments), ended)
    if whom == "nobody" or "worker" in whom or ended.status == 0:
        assert ended.status == 0, ended
        return Struck(found if "worker" in whom else "too late", done=True)
    found = await world.moment(address)
    if whom in {"parent", "all"}:
        assert ended.status == -signal.SIGKILL, ended
        return Struck(found, done=False)
    number = signal.Signals[whom.split()[0]]
    # -number and 1 while Python itself starts
    is_early = ended.said.startswith("Could not import runpy module")
    assert ended.status in {128 + number, -number} or (is_early and ended.status == 1), ended
    if is_early:
        return Struck(found, done=False)
    # Python prints lines of its own if the signal comes during an import
    ours = [line for line in ended.said.splitlines() if line.startswith("bulkseed: ")]
    begun_with = pace_of(arguments) == "load" or ours != ["bulkseed: interrupted"]
    if number == signal.SIGINT and ended.status > 0 and begun_with and found not in {UNRECORDED, "whole"}:
        assert re.search(r"bulkseed resume 1\b", ended.said), (found, ended)
    return Struck(found, done=False)


def pace_of(arguments: tuple[str, ...]) -> str:
    return "load" if arguments[0].startswith("--") else arguments[0]


def anybody(rng: random.Random) -> str:
    return rng.choices(list(WHOM), list(WHOM.values()))[0]


@pytest.mark.rounds("kill")
async def test_killed_at_any_moment_and_resumed(world: World, rng: random.Random, hit: Hit) -> None:
    whom = anybody(rng)
    workers = rng.randint(2, 3) if "worker" in whom else rng.randint(1, 3)
    load = (*PLAN, "--workers", str(workers), "--defer", rng.choices(["always", "never"], [4, 1])[0])
    async with world.database() as address:
        first = await struck(world, address, load, whom, rng)
        hit(f"load, {whom}: {first.moment}")
        if first.done:
            await world.is_loaded(address)
            return
        if first.moment == UNRECORDED:
            await nobody_left(address)  # a commit may be in progress
            if await world.moment(address) == UNRECORDED:
                await loads_anew(world, address, load)
                return
        while rng.random() < 0.5:
            whom = anybody(rng)
            resume = ("resume", "--yes", "--workers", str(rng.randint(1, 3)))
            again = await struck(world, address, resume, whom, rng)
            hit(f"resume, {whom}: {again.moment}")
            assert await world.moment(address) != UNRECORDED
        last = await bulkseed(address, "resume", "--yes", "--workers", "2")
        world.learn("resume", last)
        assert last.status == 0, last
        await world.is_loaded(address)
        if rng.random() < 0.2:
            more = await bulkseed(address, "resume", "1", "--yes", "--json")
            assert more.status == 0, more
            assert json.loads(more.out) == {"run": None}
            await world.is_loaded(address)


async def loads_anew(world: World, address: Address, load: tuple[str, ...]) -> None:
    """Check that no run is left: nothing to resume, no change except in sequences, and another load succeeds."""
    nothing = await bulkseed(address, "resume", "--yes", "--json")
    assert (nothing.status, json.loads(nothing.out)) == (0, {"run": None}), nothing
    await world.is_as_before(address, sequences=not await world.has_reserved(address))
    again = await bulkseed(address, *load)
    world.learn("load", again)
    assert again.status == 0, again
    await world.is_loaded_somewhere(address)


@pytest.mark.rounds("cleanup")
async def test_killed_at_any_moment_and_undone(world: World, rng: random.Random, hit: Hit) -> None:
    load = (*PLAN, "--workers", "2", "--defer", rng.choice(["always", "never"]))
    async with world.database() as address:
        whom = rng.choice(["parent", "all"])
        first = await struck(world, address, load, whom, rng, 0.4)
        hit(f"load, {whom}: {first.moment}")
        while True:
            await nobody_left(address)
            if await world.moment(address) == UNRECORDED:
                break
            if rng.random() < 0.6:
                killed = await struck(world, address, ("cleanup", "--yes"), "parent", rng)
                hit(f"cleanup, parent: {killed.moment}")
            else:
                done = await bulkseed(address, "cleanup", "--yes")
                world.learn("cleanup", done)
                assert done.status == 0, done
        await world.is_as_before(address, sequences=False)


@pytest.mark.parametrize("on_error", ["undo", pytest.param("keep", marks=pytest.mark.long)])
async def test_workers_that_die_repeatedly_end_the_load(world: World, on_error: str) -> None:
    async with world.database() as address:
        load = (*PLAN, "--workers", "2", "--defer", "always", "--on-error", on_error, "--retry-for", "20")
        with begun(address, *load) as command:
            while command.running:
                if await world.moment(address) not in {UNRECORDED, "undoing"}:
                    command.kill_worker(random.Random(1))
                await command.sleep_until(command.age + 0.01)
            ended = await command.end()
        assert ended.status == 1, ended
        assert "signal 9" in ended.said, ended
        await nobody_left(address)
        if on_error == "undo":
            await world.is_as_before(address, sequences=False)
            return
        assert "bulkseed resume 1" in ended.said, ended
        resumed = await bulkseed(address, "resume", "--yes")
        assert resumed.status == 0, resumed
        await world.is_loaded(address)
