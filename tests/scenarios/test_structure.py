"""The structure of scenario files, and the JSON Schema that editors read."""

from __future__ import annotations

import json
import sys
import tomllib
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator

import bulkseed
from bulkseed.fields.spec import KINDS
from bulkseed.scenarios import shipped
from bulkseed.scenarios.file_schema import KINDS as DESCRIBED
from bulkseed.scenarios.file_schema import check_structure, json_schema
from support.pages import NAMED
from support.scenario_texts import APP_SCENARIO, EVERY_FIELD, UUID_SCENARIO

SHIPPED: Final = Path(bulkseed.__file__).parent / "scenarios"
FILE: Final = SHIPPED / "schema.json"

RIGHT: Final = {
    **{name: (SHIPPED / f"{name}.toml").read_text() for name in shipped()},
    **{
        f"an example, {name}": text
        for name, text in NAMED.items()
        if name.endswith(".toml") and name != "pyproject.toml"
    },
    "an app's tables": APP_SCENARIO,
    "an app's UUIDs": UUID_SCENARIO,
    "a base": "base = 'slack'\ncounts.users = 3",
    "nothing": "",
}

WRONG: Final = {
    "a section that nobody knows": "[field.users]\nphone = 'faker:city'",
    "a section that is no table": "tables = 1",
    "a base that does not ship": "base = 'slak'",
    "a table's name that is a number": "tables.users = 1",
    "a column that is true": "columns.users.bio = true",
    "a column whose name is empty": "columns.users.bio = ''",
    "a table that is a number, with decimals": "tables.reactions = 0.5",
    "a count of 0": "counts.users = 0",
    "a probability above 1": "probabilities.channel_dm = 1.5",
    "a parameter that nobody knows": "shape.hours = 0.5",
    "a parameter that is a text": "shape.history = '5'",
    "UUIDs of version 5": "uuid = 5",
    "plugins that are no list": "plugins = 'myapp.seed:table'",
    "a field of no kind": "fields.users.phone = { fakr = 'city' }",
    "a field of two kinds": "fields.users.phone = { value = 1, choice = [1] }",
    "a text that is no field": "fields.users.phone = 'free'",
    "an option of another kind": "fields.users.phone = { value = 1, pool = 5 }",
    "a range of one end": "fields.users.phone = { uniform = [1] }",
    "a null that is no probability": "fields.users.phone = { value = 1, null = 2 }",
    "a relationship without columns": "relationships.f = { from = 'users', to = 'users', min = 0, max = 3 }",
    "a rule without SQL": "rules = [{ name = 'x' }]",
}


def as_json(value: Any) -> Any:
    """What an editor makes of TOML's dates and times."""
    match value:
        case dict():
            return {key: as_json(each) for key, each in value.items()}
        case list():
            return [as_json(each) for each in value]
        case date() | datetime() | time():
            return value.isoformat()
    return value


def written() -> str:
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def refusals(values: dict[str, Any]) -> list[str]:
    """What an editor underlines."""
    schema = json.loads(FILE.read_text())
    Draft202012Validator.check_schema(schema)
    return [each.message for each in Draft202012Validator(schema).iter_errors(as_json(values))]


def test_the_schema_of_editors_is_that_of_the_code() -> None:
    """After a change, ``python tests/scenarios/test_structure.py`` writes it anew."""
    assert FILE.read_text() == written()


@pytest.mark.parametrize("name", RIGHT)
def test_right_files_are_right_to_both(name: str) -> None:
    values = tomllib.loads(RIGHT[name])
    assert refusals(values) == []
    assert check_structure(values) == []


@pytest.mark.parametrize("given", EVERY_FIELD, ids=str)
def test_every_field_is_right_to_both(given: Any) -> None:
    values = {"fields": {"users": {"phone": given}}}
    assert refusals(values) == []
    assert check_structure(values) == []


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_are_refused_by_both(name: str) -> None:
    values = tomllib.loads(WRONG[name])
    assert refusals(values) != []
    if name != "a base that does not ship":  # it is looked for before the structure is checked
        assert len(check_structure(values)) == 1


def test_every_kind_of_field_is_described_and_read() -> None:
    assert list(DESCRIBED) == list(KINDS)


def test_places_are_those_of_the_file() -> None:
    """Also where a table or column has the name of a type of ours."""
    values = {"fields": {"Rule": {"ValueField": {"value": 1, "nul": 1}}}, "rules": [{"name": "x", "sql": "y"}, 5]}
    [(field, unknown), (rule, no_table)] = check_structure(values)
    assert field == ("fields", "Rule", "ValueField", "nul")
    assert "did you mean null" in unknown
    assert rule == ("rules", 1)
    assert "[[rules]]" in no_table


if __name__ == "__main__":
    FILE.write_text(written())
    sys.stdout.write(f"{FILE}\n")
