"""Workers: the rows are the same for any number of them, and errors in one of them are reported."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import anyio
import pytest

from bulkseed.errors import RunError
from bulkseed.load_options import Defer
from bulkseed.loader import worker_pool
from bulkseed.loader.load import load, useful_workers
from bulkseed.loader.worker_pool import ShardQueue
from bulkseed.plan.shards import Shard
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import LOST
from bulkseed.postgres.transaction import RetryPolicy
from bulkseed.processes import HANDSHAKE, frame
from bulkseed.verifier.verify import verify
from support.databases import MakeDatabase
from support.errors import raises
from support.listeners import Interfering, Notes
from support.plans import plan_of
from support.queries import EMPTY, counts, digest, has_ledger, run_sql

SETTINGS: list[dict[str, Any]] = [
    {"workers": 1, "copy_format": "records", "defer": "never"},
    {"workers": 1, "copy_format": "binary", "defer": "always"},
    {"workers": 2, "copy_format": "binary", "defer": "never"},
    {"workers": 2, "copy_format": "records", "defer": "always"},
    {"workers": 3, "copy_format": "records", "defer": "never"},
    {"workers": 3, "copy_format": "binary", "defer": "always"},
]


async def test_rows_are_the_same_for_any_workers_formats_and_deferral(make_database: MakeDatabase) -> None:
    digests = []
    for settings in SETTINGS:
        database = await make_database()
        listener = Notes()
        report = await load(plan_of("5x"), database, rows_per_shard=1000, listener=listener, **settings)
        in_order = settings["workers"] > 1 and settings["defer"] == "never"
        assert any("foreign key messages_parent_id_fkey" in note for note in listener.said) == in_order
        assert (report.workers, report.deferred) == (settings["workers"], settings["defer"] == "always")
        assert await counts(database) == report.rows
        digests.append(await digest(database))
    assert all(one == digests[0] for one in digests)
    assert all(report.holds for report in await verify(database))


@pytest.mark.parametrize("table", ["users", "messages"])
def test_a_worker_that_crashes_is_an_error_that_names_it(
    seeded: Address, processes: list[Any], any_loop: dict[str, Any], table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "MAX_CRASHES", 0)

    async def main() -> None:
        before = await digest(seeded)
        listener = Interfering(table, lambda: os.kill(processes[0].pid, signal.SIGKILL))
        with anyio.fail_after(60), raises("worker-crashed", "worker 2", "signal 9", "run 2", kind=RunError):
            await load(plan_of("10x"), seeded, rows_per_shard=5000, workers=2, listener=listener, defer="always")
        assert await digest(seeded) == before
        assert all(process.returncode is not None for process in processes)

    anyio.run(main, backend_options=any_loop)


async def test_a_worker_that_cannot_be_started_is_an_error(database: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with raises("no-worker-process", "--workers 1", kind=RunError):
        await load(plan_of("10x"), database, rows_per_shard=5000, workers=2)
    assert not await has_ledger(database)


async def test_an_unforeseen_error_of_a_worker_is_raised_with_its_traceback(
    database: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "COMMAND", ("-c", BROKEN_WORKER))
    with raises("worker-failed", "worker 2", "ZeroDivisionError", "run 1", kind=RunError) as caught:
        await load(plan_of("10x"), database, rows_per_shard=5000, workers=2)
    assert caught.value.__cause__ is not None
    assert ["ZeroDivisionError" in note for note in caught.value.__cause__.__notes__] == [True]
    assert not await has_ledger(database)


BROKEN_WORKER = """
import os
from bulkseed.loader import worker
worker.ShardLoader = lambda *_: 1 / 0
worker.main(os.fdopen(os.dup(1), "wb"))
"""


@pytest.mark.parametrize("defer", ["never", "always"])
async def test_losing_the_connection_that_holds_the_load_lock_does_not_end_the_load(
    database: Address, defer: Defer
) -> None:
    tasks: set[asyncio.Task[None]] = set()
    ours = "application_name = 'bulkseed' AND datname = current_database()"
    holder = f"""
        SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE locktype = 'advisory' AND {ours} AND pid <> pg_backend_pid()"""
    listener = Interfering("users", lambda: tasks.add(asyncio.ensure_future(run_sql(database, holder))))
    report = await load(plan_of("10x"), database, rows_per_shard=5000, workers=2, listener=listener, defer=defer)
    assert tasks
    assert any(LOST in note for note in listener.said)
    assert await counts(database) == report.rows
    assert all(report.holds for report in await verify(database))


async def test_the_error_that_a_worker_sends_before_it_ends_is_raised(database: Address) -> None:
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
        with raises("connection-refused", "few", "run 1", kind=RunError):
            await load(plan_of("10x"), login, rows_per_shard=5000, workers=3, retry_policy=RetryPolicy(seconds=0))
        assert await counts(database) == EMPTY
    finally:
        await run_sql(database, "DROP OWNED BY few", "DROP ROLE few")


def test_a_worker_whose_parent_dies_in_the_middle_of_a_message_ends() -> None:
    message = frame({"a": "job"})
    for part in (message[:2], message[:-1], message[:4] + b"no pickle"):
        done = subprocess.run(
            [sys.executable, "-m", "bulkseed.loader.worker"],
            input=part,
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 1
        assert done.stdout == HANDSHAKE


def test_no_more_workers_than_shards() -> None:
    assert useful_workers(plan_of(), 8) == 1
    assert useful_workers(plan_of("100x"), 8) == 8


async def test_channels_wait_for_all_users() -> None:
    users = [Shard(number, "users", number, number + 1) for number in range(3)]
    channels = [Shard(number, "channels", number, number + 1) for number in range(3, 6)]
    queue = ShardQueue([*users, *channels])
    assert [await queue.next_shard() for _ in range(3)] == users
    queue.mark_done()
    queue.mark_done()
    shards: list[Shard | None] = []

    async def ask() -> None:
        shards.append(await queue.next_shard())

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        assert not shards
        queue.mark_done()
    assert shards == [*channels, None]


async def test_records_of_workers_reach_the_handlers_of_this_process(
    database: Address, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "bulkseed")
    await load(plan_of("5x"), database, rows_per_shard=1000, workers=2, defer="always")
    records = [record for record in caplog.records if record.getMessage().startswith("worker 2: ")]
    assert {"bulkseed.loader.load_shard", "bulkseed.postgres.connection"} <= {record.name for record in records}
    assert {record.levelname for record in records} == {"INFO", "DEBUG"}
    assert os.getpid() not in {record.process for record in records}


async def test_workers_send_no_record_that_nobody_wants(database: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[object] = []
    monkeypatch.setattr(worker_pool.Worker, "log", lambda _, record: received.append(record))
    await load(plan_of("5x"), database, rows_per_shard=1000, workers=2, defer="always")
    assert not received
