"""The app's own metadata: its schema, its defaults, and what it does not have."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_mock_engine
from sqlalchemy.dialects import postgresql

from bulkseed.errors import InputError
from bulkseed.loader.load import load
from bulkseed.scenarios.planning import make_plan
from bulkseed.verifier.verify import verify
from examples.models import Base
from support.databases import MakeDatabase
from support.errors import raises
from support.plans import AS_OF
from support.queries import rows, run_sql

SCENARIO = Path(__file__).parents[1] / "user_code" / "examples" / "models.toml"


async def test_models_fill_what_they_would_fill(make_database: MakeDatabase) -> None:
    database = await make_database("empty")
    made = ["CREATE SCHEMA app"]
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    engine = create_mock_engine(
        "postgresql+asyncpg://", lambda each, *_, **__: made.append(str(each.compile(dialect=dialect)))
    )
    Base.metadata.create_all(engine, checkfirst=False)
    await run_sql(database, *made)
    plan = make_plan("2x", as_of=AS_OF, scenario=str(SCENARIO), metadata="examples.models:Base")
    assert plan.scenario.schema == "app"
    await load(plan, database)
    [row] = await rows(
        database,
        "SELECT count(*), count(DISTINCT key), min(plan::text), max(plan::text), min(settings::text), max(logins) "
        "FROM app.accounts",
    )
    assert row == (40, 40, "free", "free", "{}", 0)
    [report] = await verify(database)
    assert report.holds


@pytest.mark.parametrize(
    ("source", "code", "facts"),
    [
        ("examples.models:Bse", "unknown-name", ("examples.models", "Bse", "did you mean Base")),
        ("examples.models:uuid", "not-metadata", ("examples.models:uuid", "MetaData")),
        ("nowhere:Base", "missing-module", ("nowhere", "ModuleNotFoundError", "PYTHONPATH")),
    ],
)
def test_a_name_without_metadata_is_refused(source: str, code: str, facts: tuple[str, ...]) -> None:
    with raises(code, "--metadata", *facts, kind=InputError):
        make_plan(scenario=str(SCENARIO), metadata=source)


def test_models_that_cannot_be_imported_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unsound_models.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with raises("broken-module", "--metadata", "unsound_models", "ZeroDivisionError", kind=InputError):
        make_plan(metadata="unsound_models:Base")


def test_tables_that_the_models_lack_are_listed() -> None:
    with raises("metadata-mismatch", kind=InputError) as caught:
        make_plan(metadata="examples.models:Base")
    heading, *lines = str(caught.value).splitlines()
    assert "examples.models:Base" in heading
    tables = "users", "channels", "user_channels", "messages", "message_reactions", "reactions"
    assert [[table for table in tables if f" {table}:" in line] for line in lines] == [[table] for table in tables]
    assert all("[tables]" in line or "did you mean" in line for line in lines)
