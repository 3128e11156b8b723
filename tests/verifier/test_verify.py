"""Verifying: what was loaded holds, and whatever the rules forbid is found, each by its rule."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from faker import Faker

from bulkseed.cleaner.cleanup import cleanup
from bulkseed.errors import InputError, RunError, TargetError
from bulkseed.listeners import Phase
from bulkseed.loader.load import load
from bulkseed.plan.plan import Plan, Probabilities
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.text.faker_source import make_corpus
from bulkseed.verifier.verify import RuleCheck, TextReader, VerifyReport, verify
from support.app_rows import APP_ROWS
from support.corruptions import CORRUPTIONS, SYSTEM, UNCHECKED, Corruption, sentence
from support.databases import MakeDatabase, make_reference
from support.errors import raises
from support.listeners import Phases
from support.plans import plan_of, planned
from support.queries import digest, run_sql


def check_of(report: VerifyReport, rule: str, text: str) -> RuleCheck:
    [found] = [check for check in report.rules if check.rule == rule and text in check.text]
    return found


async def broken_rules(address: Address) -> list[str]:
    """The checks of the only run that do not hold, as text."""
    [report] = await verify(address)
    return broken_rules_of(report)


def broken_rules_of(report: VerifyReport) -> list[str]:
    rules = [f"{check.rule} {check.text}: {check.example}" for check in report.rules if check.violations]
    return rules + [f"{check.rule} {check.text}: {check.found}" for check in report.chances if not check.within]


@pytest.mark.parametrize("corruption", CORRUPTIONS.values(), ids=CORRUPTIONS.keys())
async def test_finds_what_the_rules_forbid(seeded: Address, corruption: Corruption) -> None:
    await run_sql(seeded, *corruption.statements)
    [report] = await verify(seeded)
    found = check_of(report, corruption.rule, corruption.text)
    if corruption.violations is None:
        assert found.violations >= 1
    else:
        assert found.violations == corruption.violations
    assert found.example
    assert not report.holds


async def test_every_check_can_fail(seeded: Address) -> None:
    """Each check has a corruption that it must find."""
    [report] = await verify(seeded)
    for check in report.rules:
        assert any(check.rule == case.rule and case.text in check.text for case in CORRUPTIONS.values()), check.text


async def test_names_one_of_the_rows(seeded: Address) -> None:
    await run_sql(seeded, "UPDATE users SET bio = '' WHERE id IN (17, 23, 41)")
    [report] = await verify(seeded)
    assert check_of(report, "U5", "bio") == RuleCheck("U5", "bio has 1 to 200 characters", 3, "users.id 17")


SHIFTS: Final = {
    "U3 active": ("UPDATE users SET is_active = false",),
    "C1 are DMs": ("UPDATE channels SET is_dm = true",),
    "C1 are private": ("UPDATE channels SET is_private = true",),
    "M2 mean number": (
        """DELETE FROM user_channels AS m WHERE user_id <>
           (SELECT min(user_id) FROM user_channels AS x WHERE x.channel_id = m.channel_id)""",
    ),
    "G3 more than one sentence": (f"UPDATE messages SET content = '{sentence(5)}' WHERE parent_id IS NULL",),
    "G4 have a reply": (UNCHECKED, "DELETE FROM messages WHERE parent_id IS NOT NULL"),
    "R1 have reactions": ("DELETE FROM message_reactions WHERE message_id % 3 = 0",),
    "R1 that have 1": (
        f"""INSERT INTO message_reactions SELECT DISTINCT ON (message_id) message_id, {SYSTEM} + 100, user_id,
            created_at FROM message_reactions""",
    ),
    "R1 that have 2": ("DELETE FROM message_reactions WHERE message_id IN (SELECT message_id FROM message_reactions "
                       "GROUP BY 1 HAVING count(*) = 2)",),
    "R1 that have 3": ("DELETE FROM message_reactions WHERE message_id IN (SELECT message_id FROM message_reactions "
                       "GROUP BY 1 HAVING count(*) = 3)",),
}  # fmt: skip


@pytest.mark.parametrize("shift", SHIFTS)
async def test_finds_shares_that_chance_does_not_allow(seeded: Address, shift: str) -> None:
    await run_sql(seeded, UNCHECKED, *SHIFTS[shift])
    [report] = await verify(seeded)
    rule, _, text = shift.partition(" ")
    [found] = [check for check in report.chances if check.rule == rule and text in check.text]
    assert not found.within, found
    assert not report.holds


NEW_YEAR: Final = datetime(2026, 1, 1, tzinfo=UTC)


def all_of(probability: float) -> Probabilities:
    return Probabilities(**{share.name: probability for share in fields(Probabilities)})


PLANS: Final = {
    "two users": plan_of(users=2),
    "channels of at most two": plan_of(max_members=2),
    "channels of at most five": plan_of("2x", max_members=5),
    "one channel": plan_of(channels=1, messages_per_channel=300),
    "the least": plan_of(users=2, channels=1, messages_per_channel=1),
    "many channels": plan_of(channels=1000, messages_per_channel=1),
    "the first moment of a year": plan_of("2x", as_of=NEW_YEAR),
    "a minute after": plan_of("2x", as_of=NEW_YEAR + timedelta(minutes=1), messages_per_channel=500),
    "always": plan_of("2x", probabilities=all_of(1.0)),
    "never": plan_of("2x", probabilities=all_of(0.0)),
    **{locale: plan_of("3x", locale=locale) for locale in ("de_DE", "ja_JP", "th_TH", "fr_FR", "pl_PL", "vi_VN")},
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
async def test_what_was_loaded_holds(database: Address, plan: Plan) -> None:
    await load(plan, database)
    assert await broken_rules(database) == []


async def test_a_catalogue_of_one_reaction_gives_few_different_pairs(database: Address) -> None:
    await run_sql(database, "DELETE FROM reactions WHERE code <> 'joy'")
    await load(plan_of("3x", max_members=2), database)
    [report] = await verify(database)
    assert broken_rules_of(report) == []
    assert [check.trials for check in report.chances if "reactions that have" in check.text] == [0, 0, 0]


@pytest.mark.core
async def test_judges_each_run_by_its_own_plan_beside_an_apps_rows(database: Address) -> None:
    await run_sql(database, *APP_ROWS)
    first = await load(plan_of("3x"), database)
    await run_sql(
        database,
        "INSERT INTO users (auth0_id, email, is_active, created_at, name) VALUES ('x', 'x', true, '2020-01-01', 'X')",
        """INSERT INTO messages (content, created_at, updated_at, user_id, channel_id, parent_id)
           SELECT 'app', '2020-01-03', '2020-01-04', m.user_id, m.channel_id, m.id FROM messages AS m""",
        """INSERT INTO user_channels SELECT u.id, c.id FROM users AS u, channels AS c WHERE c.name = 'app'
           ON CONFLICT DO NOTHING""",
        """INSERT INTO message_reactions SELECT m.id, r.id, m.user_id, '2020-01-04'
           FROM messages AS m, reactions AS r WHERE m.content = 'app' ON CONFLICT DO NOTHING""",
        "ALTER TABLE users ADD phone text DEFAULT '0'",
    )
    second = await load(plan_of("2x", seed=5, locale="de_DE"), database)
    reports = await verify(database)
    assert [broken_rules_of(report) for report in reports] == [[], []]
    assert [report.run for report in reports] == [first.run, second.run]
    await run_sql(database, f"UPDATE users SET bio = '' WHERE id = {second.placement.first_user}")
    assert [report.holds for report in await verify(database)] == [True, False]
    [only] = await verify(database, second.run)
    assert check_of(only, "U5", "bio").violations == 1


async def test_takes_timestamps_with_time_zone_for_the_same_instants(seeded: Address) -> None:
    await run_sql(
        seeded,
        *(
            f"ALTER TABLE {table} ALTER created_at TYPE timestamptz USING created_at AT TIME ZONE 'UTC'"
            for table in ("users", "messages")
        ),
        f"ALTER DATABASE {seeded.url.database} SET TimeZone = 'Asia/Tokyo'",
    )
    assert await broken_rules(seeded) == []
    await run_sql(seeded, "UPDATE users SET created_at = '2026-06-01 08:59:59+09' WHERE id = 17")
    [report] = await verify(seeded)
    assert check_of(report, "U4", "to as_of").violations == 0
    await run_sql(seeded, "UPDATE users SET created_at = '2026-06-01 09:00:01+09' WHERE id = 17")
    [report] = await verify(seeded)
    assert check_of(report, "U4", "to as_of").violations == 1


async def test_looks_where_the_run_was_loaded(make_database: MakeDatabase) -> None:
    address = await make_database("empty")
    await run_sql(
        address, 'CREATE SCHEMA "odd ""name"', f'ALTER DATABASE {address.url.database} SET search_path = "odd ""name"'
    )
    await make_reference(address)
    await load(plan_of(), address)
    await run_sql(address, f"ALTER DATABASE {address.url.database} SET search_path = public")
    assert await broken_rules(address) == []


async def test_writes_nothing(seeded: Address) -> None:
    before = await digest(seeded)
    async with open_connection(seeded) as connection:
        ledger = await connection.fetch("SELECT * FROM bulkseed.runs")
        await verify(seeded)
        assert await connection.fetch("SELECT * FROM bulkseed.runs") == ledger
        relations = "SELECT count(*) FROM pg_class WHERE relnamespace NOT IN ('pg_catalog'::regnamespace)"
        there = await connection.fetchval(relations)
        await verify(seeded)
        assert await connection.fetchval(relations) == there
    assert await digest(seeded) == before


async def test_a_login_that_may_only_read_can_verify(seeded: Address) -> None:
    reader = f"reader_of_{seeded.url.database}"
    await run_sql(
        seeded,
        f"CREATE ROLE {reader} LOGIN",
        f"ALTER ROLE {reader} SET default_transaction_read_only = on",
        f"REVOKE TEMPORARY ON DATABASE {seeded.url.database} FROM PUBLIC",
        f"GRANT USAGE ON SCHEMA bulkseed TO {reader}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public, bulkseed TO {reader}",
    )
    address = Address(seeded.url._replace(username=reader))
    assert await broken_rules(address) == []
    await run_sql(seeded, f"REVOKE SELECT ON messages FROM {reader}")
    with raises("missing-privilege", f'GRANT SELECT ON "public"."messages" TO {reader}', kind=TargetError):
        await verify(address)


async def test_refuses_a_run_that_does_not_exist(database: Address) -> None:
    with raises("no-runs", kind=InputError):
        await verify(database)
    await load(plan_of(), database)
    with raises("no-such-run", "run 7", kind=InputError):
        await verify(database, 7)


async def test_names_each_table_and_column_that_is_gone(database: Address) -> None:
    await load(plan_of(), database)
    await run_sql(database, "ALTER TABLE channels RENAME join_code TO code", "DROP TABLE message_reactions")
    with raises("changed-tables", "run 1", "channels.join_code", "message_reactions", kind=TargetError):
        await verify(database)


async def test_refuses_a_run_that_is_not_complete(database: Address) -> None:
    await load(plan_of(), database)
    await run_sql(database, "UPDATE bulkseed.runs SET state = 'loading'")
    with raises("incomplete-run", "run 1", "resume 1", "cleanup 1", kind=InputError):
        await verify(database)


async def test_reports_its_phases_and_another_version_of_faker(seeded: Address) -> None:
    recorder = Phases()
    await verify(seeded, listener=recorder)
    assert recorder.phases[:3] == [Phase.CHECK, Phase.ROWS, Phase.USERS]
    assert recorder.phases[-1] == Phase.TEXTS
    assert not recorder.said
    await run_sql(seeded, """UPDATE bulkseed.runs SET made_by = made_by || '{"faker": "1.0"}'""")
    await verify(seeded, listener=recorder)
    [note] = recorder.said
    for fact in ("run 1", "Faker 1.0", "U2", "U5", "C2", "G3"):
        assert fact in note


async def test_reports_another_version_of_anyascii_where_the_run_has_one(seeded: Address) -> None:
    recorder = Phases()
    await run_sql(seeded, "UPDATE bulkseed.runs SET made_by = made_by - 'anyascii'")
    await verify(seeded, listener=recorder)
    assert not recorder.said
    await run_sql(seeded, """UPDATE bulkseed.runs SET made_by = made_by || '{"anyascii": "0.1"}'""")
    await verify(seeded, listener=recorder)
    [note] = recorder.said
    for fact in ("run 1", "anyascii 0.1", "U2"):
        assert fact in note


MIXED_CASE: Final = """
CREATE TABLE "userFollows" (
    "followerId" bigint REFERENCES users, "followedId" bigint REFERENCES users, "since ""then" timestamp NOT NULL,
    PRIMARY KEY ("followerId", "followedId"));
