"""Errors as JSON, the log, tracebacks, and output that cannot be written."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import click
import pytest
from rich.console import Console

from bulkseed.__main__ import main
from bulkseed.cli import report
from bulkseed.cli.main import COMMANDS, cli
from bulkseed.cli.output import Interrupted, Output, asks_for_json, find_interruption
from bulkseed.cli.progress import BestEffortListener, Lines
from bulkseed.cli.runner import ignore_ctrl_c_briefly, run
from bulkseed.errors import InputError
from bulkseed.listeners import Phase
from bulkseed.postgres.address import Address
from support.commands import ROOT, at_terminal, bulkseed, environment, inside
from support.obstacles import FAIL
from support.queries import run_sql

NOWHERE = "postgresql://u@127.0.0.1:1/d"


def error_in(out: str) -> dict[str, Any]:
    """Return the error in the only JSON object of ``out``."""
    value = json.loads(out)
    assert list(value) == ["error"]
    assert list(value["error"]) == ["code", "message", "exit_status"]
    error: dict[str, Any] = value["error"]
    return error


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["load", "--json", "--nope"], "usage-error"),
        (["load", "--nope", "--json"], "usage-error"),
        (["--json", "--seed", "x"], "usage-error"),
        (["nope", "--json"], "usage-error"),
        (["verify", "one", "--json"], "usage-error"),
        (["load", "--ledger-schema", "pg_x", "--json"], "invalid-schema-name"),
        (["load", "--scale", "0x", "--json"], "invalid-scale"),
        (["load", "more", "--json"], "unexpected-argument"),
    ],
)
def test_errors_are_json_wherever_the_option_stands(arguments: list[str], code: str) -> None:
    done = inside(*arguments, BULKSEED_DATABASE_URL=NOWHERE)
    error = error_in(done.stdout)
    assert (error["code"], error["exit_status"], done.returncode) == (code, 2, 2)
    assert done.stderr == f"bulkseed: error [{code}]: {error['message']}\n"
    without = [argument for argument in arguments if argument != "--json"]
    by_variable = inside(*without, BULKSEED_DATABASE_URL=NOWHERE, BULKSEED_JSON="1")
    assert (by_variable.stdout, by_variable.stderr) == (done.stdout, done.stderr)
    plain = inside(*without, BULKSEED_DATABASE_URL=NOWHERE)
    assert (plain.stdout, plain.stderr) == ("", done.stderr)


def test_the_option_is_known_before_the_command_line_is_parsed() -> None:
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        has_option = any("--json" in option.opts for option in command.params)
        assert has_option == asks_for_json([name, "--json"], {}), name
        assert {"--verbose", "--debug"} <= {name for option in command.params for name in option.opts}
    assert not asks_for_json(["psql", "-c", "--json"], {"BULKSEED_JSON": "1"})
    assert not asks_for_json(["load", "--", "--json"], {"BULKSEED_JSON": "0"})
    assert asks_for_json([], {"BULKSEED_JSON": "True"})


PLUGIN = """
import sys
import bulkseed

@bulkseed.table(follows="users", columns=["user_id"])
def {name}(users):
    {code}
    yield from ()
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: Address) -> Iterator[Any]:
    """Return the options for a plugin with some code."""
    monkeypatch.syspath_prepend(tmp_path)
    made: list[str] = []

    def make(name: str, code: str, before: str = "") -> list[str]:
        (tmp_path / f"{name}.py").write_text(before + PLUGIN.format(name=name, code=code))
        made.append(name)
        asyncio.run(run_sql(database, f"CREATE TABLE {name} (user_id bigint REFERENCES users)"))
        return ["load", "--json", "--workers", "1", "--plugin", f"{name}:{name}", "--database-url", database.dsn]

    yield make
    for name in made:
        sys.modules.pop(name, None)


def test_code_of_the_user_that_exits_is_an_error_of_that_code(plugin: Any) -> None:
    for name, code, before, wanted in (
        ("exits_later", "sys.exit(7)", "", "plugin-failed"),
        ("exits_at_once", "pass", "raise SystemExit(7)\n", "broken-module"),
    ):
        done = inside(*plugin(name, code, before))
        assert error_in(done.stdout)["code"] == wanted
        assert done.returncode == 2
        assert "SystemExit" in done.stderr


