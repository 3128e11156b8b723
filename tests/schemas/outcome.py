"""What a load into a schema ends in: it is refused, with the database untouched, or it leaves nothing after cleanup."""

from __future__ import annotations

import asyncio
import re
import subprocess
import tempfile
import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from difflib import unified_diff
from pathlib import Path
from typing import Final

import asyncpg

import bulkseed
from bulkseed.embedded import Server
from bulkseed.errors import InputError
from bulkseed.plan.plan import Plan
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection
from bulkseed.sql import identifier
from schemas.case import Case, Feature, Kept, Loader, LoadOptions
from schemas.tables import reference
from support.databases import address_of, cloned
from support.plans import planned
from support.queries import run_sql

OWNER: Final = "schemas_owner"
LOADER: Final = "schemas_loader"

OWN: Final = f"""
DO $do$
DECLARE made record;
BEGIN
    FOR made IN SELECT c.oid::regclass AS name, relkind FROM pg_class AS c
                WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
                  AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = c.oid AND relkind = 'S' AND deptype IN ('a', 'i'))
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO {OWNER}', made.name);
    END LOOP;
    EXECUTE format('GRANT CREATE ON DATABASE %I TO {OWNER}', current_database());
    EXECUTE format('ALTER SCHEMA %I OWNER TO {OWNER}', current_schema());
END $do$
"""
GRANT: Final = f"""
DO $do$ BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO {LOADER}', current_schema());
    EXECUTE format('GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA %I TO {LOADER}', current_schema());
    EXECUTE format('GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA %I TO {LOADER}', current_schema());
    EXECUTE format('GRANT CREATE ON DATABASE %I TO {LOADER}', current_database());
END $do$
"""
RIGHTS: Final = {"superuser": "SELECT", "owner": OWN, "granted": GRANT}

FOUND: Final = {"app"}
"""The schemas that the search_path of the database has, as the functions of triggers may need it."""


class Wrong(AssertionError):
    """A third outcome. ``kind`` tells it from others, so that the same fault is reported once."""

    def __init__(self, end: str, text: str) -> None:
        super().__init__(f"{end}: {text}")
        self.kind = re.sub(r"/tmp\S+|[\d\W]+", " ", f"{end}: {text.strip().splitlines()[0]}")[:70]


class NotApplied(Exception):
    """PostgreSQL refuses the schema itself."""


