"""The reference of commands and options, compared with click's own parameters."""

from __future__ import annotations

import re
from typing import Final

import click

from bulkseed.cli.main import COMMANDS, cli
from support.commands import ROOT
from support.pages import PAGES, tables

PAGE: Final = PAGES["docs/reference/options.md"]
BAR: Final = "\\|"
HELP_DEFAULT: Final = re.compile(r"\[default: (.*)\]$")

CONTEXT: Final = click.Context(cli, info_name="bulkseed")


def subcommand(name: str) -> click.Command:
    found = cli.get_command(CONTEXT, name)
    assert found is not None
    return found


def default_of(option: click.Option) -> str:
    """Return the default as the page shows it: a value, or words where only the help has them; empty for a flag."""
    if words := HELP_DEFAULT.search(option.help or ""):
        return words[1]
    value = option.default
    if option.is_flag or not isinstance(value, str | int | float):
        return ""
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def option_rows() -> dict[str, tuple[str, str]]:
    """Return the commands and the default of each option."""
    found: dict[str, dict[str, str]] = {}
    for name in COMMANDS:
        for option in subcommand(name).params:
            if isinstance(option, click.Option):
                metavar = f" {option.metavar}" if option.metavar else ""
                if isinstance(option.type, click.Choice):
                    metavar = f" {'|'.join(option.type.choices)}"
                found.setdefault(f"{', '.join(option.opts)}{metavar}", {})[name] = default_of(option)
    rows = {}
    for title, defaults in found.items():
        common = next(iter(defaults.values()))
        others = [f"{default} ({name})" for name, default in defaults.items() if default != common]
        commands = "all" if len(defaults) == len(COMMANDS) else ", ".join(defaults)
        rows[title] = (commands, ", ".join([common, *others]))
    return rows


def test_every_option_is_described() -> None:
    described = {
        row[0].strip("`").replace("\\|", "|"): (row[1], row[2].replace("`", ""))
        for table in tables(PAGE)
        if table[0][:3] == ["option", "commands", "default"]
        for row in table[1:]
    }
    expected = {title: (commands, default.replace("`", "")) for title, (commands, default) in option_rows().items()}
    assert described == expected


def test_every_command_is_described() -> None:
    [table] = [table for table in tables(PAGE) if table[0][0] == "command"]
    expected = []
    for name in COMMANDS:
        arguments = [each for each in subcommand(name).params if isinstance(each, click.Argument)]
        shown = [
            f"{{{'|'.join(each.type.choices)}}}" if isinstance(each.type, click.Choice) else each.metavar
            for each in arguments
        ]
        expected.append(f"`{' '.join(['bulkseed', name, *filter(None, shown)])}`")
    assert [row[0].replace("\\|", "|") for row in table[1:]] == expected


def rewrite(page: str) -> str:
    """Return the page with the present commands and defaults of its options; those that it lacks are at its end."""
    missing = option_rows()
    lines = []
    for line in page.splitlines():
        cells = re.split(r"(?<!\\)\|", line)
        title = cells[1].strip(" `").replace("\\|", "|") if len(cells) > 4 else ""
        if not re.match("--[a-z]", title):
            lines.append(line)
        elif title in missing:
            commands, default = missing.pop(title)
            lines.append("|".join([*cells[:2], f" {commands} ", f" {default} ", *cells[4:]]))
    new = (
        f"| `{title.replace('|', BAR)}` | {commands} | {default} | |" for title, (commands, default) in missing.items()
    )
    return "\n".join([*lines, *new]) + "\n"


if __name__ == "__main__":
    (ROOT / "docs/reference/options.md").write_text(rewrite(PAGE))