CREATE TABLE "Attachments" ("messageId" bigint REFERENCES messages, "Size" integer NOT NULL);
"""
MIXED_CASE_SCENARIO: Final = """
plugins = ["mixed_case:attachments"]

[tables]
follows = "userFollows"
attachments = "Attachments"

[columns.follows]
since = 'since "then'

[columns.attachments]
size = "Size"

[relationships.follows]
from = "users"
to = "users"
min = 1
max = 3
columns = ["followerId", "followedId", "since"]
"""
MIXED_CASE_PLUGIN: Final = """
import bulkseed

@bulkseed.table(follows="messages", columns=["messageId", "size"], references={"messageId": "messages"})
def attachments(messages):
    for message in messages:
        yield message.id, 7
"""


async def test_names_that_need_quotes(database: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables and columns of relationships and plugins: loaded, verified and removed."""
    (tmp_path / "mixed_case.py").write_text(MIXED_CASE_PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    await run_sql(database, MIXED_CASE, *APP_ROWS)
    before = await digest(database)
    run = await load(planned(tmp_path, MIXED_CASE_SCENARIO), database)
    assert run.rows["follows"] >= 60
    assert run.rows["attachments"] == run.rows["messages"]
    assert await broken_rules(database) == []
    await run_sql(
        database,
        """DELETE FROM "userFollows" WHERE ("followerId", "followedId") = (
        SELECT "followerId", "followedId" FROM "userFollows" LIMIT 1)""",
    )
    [report] = await verify(database)
    assert check_of(report, "N", "rows of follows").violations == 1
    await cleanup(database, [run.run])
    assert await digest(database) == before


async def test_report_is_in_the_order_of_the_rules_and_survives_json(seeded: Address) -> None:
    [report] = await verify(seeded)
    judged = [check.rule for check in report.rules]
    rules = "N U1 U2 U3 U4 U5 C1 C2 C3 C4 C5 M1 M2 M3 M4 G1 G2 G3 G4 G5 G6 R0 R1 R2 R3 R4 T1"
    assert " ".join(dict.fromkeys(judged)) == rules
    assert " ".join(check.rule for check in report.chances) == "U3 C1 C1 M2 M2 M2 M2 M2 G3 G4 R1 R1 R1 R1"
    value = json.loads(json.dumps(report.to_dict()))
    assert value["holds"] is True
    assert value["run"] == 1
    assert len(value["rules"]) == len(report.rules)
    assert value["chances"][0]["expected"] == 0.9


@pytest.mark.parametrize("locale", ["en_US", "de_DE", "fr_FR", "pl_PL", "ja_JP", "th_TH", "zh_CN", "bn_BD"])
def test_reads_what_faker_itself_writes(locale: str) -> None:
    reader = TextReader(make_corpus(locale).lorem)
    fake = Faker(locale, use_weighting=False)
    fake.seed_instance(1)
    for _ in range(300):
        assert reader.sentences(fake.sentence()) == 1
        assert reader.sentences(fake.paragraph()) in {1, 2}
    sentences = [fake.sentence() for _ in range(6)]
    connector = make_corpus(locale).lorem.connector
    assert reader.sentences(connector.join(sentences[:2])) == 2
    assert reader.sentences(connector.join(sentences[:4])) == 2
    assert reader.sentences(connector.join(sentences[:5])) == 0
    for text in (sentences[0] + "x", "x" + sentences[0], sentences[0][:-1], sentences[0] + "\n", ""):
        assert reader.sentences(text) == 0, text


async def test_tells_all_rules_of_a_scenario_that_fail_or_return_no_number(database: Address, tmp_path: Path) -> None:
    await run_sql(database, "CREATE TABLE counted AS SELECT 0 AS number")
    rules = {"one": "SELECT number FROM counted", "none": "SELECT 0"}
    rules["other"] = "SELECT number FROM counted WHERE number > 0"
    await load(
        planned(tmp_path, "".join(f"[[rules]]\nname = '{name}'\nsql = '{sql}'\n" for name, sql in rules.items())),
        database,
    )
    with raises("rule-without-number", "'other'", kind=RunError):
        await verify(database)
    await run_sql(database, "DROP TABLE counted")
    with raises("rule-failed", "'one'", "'other'", kind=RunError) as caught:
        await verify(database)
    assert "'none'" not in str(caught.value)
