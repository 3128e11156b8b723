"""Resuming an interrupted run: the rows and the schema are those of an uninterrupted load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import re
import signal
import uuid
from functools import partial
from importlib.metadata import version
from typing import Any

import anyio
import pytest

from bulkseed.cleaner.cleanup import cleanup, find_removable_runs
from bulkseed.deferral import drop
from bulkseed.embedded import Server
from bulkseed.errors import InputError, RunError, StoppedError, TargetError, TransientError
from bulkseed.ledger import Ledger, share_run, take_over
from bulkseed.ledger.runs import History, read_history
from bulkseed.listeners import NullListener, Phase, Stop
from bulkseed.load_options import Defer
from bulkseed.loader.load import load, resume
from bulkseed.plan.plan import PLAN_VERSION
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import LOST, open_connection
from bulkseed.postgres.transaction import RetryPolicy, safe_transaction
from bulkseed.randomness.draws import GENERATOR_VERSION
from bulkseed.verifier.verify import verify
from support.app_rows import APP_ROWS
from support.commands import inside
from support.databases import cloned
from support.errors import raises
from support.listeners import Interfering, Notes
from support.museum import MUSEUM
from support.obstacles import FAIL
from support.pg_dump import dump
from support.plans import plan_of
from support.queries import EMPTY, counts, digest, has_ledger, run_sql

PLAN = plan_of("3x")
SMALL: dict[str, Any] = {"rows_per_shard": 700}
AT_ONCE = RetryPolicy(seconds=0)


Complete = tuple[dict[str, tuple[int, str]], str]


@pytest.fixture(scope="session")
def complete(server: Server, templates: dict[str, str]) -> Complete:
    """The rows and the schema after an uninterrupted load of PLAN beside an app's rows."""

    async def make() -> Complete:
        async with cloned(server, templates["reference"]) as database:
            await run_sql(database, *APP_ROWS, MUSEUM)
            await load(PLAN, database, **SMALL)
            return await digest(database), dump(server, database)

    return asyncio.run(make())


@pytest.fixture
async def beside(database: Address) -> Address:
    """A database with the rows and the schema from which ``complete`` began."""
    await run_sql(database, *APP_ROWS, MUSEUM)
    return database


async def cut_off(database: Address, table: str, **how: Any) -> None:
    """Begin a load, and cancel it when the first rows of ``table`` have been sent."""
    with anyio.CancelScope() as scope:
        await load(PLAN, database, listener=Interfering(table, scope.cancel), **SMALL | how)
    assert scope.cancelled_caught


async def state(database: Address) -> list[tuple[int, str]]:
    return [(entry.run.number, entry.state) for entry in await read_history(database)]


@pytest.mark.parametrize("defer", ["never", "always"])
@pytest.mark.parametrize("table", ["users", "channels", "message_reactions"])
async def test_the_result_is_that_of_an_uninterrupted_run(
    beside: Address, server: Server, complete: Complete, table: str, defer: Defer
) -> None:
    first, second = (1, 2) if table == "users" else (2, 1)
    await cut_off(beside, table, defer=defer, workers=first)
    assert await state(beside) == [(1, "interrupted")]
    with raises("incomplete-run", "run 1", "`bulkseed resume 1`", "`bulkseed cleanup 1`", kind=TargetError):
        await load(plan_of(), beside)
    report = await resume(beside, workers=second)
    assert report is not None
    assert report.deferred == (defer == "always")
    assert 0 < sum(report.loaded.values()) <= sum(report.rows.values())
    assert (await digest(beside), dump(server, beside)) == complete
    assert await state(beside) == [(1, "whole")]
    assert all(report.holds for report in await verify(beside))
    assert await resume(beside) is None
    assert await resume(beside, 1) is None


async def test_a_resume_that_is_cut_off_is_resumed(beside: Address, server: Server, complete: Complete) -> None:
    await cut_off(beside, "users", defer="always")
    for table in ("channels", "user_channels", "messages", "message_reactions"):
        with anyio.CancelScope() as scope:
            await resume(beside, listener=Interfering(table, scope.cancel))
        assert scope.cancelled_caught

    class InTheRebuild(Interfering):
        def phase(self, phase: Phase, step: int = 0, steps: int | None = None) -> None:
            """Stop while indexes are made."""
            if phase == Phase.REBUILD and step:
                self.act()

    with anyio.CancelScope() as scope:
        await resume(beside, listener=InTheRebuild("none", scope.cancel))
    assert scope.cancelled_caught
    assert dump(server, beside) != complete[1]
    assert (await resume(beside)) is not None
    assert (await digest(beside), dump(server, beside)) == complete
    (only,) = await read_history(beside)
    assert (only.state, only.run.resumed) == ("whole", 6)