def test_what_a_plugin_prints_does_not_get_into_the_json(plugin: Any) -> None:
    done = inside(*plugin("prints", "print('printed')"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"] == 1
    assert "printed" in done.stderr


def test_what_programs_of_a_plugin_print_does_not_get_into_the_json(tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(
        "import os, subprocess, sys\n"
        "os.write(1, b'raw ')\n"
        "subprocess.run([sys.executable, '-c', 'print(12345)'])\n"
        "print('buffered', file=sys.__stdout__)\n"
    )
    done = bulkseed("plan", "--json", "--plugin", "noisy:nothing", PYTHONPATH=str(tmp_path))
    assert (error_in(done.stdout)["code"], done.returncode) == ("unknown-name", 2)
    for text in ("raw ", "12345", "buffered"):
        assert text in done.stderr


def test_a_failed_load_is_json_with_a_line_for_what_became_of_it(database: Address) -> None:
    asyncio.run(run_sql(database, FAIL))
    done = inside("load", "--scale", "3x", "--workers", "1", "--json", BULKSEED_DATABASE_URL=database.dsn)
    error = error_in(done.stdout)
    assert (error["code"], done.returncode) == ("server-error", 1)
    assert error["message"].splitlines()[-1] == "run 1 was undone"


def test_a_fault_of_bulkseed_says_what_became_of_the_run(database: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise KeyError("of the test")

    monkeypatch.setattr("bulkseed.loader.load_shard.record_shard", fail)
    done = inside("load", "--workers", "1", "--quiet", "--json", BULKSEED_DATABASE_URL=database.dsn)
    error = error_in(done.stdout)
    assert (error["code"], done.returncode) == ("internal-error", 1)
    assert "KeyError: 'of the test'" in done.stderr
    assert "--debug" in done.stderr
    assert "run 1 was undone" in done.stderr
    assert "Traceback" not in done.stderr
    done = inside("load", "--workers", "1", "--quiet", "--debug", BULKSEED_DATABASE_URL=database.dsn)
    assert (done.stdout, done.returncode) == ("", 1)
    assert "Traceback (most recent call last):" in done.stderr
    assert re.search(r"^bulkseed: error \[internal-error\]: KeyError", done.stderr, re.MULTILINE)


def test_other_failures_of_the_system_are_not_those_of_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise IsADirectoryError(21, "Is a directory", "/some/file")

    monkeypatch.setattr("bulkseed.scenarios.planning.make_plan", fail)
    done = inside("plan", "--json")
    error = error_in(done.stdout)
    assert (error["code"], done.returncode) == ("system-error", 1)
    assert error["message"] == "Is a directory: /some/file"


def test_debug_prints_tracebacks_with_their_causes_and_without_passwords() -> None:
    secret = "s3cret-of-the-test"
    for url in (f"postgresql://u:{secret}@127.0.0.1:1/d", f"postgresql://u:{secret}@h:{secret}/d"):
        done = inside("load", "--debug", "--database-url", url)
        assert "Traceback" in done.stderr
        assert secret not in done.stdout + done.stderr
        assert secret not in inside("load", "--debug", "--json", BULKSEED_DATABASE_URL=url).stderr
        assert "Traceback" not in inside("load", "--verbose", "--database-url", url).stderr
    done = inside("plan", "--debug", "--as-of", "yesterday")
    assert "ValueError" in done.stderr
    assert "direct cause" in done.stderr


def test_verbose_logs_a_load(database: Address) -> None:
    load = ("load", "--scale", "3x", "--rows-per-shard", "1000", "--defer", "always", "--quiet", "--workers", "2")
    done = inside(*load, "--verbose", BULKSEED_DATABASE_URL=database.dsn)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    for fact in (
        database.server,
        "PostgreSQL ",
        "COPY format of messages: binary",
        "phase check",
        "phase copy",
        "phase rebuild",
        "run 1",
        "shard 0 ",
        "index messages_pkey",
        "worker 2 is started",
        "worker 2: connected to",
        "worker 2 has ended with status 0",
    ):
        assert fact in done.stderr
    pattern = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO \[bulkseed\.[\w.]+\] .+"
    assert all(re.fullmatch(pattern, line) for line in done.stderr.splitlines())
    assert not [handler for handler in logging.getLogger("bulkseed").handlers if type(handler).__name__ == "LogHandler"]
    assert inside("verify", "--quiet", BULKSEED_DATABASE_URL=database.dsn).stderr == ""
    done = inside("cleanup", "--yes", "--verbose", "--debug", "--quiet", BULKSEED_DATABASE_URL=database.dsn)
    assert " DEBUG " in done.stderr
    assert done.stderr.count("rows are removed") == 1


def test_the_log_tells_choices_and_ddl(database: Address) -> None:
    for options, facts in (
        (["--defer", "never"], ["stay in place: --defer never"]),
        (["--format", "records"], ["records (--format records)", "545"]),
        (
            ["--defer", "always"],
            ["DROP INDEX IF EXISTS public.messages_channel_id_", "CREATE INDEX messages_channel_id_"],
        ),
    ):
        done = inside("load", "--workers", "1", "--quiet", "--debug", *options, BULKSEED_DATABASE_URL=database.dsn)
        assert done.returncode == 0
        log = done.stderr.replace('"', "")
        assert [fact for fact in facts if fact not in log] == [], log


def test_log_lines_stand_above_the_bars(database: Address) -> None:
    load = ("load", "--verbose", "--scale", "5x", "--rows-per-shard", "2000")
    child, ours = at_terminal(*load, BULKSEED_DATABASE_URL=database.dsn)
    shown = b""
    try:
        while part := os.read(ours, 10_000):
            shown += part
    except OSError:
        pass  # the other end is closed
    os.close(ours)
    assert child.wait(30) == 0, shown
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "\n").splitlines()
    logged = [line for line in lines if " INFO " in line]
    assert any("phase copy" in line for line in logged)
    # a torn line would have a bar before the time
    assert all(re.match(r"\d{4}-\d\d-\d\d ", line) for line in logged), logged


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    ("redirection", "options", "status"),
    [
        ("> /dev/full", "plan", 1),
        ("> /dev/full 2>&1", "plan --json", 1),
        ("> /dev/full", "plan --nope --json", 2),
        ("2> /dev/full", "plan --nope", 2),
        ("2> /dev/full", "plan --debug --as-of yesterday", 2),
        ("2>&-", "plan --nope", 2),
        (">&-", "plan --nope --json", 2),
        (">&- 2>&-", "plan --debug", 0),
        ("| head -c 1", "plan --scale 3x --locale de_DE", 1),
    ],
)
def test_statuses_where_the_output_cannot_be_written(redirection: str, options: str, status: int) -> None:
    # a pipe's reader ends before anything is written
    redirection = "| true" if redirection.startswith("|") else redirection
    command = f'{{ sleep 0.2; "{sys.executable}" -m bulkseed {options}; echo $? >&3; }} {redirection}'
    done = subprocess.run(
        ["sh", "-c", f"exec 3>&1; {command}"], env=environment(), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.split()[-1:] == [str(status)], done
    assert ("output-failed" in done.stderr) == (redirection == "> /dev/full" and status == 1)
    assert "Traceback" not in done.stderr


class Broken(Lines):
    """A display with a fault."""

    def __init__(self) -> None:
        super().__init__(Console())
        self.calls = 0

    def phase(self, phase: Phase, step: int = 0, steps: int | None = None) -> None:
        self.calls += 1
        raise ZeroDivisionError(phase)

    def note(self, message: str) -> None:
        self.calls += 1
        raise ZeroDivisionError(message)


def test_a_fault_of_the_display_ends_no_load() -> None:
    display = Broken()
    listener = BestEffortListener(display)
    for _ in range(2):
        listener.phase(Phase.CHECK)
        listener.note("a note")
    assert display.calls == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_runs_are_readable_in_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    run = {"number": 12, "rows": {"m": 1_802_016}, "expected": {"m": 1_807_380}, "is_complete": False, "resumed": 2}
    who = {"login": "bulkseed", "client": "127.0.0.1", "began": datetime(2026, 11, 29, 19, 58, tzinfo=UTC)}
    run_of_test = SimpleNamespace(**run, **who)
    recorded: Any = SimpleNamespace(run=run_of_test, problem=None, state="interrupted", seconds=13.7)
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "80")
    report.print_runs([recorded])
    words = screen.getvalue().split()
    assert {"12", "interrupted", "1,802,016", "1,807,380", "2026-11-29", "13.7", "2"} <= set(words)
    assert "…" not in screen.getvalue()


def test_tables_in_a_pipe_have_no_blanks_at_the_ends_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--as-of", "2026-06-01"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    assert any(line.startswith("  messages ") for line in lines)


def test_lines_with_no_row_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("bulkseed.cli.progress.SECONDS_BETWEEN_LINES", 0.0)
    lines = Lines(Console(stderr=True))
    lines.expect({"users": 10})
    for count in (5, -5, 5):
        lines.rows("users", count)
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_ctrl_c_is_ignored_only_briefly_after_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulkseed.cli.runner.DEAF_SECONDS", 0.1)
    former = signal.getsignal(signal.SIGINT)
    try:
        ignore_ctrl_c_briefly()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.15)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, former)


