"""The whole contents of a database, rows and schema, to compare before and after."""

from __future__ import annotations

from typing import Final

from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.sql import identifier

CATALOGUE: Final = """
SELECT jsonb_build_array(
    (SELECT jsonb_agg(jsonb_build_array(nspname, nspacl::text) ORDER BY 1) FROM pg_namespace
     WHERE nspname !~ '^pg_(toast_)?temp_'),
    (SELECT jsonb_agg(jsonb_build_array(oid::regclass::text, relkind, relfilenode, relacl::text, reloptions)
                      ORDER BY oid) FROM pg_class WHERE oid >= 16384 AND NOT relnamespace::regnamespace::text ~ '^pg_'),
    (SELECT jsonb_agg(jsonb_build_array(attrelid::regclass::text, attname, atttypid, attnotnull, attisdropped)
                      ORDER BY attrelid, attnum) FROM pg_attribute WHERE attrelid >= 16384),
    (SELECT jsonb_agg(jsonb_build_array(oid, pg_get_constraintdef(oid), convalidated) ORDER BY oid) FROM pg_constraint
     WHERE oid >= 16384),
    (SELECT jsonb_agg(jsonb_build_array(indexrelid, pg_get_indexdef(indexrelid), indisvalid) ORDER BY indexrelid)
     FROM pg_index WHERE indexrelid >= 16384),
    (SELECT jsonb_agg(to_jsonb(s) ORDER BY s::text) FROM pg_sequences AS s),
    (SELECT jsonb_agg(jsonb_build_array(rolname, rolconfig) ORDER BY 1) FROM pg_roles
     WHERE rolname = current_user)
)::text
"""


State = tuple[dict[str, str], str]


async def state(address: Address) -> State:
    """All rows of all tables, as a digest, and all of the schema: objects, sequences, rights, roles."""
    async with open_connection(address) as connection:
        tables = await connection.fetch(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        rows = {
            f"{schema}.{table}": await connection.fetchval(
                "SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) "
                f"FROM {identifier(schema, table)} AS t"
            )
            for schema, table in tables
        }
        return rows, await connection.fetchval(CATALOGUE)
