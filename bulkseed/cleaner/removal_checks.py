"""What would prevent a removal: row-level security, tables that reference ours, publications, rules and triggers.

A load asks for all of this before its first write, so that its rows can be removed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg

from bulkseed.cleaner.triggers import find_delete_rules
from bulkseed.postgres.connection import Connection, server_message
from bulkseed.postgres.transaction import trial_transaction
from bulkseed.sql import SQL, compose, identifier
from bulkseed.target.ids import find_row_security, missing_privilege
from bulkseed.target.target import Problem
from bulkseed.target.trial_limits import LOCK_MILLISECONDS

__all__ = ["find_removal_problems"]

REFERENCING: Final = """
WITH ours AS (SELECT name::regclass AS oid FROM unnest($1::text[]) AS name)
SELECT n.nspname::text AS schema, c.relname::text AS name, has_schema_privilege(n.oid, 'USAGE') AS may_use,
       has_table_privilege(c.oid, 'SELECT') OR bool_and(has_column_privilege(c.oid, column_number, 'SELECT'))
           AS may_read,
       bool_and(coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true))
           OR has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE') AS may_lock
FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace,
     unnest(k.conkey) AS column_number
WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confrelid IN (SELECT oid FROM ours)
  AND k.conrelid NOT IN (SELECT oid FROM ours)
GROUP BY c.oid, n.oid ORDER BY 1, 2
"""
"""The other tables with foreign keys to the tables $1: rows of theirs that reference rows to remove are counted. Where
the server does not enforce a key, the table is locked as well."""

PARTITIONS: Final = """
SELECT n.nspname::text AS schema, c.relname::text AS name
FROM pg_partition_tree($1::text::regclass) AS p JOIN pg_class AS c ON c.oid = p.relid
JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE p.isleaf ORDER BY 1, 2
"""

PUBLICATIONS: Final = """
SELECT coalesce(string_agg(DISTINCT quote_ident(p.pubname), ', '), '?') AS publications,
       bool_or(v.rowfilter IS NOT NULL) AS is_filtered,
       EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary) AS has_key,
       (SELECT format('ALTER PUBLICATION %1$I DROP TABLE %2$s; ALTER PUBLICATION %1$I ADD TABLE %2$s (%3$s)',
                      lp.pubname, $1::text, string_agg(quote_ident(la.attname), ', ' ORDER BY la.attnum))
        FROM pg_publication_rel AS lr JOIN pg_publication AS lp ON lp.oid = lr.prpubid
        JOIN pg_attribute AS la ON la.attrelid = lr.prrelid AND la.attnum > 0 AND NOT la.attisdropped
        LEFT JOIN pg_index AS li ON li.indrelid = lr.prrelid AND li.indisprimary
        WHERE lr.prrelid = c.oid AND lr.prattrs IS NOT NULL AND lr.prqual IS NULL AND lp.pubdelete
          AND c.relreplident = 'd' AND li.indexrelid IS NOT NULL
          AND (la.attnum = ANY (lr.prattrs::int2[]) OR la.attnum = ANY (li.indkey::int2[]))
        GROUP BY lp.pubname, li.indexrelid ORDER BY lp.pubname LIMIT 1) AS with_key
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_partition_ancestors(c.oid) AS a ON true
LEFT JOIN pg_class AS ac ON ac.oid = coalesce(a.relid, c.oid) LEFT JOIN pg_namespace AS an ON an.oid = ac.relnamespace
LEFT JOIN pg_publication_tables AS v ON v.schemaname = an.nspname AND v.tablename = ac.relname
LEFT JOIN pg_publication AS p ON p.pubname = v.pubname AND p.pubdelete
WHERE c.oid = $1::text::regclass GROUP BY c.oid
"""
"""The publications of a table, also by the partitioned tables above it, that publish deletions. ``with_key`` are the
statements that add the columns of the key to the column list of one of them."""


MAY_MAKE_TEMPORARY_TABLES: Final = """
SELECT quote_ident(current_user), quote_ident(current_database()),
       has_database_privilege(current_database(), 'TEMPORARY')
"""
"""The rows to remove are listed in temporary tables."""

ACTED_ON: Final = """
WITH acted AS (
    SELECT DISTINCT coalesce(t.relid, k.conrelid) AS oid, k.confdeltype = 'c' AS deletes
    FROM pg_constraint AS k LEFT JOIN pg_partition_tree(k.conrelid) AS t ON true  -- none of other tables
    WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confdeltype IN ('c', 'n', 'd')
      AND k.confrelid IN (SELECT name::regclass FROM unnest($1::text[]) AS name)
      AND NOT (k.confdeltype = 'c' AND k.conrelid IN (SELECT name::regclass FROM unnest($1::text[]) AS name))
)
SELECT n.nspname::text AS schema, c.relname::text AS name, acted.deletes,
       ARRAY(SELECT quote_ident(r.rulename) FROM pg_rewrite AS r
             WHERE r.ev_class = c.oid AND r.is_instead AND r.ev_enabled IN ('O', 'A')
               AND r.ev_type = CASE WHEN acted.deletes THEN '4' ELSE '2' END ORDER BY 1) AS rules,
       (SELECT string_agg(DISTINCT quote_ident(p.pubname), ', ') FROM pg_publication AS p
        JOIN pg_publication_tables AS v ON v.pubname = p.pubname
        JOIN pg_namespace AS vn ON vn.nspname = v.schemaname
        JOIN pg_class AS vc ON vc.relnamespace = vn.oid AND vc.relname = v.tablename
        WHERE CASE WHEN acted.deletes THEN p.pubdelete ELSE p.pubupdate END AND c.relkind = 'r'
          AND (vc.oid = c.oid OR vc.oid IN (SELECT relid FROM pg_partition_ancestors(c.oid)))
          AND NOT CASE c.relreplident WHEN 'f' THEN true WHEN 'n' THEN false
                  ELSE EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indimmediate
                               AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END) END
       ) AS publications,
       EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary AND indimmediate) AS has_key
