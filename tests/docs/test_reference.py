"""The reference pages, compared with the package: rules, error codes, the ledger, scenario files, Python."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Final

import bulkseed
from bulkseed import errors
from bulkseed.fields.spec import KINDS
from bulkseed.plan.plan import Probabilities
from bulkseed.plan.scenario import Shape
from bulkseed.postgres.address import Address
from support.commands import inside
from support.pages import BLOCKS, PAGES, tables
from support.queries import rows

PACKAGE: Final = Path(bulkseed.__file__).parent
RULES: Final = PAGES["docs/reference/rules.md"]


def first_cells(page: str, header: str) -> list[str]:
    """Return the names in backquotes in the first column of all tables with this header."""
    return [
        name
        for table in tables(PAGES[page])
        if table[0][0] == header
        for row in table[1:]
        for name in re.findall(r"`([^`]+)`", row[0])
    ]


async def test_rules_are_those_that_verify_prints(seeded: Address) -> None:
    [report] = await bulkseed.verify(seeded)
    described = [row[0] for table in tables(RULES) if table[0] == ["number", "rule"] for row in table[1:]]
    assert len(described) == len(set(described))
    shown = re.findall(r"^  ([A-Z]\d?) +(\d+)   (.*)$", PAGES["docs/tutorial.md"], re.MULTILINE)
    assert len(shown) > 1
    assert set(shown) <= {(rule.rule, str(rule.violations), rule.text) for rule in report.rules}
    assert set(described) == {rule.rule for rule in report.rules} | {chance.rule for chance in report.chances}


def test_each_rule_of_the_code_is_described() -> None:
    """Those of shapes too, which the run above does not have."""
    named = {
        node.value
        for file in (PACKAGE / "verifier").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[A-Z]\d", node.value)
    }
    assert named == {row[0] for table in tables(RULES) if table[0][0] == "number" for row in table[1:]} - {"N"}


async def test_the_ledger_has_these_tables(seeded: Address) -> None:
    page = PAGES["docs/reference/ledger.md"]
    described = {}
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        [table] = [table for table in tables(section) if table[0][:2] == ["column", "type"]]
        described[section.split("\n")[0]] = [(row[0].strip("`"), row[1].strip("`")) for row in table[1:]]
    found: dict[str, list[tuple[str, str]]] = {}
    for table, column, type_ in await rows(
        seeded,
        "SELECT relname, attname, replace(format_type(atttypid, atttypmod), 'timestamp with time zone', 'timestamptz') "
        "FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid "
        "WHERE relnamespace = 'bulkseed'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped "
        "ORDER BY relname, attname",
    ):
        found.setdefault(table, []).append((column, type_))
    assert {table: sorted(columns) for table, columns in described.items()} == found


async def test_the_states_of_a_run(seeded: Address) -> None:
    [(constraint,)] = await rows(
        seeded,
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conrelid = 'bulkseed.runs'::regclass AND contype = 'c'",
    )
    assert set(first_cells("docs/reference/ledger.md", "state in the table")) == set(
        re.findall("'([a-z]+)'", constraint)
    )


def test_every_key_of_a_scenario_file_is_described() -> None:
    page = PAGES["docs/reference/scenario-file.md"]
    schema = json.loads((PACKAGE / "scenarios" / "schema.json").read_text())
    keys = {re.sub(r"[\[\]]|\.TABLE", "", name) for name in first_cells("docs/reference/scenario-file.md", "key")}
    nested = [table for name, table in schema["$defs"].items() if not name.endswith("Field") and name != "Steps"]
    assert keys == set(schema["properties"]).union(*(table["properties"] for table in nested))
    assert first_cells("docs/reference/scenario-file.md", "kind") == list(KINDS)
    options = {key for name, kind in schema["$defs"].items() if name.endswith("Field") for key in kind["properties"]}
    assert {key for key in options - KINDS.keys() if f"`{key}`" not in page} == set()


def test_the_defaults_of_a_scenario_file() -> None:
    described: dict[str, str] = {}
    for table in tables(PAGES["docs/reference/scenario-file.md"]):
        if table[0][-1] == "default":
            for row in table[1:]:
                described.update(zip(re.findall(r"`(\w+)`", row[0]), row[-1].split(", "), strict=True))
    for parameters in (Probabilities, Shape):
        for parameter in fields(parameters):
            number, _, divisor = described[parameter.name].partition("/")
            assert float(number) / float(divisor or 1) == parameter.default, parameter.name


def test_the_signatures_are_those_of_the_package() -> None:
    [table] = [table for table in tables(PAGES["docs/reference/python.md"]) if table[0][0] == "function"]
    found = [call.groups() for row in table[1:] if (call := re.fullmatch(r"`(?:await )?(\w+)\((.*)\)`", row[0]))]
    assert len(found) == len(table) - 1 == 6
    for name, listed in found:
        code = getattr(bulkseed, name).__code__
        known = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        told = [each for each in listed.split(", ") if each not in {"*", "…"}]
        assert set(told) == set(known) if "…" not in listed else set(told) <= set(known), name


def test_the_error_is_reported_as_shown() -> None:
    """On stderr, and with --json as an object on stdout."""
    page = PAGES["docs/reference/exit-statuses.md"]
    [(command, code)] = re.findall(r"^\$ bulkseed (.*)\nbulkseed: error \[([\w-]+)\]: ", page, re.MULTILINE)
    [shown] = [json.loads(text)["error"] for name, language, text in BLOCKS if language == "json"]
    done = inside(*command.split(), "--json")
    printed = json.loads(done.stdout)["error"]
    assert shown.keys() == printed.keys()
    assert (shown["code"], shown["exit_status"]) == (printed["code"], printed["exit_status"]) == (code, done.returncode)
    assert done.stderr.startswith(f"bulkseed: error [{code}]: ")


def test_exit_statuses_of_errors_are_described() -> None:
    [table] = [table for table in tables(PAGES["docs/reference/exit-statuses.md"]) if table[0][0] == "status"]
    described = {int(status) for row in table[1:] for status in row[0].split(", ")}
    assert {
        kind.exit_status
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.BulkseedError)
    } <= described
