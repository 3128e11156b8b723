"""Completion in bash, zsh and fish: it is complete, and neither writes nor connects."""

from __future__ import annotations

import io
import os
import pty
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Final

import pytest

from bulkseed.__main__ import main
from bulkseed.cli.main import COMMANDS
from bulkseed.scenarios import shipped
from support.commands import environment

PROGRAM: Final = Path(sys.executable).parent / "bulkseed"
SECONDS: Final = 60


@pytest.fixture
def shell_environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a shell. It fails the test where something connects or the embedded server is created."""
    if not PROGRAM.exists():
        pytest.skip(f"bulkseed is not installed beside {sys.executable}")
    home = tmp_path / "home"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield environment(
            PATH=f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}",
            HOME=str(tmp_path),
            BULKSEED_HOME=str(home),
            BULKSEED_DATABASE_URL=f"postgresql://u@127.0.0.1:{listening.getsockname()[1]}/d",
            BULKSEED_SCALE="not a scale",
            TERM="dumb",
        )
        assert not home.exists()
        with pytest.raises(BlockingIOError):
            listening.accept()


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


needs_full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")


def run_shell(command: list[str], variables: dict[str, str], folder: Path) -> list[str]:
    done = subprocess.run(
        command, env=variables, cwd=folder, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.splitlines()


def bash_completions(words: list[str], variables: dict[str, str], folder: Path) -> list[str]:
    """What bash offers for the last of ``words``."""
    script = (
        'eval "$(bulkseed completion bash)"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        '_bulkseed_completion bulkseed; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return run_shell(["bash", "--norc", "-c", script, "bash", *words], variables, folder)


@needs("bash")
def test_bash(shell_environment: dict[str, str], tmp_path: Path) -> None:
    def completed(*words: str) -> list[str]:
        return bash_completions(["bulkseed", *words], shell_environment, tmp_path)

    assert completed("") == list(COMMANDS)
    options = completed("--")
    assert {"--scale", "--defer", "--yes", "--version", "--help"} <= {*options}
    assert len(options) == len({*options})
    assert completed("--scale", "3x", "--def") == ["--defer"]
    assert completed("load", "--defer", "") == ["auto", "always", "never"]


@needs("fish")
def test_fish(shell_environment: dict[str, str], tmp_path: Path) -> None:
    lines = ["bulkseed ver", "bulkseed --form", "bulkseed resume --on-error "]
    script = "bulkseed completion fish | source; " + "; ".join(f'complete -C "{line}"' for line in lines)
    offered = run_shell(["fish", "--no-config", "-c", script], shell_environment, tmp_path)
    assert [line.split("\t")[0] for line in offered] == ["verify", "--format", "keep", "undo"]


@needs("zsh")
def test_zsh(shell_environment: dict[str, str], tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["zsh", "-f", "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=shell_environment,
        cwd=tmp_path,
        start_new_session=True,
    ) as shell:
        os.close(theirs)
        try:
            # the texts that are waited for are not in what is typed
            type_in(ours, 'PS1=; autoload -Uz compinit; compinit -u -D; eval "$(bulkseed completion zsh)"\n')
            type_in(ours, "print rea''dy\n")
            read_until(ours, "ready")
            type_in(ours, "bulkseed verif\t")
            read_until(ours, "bulkseed verify")
            type_in(ours, "\x15")  # deletes the line
            type_in(ours, "bulkseed --defer alw\t")
            read_until(ours, "--defer always")
        finally:
            shell.kill()
            os.close(ours)


def type_in(terminal: int, text: str) -> None:
    os.write(terminal, text.encode())


def read_until(terminal: int, text: str) -> None:
    seen, deadline = "", time.monotonic() + SECONDS
    while text not in seen:
        assert time.monotonic() < deadline, seen
        seen += os.read(terminal, 1000).decode(errors="replace")


def asked(**variables: str) -> tuple[int, str]:
    """Exit status and output of a command that a completion script runs. It writes bytes."""
    with (
        pytest.MonkeyPatch.context() as patch,
        io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") as out,
        redirect_stdout(out),
    ):
        for name, value in variables.items():
            patch.setenv(name, value)
        status = main(["load"])
        out.flush()
        out.seek(0)
        return status, out.read()


def completed(line: str) -> list[str]:
    """What is offered for the last word of ``line``, with its type, as a script of bash reads it."""
    status, printed = asked(_BULKSEED_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(line.count(" ")))
    assert status == 0
    return printed.splitlines()


def test_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("big.toml", "busy.toml", "notes.txt", ".hidden.toml"):
        Path(name).touch()
    Path("many/deep").mkdir(parents=True)
    Path("many/one.toml").touch()
    every = [*shipped(), "big.toml", "busy.toml", f"many{os.sep}"]
    assert completed("bulkseed load --scenario ") == [f"plain,{name}" for name in every]
    assert completed("bulkseed plan --scenario b") == ["plain,big.toml", "plain,busy.toml"]
    # a folder alone is left to the shell, which puts no space behind it
    assert completed("bulkseed plan --scenario m") == ["file,m"]
    assert completed("bulkseed --scenario many/") == ["plain,many/one.toml", "plain,many/deep/"]
    assert completed("bulkseed --scenario nowhere/") == [""]
    assert {"plain,de_AT", "plain,de_DE"} <= {*completed("bulkseed load --locale de_")}
    assert completed("bulkseed completion ") == ["plain,bash", "plain,zsh", "plain,fish"]
    assert completed("bulkseed psql --data") == ["plain,--database-url"]
    assert completed("bulkseed nonsense --sc") == ["plain,--scale", "plain,--scenario", "plain,--schema"]


@pytest.mark.parametrize("name", ["$(touch ran).toml", "`touch ran`.toml", "my plan.toml", "a;b.toml"])
def test_a_file_that_needs_quotes_is_left_to_the_shell(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).touch()
    assert completed("bulkseed load --scenario ") == ["file,"]


@pytest.mark.parametrize("variables", [{}, {"COMP_WORDS": "bulkseed 'load", "COMP_CWORD": "x"}])
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_that_asks_wrongly_gets_nothing(shell: str, variables: dict[str, str]) -> None:
    status, printed = asked(_BULKSEED_COMPLETE=f"{shell}_complete", **variables)
    assert printed.strip() == ""
    # fish gives no number that could be wrong
    assert status == (0 if shell == "fish" and variables else 1)


@needs_full_device
def test_completions_that_cannot_be_printed_are_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [PROGRAM],
            env=environment(_BULKSEED_COMPLETE="bash_complete", COMP_WORDS="bulkseed ", COMP_CWORD="1"),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    assert done.returncode == 1
    assert "[output-failed]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("instruction", ["bash_source", "nonsense", "bash_nonsense"])
def test_no_instruction_loads(instruction: str, tmp_path: Path) -> None:
    status, printed = asked(_BULKSEED_COMPLETE=instruction, BULKSEED_HOME=str(tmp_path / "home"))
    assert status == (0 if instruction == "bash_source" else 1)
    assert "rows" not in printed
    assert not (tmp_path / "home").exists()
