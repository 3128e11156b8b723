"""The Python API: the public names, their types, and the functions for programs without an event loop."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import subprocess
import sys
import typing
from collections.abc import Callable, Coroutine
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any, Final

import pytest
from anyio import to_thread

import bulkseed
from bulkseed import api, errors, sync
from bulkseed.listeners import ProgressListener
from bulkseed.postgres.address import Address
from programs import seed, seed_async
from support.commands import ROOT
from support.errors import raises
from support.listeners import Interfering
from support.plans import plan_of
from support.queries import EMPTY, counts, has_ledger

FUNCTIONS: Final = api.__all__


def test_every_public_name_can_be_imported_and_is_listed() -> None:
    imported: dict[str, Any] = {}
    exec("from bulkseed import *", imported)
    assert set(bulkseed.__all__) <= imported.keys()
    assert set(bulkseed.__all__) <= set(dir(bulkseed))
    assert not hasattr(bulkseed, "unknown")


def test_every_error_and_function_is_public() -> None:
    kinds = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    assert "BulkseedError" in kinds
    assert kinds | set(FUNCTIONS) <= set(bulkseed.__all__)


def parts(annotation: Any) -> set[Any]:
    """The types in an annotation."""
    return {annotation}.union(*map(parts, typing.get_args(annotation)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_types_of_arguments_and_reports_are_public(name: str) -> None:
    public = {getattr(bulkseed, each) for each in bulkseed.__all__}
    checked: set[Any] = set()
    left: list[Any] = [getattr(api, name)]
    while left:
        hints = typing.get_type_hints(left.pop())
        own = {part for hint in hints.values() for part in parts(hint) if is_own(part)}
        assert own <= public
        # the plan is made by make_plan(), and is opaque
        left += own - checked - {bulkseed.Plan, bulkseed.Address}
        checked |= own
    assert checked


def is_own(kind: Any) -> bool:
    return isinstance(kind, type) and kind.__module__.startswith("bulkseed")


def test_sync_has_the_same_functions() -> None:
    assert sync.__all__ == FUNCTIONS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_sync_function_has_the_signature_and_help_of_its_coroutine(name: str) -> None:
    function, coroutine = getattr(sync, name), getattr(api, name)
    assert inspect.signature(function) == inspect.signature(coroutine)
    assert typing.get_type_hints(function) == typing.get_type_hints(coroutine)
    assert inspect.getdoc(function) == inspect.getdoc(coroutine)
    assert inspect.iscoroutinefunction(coroutine)
    assert not inspect.iscoroutinefunction(function)
    assert (function.__module__, function.__qualname__) == ("bulkseed.sync", name)


NAMES: Final = f"""
from bulkseed import {", ".join(bulkseed.__all__)}
import bulkseed

def look(report: LoadReport, verified: VerifyReport, removed: CleanupReport) -> list[RuleCheck | ChanceCheck]:
    first: int = report.placement.first_user
    seconds: float = report.seconds[Phase.COPY]
    rows: int = report.rows["users"] + removed.removed["users"]
    print(first, seconds, rows, report.to_dict())
    return [*verified.broken]

def fill(rows: FieldRows) -> list[int]:
    return [int(number) for number in rows.numbers]

def fill_row(row: FieldRow) -> int:
    return row.random.randint(1, 6)

@table(follows="users", columns=["user_id"])
def pets(users: Parents) -> list[tuple[int]]:
    return [(user.id,) for user in users]

async def run(plan: Plan, url: str | Address, defer: Defer, copy_format: Format, on_error: OnError) -> LoadReport:
    try:
        return await load(plan, url, defer=defer, copy_format=copy_format, on_error=on_error, listener=NullListener())
    except ServerUnavailableError as error:
        raise SystemExit(error.code) from error

def run_sync(plan: Plan, listener: ProgressListener) -> LoadReport:
    sync.load(plan, "postgresql:///app", workers="two")  # type: ignore[arg-type]
    sync.load(plan, "postgresql:///app", formats="binary")  # type: ignore[call-arg]
    bulkseed.unknown  # type: ignore[attr-defined]
    return sync.load(plan, "postgresql:///app", listener=listener)