async def test_a_stop_waits_for_the_shards_in_progress(database: Address) -> None:
    stop = Stop()
    notes = Interfering("messages", stop.asked.set)
    with raises("stopped", "run 1", "`bulkseed resume 1`", "`bulkseed cleanup 1`", kind=StoppedError):
        await load(PLAN, database, listener=notes, stop=stop, workers=2, **SMALL)
    assert any("Ctrl-C" in note for note in notes.said)
    (only,) = await read_history(database)
    assert only.shards is not None
    assert 1 < only.shards[0] < only.shards[1]
    # no shard is loaded in part
    assert await counts(database) == only.run.rows
    report = await resume(database)
    assert report is not None
    assert report.loaded == {name: rows - only.run.rows[name] for name, rows in report.rows.items()}


@pytest.mark.parametrize("defer", ["never", "always"])
async def test_an_error_keeps_the_run_where_that_is_wanted(database: Address, server: Server, defer: Defer) -> None:
    before = dump(server, database)
    await run_sql(database, FAIL)
    with raises("server-error", "no more", "run 1", "`bulkseed resume 1`", kind=RunError):
        await load(PLAN, database, on_error="keep", defer=defer, **SMALL)
    with raises("server-error", "no more", "run 1", "`bulkseed resume 1`", kind=RunError):
        await resume(database)
    await run_sql(database, "DROP FUNCTION fail CASCADE")
    assert await resume(database) is not None
    assert dump(server, database) == before
    assert all(report.holds for report in await verify(database))


async def test_an_error_of_a_resume_undoes_the_run_where_that_is_wanted(database: Address, server: Server) -> None:
    before = await digest(database), dump(server, database)
    await cut_off(database, "channels", defer="always")
    await run_sql(database, FAIL)
    with raises("server-error", "no more", "run 1", kind=RunError):
        await resume(database, on_error="undo")
    await run_sql(database, "DROP FUNCTION fail CASCADE")
    assert (await digest(database), dump(server, database)) == before
    assert not await has_ledger(database)


def killing(database: Address, which: str) -> str:
    return f"""
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = '{database.url.database}' AND pid <> pg_backend_pid() AND application_name = 'bulkseed'
        AND ({which})"""


@pytest.mark.parametrize("defer", ["never", "always"])
@pytest.mark.parametrize("table", ["users", "messages"])
async def test_lost_connections_are_opened_again(
    beside: Address, server: Server, complete: Complete, table: str, defer: Defer
) -> None:
    tasks: set[asyncio.Task[None]] = set()
    listener = Interfering(table, lambda: tasks.add(asyncio.ensure_future(run_sql(beside, killing(beside, "true")))))
    await load(PLAN, beside, listener=listener, workers=2, defer=defer, **SMALL)
    assert any(LOST in note for note in listener.said)
    assert (await digest(beside), dump(server, beside)) == complete


TRANSIENT = """
CREATE SEQUENCE calls;
CREATE FUNCTION fail_at_first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('calls') <= 3 THEN RAISE 'not now' USING ERRCODE = '{code}'; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER fail_at_first AFTER INSERT ON {table} EXECUTE FUNCTION fail_at_first();
"""


@pytest.mark.parametrize("code", ["40P01", "40001"])
@pytest.mark.parametrize("table", ["users", "messages"])
async def test_transient_errors_are_retried(database: Address, code: str, table: str) -> None:
    await run_sql(database, TRANSIENT.format(code=code, table=table))
    listener = Interfering("none", lambda: None)
    report = await load(plan_of("3x"), database, listener=listener, **SMALL)
    assert await counts(database) == report.rows
    assert sum("not now" in note for note in listener.said) == 3
    await run_sql(database, "ALTER SEQUENCE calls RESTART")
    with raises("transient-server-error", "not now", "run 2", kind=TransientError):
        await load(plan_of("3x"), database, retry_policy=AT_ONCE, **SMALL)


