"""About how many rows there are, without counting them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bulkseed.connection import Connection
from bulkseed.tables import TABLE_NAMES

__all__ = ["estimated_rows"]

ROWS: Final = """
WITH RECURSIVE counted AS (
    SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY ($1::text[]) AND c.relname = ANY ($2::text[]) AND c.relkind IN ('r', 'p')
    UNION
    SELECT i.inhrelid FROM pg_inherits AS i JOIN counted ON counted.oid = i.inhparent
)
SELECT coalesce(sum(CASE WHEN reltuples >= 0 AND relpages > 0 THEN reltuples / relpages * pages
                         ELSE pages * $3::float8 END), 0)
FROM pg_class JOIN counted USING (oid),
     LATERAL (SELECT pg_relation_size(oid) / current_setting('block_size')::float8 AS pages) AS size
"""
"""As the planner estimates it: from the pages there are now and what ANALYZE saw on one; partitions count too.
https://www.postgresql.org/docs/current/row-estimation-examples.html"""

ROWS_PER_PAGE: Final = 80.0
"""Of a table that was never analyzed."""


async def estimated_rows(connection: Connection, schemas: Sequence[str]) -> float:
    """About how many rows the tables that bulkseed loads hold in ``schemas``. Raises what asyncpg raises."""
    return float(await connection.fetchval(ROWS, list(schemas), list(TABLE_NAMES), ROWS_PER_PAGE))
