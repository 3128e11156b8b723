"""The ledger: a schema ``bulkseed`` in the target that records what each run put in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bulkseed.connection import Connection
from bulkseed.errors import InputError, TargetError
from bulkseed.plan import Placement, Plan
from bulkseed.tables import TABLE_NAMES

__all__ = [
    "Run",
    "begin_run",
    "check_ledger",
    "chosen_runs",
    "finish_run",
    "forget_run",
    "hold_load_lock",
    "load_lock_holder",
    "runs",
    "try_load_lock",
]

SCHEMA: Final = "bulkseed"
VERSION: Final = 1

LOCK: Final = 0x62756C6B73656564
"""The bytes of "bulkseed": the advisory lock that keeps loads and cleanups of one database apart."""

DDL: Final = f"""
COMMENT ON SCHEMA {SCHEMA} IS 'what bulkseed loaded, so that it can be verified and removed';
CREATE TABLE {SCHEMA}.version (number integer NOT NULL);
INSERT INTO {SCHEMA}.version VALUES ({VERSION});
CREATE TABLE {SCHEMA}.runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target_schema text NOT NULL,
    plan jsonb NOT NULL,
    placement jsonb NOT NULL,
    made_by jsonb NOT NULL,
    rows jsonb,
    seconds jsonb,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz
);
"""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the ledger has it: its number, where and what it made, by which versions, and the rows of each table."""

    number: int
    schema: str
    plan: Plan
    placement: Placement
    made_by: Mapping[str, str]
    rows: Mapping[str, int]

    def ids(self, table: str) -> tuple[int, int]:
        """The first and the last id of the run's rows in ``users``, ``channels`` or ``messages``."""
        firsts = {
            "users": self.placement.first_user,
            "channels": self.placement.first_channel,
            "messages": self.placement.first_message,
        }
        return firsts[table], firsts[table] + self.rows[table] - 1


async def hold_load_lock(connection: Connection) -> None:
    """Wait for, and hold until the transaction ends, the lock of all that writes seeded rows."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)


async def try_load_lock(connection: Connection) -> bool:
    """Take the same lock if it is free; says whether it was."""
    return bool(await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", LOCK))


async def load_lock_holder(connection: Connection) -> str | None:
    """Who holds the lock, in words; None where it is free."""
    row = await connection.fetchrow(
        """
        SELECT a.pid, a.usename, to_char(a.xact_start AT TIME ZONE 'UTC', 'HH24:MI:SS') AS since
        FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
          AND (l.classid::bigint << 32 | l.objid::bigint) = $1 AND l.pid <> pg_backend_pid()
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """,
        LOCK,
    )
    return None if row is None else f"process {row['pid']} of {row['usename']}, since {row['since']} UTC"


async def exists(connection: Connection) -> bool:
    # from the catalogue: to_regclass() raises an error where the login may not use the schema
    return bool(
        await connection.fetchval(
            "SELECT count(*) = 2 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            "WHERE n.nspname = $1 AND c.relname IN ('runs', 'version')",
            SCHEMA,
        )
    )


async def check_ledger(connection: Connection) -> None:
    """Raises TargetError where this login cannot keep the ledger, or a newer bulkseed has made it."""
    if await exists(connection):
        usable = await connection.fetchval(
            "SELECT CASE WHEN has_schema_privilege($1, 'USAGE') THEN has_table_privilege($2, 'SELECT') "
            "AND has_table_privilege($2, 'INSERT') AND has_table_privilege($2, 'UPDATE') "
            "AND has_table_privilege($2, 'DELETE') ELSE false END",
            SCHEMA,
            f"{SCHEMA}.runs",
        )
        if not usable:
            raise TargetError(
                f"this login may not write to the schema {SCHEMA}, where runs are recorded: "
                f"GRANT USAGE ON SCHEMA {SCHEMA} and ALL ON ALL TABLES IN SCHEMA {SCHEMA} to it"
            )
        await check_version(connection)
    elif not await connection.fetchval("SELECT has_database_privilege(current_database(), 'CREATE')"):
        raise TargetError(
            f"this login may not create the schema {SCHEMA}, where runs are recorded: GRANT CREATE ON DATABASE to it"
        )


async def check_version(connection: Connection) -> None:
    version = await connection.fetchval(f"SELECT number FROM {SCHEMA}.version")
    if version != VERSION:
        raise TargetError(
            f"the schema {SCHEMA} is of version {version}, this bulkseed knows {VERSION}: use a newer bulkseed"
        )


async def begin_run(
    connection: Connection, schema: str, plan: Plan, placement: Placement, made_by: Mapping[str, str]
) -> int:
    """Record a run into the tables of ``schema``, making the ledger where there is none; returns the run's number."""
    if not await exists(connection):
        if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", SCHEMA):
            await connection.execute(f"CREATE SCHEMA {SCHEMA}")
        await connection.execute(DDL)
    return int(
        await connection.fetchval(
            f"INSERT INTO {SCHEMA}.runs (target_schema, plan, placement, made_by) VALUES ($1, $2, $3, $4) RETURNING id",
            schema,
            plan.to_json(),
            placement.to_json(),
            json.dumps(dict(made_by)),
        )
    )