async def test_a_worker_that_crashes_is_replaced(
    beside: Address, server: Server, complete: Complete, processes: list[Any]
) -> None:
    listener = Interfering("messages", lambda: os.kill(processes[0].pid, signal.SIGKILL))
    await load(PLAN, beside, listener=listener, workers=2, defer="always", **SMALL)
    assert len(processes) == 2
    assert any(f"worker 2 (process {processes[0].pid})" in note for note in listener.said)
    assert (await digest(beside), dump(server, beside)) == complete


async def test_a_command_that_has_lost_a_run_does_not_go_on_with_it(database: Address) -> None:
    """As if the lock was lost, and another resumed the run: nothing is loaded twice, and nothing undone."""
    tasks: set[asyncio.Task[None]] = set()
    theft = "UPDATE bulkseed.runs SET token = gen_random_uuid()"
    listener = Interfering("messages", lambda: tasks.add(asyncio.ensure_future(run_sql(database, theft))))
    with raises("run-lost", "run 1", kind=RunError):
        await load(PLAN, database, listener=listener, **SMALL)
    assert await state(database) == [(1, "interrupted")]
    report = await resume(database)
    assert report is not None
    assert await counts(database) == report.rows


async def test_a_shard_that_a_server_has_lost_is_an_error(database: Address) -> None:
    """As if the server came back from a standby that had not got the last commits."""
    tasks: set[asyncio.Task[None]] = set()
    loss = "DELETE FROM bulkseed.shards WHERE number = (SELECT min(number) FROM bulkseed.shards)"
    listener = Interfering("messages", lambda: tasks.add(asyncio.ensure_future(run_sql(database, loss))))
    with raises("lost-shards", "run 1", kind=RunError):
        await load(PLAN, database, listener=listener, **SMALL)
    assert not await has_ledger(database)


async def test_several_at_once_run_one_after_the_other(database: Address) -> None:
    await cut_off(database, "channels", defer="always")
    notes = Notes()

    async def one() -> None:
        await resume(database, listener=notes)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(one)
    assert await state(database) == [(1, "whole")]
    assert sum(re.search(r"\bprocess \d+ of the user bulkseed\b", note) is not None for note in notes.said) == 2
    assert all(report.holds for report in await verify(database))


REFUSED: list[tuple[str, str, tuple[str, ...]]] = [
    ("""made_by = made_by || '{"faker": "1.0"}'""", "other-version", ("faker 1.0", "`bulkseed cleanup 1`")),
    ("""made_by = made_by || '{"generator": "0"}'""", "other-version", ("generator 0",)),
    ("""made_by = made_by || '{"anyascii": "0.1"}'""", "other-version", ("anyascii 0.1",)),
    ("target_schema = 'elsewhere'", "other-schema", ("'elsewhere'", "'public'")),
    ("placement = jsonb_set(placement, '{reactions,0}', '999')", "missing-reactions", ("999", "`bulkseed cleanup 1`")),
    ("state = 'undoing'", "run-being-undone", ("`bulkseed cleanup 1`",)),
]
"""Changes of the ledger that stop a resume, the code of the error, and the facts that it names."""


async def test_a_run_that_cannot_be_resumed_is_an_error(database: Address) -> None:
    assert await resume(database) is None
    with raises("no-runs", kind=InputError):
        await resume(database, 1)
    await cut_off(database, "channels")
    with raises("no-such-run", "run 7", "1", kind=InputError):
        await resume(database, 7)
    for change, code, facts in REFUSED:
        async with open_connection(database) as connection:
            await connection.execute("CREATE TABLE kept AS SELECT * FROM bulkseed.runs")
            await connection.execute(f"UPDATE bulkseed.runs SET {change}")
            with raises(code, "run 1", *facts, kind=InputError):
                await resume(database)
            await connection.execute(
                "UPDATE bulkseed.runs SET (made_by, target_schema, placement, state) = "
                "(SELECT made_by, target_schema, placement, state FROM kept); DROP TABLE kept"
            )
    assert await resume(database) is not None


async def test_all_versions_that_a_run_depends_on_are_recorded(seeded: Address) -> None:
    packages = ("bulkseed", "faker", "anyascii", "numpy", "pyarrow")
    installed = {name: version(name) for name in packages} | {
        "generator": str(GENERATOR_VERSION),
        "python": platform.python_version(),
        "plan": str(PLAN_VERSION),
    }
    [entry] = await read_history(seeded)
    assert entry.to_json()["made_by"] == installed


