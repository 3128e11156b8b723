"""The advice of messages, followed to the letter: statements, options, lines of the scenario and commands.

Each case provokes an error, takes the advice out of its message by code, follows it, and then loads.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from bulkseed.postgres.address import Address
from support.commands import inside
from support.queries import run_sql

STATEMENT: Final = re.compile(
    r"(?:GRANT .+? TO \w+|ALTER TABLE \S+ DISABLE (?:TRIGGER|RULE) (?:\"[^\"]+\"|\w+)|ALTER ROLE \w+ BYPASSRLS"
    r"|SELECT setval\(.+?\)(?=`))"
)
LINE: Final = re.compile(r"`([^`]+ = [^`]+)` in the scenario's \[((?:columns|fields)\.[^\]]+)\]")
SET_LINE: Final = re.compile(r"set \[((?:columns)\.\w+)\] (\w+ = false)")
SAMPLE: Final = re.compile(r"such as (\{ template = \"[^\"]+\" \})")
COMMAND: Final = re.compile(r"`bulkseed ([^`]+)`")
OPTION: Final = re.compile(r"(?<!\w)(--[a-z-]+(?: (?:remove|keep|[\w./:+-]*\d[\w./:+-]*|\S+/\S+))?)(?=[ ,.;:\n]|$)")
MEANT: Final = re.compile(r"did you mean ([^\s?]+)")

CLERK: Final = "clerk_of_advice"


@dataclass
class Attempt:
    """What is tried: a database, a scenario, and the options of the load, which following an advice changes."""

    database: Address
    file: Path
    user: str = ""
    scenario: dict[str, list[str]] = field(default_factory=dict)
    options: list[str] = field(default_factory=list)

    def url(self) -> str:
        url = self.database.url
        return Address(url._replace(username=self.user) if self.user else url).dsn

    def run(self, *words: str, options: Sequence[str] = (), url: str = "") -> tuple[int, str]:
        """Run a command with the database, in this process; return its status, and what it printed on stderr."""
        done = inside(*words, *options, BULKSEED_DATABASE_URL=url or self.url())
        return done.returncode, done.stderr

    def load(self) -> tuple[int, str]:
        """Load by the scenario, as the user."""
        sections = (f"[{name}]\n" + "\n".join(lines) if name else "\n".join(lines) for name, lines in self.text())
        self.file.write_text("\n".join(sections))
        given = [word.partition("=")[0] for word in self.options]
        defaults = {"--scale": "0.1x", "--workers": "1", "--scenario": str(self.file)}
        filled = [word for name, value in defaults.items() if name not in given for word in (name, value)]
        return self.run("load", "--quiet", options=[*filled, *self.options])

    def text(self) -> list[tuple[str, list[str]]]:
        return sorted(self.scenario.items())

    def sql(self, *statements: str) -> None:
        """Run statements as the superuser who owns all."""
        asyncio.run(run_sql(self.database, *statements))


Follow = Callable[[Attempt, str], None]


def found(pattern: re.Pattern[str], message: str) -> list[str]:
    advice = pattern.findall(message)
    assert advice, f"no advice of this kind in: {message}"
    return advice


def run_statements(attempt: Attempt, message: str) -> None:
    """Run all statements of the message."""
    attempt.sql(*found(STATEMENT, message))


def add_lines(attempt: Attempt, message: str) -> None:
    """Put all lines of the message into the scenario."""
    lines = LINE.findall(message)
    assert lines, message
    for line, section in lines:
        attempt.scenario.setdefault(section, []).append(line)


def leave_column_out(attempt: Attempt, message: str) -> None:
    """Put the line into the scenario with which bulkseed leaves a column to a field."""
    [(section, line)] = SET_LINE.findall(message)
    attempt.scenario.setdefault(section, []).append(line)


def choose_run(attempt: Attempt, message: str) -> None:
    """Verify the run that the message names."""
    [number] = re.findall(r"give one of (\d+)", message)
    status, printed = attempt.run("verify", number)
    assert status == 0, printed


def run_command(number: int = 0) -> Follow:
    """Run the command of the message; of several the one with this number."""

    def follow(attempt: Attempt, message: str) -> None:
        words = shlex.split(found(COMMAND, message)[number])
        confirmed = ["--yes"] if words[0] in {"cleanup"} else []
        status, printed = attempt.run(*words, *confirmed)
        assert status == 0, printed

    return follow


def add_option(name: str, *command: str, value: str = "") -> Follow:
    """Give the option of this name that the message has: to the load, or to the command that was refused."""

    def follow(attempt: Attempt, message: str) -> None:
        offered = [each for each in found(OPTION, message) if each.split(" ")[0] == name]
        assert offered, message
        words = [name, value] if value else shlex.split(offered[0])
        if command:
            status, printed = attempt.run(*command, *words)
            assert status == 0, printed
            return
        if name in attempt.options:
            place = attempt.options.index(name)
            del attempt.options[place : place + 2]
        attempt.options += words

    return follow


def replace_option(name: str) -> Follow:
    """Give the option with the value of the message instead."""

    def follow(attempt: Attempt, message: str) -> None:
        [value] = re.findall(rf"{name} (?:a (?:number|date or time) such as )?([\w.:-]*\d[\w.:-]*)", message)
        place = attempt.options.index(name)
        attempt.options[place + 1] = value

    return follow


def replace_name(wrong: str) -> Follow:
    """Write the name that the message suggests in place of the wrong one, in options and scenario."""

    def follow(attempt: Attempt, message: str) -> None:
        [meant] = set(found(MEANT, message))
        attempt.options = [meant if word == wrong else word for word in attempt.options]
        attempt.scenario = {
            section.replace(wrong, meant): [line.replace(wrong, meant) for line in lines]
            for section, lines in attempt.scenario.items()
        }

    return follow


@dataclass(frozen=True)
class Case:
    """An error and the way to follow its advice.

    ``change`` are statements before the load. ``clerk``: a user with just the privileges of a load loads. ``before``
    are commands, or statements, between a first load and the ``refused`` command, which is the load itself if empty.
    """

    code: str
    follow: Follow
    change: tuple[str, ...] = ()
    clerk: bool = False
    scenario: dict[str, list[str]] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    loaded: bool = False
    after: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def columns(*changes: str) -> Case:
    return Case("column-type", add_lines, changes)


KEEP: Final = """
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER "keep it" BEFORE DELETE ON message_reactions FOR EACH ROW EXECUTE FUNCTION keep();
INSERT INTO message_reactions SELECT m.id, r.id, m.user_id, m.created_at FROM messages AS m, reactions AS r
ON CONFLICT DO NOTHING;
"""

CASES: Final[dict[str, Case]] = {
    # privileges
    "INSERT": Case("missing-privilege", run_statements, (f"REVOKE INSERT ON messages FROM {CLERK}",), clerk=True),
    "SELECT": Case("missing-privilege", run_statements, (f"REVOKE SELECT ON reactions FROM {CLERK}",), clerk=True),
    "DELETE and INSERT": Case(
        "missing-privilege", run_statements, (f"REVOKE INSERT, DELETE ON users, channels FROM {CLERK}",), clerk=True
    ),
    "a sequence": Case(
        "missing-privilege", run_statements, (f"REVOKE ALL ON SEQUENCE users_id_seq FROM {CLERK}",), clerk=True
    ),
    "the database": Case(
        "missing-privilege", run_statements, (f"REVOKE CREATE ON DATABASE {{database}} FROM {CLERK}",), clerk=True
    ),
    "another schema for the ledger": Case(
        "missing-privilege",
        add_option("--ledger-schema", value="own"),
        (f"REVOKE CREATE ON DATABASE {{database}} FROM {CLERK}", f"CREATE SCHEMA own AUTHORIZATION {CLERK}"),
        clerk=True,
    ),
    "a schema for the ledger": Case(
        "missing-privilege",
        run_statements,
        ("CREATE SCHEMA bulkseed", f"GRANT USAGE ON SCHEMA bulkseed TO {CLERK}"),
        clerk=True,
    ),
    "another's ledger": Case("missing-privilege", run_statements, clerk=True, loaded=True),
    "a ledger's name": Case(
        "ledger-name-in-use",
        add_option("--ledger-schema", value="own"),
        ("CREATE SCHEMA bulkseed CREATE TABLE runs (id int)",),
    ),
    "row security": Case("row-security", run_statements, ("ALTER TABLE users ENABLE ROW LEVEL SECURITY",), clerk=True),
    # tables and the catalogue
    "a missing table": Case("missing-table", run_command(), ("DROP TABLE message_reactions",)),
    "an empty catalogue": Case("empty-catalogue", run_command(), ("DELETE FROM reactions",)),
    "another name of a table": Case(
        "missing-table", replace_name("chanels"), scenario={"tables": ['channels = "chanels"']}
    ),
    "a missing schema": Case("missing-schema", replace_name("publik"), options=("--schema", "publik")),
    # columns, by lines of the scenario
    "a missing column": Case("missing-column", add_lines, ("ALTER TABLE users DROP bio",)),
    "a number for text": columns("ALTER TABLE channels ALTER description TYPE int USING 1"),
    "a number for text, NOT NULL": columns("ALTER TABLE users ALTER name TYPE int USING 1"),
    "a number for a time": columns("ALTER TABLE users ALTER created_at TYPE bigint USING 1"),
    "a text for a boolean": columns("ALTER TABLE users ALTER is_active TYPE text"),
    "a text for ids": columns("ALTER TABLE messages DROP parent_id, ADD parent_id text"),
    "a type that pads": columns("ALTER TABLE users ALTER name TYPE char(255)"),
    "a short text": Case("column-too-short", add_lines, ("ALTER TABLE users ALTER email TYPE varchar(40)",)),
    "NOT NULL": Case("column-not-null", add_lines, ("ALTER TABLE channels ALTER description SET NOT NULL",)),
    "a generated column": Case(
        "generated-column", add_lines, ("ALTER TABLE users DROP bio, ADD bio text GENERATED ALWAYS AS (name) STORED",)
    ),
    "keys of another type": Case(
        "id-types-differ", add_lines, ("ALTER TABLE messages DROP parent_id, ADD parent_id uuid",)
    ),
    "an unfilled text": Case("unfilled-column", add_lines, ("ALTER TABLE users ADD plan text NOT NULL",)),
    "an unfilled enumeration": Case(
        "unfilled-column",
        add_lines,
        ("CREATE TYPE tier AS ENUM ('free', 'it''s', 'p\"ro')", 'ALTER TABLE messages ADD "the tier" tier NOT NULL'),
    ),
    "several columns": Case(
        "unfit-tables",
        add_lines,
        ("ALTER TABLE users DROP picture, ADD age int NOT NULL", "ALTER TABLE channels ALTER is_dm TYPE text"),
    ),
    "a field for a filled column": Case(
        "wrong-scenario",
        leave_column_out,
        scenario={"fields.users": ['bio = "faker:word"']},
    ),
    "a field of a wrong name": Case(
        "field-without-column",
        replace_name("visitz"),
        ("ALTER TABLE users ADD visits int",),
        scenario={"fields.users": ["visitz = { uniform = [1, 5] }"]},
    ),
    "values that repeat": Case(
        "values-repeat",
        lambda attempt, message: attempt.scenario.update({"fields.users": [f"code = {found(SAMPLE, message)[0]}"]}),
        ("ALTER TABLE users ADD code text UNIQUE",),
        scenario={"fields.users": ['code = { choice = ["a", "b"] }']},
    ),
    # ids
    "ids that a sequence has passed": Case(
        "ids-exhausted",
        run_statements,
        ("ALTER TABLE messages ALTER id TYPE smallint", "SELECT setval('messages_id_seq', 32760)"),
    ),
    "too many rows for the ids": Case(
        "ids-exhausted",
        add_option("--scale", value="0.1x"),
        ("ALTER SEQUENCE users_id_seq MAXVALUE 50",),
        options=("--scale", "10x"),
    ),
    # runs
    "an interrupted run to finish": Case(
        "incomplete-run", run_command(0), loaded=True, after=("UPDATE bulkseed.runs SET state = 'loading'",)
    ),
    "an interrupted run to undo": Case(
        "incomplete-run", run_command(1), loaded=True, after=("UPDATE bulkseed.runs SET state = 'loading'",)
    ),
    "a run that is being undone": Case(
        "run-being-undone",
        run_command(),
        loaded=True,
        after=("UPDATE bulkseed.runs SET state = 'undoing'",),
        refused=("resume",),
    ),
    "a run of another version": Case(
        "other-version",
        run_command(),
        loaded=True,
        after=("UPDATE bulkseed.runs SET state = 'loading', made_by = made_by || '{\"faker\": \"1.0\"}'",),
        refused=("resume",),
    ),
    "a catalogue that has changed": Case(
        "missing-reactions",
        run_command(),
        loaded=True,
        after=(
            "UPDATE bulkseed.runs SET state = 'loading'",
            "DELETE FROM message_reactions",
            "DELETE FROM reactions WHERE id = 1",
        ),
        refused=("resume",),
    ),
    # cleanup
    "a trigger that keeps rows": Case(
        "rows-kept", run_statements, loaded=True, after=(KEEP,), refused=("cleanup", "--yes", "--cascade")
    ),
    "a rule on deletions": Case(
        "delete-rule",
        run_statements,
        loaded=True,
        after=("CREATE RULE soft AS ON DELETE TO channels DO INSTEAD NOTHING",),
        refused=("cleanup", "--yes"),
    ),
    "rows that reference loaded ones": Case(
        "referenced-rows",
        add_option("--cascade", "cleanup", "--yes"),
        loaded=True,
        after=("INSERT INTO channels SELECT max(id) + 9, 'x', 'x', min(owner_id), now(), false, false FROM channels",),
        refused=("cleanup", "--yes"),
    ),
    "rows that have changed": Case(
        "changed-rows",
        add_option("--changed", "cleanup", "--yes", value="remove"),
        loaded=True,
        after=(
            "DELETE FROM message_reactions",
            "UPDATE users SET created_at = now(), auth0_id = 'x' || id, email = 'x' || id, name = 'x', bio = 'x', "
            "picture = 'x'",
        ),
        refused=("cleanup", "--yes"),
    ),
    "a run to choose": Case("no-such-run", choose_run, loaded=True, refused=("verify", "7")),
    # options
    "an unknown scenario": Case("unknown-scenario", replace_name("tinny"), options=("--scenario", "tinny")),
    "a scale": Case("invalid-scale", replace_option("--scale"), options=("--scale", "ten")),
    "a time": Case("invalid-as-of", replace_option("--as-of"), options=("--as-of", "yesterday")),
    "too few users": Case("count-too-small", replace_option("--users"), options=("--users", "1")),
}


NO_CLERK: Final = (
    f"DO $$ BEGIN IF to_regrole('{CLERK}') IS NOT NULL THEN DROP OWNED BY {CLERK}; DROP ROLE {CLERK}; END IF; END $$"
)


@pytest.fixture
def attempt(database: Address, tmp_path: Path) -> Attempt:
    """A database with the reference tables."""
    return Attempt(database, tmp_path / "app.toml")


@pytest.fixture
def clerk(database: Address) -> Iterator[str]:
    """A user with just the privileges of a load."""
    creation = (
        NO_CLERK,
        f"CREATE ROLE {CLERK} LOGIN",
        f"GRANT CREATE ON DATABASE {database.url.database} TO {CLERK}",
        f"GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA public TO {CLERK}",
        f"GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA public TO {CLERK}",
    )
    asyncio.run(run_sql(database, *creation))
    yield CLERK
    asyncio.run(run_sql(database, NO_CLERK))


@pytest.mark.parametrize("name", CASES)
def test_advice_works(attempt: Attempt, request: pytest.FixtureRequest, name: str) -> None:
    case = CASES[name]
    user = request.getfixturevalue("clerk") if case.clerk else ""
    attempt.sql(*(change.replace("{database}", str(attempt.database.url.database)) for change in case.change))
    if case.loaded:
        assert attempt.load() == (0, "")
    if case.after:
        attempt.sql(*case.after)
    attempt.user = user
    attempt.scenario = {section: [*lines] for section, lines in case.scenario.items()}
    attempt.options = [*case.options]
    status, message = attempt.run(*case.refused, "--quiet") if case.refused else attempt.load()
    assert status in {1, 2}, message
    assert f"[{case.code}]" in message
    case.follow(attempt, message)
    status, message = attempt.load()
    assert status == 0, message


def test_advice_on_a_database_that_only_the_apps_variable_names(database: Address) -> None:
    words = ["load", "--scale", "0.1x", "--workers", "1", "--quiet"]
    refused = inside(*words, DATABASE_URL=database.dsn)
    assert "[confirmation-needed]" in refused.stderr
    done = inside(*words, *found(OPTION, refused.stderr), DATABASE_URL=database.dsn)
    assert done.returncode == 0, done.stderr


def test_advice_on_a_scale_without_its_option(attempt: Attempt) -> None:
    status, message = attempt.run("load", "0.1x", "--quiet")
    assert status == 2
    [command] = found(COMMAND, message)
    status, message = attempt.run(*shlex.split(command), "--workers", "1", "--quiet")
    assert status == 0, message
