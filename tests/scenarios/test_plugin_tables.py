"""Tables of the user's own, and relationships: loaded, verified, resumed and cleaned up as the built-in ones are."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from bulkseed.cleaner.cleanup import cleanup
from bulkseed.errors import InputError, RunError, TargetError
from bulkseed.generators.plugins import load_plugin_table
from bulkseed.loader.load import load, resume
from bulkseed.postgres.address import Address
from bulkseed.scenarios.planning import make_plan
from bulkseed.verifier.verify import verify
from support.databases import MakeDatabase
from support.errors import raises
from support.listeners import Interfering
from support.plans import AS_OF, planned
from support.queries import digest, rows, run_sql
from support.scenario_texts import UUID_SCENARIO

STATUSES = """
CREATE TABLE user_statuses (
    id bigserial PRIMARY KEY, user_id bigint NOT NULL REFERENCES users, status_text text NOT NULL, emoji text,
    created_at timestamp NOT NULL, expires_at timestamp, is_active boolean NOT NULL);
CREATE UNIQUE INDEX one_active ON user_statuses (user_id) WHERE is_active;
"""
APP_ROWS = (
    "INSERT INTO users VALUES (DEFAULT, 'x', 'x', true, now(), 'x', 'x', 'x')",
    "INSERT INTO user_statuses (user_id, status_text, created_at, is_active) SELECT id, 'app', now(), true FROM users",
)
FOLLOWS = """
CREATE TABLE follows (
    follower_id bigint REFERENCES users, followed_id bigint REFERENCES users, since timestamp NOT NULL,
    PRIMARY KEY (follower_id, followed_id), CHECK (follower_id <> followed_id));
CREATE TABLE stars (room bigint REFERENCES channels, who bigint REFERENCES users, PRIMARY KEY (room, who));
CREATE TABLE bookmarks (who bigint REFERENCES users, message bigint REFERENCES messages, PRIMARY KEY (message, who));
"""
RELATIONSHIPS = """
[relationships.follows]
from = "users"
to = "users"
min = 0
max = 10
columns = ["follower_id", "followed_id", "since"]

[relationships.stars]
from = "channels"
to = "users"
min = 1
max = 3
columns = ["room", "who"]

[relationships.bookmarks]
from = "users"
to = "messages"
min = 2
max = 2
columns = ["who", "message"]
"""


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_table_of_the_users_own(database: Address, tmp_path: Path, workers: int) -> None:
    await run_sql(database, STATUSES, *APP_ROWS)
    before = await digest(database)
    plan = planned(tmp_path, 'plugins = ["examples.statuses:user_statuses"]', "10x")
    done = await load(plan, database, workers=workers, rows_per_shard=2000, defer="always")
    assert done.rows["user_statuses"] == 5 * 200
    [(wrong,)] = await rows(
        database,
        "SELECT count(*) FROM user_statuses AS s JOIN users AS u ON u.id = s.user_id WHERE s.created_at < u.created_at "
        f"OR s.created_at > '{AS_OF:%Y-%m-%d}' AND status_text <> 'app' OR s.expires_at < s.created_at",
    )
    assert wrong == 0
    [report] = await verify(database)
    assert report.holds
    assert any("user_statuses" in rule.text for rule in report.rules)
    await cleanup(database, [1])
    assert await digest(database) == before


async def fewest_and_most(address: Address, parent: str, table: str, column: str) -> tuple[int, int]:
    """How many rows of ``table`` point at one of the parent's."""
    counts = (
        f"SELECT count(t.{column}) AS n FROM {parent} AS p LEFT JOIN {table} AS t ON t.{column} = p.id GROUP BY p.id"
    )
    [(fewest, most)] = await rows(address, f"SELECT min(n), max(n) FROM ({counts}) AS c")
    return fewest, most


