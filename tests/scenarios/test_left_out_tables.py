"""Tables that a scenario leaves out, and that the database has."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkseed.loader.check import check
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from support.listeners import Notes
from support.plans import planned
from support.queries import counts, run_sql


@pytest.mark.parametrize(
    ("tables", "left_out"),
    [
        ("reactions = false", ["message_reactions"]),
        ("message_reactions = false", ["message_reactions"]),
        ("messages = false", ["messages", "message_reactions"]),
    ],
)
async def test_fault_18_existing_tables_that_are_left_out_are_named(
    database: Address, tmp_path: Path, tables: str, left_out: list[str]
) -> None:
    plan = planned(tmp_path, f"[tables]\n{tables}", "1x")
    notes = Notes()
    await load(plan, database, listener=notes)
    for said in (notes.said, (await check(plan, database)).notes):
        (note,) = [note for note in said if "message_reactions" in note]
        assert all(table in note for table in left_out)
    rows = await counts(database)
    assert {table for table, count in rows.items() if not count} == {*left_out}


async def test_fault_18_tables_that_do_not_exist_are_not_named(database: Address, tmp_path: Path) -> None:
    await run_sql(database, "DROP TABLE message_reactions")
    plan = planned(tmp_path, "[tables]\nreactions = false", "1x")
    assert not any("reactions" in note for note in (await check(plan, database)).notes)
