"""Advice for columns of an app whose tables the user cannot change: the line of the message, put into the scenario."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from bulkseed.errors import TargetError
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from support.plans import planned
from support.queries import run_sql

LINE: Final = re.compile(r"`([^`]+ = [^`]+)` in the scenario's \[((?:columns|fields)\.[^\]]+)\]")
"""A line of the scenario in a message, and its section."""

CHANGES: Final = {
    "boolean": ("ALTER TABLE users ALTER is_active TYPE integer USING 1", "column-type"),
    "boolean, NOT NULL": ("ALTER TABLE users DROP is_active, ADD is_active interval NOT NULL", "column-type"),
    "text": ("ALTER TABLE users ALTER name TYPE integer USING 1, ALTER name DROP NOT NULL", "column-type"),
    "text, NOT NULL": ("ALTER TABLE channels ALTER name TYPE integer USING 1", "column-type"),
    "an enumeration": (
        """CREATE TYPE tier AS ENUM ('free', 'p"ro'); ALTER TABLE users ALTER created_at TYPE tier USING 'free'""",
        "column-type",
    ),
    "a time": ("ALTER TABLE messages ALTER updated_at TYPE integer USING 1", "column-type"),
    "a time of day": ("ALTER TABLE users ALTER created_at TYPE time USING '12:00'", "column-type"),
    "one that pads": ("ALTER TABLE users ALTER name TYPE char(255)", "column-type"),
    "too short": ("ALTER TABLE users ALTER email TYPE varchar(50)", "column-too-short"),
    "generated": ("ALTER TABLE users DROP bio, ADD bio text GENERATED ALWAYS AS (name) STORED", "generated-column"),
    "NOT NULL": ("ALTER TABLE channels ALTER join_code SET NOT NULL", "column-not-null"),
    "a reference of another type": (
        "ALTER TABLE messages DROP parent_id, ADD parent_id uuid REFERENCES other (id)",
        "id-types-differ",
    ),
    "a reference that is text": ("ALTER TABLE messages DROP parent_id, ADD parent_id text", "column-type"),
    "missing": ("ALTER TABLE channels DROP description", "missing-column"),
}


@pytest.mark.parametrize(("change", "code"), CHANGES.values(), ids=CHANGES.keys())
async def test_fault_25_a_line_of_the_scenario_is_offered_and_works(
    database: Address, tmp_path: Path, change: str, code: str
) -> None:
    await run_sql(database, "CREATE TABLE other (id uuid PRIMARY KEY)", change)
    with pytest.raises(TargetError) as refused:
        await load(planned(tmp_path, "", "1x"), database)
    assert refused.value.code == code
    lines = LINE.findall(str(refused.value))
    assert lines, refused.value
    scenario = "".join(f"[{section}]\n{line}\n" for line, section in lines)
    done = await load(planned(tmp_path, scenario, "1x"), database)
    assert done.rows["users"] == 20


@pytest.mark.parametrize(
    ("type_", "fits"),
    [
        ("text", True), ("varchar(3)", True), ("smallint", True), ("numeric(5,2)", True), ("real", True),
        ("date", True), ("timestamptz", True), ("boolean", True), ("uuid", True), ("jsonb", True), ("time", True),
        ("interval", True), ("inet", True), ("macaddr", True), ("point", False), ("text[]", False),
    ],
)  # fmt: skip
async def test_fault_25_a_field_is_offered_for_a_column_that_nothing_fills(
    database: Address, tmp_path: Path, type_: str, fits: bool
) -> None:
    await run_sql(database, f'ALTER TABLE channels ADD "of {{the}} app" {type_} NOT NULL')
    with pytest.raises(TargetError) as refused:
        await load(planned(tmp_path, "", "1x"), database)
    assert refused.value.code == "unfilled-column"
    lines = LINE.findall(str(refused.value))
    assert bool(lines) == fits, refused.value
    if lines:
        scenario = "".join(f"[{section}]\n{line}\n" for line, section in lines)
        assert (await load(planned(tmp_path, scenario, "1x"), database)).rows["channels"] == 10


async def test_fault_25_a_column_that_identifies_rows_is_not_to_be_left_out(database: Address, tmp_path: Path) -> None:
    await run_sql(
        database, "ALTER TABLE user_channels DROP channel_id, ADD channel_id text", "ALTER TABLE users DROP email"
    )
    with pytest.raises(TargetError) as refused:
        await load(planned(tmp_path, "", "1x"), database)
    assert LINE.findall(str(refused.value)) == [("email = false", "columns.users")]
    assert "another column in the scenario's [columns.user_channels]" in str(refused.value)


async def test_fault_25_ids_that_a_sequence_has_passed_can_be_used(database: Address, tmp_path: Path) -> None:
    plan = planned(tmp_path, "", "1x")
    await run_sql(
        database,
        "ALTER TABLE user_channels DROP CONSTRAINT user_channels_user_id_fkey, ALTER user_id TYPE smallint",
        "SELECT setval('users_id_seq', 32760)",
    )
    with pytest.raises(TargetError) as refused:
        await load(plan, database)
    assert refused.value.code == "ids-exhausted"
    [statement] = re.findall("`([^`]+)`", str(refused.value))
    await run_sql(database, statement)
    assert (await load(plan, database)).placement.first_user == 1
