"""Whether the ledger can be made and dropped is tried before a load."""

from __future__ import annotations

import pytest

from bulkseed.errors import TargetError
from bulkseed.loader.check import check
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from support.errors import raises
from support.plans import plan_of
from support.queries import run_sql
from support.whole_database import state

FORBID = """
CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not here'; END $$;
CREATE EVENT TRIGGER forbid ON ddl_command_end WHEN TAG IN ('{tag}') EXECUTE FUNCTION forbid();
"""


@pytest.mark.parametrize("tag", ["CREATE SCHEMA", "DROP TABLE"])
async def test_an_event_trigger_that_forbids_the_ledger_is_found_before_the_load(database: Address, tag: str) -> None:
    await run_sql(database, FORBID.replace("{tag}", tag))
    before = await state(database)
    for command in (load, check):
        with raises("ledger-refused", "not here", "forbid()", kind=TargetError):
            await command(plan_of(), database)
    assert await state(database) == before
