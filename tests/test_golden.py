"""The rows of one small plan, as they always were: a digest of every column, in golden.json.

A change here is a change of the rows that users get for a seed. If it is meant, raise GENERATOR_VERSION
(bulkseed/streams.py), say so in the changelog, and pin the new digests: ``python tests/test_golden.py``.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from samples import tables_of

from bulkseed.plan.plan import Placement, Plan, scaled_counts
from bulkseed.plan.tables import TABLES
from bulkseed.randomness.streams import GENERATOR_VERSION
from bulkseed.text.faker_corpus import FAKER_VERSION

FILE: Final = Path(__file__).with_name("golden.json")

PLAN: Final = Plan(
    users=scaled_counts("2x")["users"],
    channels=scaled_counts("2x")["channels"],
    messages_per_channel=scaled_counts("2x")["messages_per_channel"],
    as_of=datetime(2026, 6, 1, 12, 30, tzinfo=UTC),
    seed=1,
    locale="en_US",
)
PLACEMENT: Final = Placement(first_user=1, first_channel=1, first_message=1, reactions=tuple(range(1, 13)))

OF_FAKER: Final = {
    ("users", "email"),
    ("users", "name"),
    ("users", "bio"),
    ("channels", "name"),
    ("channels", "description"),
    ("messages", "content"),
}
"""What Faker's names and words are in: another version of Faker may have others."""

COLUMNS: Final = [(table.name, column.name) for table in TABLES for column in table.columns]


def digest(values: pa.ChunkedArray) -> str:
    """A digest of a column's values in their order, whatever chunks and buffers they are in."""
    whole = values.combine_chunks()
    hashed = blake2b(f"{values.type} {len(values)}".encode(), digest_size=16)
    hashed.update(whole.is_valid().to_numpy(zero_copy_only=False).tobytes())
    if pa.types.is_string(whole.type):
        texts = [text.encode() for text in whole.drop_null().to_pylist()]
        hashed.update(np.array([len(text) for text in texts], dtype="<i8").tobytes())
        hashed.update(b"".join(texts))
    else:
        numbers = pc.fill_null(whole.cast(pa.int64()), 0).to_numpy()
        hashed.update(numbers.astype("<i8").tobytes())
    return hashed.hexdigest()


def digests() -> dict[str, dict[str, str]]:
    """The digest of every column of every table."""
    tables = tables_of(PLAN, PLACEMENT)
    return {name: {column: digest(table[column]) for column in table.column_names} for name, table in tables.items()}


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


@pytest.fixture(scope="module")
def made() -> dict[str, dict[str, str]]:
    return digests()


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_column_is_what_it_always_was(
    table: str, column: str, golden: dict[str, Any], made: dict[str, dict[str, str]]
) -> None:
    if (table, column) in OF_FAKER and golden["faker"] != FAKER_VERSION:
        pytest.skip(f"pinned with Faker {golden['faker']}; this is {FAKER_VERSION}, which may have other texts")
    assert made[table][column] == golden["columns"][table][column]


def test_every_column_is_pinned(golden: dict[str, Any]) -> None:
    assert [(table, column) for table, columns in golden["columns"].items() for column in columns] == COLUMNS
    assert golden["plan"] == json.loads(PLAN.to_json())
    assert golden["placement"] == json.loads(PLACEMENT.to_json())
    assert golden["generator"] == GENERATOR_VERSION, "pin the digests of this version: python tests/test_golden.py"


def test_digest_sees_values_and_not_chunks() -> None:
    for values in ([1, None, 3, 3], ["a", None, "", "bc"], [True, None, False, True]):
        whole = pa.chunked_array([pa.array(values)])
        cut = pa.chunked_array([pa.array(values).slice(0, 1), pa.array(values).slice(1)])
        assert digest(whole) == digest(cut)
        assert digest(whole) != digest(pa.chunked_array([pa.array([values[0], values[2], values[2], values[3]])]))
        assert digest(whole) != digest(pa.chunked_array([pa.array(values[::-1])]))
    assert digest(pa.chunked_array([pa.array(["ab", "c"])])) != digest(pa.chunked_array([pa.array(["a", "bc"])]))


def pin() -> None:
    """Write what this version makes to golden.json."""
    pinned = {
        "faker": FAKER_VERSION,
        "generator": GENERATOR_VERSION,
        "plan": json.loads(PLAN.to_json()),
        "placement": json.loads(PLACEMENT.to_json()),
        "columns": digests(),
    }
    FILE.write_text(json.dumps(pinned, indent=2) + "\n")


if __name__ == "__main__":
    pin()