async def test_relationships(database: Address, tmp_path: Path) -> None:
    await run_sql(database, FOLLOWS)
    before = await digest(database)
    plan = planned(tmp_path, RELATIONSHIPS, "6x")
    made = []
    for rows_per_shard in (100_000, 1500):
        done = await load(plan, database, rows_per_shard=rows_per_shard, defer="never")
        assert await fewest_and_most(database, "users", "follows", "follower_id") == (0, 10)
        assert await fewest_and_most(database, "channels", "stars", "room") == (1, 3)
        assert await fewest_and_most(database, "users", "bookmarks", "who") == (2, 2)
        [(early,)] = await rows(
            database,
            "SELECT count(*) FROM follows JOIN users AS a ON a.id = follower_id JOIN users AS b ON b.id = followed_id "
            f"WHERE since < a.created_at OR since < b.created_at OR since > '{AS_OF:%Y-%m-%d}'",
        )
        assert early == 0
        made.append({name: done.rows[name] for name in done.rows})
        await cleanup(database, [done.run])
        assert await digest(database) == before


PLUGINS = """
CREATE TABLE attachments (
    user_id bigint NOT NULL REFERENCES users, message_id bigint NOT NULL REFERENCES messages,
    created_at timestamptz NOT NULL, size integer NOT NULL, format varchar(4) NOT NULL, label text NOT NULL);
CREATE TABLE scans (
    message_id bigint NOT NULL REFERENCES messages, found_at timestamp NOT NULL, clean boolean NOT NULL,
    remark integer NOT NULL);
CREATE TABLE settings (
    channel bigint NOT NULL, member bigint NOT NULL, muted boolean,
    FOREIGN KEY (member, channel) REFERENCES user_channels (user_id, channel_id));
CREATE TABLE notices (message_id bigint NOT NULL, user_id bigint NOT NULL REFERENCES users, created_at date NOT NULL);
CREATE TABLE tips (channel_id bigint NOT NULL REFERENCES channels, user_id bigint NOT NULL, note json, more jsonb);
CREATE TABLE mailed (who bigint PRIMARY KEY REFERENCES users, sent_at timestamp NOT NULL);
CREATE INDEX ON attachments (message_id);
CREATE INDEX ON scans (message_id);
CREATE INDEX ON settings (member, channel);
"""
EVERY_KIND = """
plugins = ["plugins:Late", "plugins:tips", "plugins:notices", "plugins:settings", "plugins:Scans",
           "plugins:attachments"]

[tables]
digests = "mailed"

[columns.digests]
user_id = "who"

[fields.attachments]
label = { template = "{n:06}.{format}" }

[fields.scans]
remark = { uniform = [1, 1000] }
"""
WAYS: list[dict[str, Any]] = [{"defer": "always", "rows_per_shard": 1500, "workers": 2}, {"copy_format": "records"}]


async def test_tables_that_follow_any_other(make_database: MakeDatabase, tmp_path: Path) -> None:
    """Rows do not depend on shards, workers or lanes, and tables come after those that they point at."""
    plan = planned(tmp_path, EVERY_KIND, "5x")
    made = []
    for how in WAYS:
        database = await make_database()
        await run_sql(database, PLUGINS)
        before = await digest(database)
        done = await load(plan, database, **how)
        assert (done.rows["digests"], done.rows["settings"]) == (100, done.rows["user_channels"])
        assert done.rows["scans"] == done.rows["attachments"] > 0 < done.rows["notices"]
        made.append(await digest(database))
        assert await rows(database, "SELECT DISTINCT jsonb_typeof(more) FROM tips") == [("object",)]
        [report] = await verify(database)
        assert report.holds
        assert {f"there are as many rows of {each} as were loaded" for each in ("digests", "scans", "tips")} <= {
            rule.text for rule in report.rules
        }
        await cleanup(database, [1])
        assert await digest(database) == before
    assert made[0] == made[1]


@pytest.mark.parametrize("table", ["users", "attachments", "scans", "digests"])
async def test_a_run_with_further_tables_is_resumed_and_undone(
    make_database: MakeDatabase, tmp_path: Path, table: str
) -> None:
    plan = planned(tmp_path, EVERY_KIND, "3x")
    whole, resumed = await make_database(), await make_database()
    for database in (whole, resumed):
        await run_sql(database, PLUGINS)
    before = await digest(resumed)
    await load(plan, whole)
    for again in (True, False):
        with anyio.CancelScope() as scope:
            await load(plan, resumed, listener=Interfering(table, scope.cancel), rows_per_shard=1000, defer="always")
        assert scope.cancelled_caught
        if again:
            assert await resume(resumed, workers=2) is not None
            assert await digest(resumed) == await digest(whole)
            [report] = await verify(resumed)
            assert report.holds
        await cleanup(resumed, [1])
        assert await digest(resumed) == before


