"""Values of Faker's methods: the process that makes them, and what a program that uses bulkseed sees of it."""

from __future__ import annotations

import datetime
import gc
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

import anyio
import pytest
from faker import Faker

from bulkseed.errors import InputError
from bulkseed.loader.load import load
from bulkseed.plan.plan import Plan
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.scenarios.planning import make_plan
from bulkseed.text.fakes import Fakes, share_faker
from support.commands import ROOT, environment
from support.errors import raises
from support.queries import run_sql

LONG_AGO: Final = datetime.datetime(1995, 3, 2, 1, tzinfo=UTC)
UNRULY: Final = Fakes("en_US", 1, 0, ("unruly:UnrulyProvider",))


async def fetch(database: Address, query: str) -> list[Any]:
    async with open_connection(database) as connection:
        return await connection.fetch(query)


def write_scenario(folder: Path, field: str) -> Path:
    file = folder / "app.toml"
    file.write_text(f'providers = ["unruly:UnrulyProvider"]\n[fields.users]\nphone = {field}')
    return file


async def plan_with(database: Address, folder: Path, field: str, **options: Any) -> Plan:
    """A plan with a field, for which the table has a column."""
    await run_sql(database, "ALTER TABLE users ADD COLUMN phone text")
    return make_plan(scenario=write_scenario(folder, field), as_of=LONG_AGO, **options)


# --- a program that uses bulkseed ------------------------------------------------------------------------------------


@contextmanager
def repeating(*actions: Callable[[], None]) -> Iterator[None]:
    """Repeat each action in a thread of its own during the block; raise the first error of any."""
    ended, errors = Event(), list[BaseException]()

    def repeat(action: Callable[[], None]) -> None:
        try:
            while not ended.is_set():
                action()
                time.sleep(0)
        except BaseException as error:
            errors.append(error)

    threads = [Thread(target=repeat, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    for error in errors:
        raise error


def clocks() -> dict[tuple[str, str], object]:
    """What Faker's modules name by each name for a time: classes and modules of the standard library."""
    names = {"datetime", "date", "dtdate", "dtdatetime", "time", "timedelta", "random", "mod_random"}
    return {
        (module, name): value
        for module in sorted(sys.modules)
        if module.split(".")[0] in {"faker", "unruly", "fillers"}
        for name, value in list(vars(sys.modules[module]).items())
        if name in names
    }


def settings() -> tuple[object, ...]:
    """Settings that all threads of a process share."""
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    return (
        list(sys.path),
        dict(os.environ),
        handlers,
        gc.get_threshold(),
        gc.isenabled(),
        warnings.filters,
        list(warnings.filters),
        warnings.showwarning,
        sys.stdout,
        sys.stderr,
        Path.cwd(),
    )


async def test_threads_see_no_other_clock_and_no_other_random_numbers(database: Address, tmp_path: Path) -> None:
    own = Faker("en_US")
    own.date_time_this_year(), own.ssn()
    earlier, before = clocks(), settings()
    random.seed(7)
    expected, drawn = random.Random(7), 0

    def draw() -> None:
        nonlocal drawn
        assert random.random() == expected.random()
        drawn += 1

    def look() -> None:
        found = clocks()
        assert all(found[name] is value for name, value in earlier.items())
        assert settings()[4:8] == before[4:8]
        assert warnings.filters is before[5]

    def fake() -> None:
        assert own.date_time_this_year().year >= 2025
        assert own.passport_owner()

    with repeating(draw, look, fake):
        # past_datetime needs the clock, and ssn of el_GR draws from the global generator
        plan = await plan_with(database, tmp_path, '{ template = "{faker.past_datetime} {faker.ssn}" }', locale="el_GR")
        await load(plan, database)
    assert drawn
    assert settings() == before
    [[first, last]] = await fetch(database, "SELECT min(phone), max(phone) FROM users")
    # 30 days before as_of, to the hour
    assert "1995-01-31 01" <= first <= last < "1995-03-02 01"


# --- providers -------------------------------------------------------------------------------------------------------


def test_the_process_of_faker_survives_what_providers_do(capfd: pytest.CaptureFixture[str]) -> None:
    with share_faker() as process:
        for method, code, *facts in (
            ("failing", "faker-call-failed", "KeyError in line 17 of unruly.py", "no such plan"),
            ("leaving", "faker-call-failed", "SystemExit", "enough", "unruly.py"),
            ("crashing", "faker-process-ended", "crashing", "status 7"),
        ):
            with raises(code, *facts, kind=InputError):
                UNRULY.check(method, {})
        pool = UNRULY.pool("talkative", {}, 2)
        assert pool.values.to_pylist() == ["read ''"] * 2
        assert pool.trial.is_text
        running = process.start()
    assert running.poll() is not None
    assert not capfd.readouterr().out


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_the_copies_of_a_provider_that_forks_do_not_answer() -> None:
    with share_faker():
        for _ in range(3):
            assert UNRULY.pool("forking", {}, 1).values.to_pylist() == ["parent"]
            # else the answer of a copy would be taken for this one
            assert UNRULY.pool("talkative", {}, 1).values.to_pylist() == ["read ''"]


def test_values_are_made_where_the_working_directory_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend("")
    folder.rmdir()
    assert UNRULY.check("talkative", {}).is_text


def test_a_stopped_process_starts_again_for_the_next_value() -> None:
    with share_faker() as process:
        UNRULY.check("talkative", {})
        running = process.start()
        process.stop()
        assert running.poll() is not None
        process.stop()
        assert UNRULY.check("talkative", {}).is_text


def test_the_process_gets_no_connection_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = {"PGPASSWORD", "PGPASSFILE", "DATABASE_URL", "BULKSEED_DATABASE_URL", "BULKSEED_TEST_URL"}
    for name in (*hidden, "APP_SETTINGS"):
        monkeypatch.setenv(name, "x")
    [names] = UNRULY.pool("variables", {}, 1).values.to_pylist()
    assert "APP_SETTINGS" in names.split()
    assert not hidden & {*names.split()}


def test_a_provider_of_the_main_program_is_refused() -> None:
    with raises("missing-module", "__main__:Mine", kind=InputError):
        Fakes("en_US", 1, 0, ("__main__:Mine",)).check_providers()


def test_a_process_that_cannot_be_started_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with raises("no-faker-process", kind=InputError):
        UNRULY.check("failing", {})


async def test_a_pool_is_made_once_for_all_workers(
    database: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(calls))
    plan = await plan_with(database, tmp_path, '{ faker = "counted", pool = 30 }')
    assert calls.read_text() == "."
    await load(plan, database, workers=2, rows_per_shard=100)
    assert calls.read_text() == "." * 31
    [[count]] = await fetch(database, "SELECT count(*) FROM users WHERE phone = 'counted'")
    assert count == plan.users


async def test_cancelling_a_load_ends_a_pool_at_once(
    database: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(calls))
    plan = await plan_with(database, tmp_path, '"faker:hanging_later"')
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(load, plan, database)
        while not calls.exists():
            await anyio.sleep(0.02)
        tasks.cancel_scope.cancel()
    assert await fetch(database, "SELECT FROM users") == []


def test_ctrl_c_ends_a_provider_that_hangs(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    process = subprocess.Popen(
        [sys.executable, "-m", "bulkseed", "plan", "--scenario", write_scenario(tmp_path, '"faker:hanging"')],
        env=environment(PYTHONPATH=str(ROOT / "tests" / "user_code"), CALLS=str(calls)),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while not calls.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
