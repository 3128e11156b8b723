"""Loads of scenarios that a database accepts, or refuses."""

from __future__ import annotations

from pathlib import Path

import bulkseed
from bulkseed.errors import TargetError
from bulkseed.loader.check import check
from bulkseed.postgres.address import Address
from support.errors import raises
from support.plans import planned
from support.queries import digest
from support.whole_database import state

__all__ = ["accept", "refuse"]


async def accept(address: Address, folder: Path, text: str, scale: str = "1x") -> None:
    """Load the scenario ``text``, which a check leaves as it was before; verify it, and remove it again."""
    untouched = await state(address)
    plan = planned(folder, text, scale)
    await check(plan, address)
    assert await state(address) == untouched
    before = await digest(address)
    report = await bulkseed.load(plan, address)
    assert [each.holds for each in await bulkseed.verify(address)] == [True]
    await bulkseed.cleanup(address, [report.run])
    assert await digest(address) == before


async def refuse(address: Address, folder: Path, text: str, scale: str, code: str, *facts: str) -> None:
    """Have a load and a check of the scenario ``text`` refused, with the database and its sequences as they were."""
    before = await state(address)
    plan = planned(folder, text, scale)
    for command in (bulkseed.load, check):
        with raises(code, *facts, kind=TargetError):
            await command(plan, address)
    assert await state(address) == before
