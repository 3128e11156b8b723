"""Fields: what fills a column of the app's that bulkseed does not know, as a scenario file says it.

Pure functions: :func:`parse_field` makes a frozen value of what was given, :func:`fill` makes a column of it, row by
row the same whatever the batches are. The other functions judge a field before anything is written.
"""

from __future__ import annotations

from bulkseed.fields.source import Distinct, FieldRow, FieldRows, normalised
from bulkseed.fields.spec import FieldSpec, distinct, expected_arrow, extremes, fill, longest, parse_field

__all__ = [
    "Distinct",
    "FieldRow",
    "FieldRows",
    "FieldSpec",
    "distinct",
    "expected_arrow",
    "extremes",
    "fill",
    "longest",
    "normalised",
    "parse_field",
]
