"""SQL is composed: no statement of the package is built by str.format, an f-string, ``%`` or ``+``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import bulkseed
from bulkseed.sql import compose, identifier, join, literal

PACKAGE: Final = Path(bulkseed.__file__).parent

STATEMENT: Final = re.compile(
    r"\s*(SELECT|WITH|INSERT INTO|UPDATE|DELETE FROM|TRUNCATE|ALTER|CREATE|DROP|COPY|LOCK|SET|RESET)\s"
)
"""The beginning of a statement. Messages begin with other words; those of ANALYZE and VACUUM with these."""

SENDING: Final = {"execute", "executemany", "fetch", "fetchrow", "fetchval", "prepare", "cursor"}
"""The methods of a connection that send the statement that is their first argument."""


def is_text_put_together(node: ast.AST) -> bool:
    """Whether the expression is text that is made of parts: an f-string with values, ``+``, ``%`` or ``format``."""
    match node:
        case ast.JoinedStr(values=parts):
            return any(isinstance(part, ast.FormattedValue) for part in parts)
        case ast.BinOp(op=ast.Mod() | ast.Add()):
            return True
        case ast.Call(func=ast.Attribute(attr="format" | "format_map" | "join")):
            return True
    return False


def beginning_of(node: ast.AST) -> str:
    """The constant text that the expression begins with."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=[first, *_]):
            return beginning_of(first)
        case ast.BinOp(left=left):
            return beginning_of(left)
        case ast.Call(func=ast.Attribute(value=template)):
            return beginning_of(template)
    return ""


def wrong_sql(source: str) -> Iterator[int]:
    """Yield the lines on which text is put together that is sent, or begins as a statement does; and any ``format``."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr=name), args=[first, *_]) if name in SENDING:
                if is_text_put_together(first):
                    yield node.lineno
            case ast.Call(func=ast.Attribute(attr="format" | "format_map", value=template)) if not is_formatter(
                template
            ):
                yield node.lineno
        if isinstance(node, ast.expr) and is_text_put_together(node) and STATEMENT.match(beginning_of(node)):
            yield node.lineno


def is_formatter(node: ast.AST) -> bool:
    """Whether the value may be a formatter of ``logging``: ``self`` or ``super()``."""
    match node:
        case ast.Name(id="self") | ast.Call(func=ast.Name(id="super")):
            return True
    return False


def test_point_23_no_sql_is_put_together_as_text() -> None:
    wrong = {
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in PACKAGE.rglob("*.py")
        for line in wrong_sql(path.read_text("utf-8"))
        if path.name != "sql.py"
    }
    assert wrong == set()


def test_point_23_the_test_sees_what_is_wrong() -> None:
    for source in (
        "'SELECT {x}'.format(x=1)",
        "TEMPLATE.format(table=table)",
        "f'DELETE FROM {table}'",
        "'SELECT count(*) FROM ' + table",
        "'ALTER TABLE %s' % table",
        "connection.fetch(f'{beginning} FROM t')",
        "connection.execute(BEGINNING + rest)",
    ):
        assert [*wrong_sql(source)], source
    for source in ("compose('SELECT {x}', x=x)", "f'add a column {name}'", "self.format(record)", "fetch('SELECT 1')"):
        assert not [*wrong_sql(source)], source


def test_point_23_names_with_braces_and_percent_signs_stay_as_they_are() -> None:
    column = identifier('a{b} "%s" {column}')
    condition = compose("t.{column} = {value}", column=column, value=literal("{column} %(x)s $1"))
    statement = compose("SELECT {outputs} WHERE {condition}", outputs=join(", ", [column]), condition=condition)
    quoted = '"a{b} ""%s"" {column}"'
    assert statement == f"SELECT {quoted} WHERE t.{quoted} = '{{column}} %(x)s $1'"
