"""Plugin tables: which objects are refused, which rows are refused, and with which code."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import plugins
from bulkseed.errors import InputError, RunError
from bulkseed.generators import Context
from bulkseed.generators.plugins import (
    Parent,
    Parents,
    SeedTable,
    describe_plugin_table,
    load_plugin_table,
    make_batches,
)
from bulkseed.generators.shard_context import STRIDE, Numbering, whole_numbers
from bulkseed.plan.scenario import Scenario
from bulkseed.randomness.draws import Streams
from support.errors import raises
from support.frozen_corpora import frozen_corpus
from support.generated_rows import placement_of
from support.plans import plan_of

COLUMNS = ("user_id", "created_at")


@pytest.mark.parametrize(
    ("source", "code", "facts"),
    [
        ("plugins:not_a_table", "not-a-plugin-table", ("plugins:not_a_table", "name, follows, columns, rows")),
        ("plugins:Lacking", "not-a-plugin-table", ("plugins:Lacking", "follows, columns, rows")),
        ("plugins:Demanding", "not-a-plugin-table", ("plugins:Demanding", "TypeError")),
        ("digestss", "unknown-plugin", ("digestss", "bulkseed.tables", "module:name")),
    ],
)
def test_object_that_is_no_plugin_table_is_refused(source: str, code: str, facts: tuple[str, ...]) -> None:
    with raises(code, *facts, kind=InputError):
        load_plugin_table(source)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("letters", ("columns 'user_id'",)),
        ("twice", ("columns ['user_id', 'user_id']",)),
        ("nameless", ("name None",)),
        ("keyless", ("'user'", "user_id")),
        ("pointless", ("references=",)),
        ("listed", ("references ['user_id']",)),
        ("negative", ("rows_per_parent -1",)),
        ("sometimes", ("late 'yes'",)),
        ("rowless", ("rows [(1,)]",)),
    ],
)
def test_attributes_of_a_plugin_table_are_validated(name: str, facts: tuple[str, ...]) -> None:
    with raises("invalid-plugin-table", f"plugins:{name}", *facts, kind=InputError):
        describe_plugin_table(f"plugins:{name}")


def test_attributes_may_be_left_out() -> None:
    found = describe_plugin_table("plugins:Late")
    assert (found.name, found.follows, found.late, found.source) == ("digests", "users", True, "plugins:Late")
    assert found.references == (("user_id", "users"),)
    assert found.key == ("user_id", "sent_at")


@pytest.mark.parametrize(
    ("rows", "facts"),
    [
        (None, ("digests", "None", "2 values")),
        ([(1,)], ("digests", "(1,)", "user_id, created_at")),
        ([5], ("digests", "5", "user_id, created_at")),
        ([(1, "a"), (2, 3)], ("digests.created_at", "3", "numbers", "texts")),
        ([(1, {1})], ("digests.created_at", "{1}", "set")),
        (pa.RecordBatch.from_arrays([pa.array([1])], ["user"]), ("digests", "user", "user_id, created_at")),
    ],
)
def test_wrong_rows_of_a_plugin_table_are_refused(rows: Any, facts: tuple[str, ...]) -> None:
    with raises("wrong-plugin-rows", *facts, kind=RunError):
        list(make_batches(rows, "digests", COLUMNS))


def test_rows_and_batches_may_be_mixed() -> None:
    def rows() -> Iterator[Any]:
        yield 1, "a"
        yield pa.RecordBatch.from_arrays([pa.array(["b"]), pa.array([2])], ["created_at", "user_id"])
        yield [3, None]

    batches = list(make_batches(rows(), "digests", COLUMNS))
    assert [batch.schema.names for batch in batches] == [[*COLUMNS]] * 3
    assert [tuple(row.values()) for batch in batches for row in batch.to_pylist()] == [(1, "a"), (2, "b"), (3, None)]


def batch_of(**columns: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(values) for values in columns.values()], [*columns])


@pytest.mark.parametrize(
    ("values", "fact"), [([1, None], "null"), ([1.5], "double"), ([[1]], "list<item: int64>"), (["a"], "string")]
)
def test_column_without_ids_or_times_is_refused(values: list[Any], fact: str) -> None:
    with raises("missing-id-or-time", "digests.user_id", fact, kind=RunError):
        whole_numbers(batch_of(user_id=values), "user_id", "digests")


def numbering() -> Numbering:
    extra = describe_plugin_table("plugins:Late")
    plan = plan_of(scenario=Scenario(extras=(extra,)))
    return Numbering(Context(plan, placement_of(), frozen_corpus("en_US")), extra.name)


def test_rows_are_numbered_wherever_batches_end() -> None:
    first = placement_of().first_user
    ids = first + np.array([0, 0, 1, 3, 3, 3])
    expected = [0, 1, STRIDE, 3 * STRIDE, 3 * STRIDE + 1, 3 * STRIDE + 2]
    for stop in range(len(ids) + 1):
        numbers = numbering()
        parts = [numbers.numbers(batch_of(user_id=part)) for part in (ids[:stop], ids[stop:])]
        assert np.concatenate(parts).tolist() == expected


@pytest.mark.parametrize(
    ("ids", "code", "facts"),
    [
        ([2, 1], "rows-out-of-order", ("digests", "user_id")),
        ([1] * (STRIDE + 1), "too-many-rows-of-one-id", ("digests", "user_id", f"{STRIDE:,}")),
    ],
)
def test_rows_that_cannot_be_numbered_are_refused(ids: list[int], code: str, facts: tuple[str, ...]) -> None:
    with raises(code, *facts, kind=RunError):
        numbering().numbers(batch_of(user_id=placement_of().first_user + np.array(ids)))


def test_decorated_function_is_a_table() -> None:
    assert isinstance(plugins.attachments, SeedTable)
    assert (plugins.attachments.name, plugins.attachments.follows) == ("attachments", "messages")


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda row: pickle.loads(pickle.dumps(row))])
def test_a_row_can_be_copied_and_pickled(duplicate: Callable[[Parent], Parent]) -> None:
    numbers = np.arange(3)
    rows = Parents("digests", numbers, numbers + 10, numbers + 20, {"owner_id": numbers + 30}, 50, Streams(1, 10))
    for row in rows:
        other = duplicate(row)
        assert (other.id, other.created_at, other.owner_id) == (row.id, row.created_at, row.owner_id)
        assert other.random.random() == row.random.random()
    with pytest.raises(AttributeError, match="unknown"):
        _ = row.unknown
