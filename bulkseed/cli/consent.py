"""Consent before a command writes: the target is shown, production names are checked, and the user is asked."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click

from bulkseed.cli.command import is_from_environment
from bulkseed.cli.runner import Database, run
from bulkseed.errors import InputError, escape_controls
from bulkseed.target.guard import DISK_PER_BYTE, Survey, check_allowed, check_folders, check_server, survey

__all__ = ["Consent", "check_disk", "check_embedded_disk", "require_consent"]


@dataclass(frozen=True, slots=True)
class Consent:
    """The options ``--yes``, ``--allow`` and ``--quiet``; with ``quiet`` and ``yes`` the target is not shown."""

    yes: bool = False
    allow: str | None = None
    quiet: bool = False


def require_consent(
    database: Database, consent: Consent, question: str, rows: str, tables: Sequence[str], *, always: bool = False
) -> None:
    """Ask the user ``question`` if the server is on another machine, or only $DATABASE_URL names it, or ``always``.

    A server that a tunnel or proxy on this machine leads to is on another one. That variable is an application's, whose
    database is not meant to be filled unless the user says so.

    ``rows`` describes the change, as in "about 500 to load"; ``tables`` are the names of its tables in SQL.
    Raises InputError where the user declines, no terminal is there to ask, or the target looks like production and
    ``--allow`` does not name it. Raises ConnectError and TargetError where the target cannot be read.
    """
    if database.server is not None:
        if consent.allow is not None:
            raise InputError(
                f"--allow names {consent.allow!r}, but no database is named, so the embedded one would be used: "
                "name a database with --database-url, or leave out --allow",
                code="allow-without-database",
            )
        if always:
            ask(question, consent)
        return
    is_strange = not database.address.is_local or database.source == "DATABASE_URL"
    asking = always or is_strange
    if database.source == "DATABASE_URL":
        question = f"{question.removesuffix('?')} ($DATABASE_URL)?"
    if asking and not consent.yes:
        check_terminal(question)
    target = run(survey, database.address, tables)
    check_allowed(target, consent.allow)
    is_tunnel = database.address.is_local and not target.is_here
    if is_tunnel:
        is_strange = asking = True
        if not consent.yes:
            check_terminal(question, f"the server at {target.server} does not run on this machine, and ")
    if is_strange and not (consent.quiet and consent.yes):
        print("\n".join(describe_target(target, rows, is_tunnel=is_tunnel)), file=sys.stderr)
    if asking:
        ask(question, consent)


def describe_target(target: Survey, rows: str, *, is_tunnel: bool = False) -> list[str]:
    """Return the lines that show the target to the user; ``is_tunnel``: its address is that of a tunnel or the like."""
    tunnel = " (a tunnel or proxy: the server does not run on this machine)" if is_tunnel else ""
    facts = {
        "host": f"{target.server}{tunnel}",
        "database": target.database,
        "user": target.user,
        "rows": f"about {target.rows:,.0f} existing, {rows}",
    }
    return [f"  {name:<9} {escape_controls(value)}" for name, value in facts.items()]


def check_terminal(question: str, reason: str = "") -> None:
    if sys.stdin is None or not sys.stdin.isatty():
        raise InputError(
            f"{reason}there is no terminal to ask {question!r}: to confirm, give --yes", code="confirmation-needed"
        )


def ask(question: str, consent: Consent) -> None:
    if consent.yes:
        if not consent.quiet and is_from_environment(click.get_current_context(), "yes"):
            # agreed to by a variable that may be left over from another time
            print(f"bulkseed: {question} yes, by BULKSEED_YES", file=sys.stderr)
        return
    check_terminal(question)
    if not click.confirm(question, err=True):
        raise InputError("you did not agree: nothing was changed", code="declined")


def check_disk(database: Database, expected: Mapping[str, float]) -> None:
    """Raise InputError where the server's disks are visible from here and too full for ``expected`` bytes by table."""
    check_embedded_disk(database, expected)
    if database.server is None and database.address.is_local:
        run(check_server, database.address, expected)


def check_embedded_disk(database: Database, expected: Mapping[str, float]) -> None:
    """Raise InputError where ``database`` is embedded and its disk is too full for ``expected`` bytes by table."""
    if database.server is not None:
        check_folders(
            {database.server.data: sum(expected.values()) * DISK_PER_BYTE},
            "load less, free some space, or set BULKSEED_HOME to a folder on a larger disk",
        )
