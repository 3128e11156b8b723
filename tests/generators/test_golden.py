"""The rows of some small plans: a digest of every column, pinned in golden/, one file for each plan.

Names and words are those of corpora/ (support/frozen_corpora.py), so that nothing here depends on the installed Faker.
Another digest means that users get other rows for the same seed. If that is intended, raise GENERATOR_VERSION
(bulkseed/randomness/draws.py), mention it in the changelog, and pin the new digests:
``PYTHONPATH=tests:tests/user_code python tests/generators/test_golden.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bulkseed.fields.spec import KINDS
from bulkseed.load_options import Format
from bulkseed.loader.load import load
from bulkseed.plan.plan import Placement, Plan, scale_counts
from bulkseed.plan.shards import uuids_of
from bulkseed.plan.tables import TABLES
from bulkseed.postgres.address import Address
from bulkseed.randomness.draws import GENERATOR_VERSION
from bulkseed.scenarios.planning import make_plan
from bulkseed.sql import compose, identifier, join
from bulkseed.text.faker_source import make_corpus
from bulkseed.text.names import Corpus
from support.frozen_corpora import LOCALES, corpus_from, differences, frozen_corpus, frozen_values, values_of, versions
from support.generated_rows import tables_of
from support.queries import rows

FOLDER: Final = Path(__file__).with_name("golden")
AS_OF: Final = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)

AT_ONE: Final = Placement(first_user=1, first_channel=1, first_message=1, reactions=tuple(range(1, 13)))
ELSEWHERE: Final = Placement(
    first_user=1001, first_channel=500_001, first_message=7, reactions=(3, 4, 8, 15, 16, 23, 42), variant=1
)
WITH_UUIDS: Final = Placement(
    first_user=1,
    first_channel=101,
    first_message=10_001,
    reactions=(1, 2, 3),
    uuids=("users", "channels", "messages"),
)


class Case(NamedTuple):
    """A plan whose rows are pinned, and its placement."""

    plan: Plan
    placement: Placement


def planned(locale: str) -> Plan:
    """The default plan at twice its size."""
    counts = scale_counts("2x")
    return Plan(
        users=counts["users"],
        channels=counts["channels"],
        messages_per_channel=counts["messages_per_channel"],
        as_of=AS_OF,
        seed=1,
        locale=locale,
    )


def scenario(source: str | Path, **options: Any) -> Plan:
    """The plan of a scenario that ships, or of a file."""
    return make_plan(scenario=source, as_of=AS_OF, **options)


CASES: Final[dict[str, Callable[[], Case]]] = {
    "default": lambda: Case(planned("en_US"), AT_ONE),
    "slack": lambda: Case(scenario("slack", scale="2x"), AT_ONE),
    "viral": lambda: Case(scenario("viral", scale="2x", seed=2), AT_ONE),
    "fields": lambda: Case(scenario(FOLDER / "fields.toml"), WITH_UUIDS),
    "tables": lambda: Case(scenario(FOLDER / "tables.toml"), WITH_UUIDS),
    "french": lambda: Case(planned("fr_FR"), ELSEWHERE),
    "japanese": lambda: Case(planned("ja_JP"), ELSEWHERE),
}


def file_of(name: str) -> Path:
    return FOLDER / f"{name}.json"


@cache
def golden(name: str) -> dict[str, Any]:
    """The pinned values of a case; no columns if none are pinned yet."""
    file = file_of(name)
    found: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {"columns": {}}
    return found


def digest(values: pa.ChunkedArray) -> str:
    """A digest of a column's values in their order, independent of chunks and buffers."""
    hashed = blake2b(f"{values.type} {len(values)}".encode(), digest_size=16)
    for octets in octets_of(values.combine_chunks()):
        hashed.update(octets)
    return hashed.hexdigest()