@pytest.mark.parametrize(
    "made_by",
    [
        "made_by - '{anyascii,pyarrow,python}'::text[]",
        """made_by || '{"numpy": "2.1.0", "pyarrow": "18.0.0", "python": "3.10.1", "later": "1"}'""",
    ],
    ids=["an older bulkseed recorded fewer", "they make the same rows"],
)
async def test_versions_that_make_the_same_rows_do_not_stop_a_resume(
    beside: Address, server: Server, complete: Complete, made_by: str
) -> None:
    await cut_off(beside, "channels")
    await run_sql(beside, f"UPDATE bulkseed.runs SET made_by = {made_by}")
    assert await resume(beside) is not None
    assert (await digest(beside), dump(server, beside)) == complete


async def test_history_has_the_state_of_each_run(database: Address) -> None:
    assert await read_history(database) == []
    await load(plan_of(seed=7), database)
    await cut_off(database, "messages", defer="always")
    first, second = await read_history(database)
    assert (first.state, second.state) == ("whole", "interrupted")
    entry = first.to_json()
    assert (entry["seed"], entry["login"], entry["resumed"]) == (7, "bulkseed", 0)
    assert entry["rows"] == entry["expected"] | {
        name: entry["rows"][name] for name in ("user_channels", "message_reactions")
    }
    assert entry["seconds"] >= 0
    assert second.shards is not None
    assert second.shards[0] < second.shards[1]
    seen: list[History] = []

    async def look() -> None:
        seen.extend(await read_history(database))

    tasks: set[asyncio.Task[None]] = set()
    await resume(database, listener=Interfering("messages", lambda: tasks.add(asyncio.ensure_future(look()))))
    assert [entry.state for entry in seen] == ["whole", "loading"]
    assert [entry.state for entry in await read_history(database)] == ["whole", "whole"]


async def test_a_run_that_is_being_loaded_is_not_offered_for_cleanup(database: Address) -> None:
    found: list[Any] = []

    async def look() -> None:
        found.append(await find_removable_runs(database))
        try:
            await find_removable_runs(database, 2)
        except InputError as error:
            found.append(error)

    await load(plan_of(), database)
    tasks: set[asyncio.Task[None]] = set()
    listener = Interfering("messages", lambda: tasks.add(asyncio.ensure_future(look())))
    await load(plan_of("10x"), database, listener=listener)
    runs, error = found
    assert [run.number for run in runs] == [1]
    assert error.code == "run-is-loading"
    assert re.search(r"\bprocess \d+ of the user bulkseed\b", str(error))
    assert "run 2" in str(error)


@pytest.mark.parametrize("name", ["select", 'Od"d na.me {x} größe 🎉'])
async def test_the_ledger_can_be_elsewhere(database: Address, server: Server, name: str) -> None:
    before = await digest(database), dump(server, database)
    elsewhere: dict[str, Any] = {"ledger_schema": name}
    await load(plan_of(), database, **elsewhere)
    with anyio.CancelScope() as scope:
        listener = Interfering("messages", scope.cancel)
        await load(plan_of("3x"), database, listener=listener, defer="always", **elsewhere)
    assert await resume(database) is None
    assert await resume(database, **elsewhere) is not None
    assert [report.holds for report in await verify(database, **elsewhere)] == [True, True]
    assert [entry.state for entry in await read_history(database, **elsewhere)] == ["whole", "whole"]
    await cleanup(database, [2, 1], **elsewhere)
    assert (await digest(database), dump(server, database)) == before
    async with open_connection(database) as connection:
        assert not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", name)


async def test_an_existing_schema_stays_when_the_ledger_is_dropped(database: Address, server: Server) -> None:
    await run_sql(
        database,
        "CREATE ROLE guest LOGIN; CREATE SCHEMA theirs; GRANT USAGE, CREATE ON SCHEMA theirs TO guest",
        "GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA public TO guest",
        "GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA public TO guest",
    )
    try:
        before = dump(server, database)
        login = Address(database.url._replace(username="guest"))
        with raises("missing-privilege", 'schema "bulkseed"', "GRANT CREATE", "--ledger-schema", kind=TargetError):
            await load(plan_of(), login)
        await load(plan_of(), login, ledger_schema="theirs")
        await cleanup(login, [1], ledger_schema="theirs")
        assert dump(server, database) == before
        assert await counts(database) == EMPTY
        await run_sql(database, "CREATE TABLE public.version (id int)")
        with raises("ledger-name-in-use", "'public'", "'version'", "--ledger-schema", kind=TargetError):
            await load(plan_of(), login, ledger_schema="public")
    finally:
        await run_sql(database, "DROP OWNED BY guest; DROP ROLE guest")