"""


def test_programs_are_typed(tmp_path: Path) -> None:
    """As their authors check them: strictly, without the settings of this project. The wrong lines are refused."""
    (tmp_path / "names.py").write_text(NAMES)
    programs = [str(ROOT / "tests" / "user_code" / "programs" / name) for name in ("seed.py", "seed_async.py")]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "names.py", *programs],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_program_without_an_event_loop(database: Address, capsys: pytest.CaptureFixture[str]) -> None:
    seed.main(database.url.render())
    loaded, removed = capsys.readouterr().out.splitlines()
    assert loaded.startswith("run 1: ")
    assert loaded.split()[2] == removed.split()[0]
    assert asyncio.run(counts(database)) == EMPTY


async def test_a_program_that_shows_progress(database: Address, capsys: pytest.CaptureFixture[str]) -> None:
    await seed_async.main(database.url.render())
    shown = capsys.readouterr().out.splitlines()
    steps = [line.split() for line in shown if line.startswith("rebuild ")]
    assert len(steps) > 1
    assert steps[-1][1] == steps[-1][3]
    assert shown[-1] == "commit"


async def test_sync_runs_in_another_thread_on_each_loop(
    database: Address, any_loop: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "LOOP", any_loop)
    report = await to_thread.run_sync(
        lambda: sync.load(plan_of("3x"), database, workers=3, rows_per_shard=1000, defer="always")
    )
    assert (report.run, report.workers) == (1, 3)
    [verified] = await to_thread.run_sync(sync.verify, database)
    assert verified.holds, verified.broken
    assert verified.broken == ()
    assert await to_thread.run_sync(sync.resume, database) is None
    removed = await to_thread.run_sync(sync.cleanup, database)
    assert removed.removed == report.rows
    for result in (report, verified, removed):
        assert json.loads(json.dumps(result.to_dict())) == result.to_dict()
        with pytest.raises(FrozenInstanceError):
            setattr(result, fields(result)[0].name, 2)


@pytest.mark.parametrize("name", FUNCTIONS)
async def test_sync_in_a_running_event_loop_names_the_coroutine(name: str) -> None:
    arguments = [plan_of()] if name == "load" else []
    with raises("running-event-loop", f"bulkseed.sync.{name}()", f"await bulkseed.{name}(", kind=bulkseed.InputError):
        getattr(sync, name)(*arguments, "postgresql:///nowhere")


def test_ctrl_c_keeps_the_run_and_says_so(
    database: Address, any_loop: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "LOOP", any_loop)
    press = Interfering("messages", lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt) as caught:
        sync.load(plan_of("5x"), database, listener=press, workers=2, rows_per_shard=1000)
    assert any("`bulkseed resume 1`" in note for note in caught.value.__notes__)
    report = sync.resume(database)
    assert report is not None
    assert report.run == 1
    assert all(verified.holds for verified in sync.verify(database))


async def cancelled(command: Callable[[ProgressListener], Coroutine[Any, Any, object]]) -> list[str]:
    """Cancel a command in the middle of its messages, and return the notes of the exception."""
    listener = Interfering("messages", None)
    task = asyncio.ensure_future(command(listener))
    listener.act = task.cancel
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    return caught.value.__notes__


async def test_a_cancelled_load_keeps_its_run_and_says_so(database: Address) -> None:
    plan = plan_of("10x")
    [note] = await cancelled(lambda listener: bulkseed.load(plan, database, listener=listener))
    assert "`bulkseed resume 1`" in note
    [note] = await cancelled(lambda listener: bulkseed.resume(database, listener=listener))
    assert "`bulkseed cleanup 1`" in note
    await bulkseed.cleanup(database, [1])
    assert not await has_ledger(database)


@pytest.mark.parametrize(
    "arguments",
    [
        {"workers": 0},
        {"defer": "maybe"},
        {"copy_format": "csv"},
        {"rows_per_shard": 0},
        {"on_error": "stop"},
        {"retry_for": -1},
        {"retry_for": float("nan")},
    ],
    ids=repr,
)
def test_refuses_wrong_arguments(arguments: dict[str, Any]) -> None:
    ((name, value),) = arguments.items()
    with raises("invalid-argument", name, repr(value), kind=bulkseed.InputError):
        sync.load(plan_of(), "postgresql:///nowhere", **arguments)
    if name in inspect.signature(sync.resume).parameters:
        with raises("invalid-argument", name, repr(value), kind=bulkseed.InputError):
            sync.resume("postgresql:///nowhere", **arguments)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_refuses_a_ledger_schema_that_cannot_exist(name: str) -> None:
    arguments = (plan_of(), "postgresql://u@127.0.0.1:1/d") if name in {"check", "load"} else ("postgresql://u@h/d",)
    for schema in ("", "pg_x", "a" * 64):
        with raises("invalid-schema-name", kind=bulkseed.InputError):
            getattr(sync, name)(*arguments, ledger_schema=schema)


def test_a_frozen_app_loads_in_one_process(database: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its executable is the app, which must not be started again as a worker."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    load: Callable[..., bulkseed.LoadReport] = sync.load
    with raises("no-worker-process", sys.executable, kind=bulkseed.InputError):
        load(plan_of("3x"), database, workers=2, rows_per_shard=500)
    assert load(plan_of("3x"), database, rows_per_shard=500).workers == 1


def test_as_many_workers_as_the_command_line_by_default(database: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulkseed.load_options.available_cores", lambda: 2)
    assert sync.load(plan_of("3x"), database, rows_per_shard=500).workers == 2
    assert sync.load(plan_of(), database).workers == 1
