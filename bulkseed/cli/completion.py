"""``bulkseed completion``, and the answers to the shells' completion scripts."""

from __future__ import annotations

from typing import Final, Literal, get_args

import click
from click.shell_completion import get_completion_class, shell_complete

from bulkseed.cli.command import command

__all__ = ["VARIABLE", "complete", "completion_command"]

Shell = Literal["bash", "zsh", "fish"]
VARIABLE: Final = "_BULKSEED_COMPLETE"
"""The environment variable by which a completion script asks; as :mod:`click.shell_completion` names it."""
NAME: Final = "bulkseed"
FAILED: Final = 1
HELP: Final = """Print the completion script of a shell.

\b
bash  add to ~/.bashrc:
        eval "$(bulkseed completion bash)"
zsh   add to ~/.zshrc, below compinit:
        eval "$(bulkseed completion zsh)"
fish  run once:
        bulkseed completion fish > ~/.config/fish/completions/bulkseed.fish

It completes commands, options and values, such as scenarios, TOML files and locales, and connects to no database.
Bash must be 4.4 or later.
"""


def complete(group: click.Command, instruction: str) -> int:
    """Print the completion script, or the completions, that a shell asks for; return the exit status.

    It is 1, with nothing printed, where the shell's other variables are missing or wrong.
    """
    try:
        return shell_complete(group, {}, NAME, VARIABLE, instruction)
    except (KeyError, ValueError):
        return FAILED


@command("completion", help=HELP)
@click.argument("shell", type=click.Choice(get_args(Shell)))
@click.pass_context
def completion_command(context: click.Context, shell: Shell) -> None:
    """Print the completion script."""
    source = get_completion_class(shell)
    assert source is not None
    click.echo(source(context.find_root().command, {}, NAME, VARIABLE).source())