def octets_of(array: pa.Array) -> Iterator[bytes]:
    """Bytes that distinguish an array from any other of its type and length."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    yield array.is_valid().to_numpy(zero_copy_only=False).tobytes()
    if pa.types.is_list(array.type):
        yield pc.fill_null(pc.list_value_length(array), 0).to_numpy().astype("<i8").tobytes()
        flat = array.flatten()
        yield str(len(flat)).encode()
        yield from octets_of(flat)
    elif pa.types.is_string(array.type):
        texts = [text.encode() for text in array.drop_null().to_pylist()]
        yield np.array([len(text) for text in texts], dtype="<i8").tobytes()
        yield b"".join(texts)
    elif pa.types.is_fixed_size_binary(array.type):
        yield b"".join(array.drop_null().to_pylist())
    elif pa.types.is_floating(array.type):
        yield pc.fill_null(array, 0.0).to_numpy().astype("<f8").tobytes()
    else:
        whole = array.cast(pa.int32()) if pa.types.is_date32(array.type) else array
        yield pc.fill_null(whole.cast(pa.int64()), 0).to_numpy().astype("<i8").tobytes()


@cache
def digests(name: str) -> dict[str, dict[str, str]]:
    """The digest of every column of every table, and of the UUID keys of tables that have them."""
    plan, placement = CASES[name]()
    tables = tables_of(plan, placement, corpus=frozen_corpus(plan.locale))
    found = {table: {column: digest(rows[column]) for column in rows.column_names} for table, rows in tables.items()}
    for table, keys in uuids_of(plan, placement, tables["messages"].num_rows).items():
        ids = tables[table]["id"].combine_chunks()
        found[table][f"id as UUID {keys.version}"] = digest(pa.chunked_array([keys.octets(ids)]))
    return found


@pytest.mark.parametrize(("name", "table"), [(name, table) for name in CASES for table in golden(name)["columns"]])
def test_columns_have_their_pinned_digests(name: str, table: str) -> None:
    assert digests(name)[table] == golden(name)["columns"][table]


@pytest.mark.parametrize("name", CASES)
def test_every_column_of_a_plan_is_pinned(name: str) -> None:
    pinned = golden(name)
    columns = {table: list(columns) for table, columns in digests(name).items()}
    assert {table: list(columns) for table, columns in pinned["columns"].items()} == columns
    plan, placement = CASES[name]()
    assert pinned["plan"] == json.loads(plan.to_json())
    assert pinned["placement"] == json.loads(placement.to_json())
    assert pinned["generator"] == GENERATOR_VERSION, "pin the digests of this version, as the top of this file says"
    assert versions_of(plan.locale) == {package: pinned[package] for package in versions()}, (
        "the corpus is of another version"
    )


def test_every_table_column_and_kind_of_field_is_pinned() -> None:
    assert sorted(file.stem for file in FOLDER.glob("*.json")) == sorted(CASES)
    assert {table: list(columns) for table, columns in golden("default")["columns"].items()} == {
        table.name: list(table.column_names) for table in TABLES
    }
    fields = CASES["fields"]().plan.scenario.fields.values()
    assert {kind for columns in fields for given in columns.values() for kind in kinds_in(given)} == set(KINDS)
    extras = CASES["tables"]().plan.scenario.extras
    assert {bool(extra.source) for extra in extras} == {bool(extra.late) for extra in extras} == {True, False}
    assert {CASES[name]().plan.locale for name in CASES} == set(LOCALES)


def kinds_in(given: Any) -> set[str]:
    return {"faker"} if isinstance(given, str) else KINDS.keys() & given.keys()


def test_digest_sees_values_and_not_chunks() -> None:
    for values in (
        [1, None, 3, 3],
        ["a", None, "", "bc"],
        [True, None, False, True],
        [0.5, None, -0.25, 1.0],
        [[1], None, [], [1, None]],
        [["a", "b"], None, [], ["ab"]],
        [AS_OF.date(), None, AS_OF.date().replace(day=2), AS_OF.date()],
    ):
        whole = pa.chunked_array([pa.array(values)])
        in_two = pa.chunked_array([pa.array(values).slice(0, 1), pa.array(values).slice(1)])
        assert digest(whole) == digest(in_two)
        assert digest(whole) != digest(pa.chunked_array([pa.array([values[0], values[2], values[2], values[3]])]))
        assert digest(whole) != digest(pa.chunked_array([pa.array(values[::-1])]))
    for one, other in (
        (["ab", "c"], ["a", "bc"]),
        ([["ab"], ["c"]], [["a"], ["bc"]]),
        ([[1, 2], [3]], [[1], [2, 3]]),
        ([[1, 0]], [[1, None]]),
        ([1.0], [1.0000000000000002]),
    ):
        assert digest(pa.chunked_array([pa.array(one)])) != digest(pa.chunked_array([pa.array(other)]))


# --- the frozen corpora, and the installed Faker ---------------------------------------------------------------------


def versions_of(locale: str) -> dict[str, str]:
    return {name: frozen_values(locale)[name] for name in versions()}


@pytest.mark.parametrize("locale", LOCALES)
def test_frozen_corpus_is_complete(locale: str) -> None:
    kept = frozen_values(locale)
    assert differences(values_of(frozen_corpus(locale)), kept) == []
    installed = make_corpus(locale)
    again = corpus_from(json.loads(json.dumps(values_of(installed))))
    plan = planned(locale)
    made_of_each = [tables_of(plan, AT_ONE, corpus=corpus) for corpus in (installed, again)]
    assert made_of_each[0] == made_of_each[1]


@pytest.mark.parametrize("locale", LOCALES)
def test_differences_of_the_installed_faker_are_reported(
    locale: str, record_property: Callable[[str, object], None]
) -> None:
    """Another version of Faker may differ, which the report shows; the frozen version may not."""
    differing = differences(frozen_values(locale), values_of(make_corpus(locale)))
    record_property("frozen", versions_of(locale))
    record_property("installed", versions())
    record_property("differing", differing)
    print(f"{locale}: {', '.join(differing) or 'nothing'} differs from {versions_of(locale)} in {versions()}")
    assert not differing or versions() != versions_of(locale), (
        "write the corpora anew: python tests/support/frozen_corpora.py"
    )


def test_differences_are_seen() -> None:
    kept = frozen_values("fr_FR")
    assert differences(kept, kept | {"faker": "1.0"}) == []
    assert differences(kept, kept | {"words": kept["words"][1:], "full_stop": "!"}) == ["full_stop", "words"]
    first, *rest = kept["pools"]
    [text, slug, _], *others = first
    assert differences(kept, kept | {"pools": [[[text, slug, "1/7"], *others], *rest]}) == ["pools"]


# --- a fresh machine -------------------------------------------------------------------------------------------------


def test_fault_21_nothing_that_is_pinned_depends_on_the_installed_faker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of Faker, with other names and words, changes no digest, and lets no test be skipped."""

    def make_no_corpus(locale: str) -> Corpus:
        raise AssertionError(f"the corpus of {locale} is taken from the installed Faker")

    monkeypatch.setattr("support.generated_rows.make_corpus", make_no_corpus)
    monkeypatch.setattr("support.frozen_corpora.FAKER_VERSION", "0.1")
    assert versions()["faker"] == "0.1"
    for name in CASES:
        assert digests.__wrapped__(name) == golden(name)["columns"]
        test_every_column_of_a_plan_is_pinned(name)