@pytest.mark.parametrize("how", ["resume", "cleanup"])
async def test_a_command_that_has_lost_a_run_drops_nothing(
    database: Address, server: Server, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    before = dump(server, database)
    ended = asyncio.Event()

    async def late(*arguments: Any, **named: Any) -> None:
        if not ended.is_set():
            ended.set()
            await run_sql(database, killing(database, "true"))
            await (resume(database) if how == "resume" else cleanup(database, [1]))
        await drop(*arguments, **named)

    monkeypatch.setattr("bulkseed.loader.complete.drop", late)
    # after a cleanup the ledger is gone too, so that the server refuses the statement
    with raises("run-lost" if how == "resume" else "server-error", "run 1", kind=RunError):
        await load(plan_of("3x"), database, defer="always", **SMALL)
    assert dump(server, database) == before
    assert await state(database) == ([(1, "whole")] if how == "resume" else [])


async def test_a_refused_cleanup_leaves_the_run_to_be_resumed(database: Address) -> None:
    await cut_off(database, "messages")
    await run_sql(
        database,
        "INSERT INTO channels (name, owner_id, created_at, is_private, is_dm) "
        "SELECT 'app', max(id), now(), false, false FROM users",
    )
    with raises("referenced-rows", "--cascade", kind=RunError):
        await cleanup(database, [1])
    assert await state(database) == [(1, "interrupted")]
    assert await resume(database) is not None


async def test_a_choice_holds_for_the_run_that_was_seen(database: Address) -> None:
    await cut_off(database, "messages")
    (seen,) = await read_history(database)
    assert await resume(database) is not None
    for command in (cleanup(database, [seen.run.claim]), resume(database, seen.run.claim)):
        with raises("run-changed", "run 1", "`bulkseed runs`", kind=InputError):
            await command
    assert await state(database) == [(1, "whole")]


async def test_a_taking_over_does_not_starve(database: Address) -> None:
    """Two workers always share the run's row; a command that takes the run over gets its lock all the same."""
    await cut_off(database, "messages")
    (run,) = [entry.run for entry in await read_history(database)]
    taken = anyio.Event()

    async def shard(pause: float) -> None:
        async with open_connection(database) as connection:
            await anyio.sleep(pause)
            while not taken.is_set():
                async with safe_transaction(connection):
                    with contextlib.suppress(RunError):
                        await share_run(connection, Ledger(), run.claim)
                    await anyio.sleep(0.2)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shard, 0.0)
        tasks.start_soon(shard, 0.1)
        await anyio.sleep(0.3)
        with anyio.fail_after(20):
            async with open_connection(database) as connection, safe_transaction(connection):
                await take_over(connection, Ledger(), run.claim, str(uuid.uuid4()), NullListener())
        taken.set()


async def test_a_login_whose_own_schema_has_the_ledger_finds_the_tables(database: Address) -> None:
    name = database.url.database
    await run_sql(database, "CREATE SCHEMA seeder", f"ALTER DATABASE {name} SET search_path = seeder, public")
    for number in (1, 2):
        assert (await load(plan_of(), database, ledger_schema="seeder")).run == number
    assert [report.holds for report in await verify(database, ledger_schema="seeder")] == [True, True]


async def test_the_process_whose_shard_is_waited_for_is_named(database: Address) -> None:
    """As of a worker that was stopped, or whose machine has crashed, in the middle of a shard."""
    await cut_off(database, "messages")
    (run,) = [entry.run for entry in await read_history(database)]
    notes = Notes()
    async with open_connection(database) as orphan, anyio.create_task_group() as tasks, safe_transaction(orphan):
        await share_run(orphan, Ledger(), run.claim)
        tasks.start_soon(partial(resume, database, listener=notes))
        with anyio.fail_after(20):
            while not notes.said:
                await anyio.sleep(0.05)
        process = orphan.get_server_pid()
    assert re.search(rf"\b{process}\b.*pg_terminate_backend", notes.said[0])
    assert await state(database) == [(1, "whole")]


