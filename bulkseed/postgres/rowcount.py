"""About how many rows there are, without counting them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bulkseed.postgres.connection import Connection

__all__ = ["estimated_rows"]

ROWS: Final = """
WITH RECURSIVE counted AS (
    SELECT c.oid FROM unnest($1::text[]) AS name JOIN pg_class AS c ON c.oid = to_regclass(name)
    WHERE c.relkind IN ('r', 'p')
    UNION
    SELECT i.inhrelid FROM pg_inherits AS i JOIN counted ON counted.oid = i.inhparent
)
SELECT coalesce(sum(CASE WHEN reltuples >= 0 AND relpages > 0 THEN reltuples / relpages * pages
                         ELSE pages * $2::float8 END), 0)
FROM pg_class JOIN counted USING (oid),
     LATERAL (SELECT pg_relation_size(oid) / current_setting('block_size')::float8 AS pages) AS size
"""
"""As the planner estimates it: from the pages there are now and what ANALYZE saw on one; partitions count too.
https://www.postgresql.org/docs/current/row-estimation-examples.html"""

ROWS_PER_PAGE: Final = 80.0
"""Of a table that was never analyzed."""


async def estimated_rows(connection: Connection, tables: Sequence[str]) -> float:
    """About how many rows ``tables`` hold: names, qualified or as the search_path has them; one that is not there holds
    none. Raises what asyncpg raises.
    """
    return float(await connection.fetchval(ROWS, list(tables), ROWS_PER_PAGE))