FAILURES = {
    "raising": ("plugin-failed", "ZeroDivisionError in line ", "plugins.py", "plugins:raising"),
    "narrow": (
        "wrong-plugin-rows",
        "user_id, created_at",
    ),
    "mixed": ("wrong-plugin-rows", "digests.created_at", "'today'", "texts", "datetimes"),
    "misspelt": ("plugin-failed", "'emial'", "id, number, created_at"),
    "nothing": (
        "wrong-plugin-rows",
        "None",
    ),
    "other_batch": (
        "wrong-plugin-rows",
        "user_id, created_at",
    ),
    "tiled": (
        "rows-out-of-order",
        "user_id",
    ),
}
"""Tables that fail, and the code and facts of their errors."""


@pytest.mark.parametrize("name", FAILURES)
async def test_failing_tables_are_refused_before_a_load(database: Address, tmp_path: Path, name: str) -> None:
    moment = "sent_at" if name == "tiled" else "created_at"
    await run_sql(database, f"CREATE TABLE digests (user_id bigint, {moment} timestamp, remark bigint)")
    before = await digest(database)
    field = "[fields.digests]\nremark = { sequence = {} }" if name == "tiled" else ""
    plan = planned(tmp_path, f'plugins = ["plugins:{name}"]\n{field}')
    code, *facts = FAILURES[name]
    with raises(code, "digests", *facts, kind=TargetError):
        await load(plan, database)
    assert await digest(database) == before


async def test_a_table_that_fails_later_is_undone(database: Address, tmp_path: Path) -> None:
    await run_sql(database, "CREATE TABLE digests (user_id bigint, created_at timestamp)")
    before = await digest(database)
    plan = planned(tmp_path, 'plugins = ["plugins:tiring"]', "20x")
    with raises("plugin-failed", "digests", "ValueError in line ", "plugins.py", "tired", kind=RunError):
        await load(plan, database)
    assert await digest(database) == before


WRONG = {
    "letters": ("digests", "'plugins:letters'", "columns", "'user_id'"),
    "twice": ("columns", "['user_id', 'user_id']"),
    "nameless": ("'plugins:nameless'", "name", "None"),
    "keyless": ("'user'", "did you mean user_id"),
    "pointless": ("digests", "references"),
    "listed": ("references", "['user_id']", '{"user_id": "users"}'),
    "negative": ("rows_per_parent", "-1"),
    "sometimes": ("late", "'yes'"),
    "rowless": ("rows", "[(1,)]"),
    "followless": ("digests", "'usres'", "did you mean users"),
    "reactions": ("two tables reactions",),
    "ring plugins:chain": ("ring follows itself", "through chain"),
    "itself": ("itself follows itself",),
    "unmoved plugins:after_unmoved": ("digests follows unmoved", "created_at"),
    "unordered plugins:after_unordered": ("digests follows unordered", "ids of messages"),
    "not_a_table": ("'plugins:not_a_table'", "name, follows, columns, rows", "@bulkseed.table"),
    "undecorated": ("'plugins:undecorated'", "name, follows, columns, rows", "@bulkseed.table"),
    "Lacking": ("'plugins:Lacking'", " follows, columns, rows"),
    "Demanding": ("'plugins:Demanding'", "TypeError"),
    "attachmnts": ("'plugins:attachmnts'", "plugins has no attachmnts", "did you mean attachments"),
}
"""Wrong tables, and facts of their errors."""

CODES = {
    "letters twice nameless keyless pointless listed negative sometimes rowless": "invalid-plugin-table",
    "not_a_table undecorated Lacking Demanding": "not-a-plugin-table",
    "attachmnts": "unknown-name",
}
"""The codes of the wrong tables; the others contradict each other or the scenario."""


@pytest.mark.parametrize("names", WRONG)
def test_wrong_tables_are_refused(tmp_path: Path, names: str) -> None:
    sources = [name if ":" in name else f"plugins:{name}" for name in names.split()]
    code = next((code for wrong, code in CODES.items() if names in wrong.split()), "wrong-scenario")
    with raises(code, "app.toml: plugins: ", *WRONG[names], kind=InputError):
        planned(tmp_path, f"plugins = {json.dumps(sources)}")


