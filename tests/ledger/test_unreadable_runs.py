"""A run that this bulkseed cannot read: a newer one made it, or its record is damaged. Other runs are not affected."""

from __future__ import annotations

import json
from typing import Final

import anyio
import pytest

from bulkseed.cleaner.cleanup import cleanup
from bulkseed.errors import TargetError
from bulkseed.ledger.runs import read_history
from bulkseed.loader.load import load, resume
from bulkseed.plan.plan import PLAN_VERSION
from bulkseed.plan.tables import TABLE_NAMES
from bulkseed.postgres.address import Address
from bulkseed.verifier.verify import verify
from support.commands import inside
from support.errors import raises
from support.listeners import Interfering
from support.plans import plan_of
from support.queries import digest, rows, run_sql

CHANGES: Final = {
    "an unknown key of the shape": ("plan = jsonb_set(plan, '{scenario,shape}', '{\"mood\": 1}')", "mood"),
    "an unknown key of the plan": ("""plan = plan || '{"later": 1}'""", "later"),
    "another plan": ("plan = '[]'", "list"),
    "no plan": ("plan = 'null'", "NoneType"),
    "a time that is none": ("""plan = plan || '{"as_of": "soon"}'""", "soon"),
    "no placement": ("placement = '{}'", "reactions"),
    "rows of unknown tables": ("""expected = '{"polls": 5}'""", "users"),
    "a plan of a newer version": (
        f"""made_by = made_by || '{{"plan": "{PLAN_VERSION + 1}", "bulkseed": "9.9"}}'""",
        f"bulkseed 9.9 made its plan, of version {PLAN_VERSION + 1}",
    ),
}


@pytest.mark.parametrize(("change", "fact"), CHANGES.values(), ids=CHANGES.keys())
async def test_point_17_an_unreadable_run_is_refused_and_listed(seeded: Address, change: str, fact: str) -> None:
    await run_sql(seeded, f"UPDATE bulkseed.runs SET {change}")
    before = await digest(seeded)
    for command in (cleanup(seeded, [1]), verify(seeded, 1), verify(seeded), resume(seeded, 1)):
        with raises("unreadable-run", "run 1 ", fact, kind=TargetError):
            await command
    assert await digest(seeded) == before
    [entry] = await read_history(seeded)
    assert entry.state == "unreadable"
    assert fact in str(entry.problem)
    listed = entry.to_json()
    assert (listed["run"], listed["state"]) == (1, "unreadable")
    assert fact in listed["problem"]


async def test_point_17_one_unreadable_run_blocks_no_command_for_others(seeded: Address) -> None:
    [shapes, *others] = (change for change, _ in CHANGES.values())
    before = await digest(seeded, *TABLE_NAMES)
    await run_sql(seeded, f"UPDATE bulkseed.runs SET {shapes}")
    with anyio.CancelScope() as scope:
        await load(plan_of("2x"), seeded, listener=Interfering("messages", scope.cancel), defer="always")
    assert [(entry.record.number, entry.state) for entry in await read_history(seeded)] == [
        (1, "unreadable"),
        (2, "interrupted"),
    ]
    done = await resume(seeded)
    assert done is not None
    assert done.run == 2
    for change in others:
        await run_sql(seeded, f"UPDATE bulkseed.runs SET {change} WHERE id = 1")
    third = await load(plan_of("2x"), seeded)
    assert third.placement.first_user > done.placement.first_user
    assert [report.holds for report in [*await verify(seeded, 2), *await verify(seeded, 3)]] == [True, True]
    # all runs cannot be removed; each of the readable ones can
    with raises("unreadable-run", "run 1 ", "2, 3", kind=TargetError):
        await verify(seeded)
    await cleanup(seeded, [3])
    await cleanup(seeded, [2])
    assert await digest(seeded, *TABLE_NAMES) == before
    assert await rows(seeded, "SELECT id FROM bulkseed.runs") == [(1,)]


def test_point_17_the_commands(seeded: Address) -> None:
    anyio.run(run_sql, seeded, f"UPDATE bulkseed.runs SET {CHANGES['another plan'][0]}")
    listed = inside("runs", "--database-url", seeded.dsn)
    assert listed.returncode == 0
    assert "unreadable" in listed.stdout
    [run] = json.loads(inside("runs", "--json", "--database-url", seeded.dsn).stdout)["runs"]
    assert run["state"] == "unreadable"
    for command in ("cleanup", "cleanup 1", "verify", "verify 1", "resume 1"):
        done = inside(*command.split(), "--database-url", seeded.dsn)
        assert done.returncode == 2, command
        assert "run 1 " in done.stderr


async def test_point_17_an_unreadable_run_that_was_interrupted_still_blocks_a_load(database: Address) -> None:
    """Its indexes and keys may be missing."""
    with anyio.CancelScope() as scope:
        await load(plan_of("2x"), database, listener=Interfering("messages", scope.cancel), defer="always")
    await run_sql(
        database,
        "UPDATE bulkseed.runs SET plan = '{}'",
        """UPDATE bulkseed.deferred SET definition = definition || '{"later": 1}'""",
    )
    with raises("incomplete-run", "run 1 ", kind=TargetError):
        await load(plan_of(), database)
    for command in (resume(database), cleanup(database, [1])):
        with raises("unreadable-run", "run 1 ", kind=TargetError):
            await command
    await run_sql(database, "UPDATE bulkseed.runs SET state = 'whole'")
    with raises("incomplete-run", "run 1 ", kind=TargetError):
        await load(plan_of(), database)