async def finish_run(
    connection: Connection, number: int, rows: Mapping[str, int], seconds: Mapping[str, float]
) -> None:
    """Record that a run is whole."""
    await connection.execute(
        f"UPDATE {SCHEMA}.runs SET rows = $2, seconds = $3, finished_at = clock_timestamp() WHERE id = $1",
        number,
        json.dumps(dict(rows)),
        json.dumps(dict(seconds)),
    )


async def runs(connection: Connection) -> list[Run]:
    """All runs whose rows are in the target, oldest first; none where there is no ledger."""
    if not await exists(connection):
        return []
    await check_version(connection)
    rows = await connection.fetch(
        f"SELECT id, target_schema, plan, placement, made_by, rows FROM {SCHEMA}.runs "
        "WHERE finished_at IS NOT NULL ORDER BY id"
    )
    return [run_of(row) for row in rows]


def run_of(row: Any) -> Run:
    try:
        made_by, rows = json.loads(row["made_by"]), json.loads(row["rows"])
        return Run(
            row["id"],
            row["target_schema"],
            Plan.from_json(row["plan"]),
            Placement.from_json(row["placement"]),
            {name: made_by[name] for name in ("bulkseed", "generator", "faker", "numpy")},
            {name: int(rows[name]) for name in TABLE_NAMES},
        )
    except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
        raise TargetError(
            f"the record of run {row['id']} in schema {SCHEMA} cannot be read ({error!r}): "
            "another bulkseed made it (use a newer one), or it was changed by hand"
        ) from error


async def chosen_runs(connection: Connection, number: int | None) -> list[Run]:
    """All runs, or the one with ``number``. Raises InputError where there is none, or not that one."""
    found = await runs(connection)
    if not found:
        raise InputError("this database has no run of bulkseed: load one first, or name another database")
    if number is None:
        return found
    wanted = [run for run in found if run.number == number]
    if not wanted:
        there = ", ".join(str(run.number) for run in found)
        raise InputError(f"this database has no run {number}: it has {there}")
    return wanted


async def forget_run(connection: Connection, number: int) -> None:
    """Take a run out of the ledger; the ledger goes with the last one, where this login owns it."""
    await connection.execute(f"DELETE FROM {SCHEMA}.runs WHERE id = $1", number)
    last_and_ours = await connection.fetchval(
        f"SELECT NOT EXISTS (SELECT FROM {SCHEMA}.runs) AND "
        "(SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = $1)",
        SCHEMA,
    )
    if last_and_ours:
        await connection.execute(f"DROP TABLE {SCHEMA}.runs, {SCHEMA}.version")
        others = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_class WHERE relnamespace = $1::regnamespace)", SCHEMA
        )
        if not others:
            await connection.execute(f"DROP SCHEMA {SCHEMA}")