@pytest.mark.parametrize(
    ("added", "key", "facts"),
    [
        ("[tables]\nattachments = false", "plugins", ("table scans", "'attachments'")),
        ("[tables]\nmessages = false", "plugins", ("table attachments", "messages", "[tables]")),
        ('[tables]\nscans = "users"', "tables.scans", ("users", "two tables")),
        ("[columns.scans]\nfound_at = false", "columns.scans.found_at", ("name the app's column",)),
        ("[columns.scans]\nclaen = false", "columns.scans.claen", ("did you mean clean",)),
    ],
)
def test_sections_that_contradict_plugins_are_refused(
    tmp_path: Path, added: str, key: str, facts: tuple[str, ...]
) -> None:
    with raises("wrong-scenario", f"app.toml: {key}: ", *facts, kind=InputError):
        planned(tmp_path, f'plugins = ["plugins:attachments", "plugins:Scans"]\n{added}')


def test_entry_points_name_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an installed package's metadata has them."""
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bulkseed.tables]\nacme_digests = plugins:Late\nbroken = plugins:absent\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert [extra.name for extra in planned(tmp_path, 'plugins = ["acme_digests"]').scenario.extras] == ["digests"]
    for code, name, *facts in (
        ("unknown-plugin", "acme_digest", "'acme_digest'", "bulkseed.tables", "did you mean acme_digests"),
        ("unknown-name", "broken", "'broken'", "plugins has no absent"),
    ):
        with raises(code, *facts, kind=InputError):
            planned(tmp_path, f'plugins = ["{name}"]')


FLEETING = """
from bulkseed import table

@table(follows="users", columns=["user_id", "created_at"])
def digests(users):
    for user in users:
        yield user.id, user.moment()

def loyalty(rows):
    return rows.numbers
"""


def becomes(folder: Path, text: str | None) -> None:
    """The module has another text from now on, or is gone."""
    (folder / "fleeting.py").unlink(missing_ok=True)
    if text is not None:
        (folder / "fleeting.py").write_text(text)
    sys.modules.pop("fleeting", None)
    importlib.invalidate_caches()
    load_plugin_table.cache_clear()


