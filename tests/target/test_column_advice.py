"""Advice for columns of an app whose tables the user cannot change: the line of the message, put into the scenario."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from bulkseed.errors import TargetError
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from support.errors import raises
from support.plans import planned
from support.queries import run_sql

LINE: Final = re.compile(r"`([^`]+ = [^`]+)` in the scenario's \[((?:columns|fields)\.[^\]]+)\]")
"""A line of the scenario in a message, and its section."""

CHANGES: Final = {
    "types that do not fit": [
        "ALTER TABLE users ALTER is_active TYPE integer USING 1, ALTER name TYPE char(255)",
        "ALTER TABLE users ALTER email TYPE varchar(50), DROP bio, ADD bio text GENERATED ALWAYS AS (name) STORED",
        "ALTER TABLE channels ALTER join_code SET NOT NULL, DROP description",
        "ALTER TABLE messages ALTER updated_at TYPE integer USING 1",
        "ALTER TABLE messages DROP parent_id, ADD parent_id uuid REFERENCES other (id)",
    ],
    "others": [
        "ALTER TABLE users DROP is_active, ADD is_active interval NOT NULL",
        """CREATE TYPE tier AS ENUM ('free', 'p"ro'); ALTER TABLE users ALTER created_at TYPE tier USING 'free'""",
        "ALTER TABLE channels ALTER name TYPE integer USING 1, ALTER created_at TYPE time USING '12:00'",
        "ALTER TABLE messages DROP parent_id, ADD parent_id text",
    ],
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES.keys())
async def test_fault_25_lines_of_the_scenario_are_offered_and_work(
    database: Address, tmp_path: Path, changes: list[str]
) -> None:
    await run_sql(database, "CREATE TABLE other (id uuid PRIMARY KEY)", *changes)
    with pytest.raises(TargetError) as refused:
        await load(planned(tmp_path, "", "1x"), database)
    for line in str(refused.value).splitlines():
        assert LINE.search(line), line
    assert (await load(planned(tmp_path, scenario_of(str(refused.value)), "1x"), database)).rows["users"] == 20


def scenario_of(message: str) -> str:
    """A scenario of the lines of a message."""
    sections: dict[str, list[str]] = {}
    for line, section in LINE.findall(message):
        sections.setdefault(section, []).append(line)
    return "".join(f"[{section}]\n" + "\n".join(lines) + "\n" for section, lines in sections.items())


FILLED: Final = (
    "text", "varchar(3)", "smallint", "numeric(5,2)", "real", "date", "timestamptz", "boolean", "uuid", "jsonb", "time",
    "interval", "inet", "macaddr",
)  # fmt: skip


async def test_fault_25_fields_are_offered_for_columns_that_nothing_fills(database: Address, tmp_path: Path) -> None:
    added = ", ".join(f'ADD "of {{the}} app: {type_}" {type_} NOT NULL' for type_ in FILLED)
    await run_sql(database, f"ALTER TABLE channels {added}")
    with pytest.raises(TargetError) as refused:
        await load(planned(tmp_path, "", "1x"), database)
    assert refused.value.code == "unfilled-column"
    assert len(LINE.findall(str(refused.value))) == len(FILLED)
    scenario = scenario_of(str(refused.value))
    assert (await load(planned(tmp_path, scenario, "1x"), database)).rows["channels"] == 10


async def test_fault_25_no_field_is_offered_where_none_fits(database: Address, tmp_path: Path) -> None:
    await run_sql(database, "ALTER TABLE channels ADD place point NOT NULL, ADD tags text[] NOT NULL")
    with pytest.raises(TargetError) as refused:
        await load(planned(tmp_path, "", "1x"), database)
    assert LINE.findall(str(refused.value)) == []
    assert str(refused.value).count("[fields.channels]") == 2


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


async def test_fault_25_a_field_whose_values_do_not_fit_is_to_be_changed(database: Address, tmp_path: Path) -> None:
    await run_sql(database, "ALTER TABLE users ADD age int NOT NULL")
    with raises("column-type", "users.age", "give values of this type", kind=TargetError):
        await load(planned(tmp_path, "[fields.users]\nage = 'faker:word'", "1x"), database)
    with raises("column-not-null", "users.age", "`null`", kind=TargetError):
        await load(planned(tmp_path, "[fields.users]\nage = { uniform = [1, 6], null = 0.5 }", "1x"), database)
