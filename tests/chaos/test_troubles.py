"""Transient errors of the server are retried; after a permanent one the run is undone, or kept."""

from __future__ import annotations

import re
from dataclasses import replace
from unittest.mock import ANY

import pytest

from bulkseed.loader.load import load
from bulkseed.plan.shards import split_into_shards
from bulkseed.postgres.connection import open_connection
from chaos.commands import PLAN, begun, bulkseed
from chaos.world import World, recorded, state
from support.databases import address_of
from support.plans import plan_of
from support.queries import run_sql

TROUBLE = """
CREATE SEQUENCE app.troubles;
CREATE FUNCTION app.trouble() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('app.troubles') <= {times} THEN
        RAISE EXCEPTION 'no luck' USING ERRCODE = '{code}';
    END IF;
    RETURN NULL;
END $$;
"""
"""Raises an error ``times`` times. A sequence counts them, as a rollback does not reset it."""
NO_TROUBLE = """
DROP FUNCTION app.trouble CASCADE;
DROP SEQUENCE app.troubles;
"""
AT_COPY = "CREATE TRIGGER trouble BEFORE INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION app.trouble()"
AT_COMMIT = """CREATE CONSTRAINT TRIGGER trouble AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION app.trouble()"""


@pytest.mark.parametrize(
    ("code", "trigger", "table", "workers", "defer"),
    [
        pytest.param("40P01", AT_COPY, "messages", "3", "always", id="deadlocks"),
        pytest.param("40001", AT_COPY, "users", "2", "never", id="serialization failures"),
        pytest.param("40001", AT_COMMIT, "channels", "1", "always", id="serialization failures at COMMIT"),
    ],
)
async def test_transient_errors_are_retried(
    world: World, code: str, trigger: str, table: str, workers: str, defer: str
) -> None:
    async with world.database() as address:
        await run_sql(address, TROUBLE.format(times=4, code=code), trigger.format(table=table))
        done = await bulkseed(address, *PLAN, "--workers", workers, "--defer", defer)
        assert done.status == 0, done
        assert "no luck" in done.said, done
        await run_sql(address, NO_TROUBLE)
        await world.is_loaded(address)


@pytest.mark.parametrize("on_error", ["undo", "keep"])
@pytest.mark.long
async def test_a_permanent_deadlock_ends_the_load(world: World, on_error: str) -> None:
    async with world.database() as address:
        await run_sql(address, TROUBLE.format(times=10**9, code="40P01"), AT_COPY.format(table="messages"))
        done = await bulkseed(address, *PLAN, "--defer", "always", "--retry-for", "2", "--on-error", on_error)
        assert done.status == 1, done
        assert "no luck" in done.said, done
        await run_sql(address, NO_TROUBLE)
        if on_error == "undo":
            await world.is_as_before(address, sequences=False)
            return
        assert "bulkseed resume 1" in done.said, done
        assert await recorded(address) == {1: "interrupted"}
        resumed = await bulkseed(address, "resume")
        assert resumed.status == 0, resumed
        await world.is_loaded(address)


async def test_too_many_connections_for_a_while(world: World) -> None:
    async with world.database() as address:
        admin = address_of(world.server, "postgres")
        login = f"login_of_{address.database}"
        await run_sql(
            address,
            f"CREATE ROLE {login} LOGIN",
            f"GRANT CREATE ON DATABASE {address.database} TO {login}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {login}",
            f"GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA public TO {login}",
            f"GRANT USAGE ON SCHEMA app TO {login}",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA app TO {login}",
        )
        # the limit does not apply to superusers
        await run_sql(admin, f"ALTER DATABASE {address.database} CONNECTION LIMIT 2")
        theirs = type(address)(address.url._replace(username=login))
        with begun(theirs, *PLAN, "--workers", "4", "--defer", "never") as load:
            while load.running and address.database not in load.said.read_text():
                await load.sleep_until(load.age + 0.05)
            await load.sleep_until(load.age + 1)
            await run_sql(admin, f"ALTER DATABASE {address.database} CONNECTION LIMIT -1")
            done = await load.end()
        assert done.status == 0, done
        assert address.database in done.said, done  # in the refusal of the server
        assert (await state(world.server, address)).tables == world.after.tables
        assert await world.moment(address) == "whole"
        async with open_connection(address) as connection:
            await connection.execute(f"REASSIGN OWNED BY {login} TO bulkseed; DROP OWNED BY {login}; DROP ROLE {login}")


LOSS = """
CREATE FUNCTION app.loss() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    first bigint := (SELECT placement ->> 'first_channel' FROM bulkseed.runs WHERE id = NEW.run);
    lost bigint[] := ARRAY(SELECT generate_series(first + {start}, first + {stop} - 1));
BEGIN
    IF NEW.number > 30 AND EXISTS (SELECT FROM bulkseed.shards WHERE run = NEW.run AND number = 3) THEN
        DELETE FROM bulkseed.shards WHERE run = NEW.run AND number = 3;
        DELETE FROM message_reactions WHERE message_id IN (SELECT id FROM messages WHERE channel_id = ANY (lost));
        DELETE FROM messages WHERE channel_id = ANY (lost);
        DELETE FROM user_channels WHERE channel_id = ANY (lost);
        DELETE FROM channels WHERE id = ANY (lost);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER loss AFTER UPDATE ON bulkseed.shards FOR EACH ROW EXECUTE FUNCTION app.loss();
"""
"""Loses a shard, like a failover to a standby that lags behind."""


@pytest.mark.long
@pytest.mark.parametrize("on_error", ["undo", "keep"])
async def test_a_run_whose_commits_were_lost_is_not_complete(world: World, on_error: str) -> None:
    shard = next(shard for shard in split_into_shards(plan_of("10x", seed=7), 1200) if shard.number == 3)
    async with world.database() as address:
        await load(plan_of("1x"), address)
        before = await state(world.server, address)
        await run_sql(address, LOSS.format(start=shard.start, stop=shard.stop))
        done = await bulkseed(address, *PLAN, "--on-error", on_error)
        assert done.status == 1, done
        assert re.search(r"run 2\b.*\b1\b", done.said), done
        await run_sql(address, "DROP FUNCTION app.loss CASCADE")
        if on_error == "undo":
            assert await state(world.server, address) == replace(before, sequences=ANY)
            assert set(await recorded(address)) == {1}
            return
        resumed = await bulkseed(address, "resume")
        assert resumed.status == 0, resumed
        proved = await bulkseed(address, "verify", "--quiet")
        assert proved.status == 0, proved