async def test_code_that_changes_or_goes_is_noticed(
    database: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # what is kept is taken for that of a file as old and as long
    becomes(tmp_path, FLEETING)
    await run_sql(
        database,
        "CREATE TABLE digests (user_id bigint NOT NULL REFERENCES users, created_at timestamp NOT NULL)",
        "ALTER TABLE users ADD loyalty integer",
    )
    before = await digest(database)
    field = '[fields.users]\nloyalty = { call = "fleeting:loyalty" }'
    plan = planned(tmp_path, f'plugins = ["fleeting:digests"]\n{field}', "2x")

    async def cut_off() -> None:
        becomes(tmp_path, FLEETING)
        with anyio.CancelScope() as scope:
            await load(plan, database, listener=Interfering("channels", scope.cancel), defer="never")
        assert scope.cancelled_caught

    await cut_off()
    becomes(tmp_path, FLEETING.replace("follows=", "late=True, follows=").replace("created_at", "sent_at"))
    with raises("plugin-changed", "digests", "run 1", "user_id, created_at", kind=InputError):
        await resume(database)
    becomes(tmp_path, None)
    for command in (resume(database), cleanup(database, [1])):
        with raises("missing-module", "fleeting", "ModuleNotFoundError", "--cascade", kind=InputError):
            await command
    await cleanup(database, [1], cascade=True)
    assert await digest(database) == before
    # other rows than were loaded
    becomes(tmp_path, FLEETING)
    await load(plan, database)
    becomes(tmp_path, FLEETING.replace("user.moment()", "user.created_at"))
    with raises("referenced-rows", "40", "digests", "--cascade", kind=RunError):
        await cleanup(database, [1])
    await cleanup(database, [1], cascade=True)
    assert await digest(database) == before


@pytest.mark.parametrize(
    ("text", "code", "facts"),
    [
        ('plugins = ["plugins:Late"]', "missing-table", ("table digests", "'public'", "migrations")),
        ('plugins = ["plugins:tips"]', "missing-column", ("tips.channel_id", "did you mean chanel_id")),
        (
            '[fields.users]\nphone = { template = "{emial}" }',
            "unknown-column",
            ("fields.users.phone: ", "emial", "did you mean email"),
        ),
    ],
)
async def test_a_scenario_for_other_tables_is_refused_before_a_load(
    database: Address, tmp_path: Path, text: str, code: str, facts: tuple[str, ...]
) -> None:
    await run_sql(database, "CREATE TABLE tips (chanel_id bigint, user_id bigint, note text, more json)")
    with raises(code, *facts, kind=InputError) as caught:
        await load(planned(tmp_path, text), database)
    assert "bulkseed init" not in str(caught.value)


def test_plans_are_made_of_what_python_has(tmp_path: Path) -> None:
    file = tmp_path / "app.toml"
    file.write_text("[counts]\nusers = 3\n")
    assert make_plan("2x", scenario=file).users == 6
    with raises("plugins-not-a-list", "['plugins:tips']", kind=InputError):
        make_plan(plugins="plugins:tips")
    with raises("as-of-without-time-zone", "as_of", kind=InputError):
        make_plan(as_of=AS_OF.replace(tzinfo=None))


async def test_rules_are_judged_without_a_search_path(database: Address, tmp_path: Path) -> None:
    """The schema of the tables is what a rule sees first."""
    rule = '[[rules]]\nname = "all are there"\nsql = "SELECT count(*) FROM users WHERE email IS NULL"'
    await load(planned(tmp_path, f'schema = "public"\n{rule}'), database)
    await run_sql(database, f"ALTER DATABASE {database.url.database} SET search_path = ''")
    [report] = await verify(database)
    assert report.holds
    assert "all are there" in {each.text for each in report.rules}


UUIDS = """
CREATE SCHEMA app;
CREATE TABLE app.users (id uuid PRIMARY KEY, created_at timestamptz NOT NULL);
CREATE TABLE app.channels (
    id uuid PRIMARY KEY, owner_id uuid NOT NULL REFERENCES app.users, is_dm boolean NOT NULL,
    is_private boolean NOT NULL, created_at timestamptz NOT NULL);
CREATE TABLE app.user_channels (user_id uuid REFERENCES app.users, channel_id uuid REFERENCES app.channels);
CREATE TABLE app.messages (
    id uuid PRIMARY KEY, content text NOT NULL, created_at timestamptz NOT NULL,
    user_id uuid NOT NULL REFERENCES app.users, channel_id uuid NOT NULL REFERENCES app.channels,
    parent_id uuid REFERENCES app.messages);
CREATE TABLE app.attachments (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid NOT NULL REFERENCES app.users,
    message_id uuid NOT NULL REFERENCES app.messages, created_at timestamptz, size integer, format text);
CREATE TABLE app.scans (message_id uuid REFERENCES app.messages, found_at timestamptz, clean boolean);
CREATE TABLE app.digests (user_id uuid REFERENCES app.users, sent_at timestamptz);
CREATE TABLE app.bookmarks (
    who uuid REFERENCES app.users, message uuid REFERENCES app.messages, PRIMARY KEY (message, who));
CREATE INDEX ON app.user_channels (user_id, channel_id);
CREATE INDEX ON app.messages (parent_id);
CREATE INDEX ON app.attachments (message_id);
CREATE INDEX ON app.scans (message_id);
"""


async def test_ids_are_uuids_where_the_app_has_those(make_database: MakeDatabase, tmp_path: Path) -> None:
    database = await make_database("empty")
    await run_sql(database, UUIDS)
    plan = planned(tmp_path, f"uuid = 7{UUID_SCENARIO}", "3x")
    for defer in ("never", "always"):
        with anyio.CancelScope() as scope:
            listener = Interfering("digests", scope.cancel)
            await load(plan, database, listener=listener, defer=defer, rows_per_shard=1000)
        report = await resume(database)
        assert report is not None
        assert report.rows["scans"] == report.rows["attachments"] > 0 < report.rows["bookmarks"]
        [found] = await verify(database)
        assert found.holds
        await cleanup(database, [report.run])
        counted = " + ".join(f"(SELECT count(*) FROM app.{table})" for table in report.rows)
        assert await rows(database, f"SELECT {counted}") == [(0,)]