async def test_only_the_owner_resumes_or_undoes_what_was_dropped(database: Address, server: Server) -> None:
    before = dump(server, database)
    await cut_off(database, "messages", defer="always")
    await run_sql(
        database,
        "CREATE ROLE helper LOGIN; GRANT ALL ON SCHEMA bulkseed, public TO helper",
        "GRANT ALL ON ALL TABLES IN SCHEMA bulkseed, public TO helper",
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO helper",
    )
    try:
        login = Address(database.url._replace(username="helper"))
        for command in (resume(login), cleanup(login, [1])):
            with raises("not-owner", "public.users", "bulkseed", kind=TargetError):
                await command
        assert await state(database) == [(1, "interrupted")]
    finally:
        await run_sql(database, "DROP OWNED BY helper; DROP ROLE helper")
    await cleanup(database, [1])
    assert dump(server, database) == before


async def test_an_interrupted_run_of_another_ledger_stops_the_next_load(database: Address) -> None:
    await cut_off(database, "messages", defer="always", ledger_schema="elsewhere")
    with raises("incomplete-run", "run 1", "`bulkseed resume 1 --ledger-schema elsewhere`", kind=TargetError):
        await load(plan_of(), database)
    assert await resume(database, ledger_schema="elsewhere") is not None
    await load(plan_of(), database)


async def test_a_cleanup_of_a_read_only_database_is_an_error(database: Address) -> None:
    await cut_off(database, "messages")
    await run_sql(database, f"ALTER DATABASE {database.url.database} SET default_transaction_read_only = on")
    with raises("read-only", kind=TargetError):
        await cleanup(database, [1])


async def test_undoing_is_quick_where_a_key_could_not_be_rebuilt(database: Address, server: Server) -> None:
    """Otherwise each removed message would be looked up in all reactions, which have no index."""
    await run_sql(database, TWIN)
    before = dump(server, database)
    with anyio.fail_after(60), raises("duplicate-rows", "message_reactions_pkey", "run 1", kind=RunError):
        await load(plan_of("15x"), database, rows_per_shard=20_000, defer="always")
    assert dump(server, database) == before


TWIN = """
CREATE FUNCTION twin() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO message_reactions SELECT * FROM message_reactions LIMIT 1;
    RETURN NULL;
END $$;
CREATE TRIGGER twin AFTER INSERT ON message_reactions WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION twin();
"""
"""An app that reacts once more, in the moment when nothing forbids that."""


async def test_unlogged_tables_are_named(database: Address) -> None:
    await run_sql(database, "ALTER TABLE message_reactions SET UNLOGGED")
    notes = Notes()
    await load(plan_of(), database, listener=notes)
    assert any("message_reactions" in note and "UNLOGGED" in note for note in notes.said)


async def test_rows_that_went_during_the_interruption_are_told(database: Address) -> None:
    await cut_off(database, "messages")
    tables = {"channels": "owner_id", "messages": "user_id", "user_channels": "user_id", "message_reactions": "user_id"}
    await run_sql(
        database,
        *(f"ALTER TABLE {table} DROP CONSTRAINT {table}_{column}_fkey" for table, column in tables.items()),
        "DELETE FROM users WHERE id IN (2, 40)",
    )
    notes = Notes()
    assert await resume(database, listener=notes) is not None
    assert [note for note in notes.said if "2 of the 60" in note and '"users"' in note and "id 2, 40" in note], (
        notes.said
    )
    assert await state(database) == [(1, "whole")]


def test_the_consent_to_resume_is_bound_to_the_run_that_was_shown(
    database: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(cut_off(database, "messages"))
    before = asyncio.run(digest(database))

    def consent(*_: object, **__: object) -> None:
        asyncio.run(run_sql(database, "UPDATE bulkseed.runs SET token = gen_random_uuid()"))

    monkeypatch.setattr("bulkseed.cli.consent.require_consent", consent)
    done = inside("resume", "--quiet", BULKSEED_DATABASE_URL=database.dsn)
    assert (done.returncode, "[run-changed]" in done.stderr) == (2, True), done.stderr
    assert asyncio.run(digest(database)) == before
    assert asyncio.run(state(database)) == [(1, "interrupted")]