@pytest.mark.core
@pytest.mark.parametrize("copy_format", ["binary", "records"])
async def test_fault_21_the_rows_in_a_database_have_the_pinned_digests(
    database: Address, monkeypatch: pytest.MonkeyPatch, copy_format: Format
) -> None:
    plan, placement = CASES["default"]()
    monkeypatch.setattr("bulkseed.loader.load.make_corpus", frozen_corpus)
    report = await load(plan, database, copy_format=copy_format, defer="never")
    assert report.placement == placement
    generated = tables_of(plan, placement, corpus=frozen_corpus("en_US"))
    for table, pinned in golden("default")["columns"].items():
        columns = {name: pinned[name] for name in plan.model.by_name[table].column_names}
        loaded = await rows(
            database,
            compose(
                "SELECT {columns} FROM {table}", columns=join(", ", map(identifier, columns)), table=identifier(table)
            ),
        )
        # in the order of the generators, which that of the heap need not be
        keys = plan.model.by_name[table].key
        by_key = {tuple(row[list(columns).index(key)] for key in keys): row for row in loaded}
        ordered = [by_key[key] for key in zip(*(generated[table].column(key).to_pylist() for key in keys), strict=True)]
        assert len(ordered) == len(loaded)
        by_column = dict(zip(columns, zip(*ordered, strict=True), strict=True))
        types = generated[table].schema
        found = {name: pa.chunked_array([pa.array(by_column[name], types.field(name).type)]) for name in columns}
        assert {name: digest(values) for name, values in found.items()} == columns


# --- pinning ---------------------------------------------------------------------------------------------------------


def pin() -> None:
    """Write the digests of this version to golden/, where they differ from the pinned ones."""
    for name, case in CASES.items():
        plan, placement = case()
        pinned = {
            **versions_of(plan.locale),
            "generator": GENERATOR_VERSION,
            "plan": json.loads(plan.to_json()),
            "placement": json.loads(placement.to_json()),
            "columns": digests(name),
        }
        if pinned != golden(name):  # equal values stay as they are, independent of the order of a scenario's tables
            file_of(name).write_text(json.dumps(pinned, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    pin()
