"""Commands of users who may not see all rows, or not read the ledger: they are told so, and what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bulkseed.cleaner.cleanup import cleanup, find_removable_runs
from bulkseed.errors import RunError, TargetError
from bulkseed.ledger.runs import read_history
from bulkseed.loader.load import load, resume
from bulkseed.plan.scenario import Rule, Scenario
from bulkseed.postgres.address import Address
from bulkseed.verifier.verify import verify
from support.errors import raises
from support.plans import plan_of
from support.queries import EMPTY, counts, digest, has_ledger, run_sql


@pytest.fixture
async def user(seeded: Address) -> AsyncIterator[Address]:
    """A user with all privileges on the tables of ``seeded`` and on its ledger."""
    name = f"user_of_{seeded.url.database}"
    await run_sql(
        seeded,
        f"CREATE ROLE {name} LOGIN",
        f"GRANT USAGE ON SCHEMA bulkseed TO {name}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public, bulkseed TO {name}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {name}",
    )
    yield Address(seeded.url._replace(username=name))
    await run_sql(seeded, f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")


async def test_fault_23_the_owner_under_forced_row_security(seeded: Address, user: Address) -> None:
    name = user.url.username
    await run_sql(
        seeded,
        f"ALTER TABLE users OWNER TO {name}",
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    )
    fix = 'ALTER TABLE "public"."users" NO FORCE ROW LEVEL SECURITY'
    before = await digest(seeded)
    for command in (load(plan_of(), user), verify(user), cleanup(user, [1])):
        with raises("row-security", fix, f"ALTER ROLE {name} BYPASSRLS", kind=TargetError) as caught:
            await command
        assert "owner" not in str(caught.value)
    assert await digest(seeded) == before
    await run_sql(user, fix)
    assert (await load(plan_of(), user)).run == 2
    assert all(report.holds for report in await verify(user))
    await cleanup(user, [1, 2])
    assert await counts(seeded) == EMPTY


async def test_fault_23_another_user_under_forced_row_security(seeded: Address, user: Address) -> None:
    await run_sql(seeded, "ALTER TABLE users ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    fix = f"ALTER ROLE {user.url.username} BYPASSRLS"
    with raises("row-security", fix, kind=TargetError) as caught:
        await load(plan_of(), user)
    # the owner would be restricted too
    assert "owner" not in str(caught.value)
    await run_sql(seeded, fix)
    assert (await load(plan_of(), user)).run == 2


async def test_fault_23_nothing_is_judged_that_row_security_hides(seeded: Address, user: Address) -> None:
    name = user.url.username
    await run_sql(
        seeded,
        "ALTER TABLE messages ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY even ON messages TO {name} USING (id % 2 = 0)",
    )
    fixes = ("bulkseed", f"ALTER ROLE {name} BYPASSRLS")
    before = await digest(seeded)
    for command in (verify(user), cleanup(user, [1]), cleanup(user, [1], cascade=True)):
        with raises("row-security", '"public"."messages"', *fixes, kind=TargetError):
            await command
    assert await digest(seeded) == before
    await run_sql(seeded, "UPDATE bulkseed.runs SET state = 'loading'")
    with raises("row-security", '"public"."messages"', *fixes, kind=TargetError):
        await resume(user)
    await run_sql(seeded, "UPDATE bulkseed.runs SET state = 'whole'", fixes[1])
    assert all(report.holds for report in await verify(user))
    await cleanup(user, [1])
    assert await counts(seeded) == EMPTY


async def test_fault_23_nothing_is_concluded_from_a_hidden_ledger(seeded: Address, user: Address) -> None:
    await run_sql(seeded, "ALTER TABLE bulkseed.runs ENABLE ROW LEVEL SECURITY")
    fix = f"ALTER ROLE {user.url.username} BYPASSRLS"
    before = await digest(seeded)
    for command in (read_history(user), verify(user), find_removable_runs(user), resume(user), load(plan_of(), user)):
        with raises("row-security", '"bulkseed"."runs"', fix, kind=TargetError):
            await command
    assert await digest(seeded) == before


async def test_fault_23_rules_of_the_scenario_see_all_rows_or_fail(database: Address) -> None:
    name = f"user_of_{database.url.database}"
    await run_sql(database, "CREATE TABLE secrets (id int)", f"CREATE ROLE {name} LOGIN")
    scenario = Scenario(rules=(Rule(name="no secrets", sql="SELECT count(*) FROM secrets"),))
    await load(plan_of(scenario=scenario), database)
    await run_sql(
        database,
        f"GRANT USAGE ON SCHEMA bulkseed TO {name}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public, bulkseed TO {name}",
        "ALTER TABLE secrets ENABLE ROW LEVEL SECURITY",
    )
    try:
        with raises("rule-failed", "secrets", kind=RunError):
            await verify(Address(database.url._replace(username=name)))
    finally:
        await run_sql(database, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


async def test_the_grants_for_reading_the_ledger_are_named(seeded: Address, user: Address) -> None:
    name = user.url.username
    await run_sql(
        seeded,
        f"REVOKE ALL ON SCHEMA bulkseed FROM {name}",
        f"REVOKE ALL ON bulkseed.runs, bulkseed.shards FROM {name}",
    )
    grants = (
        f'GRANT USAGE ON SCHEMA "bulkseed" TO {name}',
        f'GRANT SELECT ON "bulkseed"."runs", "bulkseed"."shards" TO {name}',
    )
    for command in (verify(user), read_history(user), cleanup(user, [1])):
        with raises("missing-privilege", *grants, kind=TargetError):
            await command
    await run_sql(seeded, *grants)
    assert [run.run.number for run in await read_history(user)] == [1]
    assert all(report.holds for report in await verify(user))
    grant = f'GRANT ALL ON ALL TABLES IN SCHEMA "bulkseed" TO {name}'
    before = await digest(seeded)
    with raises("missing-privilege", grant, kind=TargetError):
        await cleanup(user, [1])
    assert await digest(seeded) == before
    await run_sql(seeded, grant)
    await cleanup(user, [1])
    assert await counts(seeded) == EMPTY
    assert await has_ledger(seeded)