def test_the_first_interruption_is_reported() -> None:
    def interrupt_twice() -> None:
        try:
            raise Interrupted(signal.SIGTERM, "interrupted: run 1 is kept")
        finally:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        interrupt_twice()
    interruption = find_interruption(caught.value)
    assert str(interruption) == "interrupted: run 1 is kept"
    assert interruption is not None
    assert interruption.exit_status == 143
    assert find_interruption(KeyboardInterrupt()) is None


@pytest.mark.parametrize(
    "trouble", [OSError(errno.EBUSY, "Device or resource busy"), RuntimeError("Event loop is closed")], ids=type
)
def test_an_event_loop_that_cannot_be_closed_does_not_hide_the_interruption(
    monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    run_to_the_end = anyio.run

    def fail_to_close(*arguments: Any, **options: Any) -> None:
        try:
            run_to_the_end(*arguments, **options)
        finally:
            raise trouble

    async def end_by_signal() -> None:
        await anyio.sleep(0.1)  # until the signals are handled
        os.kill(os.getpid(), signal.SIGTERM)
        await anyio.sleep_forever()

    async def end() -> None:
        pass

    monkeypatch.setattr("anyio.run", fail_to_close)
    former = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(Interrupted) as caught:
            run(end_by_signal)
        assert (str(caught.value), caught.value.exit_status) == ("interrupted", 143)
        with pytest.raises(type(trouble)):
            run(end)
    finally:
        signal.signal(signal.SIGINT, former)


def test_an_interruption_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bulkseed.scenarios.planning.make_plan", interrupt)
    done = inside("plan", "--json")
    assert error_in(done.stdout) == {"code": "interrupted", "message": "interrupted", "exit_status": 130}
    assert done.stderr == "bulkseed: interrupted\n"


def test_an_error_after_the_result_adds_no_second_object(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def print_and_fail(*_: object) -> None:
        output = click.get_current_context().find_object(Output)
        assert output is not None
        output.print_json({"result": 1})
        raise InputError("too late", code="too-late")

    monkeypatch.setattr("bulkseed.cli.report.plan_json", print_and_fail)
    assert main(["plan", "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == '{"result": 1}\n'
    assert "[too-late]" in printed.err


def test_the_library_configures_no_logging() -> None:
    program = (
        "import logging, bulkseed; log = logging.getLogger('bulkseed'); "
        "print([type(h).__name__ for h in log.handlers], log.level, logging.root.handlers)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['NullHandler'] 0 []\n"


def test_the_command_itself_prints_the_log() -> None:
    done = bulkseed("verify", "--debug", "--json", BULKSEED_DATABASE_URL=NOWHERE)
    assert error_in(done.stdout)["code"] == "no-answer"
    assert "ConnectionRefusedError" in done.stderr
