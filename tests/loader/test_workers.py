"""Workers: the rows are the same for any number of them, and what goes wrong in one of them is told."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import anyio
import pytest

from bulkseed.choices import Defer
from bulkseed.errors import RunError
from bulkseed.loader import worker_pool as parent
from bulkseed.loader.load import load, useful_workers
from bulkseed.loader.worker_pool import HELLO, ShardQueue, frame
from bulkseed.plan.shards import Shard
from bulkseed.postgres.address import Address
from bulkseed.postgres.transaction import RetryPolicy
from bulkseed.verifier.verify import verify
from support.databases import MakeDatabase
from support.listeners import Interfering
from support.plans import plan_of
from support.queries import EMPTY, counts, digest, has_ledger, run_sql

WAYS: list[dict[str, Any]] = [
    {"workers": 1, "format": "records", "defer": "never"},
    {"workers": 1, "format": "binary", "defer": "always"},
    {"workers": 2, "format": "binary", "defer": "never"},
    {"workers": 2, "format": "records", "defer": "always"},
    {"workers": 3, "format": "records", "defer": "never"},
    {"workers": 3, "format": "binary", "defer": "always"},
]


async def test_rows_are_the_same_for_any_workers_lanes_and_deferral(make_database: MakeDatabase) -> None:
    found = []
    for way in WAYS:
        database = await make_database()
        report = await load(plan_of("5x"), database, rows_per_shard=1000, **way)
        assert (report.workers, report.deferred) == (way["workers"], way["defer"] == "always")
        assert await counts(database) == report.rows
        found.append(await digest(database))
    assert all(each == found[0] for each in found)
    assert all(report.holds for report in await verify(database))


@pytest.mark.parametrize("table", ["users", "messages"])
def test_a_worker_that_dies_is_an_error_that_names_it(
    seeded: Address, processes: list[Any], any_loop: dict[str, Any], table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parent, "MOST_DEATHS", 0)

    async def main() -> None:
        before = await digest(seeded)
        listener = Interfering(table, lambda: os.kill(processes[0].pid, signal.SIGKILL))
        with anyio.fail_after(60), pytest.raises(RunError, match=r"worker 2 \(process \d+\) was ended by signal 9"):
            await load(plan_of("10x"), seeded, rows_per_shard=5000, workers=2, listener=listener, defer="always")
        assert await digest(seeded) == before
        assert all(process.returncode is not None for process in processes)

    anyio.run(main, backend_options=any_loop)


async def test_a_worker_that_cannot_be_started_is_one_sentence(
    database: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(RunError, match=r"no worker process can be started .*--workers 1"):
        await load(plan_of("10x"), database, rows_per_shard=5000, workers=2)
    assert not await has_ledger(database)


async def test_an_unforeseen_error_of_a_worker_is_told_with_its_traceback(
    database: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parent, "COMMAND", ("-c", BROKEN_WORKER))
    with pytest.raises(RunError, match=r"worker 2 failed .*ZeroDivisionError") as caught:
        await load(plan_of("10x"), database, rows_per_shard=5000, workers=2)
    assert caught.value.__cause__ is not None
    assert not await has_ledger(database)


BROKEN_WORKER = """
import os
from bulkseed.loader import worker as child
child.ShardLoader = lambda *_: 1 / 0
child.main(os.fdopen(os.dup(1), "wb"))
"""


@pytest.mark.parametrize("defer", ["never", "always"])
async def test_losing_the_connection_that_keeps_the_turn_does_not_end_the_load(database: Address, defer: Defer) -> None:
    tasks: set[asyncio.Task[None]] = set()
    ours = "application_name = 'bulkseed' AND datname = current_database()"
    holder = f"""
        SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE locktype = 'advisory' AND {ours} AND pid <> pg_backend_pid()"""
    listener = Interfering("users", lambda: tasks.add(asyncio.ensure_future(run_sql(database, holder))))
    report = await load(plan_of("10x"), database, rows_per_shard=5000, workers=2, listener=listener, defer=defer)
    assert tasks
    assert any("waiting for the load: the server ended the connection" in said for said in listener.said)
    assert await counts(database) == report.rows
    assert all(each.holds for each in await verify(database))


async def test_what_a_worker_said_before_it_ended_is_told(database: Address) -> None:
    await run_sql(
        database,
        "CREATE ROLE few LOGIN SUPERUSER CONNECTION LIMIT 2",
        f"ALTER DATABASE {database.url.database} CONNECTION LIMIT 2",
        "ALTER ROLE few NOSUPERUSER",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO few",
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO few",
        f"GRANT CREATE ON DATABASE {database.url.database} TO few",
    )
    try:
        login = Address(database.url._replace(username="few"))
        with pytest.raises(RunError, match=r"refuses a connection .*; what had begun was undone$"):
            await load(plan_of("10x"), login, rows_per_shard=5000, workers=3, retry_policy=RetryPolicy(seconds=0))
        assert await counts(database) == EMPTY
    finally:
        await run_sql(database, "DROP OWNED BY few", "DROP ROLE few")


def test_a_worker_whose_parent_dies_in_the_middle_of_a_word_ends() -> None:
    said = frame({"a": "job"})
    for told in (said[:2], said[:-1], said[:4] + b"nothing that was pickled"):
        done = subprocess.run(
            [sys.executable, "-m", "bulkseed.loader.worker"],
            input=told,
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 1
        assert done.stdout == HELLO


def test_no_more_workers_than_shards() -> None:
    assert useful_workers(plan_of(), 8) == 1
    assert useful_workers(plan_of("100x"), 8) == 8


async def test_channels_wait_for_all_users() -> None:
    users = [Shard(number, "users", number, number + 1) for number in range(3)]
    channels = [Shard(number, "channels", number, number + 1) for number in range(3, 6)]
    turns = ShardQueue([*users, *channels])
    assert [await turns.next_shard() for _ in range(3)] == users
    turns.done(users[2])
    turns.done(users[0])
    given: list[Shard | None] = []

    async def ask() -> None:
        given.append(await turns.next_shard())

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        assert not given
        turns.done(users[1])
    assert given == [*channels, None]
