"""Errors and SQL: every error has a code, and survives a pipe and a task group; composed SQL is safe for any text."""

from __future__ import annotations

import ast
import importlib
import math
import pickle
import pkgutil
import re
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeGuard

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import given
from hypothesis import strategies as st

import bulkseed
from bulkseed.embedded import Server
from bulkseed.errors import BulkseedError, RunError, TransientError, reraise_first
from bulkseed.postgres.connection import connect
from bulkseed.sql import SQL, compose, identifier, join, literal, trusted
from support.databases import address_of
from support.pages import PAGES, tables

ROOT: Final = Path(bulkseed.__file__).parent
PARTS: Final = {file.relative_to(ROOT).parts[0].removesuffix(".py") for file in ROOT.rglob("*.py")}
CHECKED: Final = sorted(PARTS - {"errors"})
"""The folders, and the modules beside them, in which every error must have a code."""

KEBAB_CASE: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def subclasses(kind: type[BulkseedError]) -> Iterator[type[BulkseedError]]:
    yield kind
    for subclass in kind.__subclasses__():
        yield from subclasses(subclass)


def all_errors() -> list[type[BulkseedError]]:
    """Return BulkseedError and its subclasses in all modules of the package."""
    for module in pkgutil.walk_packages([str(ROOT)], "bulkseed."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return sorted(set(subclasses(BulkseedError)), key=lambda kind: kind.__qualname__)


ERRORS: Final = all_errors()


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__qualname__)
def test_errors_survive_pickling(kind: type[BulkseedError]) -> None:
    for code in ("missing-table", "no-answer"):
        error = pickle.loads(pickle.dumps(kind("no table\nusers", code=code)))
        assert type(error) is kind
        assert (str(error), error.code) == ("no table\nusers", code)


def code_position(node: ast.AST) -> tuple[str, int] | None:
    """Return the name of a function or tuple that takes a code by position, and that position; else None."""
    if isinstance(node, ast.ClassDef):
        names = [field.target.id for field in node.body if isinstance(field, ast.AnnAssign) and is_name(field.target)]
        is_tuple = any(isinstance(base, ast.Name) and base.id == "NamedTuple" for base in node.bases)
    elif isinstance(node, ast.FunctionDef):
        required = len(node.args.args) - len(node.args.defaults)
        names, is_tuple = [argument.arg for argument in node.args.args[:required]], True
    else:
        return None
    return (node.name, names.index("code")) if is_tuple and "code" in names else None


def is_name(target: ast.expr) -> TypeGuard[ast.Name]:
    return isinstance(target, ast.Name)


TREES: Final = {str(file.relative_to(ROOT)): ast.parse(file.read_text()) for file in sorted(ROOT.rglob("*.py"))}
POSITIONS: Final = dict(filter(None, map(code_position, chain.from_iterable(map(ast.walk, TREES.values())))))
"""Where those that are called with a code that has no keyword, such as Problem, expect it: from 0."""


def codes(tree: ast.Module) -> Iterator[tuple[str, int, ast.expr | None]]:
    """Yield the name, the line and the code of each call that creates an error, or takes its code; None: no code."""
    names = {kind.__name__ for kind in ERRORS}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
            found = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            if not found and name in POSITIONS:
                found = node.args[POSITIONS[name] :][:1]
            if found or name in names | POSITIONS.keys():
                yield name, node.lineno, found[0] if found else None


def wrong_codes(tree: ast.Module) -> list[str]:
    """Return the calls in ``tree`` that create an error, or take its code, without one in kebab-case, by line."""
    return [f"{name} in line {line}" for name, line, code in codes(tree) if code is None or not is_code(code)]


def is_code(value: ast.expr) -> bool:
    """Return whether an expression is a code: a constant, the ``code`` of another error, or a variable ``code``."""
    if isinstance(value, ast.Constant):
        return isinstance(value.value, str) and KEBAB_CASE.fullmatch(value.value) is not None
    if isinstance(value, ast.IfExp):
        return is_code(value.body) and is_code(value.orelse)
    return (isinstance(value, ast.Attribute) and value.attr == "code") or (
        isinstance(value, ast.Name) and value.id == "code"
    )


def constants(value: ast.expr | None) -> set[str]:
    """Return the texts that an expression can be."""
    if isinstance(value, ast.IfExp):
        return constants(value.body) | constants(value.orelse)
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "common_code":
        return constants(value.args[1])
    return {value.value} if isinstance(value, ast.Constant) and isinstance(value.value, str) else set()


