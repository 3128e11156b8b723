"""bulkseed: fill a PostgreSQL with millions of believable chat rows before a load test."""

from __future__ import annotations

from bulkseed.generators.parents import Parent, Parents
from bulkseed.generators.plugins import SeedTable, table

__all__ = ["Parent", "Parents", "SeedTable", "table"]
