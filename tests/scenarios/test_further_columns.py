"""Scenarios that fill columns of further types, through a whole load: check, load, verify and cleanup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpg
import pytest

import bulkseed
from bulkseed.errors import TargetError
from bulkseed.postgres.address import Address
from support.errors import raises
from support.plans import planned
from support.queries import digest, rows, run_sql

COLUMNS = """
CREATE TYPE home AS (street text, zip text, floor int);
ALTER TABLE users
    ADD wakes time, ADD calls timetz, ADD shift interval, ADD address inet, ADD net cidr, ADD mac macaddr,
    ADD picture_hash bytea, ADD flags bit(3), ADD more varbit, ADD ages int4range, ADD free datemultirange,
    ADD home home, ADD homes home[], ADD words tsvector, ADD member tstzrange, ADD joined time;
CREATE TABLE visits (
    user_id bigint NOT NULL REFERENCES users, address inet NOT NULL, seen interval, PRIMARY KEY (user_id, address)
);
"""

SCENARIO = r"""
plugins = ["plugins:visits"]

[fields.users]
wakes = { uniform = [05:30:00, 09:00:00] }
calls = { choice = ["09:00+02", "17:30-05:00"] }
shift = { uniform = ["30 minutes", "2 days"], null = 0.5 }
address = "faker:ipv4"
net = { template = "10.{n}.0.0/16" }
mac = "faker:mac_address"
picture_hash = { faker = "sha256", args = { raw_output = true } }
flags = { choice = ["101", "010"] }
more = { value = "1" }
ages = { choice = ["[18,25)", "[25,)"] }
free = { value = ["[2026-07-01,2026-08-01)", "[2026-12-24,2027-01-02)"] }
home = { value = { street = "Long Street", floor = 2 } }
homes = { value = [{ street = "A", zip = "1" }, { street = "B" }] }
words = { template = "'user':1A {n}:2" }
member = { template = "[{created_at},)" }
joined = { copy = "created_at" }
"""


@pytest.mark.parametrize("format", ["binary", "records"])
async def test_further_types_are_loaded_verified_and_removed(database: Address, tmp_path: Path, format: Any) -> None:
    await run_sql(database, COLUMNS)
    before = await digest(database)
    plan = planned(tmp_path, SCENARIO, users=99)
    report = await bulkseed.load(plan, database, copy_format=format, rows_per_shard=700)
    assert report.rows["visits"] == 99
    [found] = await rows(
        database,
        """
        SELECT count(*), count(*) FILTER (WHERE wakes BETWEEN '05:30' AND '09:00'),
            count(shift) BETWEEN 20 AND 80 AND bool_and(shift BETWEEN '30 minutes' AND '2 days'),
            bool_and(net << '10.0.0.0/8'), count(DISTINCT mac) > 50, bool_and(length(picture_hash) = 32),
            bool_and(home = ROW('Long Street', NULL, 2)::home), bool_and(homes[2] = ROW('B', NULL, NULL)::home),
            bool_and(words @@ 'user:A'), bool_and(lower(member) = created_at AND upper_inf(member)),
            bool_and(joined = (created_at AT TIME ZONE 'UTC')::time), bool_and(upper(free) = '2027-01-02')
        FROM users
        """,
    )
    assert found == (99, 99, *[True] * 10)
    assert [each.holds for each in await bulkseed.verify(database)] == [True]
    assert (await bulkseed.cleanup(database, [report.run])).removed == report.rows
    assert await digest(database) == before


REFUSED: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "a text that is no address": (
        "address inet",
        "'faker:word'",
        "invalid-value",
        ("users.address", "inet", "192.0.2.7"),
    ),
    "a bound that is no date": (
        "x daterange",
        '{ value = "[2026-02-30,)" }',
        "invalid-value",
        ("users.x", "2026-02-30"),
    ),
    "numbers for a time of day": ("x time", "{ uniform = [1, 5] }", "column-type", ("users.x", "time", "17:30:00")),
    "durations for a number": ("x int", '{ uniform = ["1 day", "2 days"] }', "column-type", ("users.x", "interval")),
    "an attribute that the type does not have": ("x home", "{ value = { stret = 'a' } }", "invalid-value", ("street",)),
    "an attribute of another type": ("x home", "{ value = { floor = 'high' } }", "invalid-value", ("x.floor", "high")),
    "text for a composite": ("x home", "{ value = 'Long Street' }", "column-type", ("users.x", "home", "street, zip")),
    "values of a counted field in a second run": (
        "x int UNIQUE",
        "{ sequence = {} }",
        "values-taken",
        ("users_x_key", "{id}"),
    ),
    "texts of a counted field in a second run": ("x text UNIQUE", "{ template = 'u{n}' }", "values-taken", ("u1",)),
    "a copy of a column that repeats": ("x bool UNIQUE", "{ copy = 'is_active' }", "values-repeat", ("users_x_key",)),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_values_that_a_load_would_not_store_are_refused_before_it(
    database: Address, tmp_path: Path, case: str
) -> None:
    column, field, code, facts = REFUSED[case]
    await run_sql(database, "CREATE TYPE home AS (street text, zip text, floor int)", f"ALTER TABLE users ADD {column}")
    if code == "values-taken":
        await bulkseed.load(planned(tmp_path, f"[fields.users]\nx = {field}", users=9), database)
    before = await digest(database)
    name = column.split()[0]
    with raises(code, *facts, kind=TargetError):
        await bulkseed.load(planned(tmp_path, f"[fields.users]\n{name} = {field}"), database)
    assert await digest(database) == before


async def test_copies_of_ids_and_counted_fields_that_go_on_are_unique_in_every_run(
    database: Address, tmp_path: Path
) -> None:
    await run_sql(database, "ALTER TABLE users ADD x bigint UNIQUE, ADD y text UNIQUE, ADD z text UNIQUE")
    fields = """[fields.users]\nx = { copy = "id" }\ny = { template = "u-{id}" }\nz = { copy = "email" }"""
    for _ in range(2):
        await bulkseed.load(planned(tmp_path, fields, users=9), database)
    assert await rows(database, "SELECT count(*) FROM users WHERE x = id AND y = 'u-' || id AND z = email") == [(18,)]
    await run_sql(database, "ALTER TABLE users ADD n int UNIQUE")
    for start in (1, 1000):
        more = f"{fields}\nn = {{ sequence = {{ start = {start} }} }}"
        await bulkseed.load(planned(tmp_path, more, users=9), database)
    assert await rows(database, "SELECT count(DISTINCT n) FROM users") == [(18,)]


async def test_columns_that_triggers_fill_need_no_field(database: Address, tmp_path: Path) -> None:
    await run_sql(
        database,
        "ALTER TABLE users ADD words tsvector NOT NULL, ADD initial text NOT NULL, ADD other text",
        "CREATE TRIGGER fill BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION "
        "tsvector_update_trigger(words, 'pg_catalog.simple', name, bio)",
        "CREATE FUNCTION initial() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.initial := left(NEW.name, 1); RETURN NEW; END $$",
        "CREATE TRIGGER initial BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION initial()",
    )
    report = await bulkseed.load(planned(tmp_path, "", users=9), database)
    assert await rows(database, "SELECT count(*) FROM users WHERE initial = left(name, 1) AND words <> ''") == [(9,)]
    await bulkseed.cleanup(database, [report.run])
    await run_sql(database, "ALTER TABLE users ALTER other SET NOT NULL")
    before = await digest(database)
    with raises("unfilled-column", "users.other", "[fields.users]", kind=TargetError):
        await bulkseed.load(planned(tmp_path, "", users=9), database)
    await run_sql(database, "ALTER TABLE users DISABLE TRIGGER initial")
    with raises("unfilled-column", "users.", kind=TargetError):
        await bulkseed.load(planned(tmp_path, "", users=9), database)
    assert await digest(database) == before


@pytest.mark.core
async def test_verify_reads_texts_of_a_nondeterministic_collation(database: Address, tmp_path: Path) -> None:
    try:
        await run_sql(
            database, "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
    except asyncpg.FeatureNotSupportedError as error:
        pytest.skip(f"only ICU has such collations: {error}")
    await run_sql(
        database,
        "ALTER TABLE users ALTER email TYPE varchar(255) COLLATE ci, ALTER picture TYPE text COLLATE ci",
        "CREATE DOMAIN described AS text COLLATE ci",
        "ALTER TABLE channels ALTER description TYPE described",
    )
    await bulkseed.load(planned(tmp_path, ""), database)
    assert [each.holds for each in await bulkseed.verify(database)] == [True]