FROM acted JOIN pg_class AS c ON c.oid = acted.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace
ORDER BY 1, 2, 3
"""
"""The tables that the server itself deletes from or updates, by ON DELETE actions, for each row that is deleted from
the tables $1, also where no row references it: with the rules and publications for which it would fail."""


async def find_removal_problems(connection: Connection, tables: Sequence[SQL]) -> list[Problem]:
    """Return a problem for each reason why rows of ``tables`` cannot be removed, beside those of the tables themselves.

    The user's privileges on them, and their row-level security, are checked by the callers. Deletes nothing. Raises the
    errors of asyncpg.
    """
    problems = await find_unreadable_references(connection, tables)
    user, database, may_make = await connection.fetchrow(MAY_MAKE_TEMPORARY_TABLES)
    if not may_make:
        problems.append(missing_privilege(user, f"GRANT TEMPORARY ON DATABASE {database} TO {user}"))
    problems += await find_delete_rules(connection, tables)
    problems += await find_refused_actions(connection, tables)
    if await connection.fetchval("SELECT EXISTS (SELECT FROM pg_publication WHERE pubdelete)"):
        for table in tables:
            problems += await find_refused_deletion(connection, table)
    return problems


async def find_unreadable_references(connection: Connection, tables: Sequence[SQL]) -> list[Problem]:
    """Return a problem for each other table that references ``tables`` and whose rows the user cannot see."""
    user = await connection.fetchval("SELECT quote_ident(current_user)")
    problems: list[Problem] = []
    readable: list[SQL] = []
    for row in await connection.fetch(REFERENCING, tables):
        table = identifier(row["schema"], row["name"])
        grants = [] if row["may_use"] else [f"GRANT USAGE ON SCHEMA {identifier(row['schema'])} TO {user}"]
        needed = [*(() if row["may_read"] else ("SELECT",)), *(() if row["may_lock"] else ("UPDATE",))]
        grants += [f"GRANT {', '.join(needed)} ON {table} TO {user}"] if needed else []
        if grants:
            problems.append(
                missing_privilege(
                    user,
                    f"{'; '.join(grants)} ({table} references the loaded tables, so that rows can "
                    "be removed only if its rows are known)",
                )
            )
        else:
            readable.append(table)
    return problems + await find_row_security(connection, readable)


async def find_refused_actions(connection: Connection, tables: Sequence[SQL]) -> list[Problem]:
    """Return a problem for each rule and publication for which an ON DELETE action of a foreign key would fail."""
    problems = []
    for row in await connection.fetch(ACTED_ON, tables):
        table = identifier(row["schema"], row["name"])
        action = "ON DELETE CASCADE" if row["deletes"] else "ON DELETE SET NULL or SET DEFAULT"
        prevents = f"prevents the action {action} of a foreign key of {table}, so that rows could not be removed"
        for rule in row["rules"]:
            problems.append(
                Problem(
                    "delete-rule",
                    f"the rule {rule} {prevents}: run this command while it is disabled, with ALTER TABLE {table} "
                    f"DISABLE RULE {rule} before and ENABLE RULE after it",
                )
            )
        if row["publications"]:
            fix = set_identity(table, is_full=not row["has_key"])
            message = f"the publication {row['publications']} {prevents}: {fix}"
            problems.append(Problem("no-replica-identity", message))
    return problems


async def find_refused_deletion(connection: Connection, table: SQL) -> list[Problem]:
    """Return the problems for which the server refuses every deletion from a table, such as those of publications."""
    if await explain_deletion(connection, table) is None:
        return []
    problems = []
    partitions = [identifier(row["schema"], row["name"]) for row in await connection.fetch(PARTITIONS, table)]
    for part in partitions or [table]:
        refusal = await explain_deletion(connection, part)
        if refusal is not None:
            row = await connection.fetchrow(PUBLICATIONS, part)
            fix = row["with_key"] or set_identity(part, is_full=row["is_filtered"] or not row["has_key"])
            problems.append(
                Problem(
                    "no-replica-identity",
                    f"rows of {part} cannot be deleted, because of the publication {row['publications']} "
                    f"({server_message(refusal)}): {fix}",
                )
            )
    return problems


def set_identity(table: SQL, *, is_full: bool) -> SQL:
    """Return the statement that gives a table the replica identity of its key, or of all columns."""
    identity = compose("FULL") if is_full else compose("DEFAULT")
    return compose("ALTER TABLE {table} REPLICA IDENTITY {identity}", table=table, identity=identity)


async def explain_deletion(connection: Connection, table: SQL) -> asyncpg.PostgresError | None:
    """Return the error with which the server refuses a deletion that a publication would have to send; else None.

    None too if the table is locked: this is no reason to wait, or to refuse.
    """
    limit = compose("SELECT set_config('lock_timeout', '{ms}ms', true)", ms=LOCK_MILLISECONDS)
    try:
        async with trial_transaction(connection):
            await connection.execute(limit)
            # the server checks the statement as if it were executed
            await connection.execute(compose("EXPLAIN DELETE FROM {table}", table=table))
    except (asyncpg.LockNotAvailableError, asyncpg.InsufficientPrivilegeError):
        pass  # the privilege is a problem of its own
    except (asyncpg.ObjectNotInPrerequisiteStateError, asyncpg.InvalidColumnReferenceError) as error:
        return error
    return None
