"""Ledgers that an earlier version of bulkseed made."""

from __future__ import annotations

from typing import Final

from bulkseed.cleaner.cleanup import cleanup
from bulkseed.errors import TargetError
from bulkseed.loader.load import load
from bulkseed.plan.tables import TABLE_NAMES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.verifier.verify import verify
from support.errors import raises
from support.plans import plan_of
from support.queries import EMPTY, counts, digest, run_sql

SECOND_VERSION: Final = (
    "ALTER TABLE bulkseed.runs DROP token, DROP origin, DROP login, DROP client, DROP resumed, DROP reserved",
    "UPDATE bulkseed.version SET number = 2",
)


async def test_a_ledger_of_the_first_version_is_understood_and_brought_up_to_date(seeded: Address) -> None:
    await run_sql(seeded, *SECOND_VERSION)
    assert all(report.holds for report in await verify(seeded))
    await run_sql(
        seeded,
        "DROP TABLE bulkseed.shards, bulkseed.deferred; UPDATE bulkseed.version SET number = 1",
        "ALTER TABLE bulkseed.runs DROP state, DROP expected, DROP rows_per_shard",
    )
    assert all(report.holds for report in await verify(seeded))
    before = await digest(seeded, *TABLE_NAMES)
    assert (await load(plan_of(), seeded)).run == 2
    async with open_connection(seeded) as connection:
        assert await connection.fetchval("SELECT array_agg(state ORDER BY id) FROM bulkseed.runs") == ["whole"] * 2
    await cleanup(seeded, [2])
    assert await digest(seeded, *TABLE_NAMES) == before
    await cleanup(seeded, [1])
    assert await counts(seeded) == EMPTY


async def test_only_its_owner_brings_a_ledger_up_to_date(seeded: Address) -> None:
    heir = f"heir_of_{seeded.url.database}"
    await run_sql(
        seeded,
        *SECOND_VERSION,
        f"CREATE ROLE {heir} LOGIN",
        f"GRANT ALL ON SCHEMA bulkseed, public TO {heir}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA bulkseed, public TO {heir}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {heir}",
    )
    before = await digest(seeded)
    try:
        with raises("older-ledger", '"bulkseed"', kind=TargetError):
            await load(plan_of(), Address(seeded.url._replace(username=heir)))
        assert await digest(seeded) == before
    finally:
        await run_sql(seeded, f"DROP OWNED BY {heir}", f"DROP ROLE {heir}")
    assert (await load(plan_of(), seeded)).run == 2
