"""Fields: the values of the app's columns that bulkseed does not know, as a scenario file describes them.

Pure functions: :func:`parse_field` makes a frozen value from a field of the file, and :func:`fill` makes a column from
that value. A row's value does not depend on the batch that the row is in. The other functions tell the properties of
the values before anything is written.
"""

from __future__ import annotations

from bulkseed.fields.fakers import FakePool, keep_pools, make_pools
from bulkseed.fields.source import Distinct, FieldRow, FieldRows, normalise
from bulkseed.fields.spec import (
    FieldSpec,
    distinct,
    expected_arrow,
    extremes,
    fill,
    longest,
    parse_field,
    pools_of,
    uses_faker,
)

__all__ = [
    "Distinct",
    "FakePool",
    "FieldRow",
    "FieldRows",
    "FieldSpec",
    "distinct",
    "expected_arrow",
    "extremes",
    "fill",
    "keep_pools",
    "longest",
    "make_pools",
    "normalise",
    "parse_field",
    "pools_of",
    "uses_faker",
]