def assigned_codes(tree: ast.Module) -> set[str]:
    """Return the texts that are assigned to variables ``code``."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = list(zip(target.elts, value.elts, strict=True))
            else:
                pairs = [(target, value)]
            found = found.union(*(constants(value) for name, value in pairs if is_name(name) and name.id == "code"))
    return found


def all_codes() -> set[str]:
    """Return all codes that occur in the package."""
    return {
        code
        for tree in TREES.values()
        for code in assigned_codes(tree).union(*(constants(value) for _, _, value in codes(tree)))
    }


@pytest.mark.parametrize("checked", CHECKED)
def test_every_error_has_a_code(checked: str) -> None:
    trees = {file: tree for file, tree in TREES.items() if Path(file).parts[0].removesuffix(".py") == checked}
    assert trees
    wrong = {file: wrong_codes(tree) for file, tree in trees.items()}
    assert {file: errors for file, errors in wrong.items() if errors} == {}


def test_the_check_sees_wrong_codes() -> None:
    for arguments in ("'no table'", "'no table', code='No_Table'", "'no table', code=''", "'no table', code=name"):
        assert wrong_codes(ast.parse(f"\nraise TargetError({arguments}) from None")) == ["TargetError in line 2"]
    for code in ("'missing-table'", "error.code", "code", "'missing-table' if missing else error.code"):
        assert wrong_codes(ast.parse(f"return TargetError('no table', code={code})")) == []
    for call in ("Problem('No table')", "Problem()", "entry.error('x', code='')", "kind('x', code='a b')"):
        name = call.partition("(")[0].removeprefix("entry.")
        assert wrong_codes(ast.parse(call)) == [f"{name} in line 1"]
    for call in ("Problem('missing-table', 'x')", "Problem(error.code, 'x')", "errors.TargetError('x', code='y')"):
        assert wrong_codes(ast.parse(call)) == []
    assert assigned_codes(ast.parse("code, fix = 'a' if x else 'b', 'c'\ncode = 'd'\nother = 'e'")) == {"a", "b", "d"}


UNTESTED: Final = """
commit-unknown
declined
initdb-failed
no-account
no-socket-folder
programs-not-copied
server-not-stopping
server-unreachable
several-schemas
unsafe-home
unusable-programs
"""
"""The codes that no test asserts. That of a new error belongs in a test of its own, and not here."""


def test_each_code_is_asserted_by_a_test() -> None:
    """Or at least named by one: in Python, or in a file of cases, where bars divide them from other facts."""
    tests = Path(__file__).parent
    named = {
        node.value
        for file in tests.rglob("*.py")
        if file.name != Path(__file__).name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant)
    }
    for file in tests.rglob("*.txt"):
        named.update(part.strip() for line in file.read_text().splitlines() for part in line.split("|"))
    assert sorted(all_codes() - named) == UNTESTED.split()


def test_each_code_is_documented() -> None:
    """In a table of codes and meanings, and once."""
    page = PAGES["docs/reference/exit-statuses.md"]
    cells = [row[0] for table in tables(page) if table[0] == ["code", "meaning"] for row in table[1:]]
    described = sorted(code for cell in cells for code in re.findall("`([^`]+)`", cell))
    assert described == sorted(set(described))
    texts = {node.value for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert all_codes() <= set(described) <= texts


Query = Callable[[SQL], Any]
"""A function that returns the row of a query."""


@pytest.fixture(scope="module", params=["on", "off"])
def query(server: Server, request: pytest.FixtureRequest) -> Iterator[Query]:
    """A connection with either value of standard_conforming_strings, in an event loop of another thread."""
    with start_blocking_portal() as portal:
        connection = portal.call(connect, address_of(server, "postgres"))
        setting = compose("SET standard_conforming_strings = {value}", value=literal(request.param))
        portal.call(connection.execute, setting)
        assert portal.call(connection.fetchval, "SHOW standard_conforming_strings") == request.param
        yield lambda sql: portal.call(connection.fetchrow, sql)
        portal.call(connection.close)


characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
special = st.sampled_from(["'", '"', "\\", "$", "{", "}", ":", ";", "--", "/*", "E'", "U&", "\n", "%", "é"])
texts = st.lists(special | st.text(characters, max_size=5), max_size=12).map("".join)
"""Any text that PostgreSQL can store; characters with a meaning in SQL are frequent."""

NAME_BYTES: Final = 63
"""The longest name, in UTF-8: longer ones are truncated."""

names = texts.map(lambda text: text.encode()[:NAME_BYTES].decode(errors="ignore")).filter(bool)


@given(text=texts)
def test_a_literal_is_the_same_text(query: Query, text: str) -> None:
    row = query(compose("SELECT {value}, length({value})", value=literal(text)))
    assert tuple(row) == (text, len(text))


@given(number=st.floats() | st.integers(-(2**63), 2**63 - 1))
def test_a_literal_is_the_same_number(query: Query, number: float) -> None:
    (value,) = query(compose("SELECT {value}", value=literal(number)))
    # constants with a decimal point or an exponent are of type numeric
    value = type(number)(value)
    assert value == number or (math.isnan(value) and math.isnan(number))


def test_none_is_null(query: Query) -> None:
    assert tuple(query(compose("SELECT {value}", value=literal(None)))) == (None,)


@given(name=names, other=names)
def test_an_identifier_is_the_same_name(query: Query, name: str, other: str) -> None:
    row = query(
        compose(
            "SELECT {column}, {alias} FROM (SELECT 1 AS {name}) AS {alias}",
            column=identifier(other, name),
            name=identifier(name),
            alias=identifier(other),
        )
    )
    assert list(row.keys()) == [name, other]


@given(text=texts)
def test_braces_within_parts_stay(query: Query, text: str) -> None:
    braces = "{value} {name} {" + text + "}"
    statement = compose("SELECT {value} AS {name}", value=literal(braces), name=identifier("{value}"))
    row = query(statement)
    assert dict(row) == {"{value}": braces}
    # a composed statement is a part of another one, and not a template
    assert query(compose("SELECT * FROM ({inner}) AS inner_query", inner=statement)) == row


@given(parts=st.lists(texts, min_size=1, max_size=5))
def test_joined_parts(query: Query, parts: list[str]) -> None:
    row = query(compose("SELECT {values}", values=join(", ", map(literal, parts))))
    assert tuple(row) == tuple(parts)


@given(text=texts)
def test_text_is_no_part(text: str) -> None:
    with pytest.raises(TypeError):
        compose("SELECT {value}", value=text)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        join(", ", [literal(text), text])  # type: ignore[list-item]


def test_parts_and_their_names_must_agree() -> None:
    with pytest.raises(TypeError, match="absent"):
        compose("SELECT {absent}, {present}", present=literal(1))
    with pytest.raises(TypeError, match="extra"):
        compose("SELECT {present}", present=literal(1), extra=literal(2))


@given(
    whole=st.integers(-(2**63), 2**63 - 1),
    fraction=st.floats(-1e300, 1e300) | st.just(-0.0),
)
def test_a_negative_number_begins_no_comment(query: Query, whole: int, fraction: float) -> None:
    row = query(
        compose(
            "SELECT 1::numeric -{whole} AS composed, 1::numeric -{literal} AS whole, 0 -{fraction}::float8 AS fraction",
            whole=whole,
            literal=literal(whole),
            fraction=literal(fraction),
        )
    )
    assert tuple(row) == (1 - whole, 1 - whole, 0 - fraction)


def test_composed_text() -> None:
    assert identifier("public", 'odd"name') == '"public"."odd""name"'
    assert compose("LIMIT {rows}", rows=5) == "LIMIT 5"
    assert compose("'{1,2}' '{1}' {} {{ {name}", name=trusted("x")) == "'{1,2}' '{1}' {} {{ x"
    composed = (compose(""), identifier("a"), literal("a"), literal(None), literal(1.5), join(",", []), trusted(""))
    assert all(isinstance(part, SQL) for part in composed)


async def fail(error: Exception, cause: Exception | None) -> None:
    try:
        int("no number")
    except ValueError:
        if cause is None:
            raise error  # noqa: B904 - the context alone
        raise error from cause


async def fail_in_group(error: Exception, cause: Exception | None) -> None:
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail, error, cause)
            await anyio.sleep_forever()
    except BaseExceptionGroup as group:
        reraise_first(group)


@pytest.mark.parametrize("cause", [None, KeyError("the driver's")])
async def test_the_error_of_a_task_group_keeps_its_cause_and_context(cause: Exception | None) -> None:
    error = RunError("failed", code="some-code")
    with pytest.raises(RunError) as caught:
        await fail_in_group(error, cause)
    assert caught.value is error
    assert error.__cause__ is cause
    assert isinstance(error.__context__, ValueError)
    assert error.__suppress_context__ == (cause is not None)


def test_an_error_of_bulkseed_comes_before_others() -> None:
    ours = TransientError("ours", code="ours")
    with pytest.raises(TransientError) as caught:
        reraise_first(BaseExceptionGroup("", [OSError("other"), ExceptionGroup("", [ours])]))
    assert caught.value is ours
