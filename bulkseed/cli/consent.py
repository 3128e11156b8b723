"""What a command asks before it writes: the guard's findings, and the question."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click

from bulkseed.cli.runner import Database, run
from bulkseed.errors import InputError
from bulkseed.target.guard import DISK_PER_BYTE, Survey, check_allowed, check_folders, check_server, survey

__all__ = ["Consent", "check_disk", "obtain"]


@dataclass(frozen=True, slots=True)
class Consent:
    """What was agreed to on the command line; ``quiet`` says nothing but errors and questions."""

    yes: bool = False
    allow: str | None = None
    quiet: bool = False


def obtain(
    database: Database, given: Consent, question: str, rows: str, tables: Sequence[str], *, always: bool = False
) -> None:
    """Have the user agree to ``question``, of a server on another machine, or ``always``.

    ``rows`` says what becomes of how many, as in "about 500 to come"; ``tables`` are those that it is about, as in SQL.
    Raises InputError where they do not agree, nobody is there to ask, or the target looks like
    production and was not allowed by name.
    """
    if database.server is not None:
        if given.allow is not None:
            raise InputError(f"--allow names {given.allow!r}, but no database is named: the embedded one would be used")
        if always:
            ask(question, given.yes)
        return
    asking = always or not database.address.is_local
    if asking and not given.yes:
        check_somebody_is_there(question)
    found = run(survey, database.address, tables)
    check_allowed(found, given.allow)
    if not database.address.is_local and not (given.quiet and given.yes):
        print("\n".join(told(found, rows)), file=sys.stderr)
    if asking:
        ask(question, given.yes)


def told(found: Survey, rows: str) -> list[str]:
    """The lines that show the target."""
    progress_display = {
        "host": found.server,
        "database": found.database,
        "user": found.user,
        "rows": f"about {found.rows:,.0f} there, {rows}",
    }
    return [f"  {name:<9} {printable(value)}" for name, value in progress_display.items()]


def printable(text: str) -> str:
    """The text without what a terminal would act upon."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def check_somebody_is_there(question: str) -> None:
    if sys.stdin is None or not sys.stdin.isatty():
        raise InputError(f"nobody is there to answer {question!r}: give --yes")


def ask(question: str, yes: bool) -> None:
    if yes:
        return
    check_somebody_is_there(question)
    if not click.confirm(question, err=True):
        raise InputError("you did not say yes, so nothing was touched: give another answer, or --yes")


def check_disk(database: Database, expected: Mapping[str, float]) -> None:
    """Raises InputError where the database's disk is known, and too small for ``expected`` bytes of each table."""
    if database.server is not None:
        check_folders(
            {database.server.data: sum(expected.values()) * DISK_PER_BYTE},
            "load less, free some space, or set BULKSEED_HOME to a folder on a larger disk",
        )
    elif database.address.is_local:
        run(check_server, database.address, expected)