def make_roles(server: Server) -> None:
    """Create the users who load, if there are none."""
    statement = (
        "DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    )
    asyncio.run(
        run_sql(address_of(server, "postgres"), *(statement.replace("{role}", role) for role in (OWNER, LOADER)))
    )


def outcome(server: Server, case: Case) -> str:
    """Run the case in a database of its own; return ``loaded`` or the code of the refusal.

    Parts whose SQL the server refuses are left out. Raises Wrong for any other outcome.
    """

    async def run() -> str:
        async with made(server, case.options) as address:
            actual = replace(case, features=await apply(address, case))
            return await judge(server, address, actual.scenario, case.options, actual.leaves)

    return asyncio.run(run())


def outcome_of_kept(server: Server, kept: Kept) -> str:
    """Run a kept case, as :func:`outcome` does. Raises NotApplied where the server does not know what it has."""

    async def run() -> str:
        async with made(server, kept.options) as address:
            async with open_connection(address) as connection:
                await connection.execute(f"SET search_path = {identifier(kept.options.schema)}, public")
                try:
                    await connection.execute(reference(*kept.tables).sql + kept.sql)
                except asyncpg.PostgresError as error:
                    raise NotApplied(str(error)) from error
                await give_rights(connection, kept.options.loader)
            return await judge(server, address, kept.scenario, kept.options, kept.leaves)

    return asyncio.run(run())


@asynccontextmanager
async def made(server: Server, options: LoadOptions) -> AsyncIterator[Address]:
    """A database with the schema of the case, in which nothing is."""
    async with cloned(server, "template1") as address:
        if options.schema != "public":
            await run_sql(address, f"CREATE SCHEMA {identifier(options.schema)}")
        if options.schema in FOUND:
            database = identifier(address.database)
            await run_sql(address, f"ALTER DATABASE {database} SET search_path = {identifier(options.schema)}, public")
        yield address


async def apply(address: Address, case: Case) -> tuple[Feature, ...]:
    """Make the parts of the case; return those that the server accepts."""
    applied = []
    async with open_connection(address) as connection:
        await connection.execute(f"SET search_path = {identifier(case.options.schema)}, public")
        await connection.execute("SET client_min_messages = error")
        await connection.execute(reference(*case.tables).sql)
        for feature in case.features:
            try:
                async with connection.transaction():
                    await connection.execute(feature.sql)
            except asyncpg.PostgresError:
                continue
            applied.append(feature)
        await give_rights(connection, case.options.loader)
    return tuple(applied)


async def give_rights(connection: Connection, loader: Loader) -> None:
    """Give the user who loads the privileges, whatever the event triggers forbid."""
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(RIGHTS[loader])


async def judge(server: Server, address: Address, scenario: str, options: LoadOptions, leaves: Sequence[str]) -> str:
    """Load, verify and clean up; return ``loaded``, or the code of the refusal. Raises Wrong otherwise."""
    before = dump(server, address)
    target = as_user(address, options)
    with tempfile.TemporaryDirectory() as folder:
        phase, expected = "plan", ""
        try:
            plan = planned(Path(folder), scenario, "1x")
            expected = await check_code(plan, target, options) if options.checks else ""
            phase = "load"
            report = await bulkseed.load(
                plan,
                target,
                workers=1,
                defer=options.defer,
                copy_format=options.copy_format,
                rows_per_shard=options.rows_per_shard,
                retry_for=0,
            )
            phase = "verify"
            reports = await bulkseed.verify(target)
            phase = "cleanup"
            cleaned = await bulkseed.cleanup(target, [report.run])
        except InputError as error:
            if phase != "load":
                raise Wrong(f"{phase}: {error.code}", str(error)) from error
            after = dump(server, address)
            if after != before:
                raise Wrong("a refused load changed the database", f"{error}\n{difference(before, after)}") from error
            if options.checks and expected != error.code:
                raise Wrong("check and load differ", f"{expected} {error.code}") from error
            return error.code
        except bulkseed.BulkseedError as error:
            raise Wrong(f"{phase}: {error.code}", str(error)) from error
        except Exception as error:
            raise Wrong(f"{phase}: {type(error).__name__}", traceback.format_exc()) from error
    if expected:
        raise Wrong("check refuses what a load does", expected)
    broken = [str(rule) for each in reports for rule in each.broken]
    if broken:
        raise Wrong("verify: a rule is broken", "\n".join(broken))
    if cleaned.removed != report.rows:
        raise Wrong("cleanup: not the rows that were loaded", f"{cleaned.removed}, {report.rows}")
    after = dump(server, address)
    # only the owner of a sequence can give ids back to it, and none are where triggers may have written rows
    sequences = options.loader != "granted" and not leaves and "rows that triggers wrote" not in cleaned.other_rows
    before, after = (compared(text, leaves, sequences=sequences) for text in (before, after))
    if after != before:
        raise Wrong("the database is not the same after cleanup", difference(before, after))
    return "loaded"


async def check_code(plan: Plan, target: Address, options: LoadOptions) -> str:
    """Return the code of the error of a check; empty if it has none."""
    try:
        await bulkseed.check(
            plan,
            target,
            workers=1,
            defer=options.defer,
            copy_format=options.copy_format,
            rows_per_shard=options.rows_per_shard,
        )
    except InputError as error:
        return error.code
    return ""


def as_user(address: Address, options: LoadOptions) -> Address:
    """Return the address for the user who loads."""
    if options.loader == "superuser":
        return address
    user = OWNER if options.loader == "owner" else LOADER
    return Address(address.url._replace(username=user))


def dump(server: Server, address: Address) -> str:
    """Return the schema and the rows of the database, as pg_dump writes them."""
    done = subprocess.run(
        [server.binaries / "pg_dump", server.url.replace(f"/{server.database}?", f"/{address.url.database}?")],
        capture_output=True,
        text=True,
        check=True,
    )
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


def compared(text: str, leaves: Sequence[str], *, sequences: bool) -> str:
    """Return the lines of a dump that cleanup must give back: without the rows of ``leaves``."""
    lines, inside = [], False
    for line in text.splitlines():
        if line.startswith("COPY ") and any(f".{table} (" in line for table in leaves):
            inside = True
        if not inside and (sequences or not line.startswith("SELECT pg_catalog.setval(")):
            lines.append(line)
        if line == "\\.":
            inside = False
    return "\n".join(lines)


def difference(before: str, after: str) -> str:
    """Return the lines that differ."""
    return "\n".join(unified_diff(before.splitlines(), after.splitlines(), "before", "after", n=0, lineterm=""))
