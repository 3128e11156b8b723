"""Fields: every kind makes its values, a row has the same value in any batch, and wrong fields are refused."""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys
import tomllib
from collections import Counter
from datetime import UTC, date, datetime, time
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import faker.providers.date_time
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from faker import Faker
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkseed.arrays import JSON
from bulkseed.errors import InputError, RunError
from bulkseed.fields import (
    FieldRows,
    FieldSpec,
    distinct,
    expected_arrow,
    extremes,
    fill,
    longest,
    normalise,
    parse_field,
)
from bulkseed.fields.ranges import draw_integers
from bulkseed.plan.plan import microseconds
from bulkseed.randomness.draws import Streams
from bulkseed.scenarios.scenario_file import read_scenario
from bulkseed.text.fakes import Fakes
from bulkseed.verifier.rule_checks import within_chance
from support.errors import raises
from support.scenario_texts import EVERY_FIELD

AS_OF = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
NOW = microseconds(AS_OF)
FAKES = Fakes("en_US", 1, NOW, ("fillers:AppProvider",))
MOST = 20_000
FIRST = 1001
WHERE = "fields.users.phone"

# the awkward rows: account made at as_of, no name
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("email", pa.string()),
        ("name", pa.string()),
        ("is_active", pa.bool_()),
        ("created_at", pa.timestamp("us")),
    ]
)

every_field = pytest.mark.parametrize("given_field", EVERY_FIELD, ids=str)


def spec_of(given_field: object, fakes: Fakes = FAKES) -> FieldSpec:
    return parse_field(WHERE, given_field, fakes, SCHEMA)


@cache
def spec_at(place: int) -> FieldSpec:
    """The field that has this place in EVERY_FIELD; the property that asks does so often."""
    return spec_of(EVERY_FIELD[place])


def rows_at(numbers: Any, streams: Streams | None = None, table: str = "users", column: str = "phone") -> FieldRows:
    places = np.asarray(numbers, dtype=np.int64)
    batch = pa.record_batch(
        [
            pa.array(FIRST + places),
            pa.array([f"user{place}@example.com" for place in places]),
            pa.array([None if place % 5 == 0 else f"Name {place}" for place in places], pa.string()),
            pa.array(places % 3 == 0),
            pa.array(NOW - places % 40 * 86_400_000_000).view(pa.timestamp("us")),
        ],
        schema=SCHEMA,
    )
    return FieldRows(streams or Streams(1, FIRST), table, column, places, batch, NOW, FIRST)


def filled(given_field: Any, count: int = MOST, **named: Any) -> pa.Array:
    return fill(spec_of(given_field), rows_at(range(count), **named))


def texts(array: pa.Array) -> list[Any]:
    listed: list[Any] = array.to_pylist()
    return listed


# --- the same row, the same value ------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_batches_do_not_touch_the_values(data: st.DataObject) -> None:
    spec = spec_at(data.draw(st.integers(0, len(EVERY_FIELD) - 1)))
    numbers = sorted(data.draw(st.sets(st.integers(0, 300) | st.integers(0, 10**12), min_size=1, max_size=30)))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(numbers)), max_size=4)))
    whole = texts(fill(spec, rows_at(numbers)))
    pieces = [numbers[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(numbers)], strict=True)]
    assert [value for piece in pieces if piece for value in texts(fill(spec, rows_at(piece)))] == whole


@every_field
def test_what_is_kept_is_json_and_gives_the_same(given_field: object) -> None:
    spec = spec_of(given_field)
    kept = json.loads(json.dumps(spec.declaration))
    assert kept == normalise(given_field, WHERE)
    again = parse_field(WHERE, kept, FAKES)
    assert again == spec
    assert normalise(again.declaration, WHERE) == kept
    unpickled: FieldSpec = pickle.loads(pickle.dumps(spec))
    assert unpickled == spec
    rows = rows_at(range(50))
    assert fill(spec, rows).equals(fill(again, rows))
    assert fill(spec, rows).equals(fill(unpickled, rows))


@every_field
def test_no_rows_are_no_trouble(given_field: object) -> None:
    assert len(fill(spec_of(given_field), rows_at([]))) == 0


def test_each_run_table_and_column_has_values_of_its_own() -> None:
    others: list[Any] = [
        {"streams": Streams(2, 1)},
        {"streams": Streams(1, 2)},
        {"table": "channels"},
        {"column": "fax"},
    ]
    fields: list[Any] = [{"uuid": 4}, "faker:phone_number", {"uniform": [1, 10**9]}, {"template": "{uuid}"}]
    for given_field in fields:
        found = [texts(filled(given_field, 30, **other)) for other in [{}, *others]]
        assert len({tuple(each) for each in found}) == len(found)


def digest() -> str:
    """Of values of every field, for another process to compare."""
    made = blake2b()
    for given_field in EVERY_FIELD:
        made.update(repr(texts(filled(given_field, 40))).encode())
    return made.hexdigest()


def test_another_process_elsewhere_gives_the_same() -> None:
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    found = subprocess.run(
        [sys.executable, "-c", "import test_fields; print(test_fields.digest())"],
        env=os.environ | {"TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == digest()


# --- judged before anything is written -------------------------------------------------------------------------------


@every_field
def test_what_is_foretold_holds(given_field: object) -> None:
    spec = spec_of(given_field)
    numbers = [*range(2000), *range(10**9, 10**9 + 100)]
    made = fill(spec, rows_at(numbers))
    kind = expected_arrow(spec, SCHEMA)
    assert kind in (None, made.type)
    most = longest(spec, greatest=FIRST + numbers[-1], columns={"name": 20, "is_active": 5, "created_at": 26})
    if most is not None and pa.types.is_string(made.type):
        assert pc.max(pc.utf8_length(made)).as_py() <= most
    ends = extremes(spec)
    if ends is not None:
        assert ends.type == made.type
        if pa.types.is_nested(ends.type) or pa.types.is_boolean(ends.type) or ends.type == JSON:
            assert {str(each) for each in texts(made) if each is not None} <= {str(each) for each in texts(ends)}
        else:
            if pa.types.is_duration(ends.type):  # of which Arrow finds no extremes
                made, ends = made.cast(pa.int64()), ends.cast(pa.int64())
            inner, outer = pc.min_max(made).as_py(), pc.min_max(ends).as_py()
            assert outer["min"] <= inner["min"]
            assert inner["max"] <= outer["max"]
    if distinct(spec) is not None:
        there = made.drop_null()
        assert len(there.unique()) == len(there)
    assert set(spec.reads) <= set(SCHEMA.names)


def test_lengths_are_known() -> None:
    def most(given_field: object, **known: Any) -> int | None:
        return longest(spec_of(given_field), **known)

    assert most({"choice": ["free", "größer"]}) == 6
    assert most({"value": {"a": 1}}) == len('{"a": 1}')
    assert most({"value": 5}) is None
    assert most({"uuid": 4}) == 36
    assert most({"template": "u-{n}", "null": 0.1}, greatest=999) == 5
    assert most({"template": "u-{n:08}"}, greatest=999) == 10
    assert most({"template": "{email}!"}) is None
    assert most({"template": "{email}!"}, columns={"email": 80}) == 81
    assert most({"copy": "email"}, columns={"email": 80}) == 80
    assert most({"call": "fillers:phones"}) is None
    # as long as the longest of the pool, to the letter
    assert most("faker:job") == max(map(len, texts(filled("faker:job"))))


def test_distinct_values_are_foretold() -> None:
    def found(template: str) -> str | None:
        return distinct(spec_of({"template": template}))

    assert [found(each) for each in ("{n}", "u{n}", "u{n}@{faker.domain_name}", "{faker.word}-{n}", "{n:05}!")] == [
        "run"
    ] * 5
    assert [found(each) for each in ("{id}", "a{uuid}{faker.word}", "{n}-{id}")] == ["always"] * 3
    assert [found(each) for each in ("{n}{faker.pyint}", "{faker.pyint}{n}", "{n}1{email}", "{email}", "x")] == [
        None
    ] * 5
    assert distinct(spec_of({"faker": "email", "unique": True})) == "always"
    assert distinct(spec_of({"choice": ["a"]})) is None


pieces = st.sampled_from(["{n}", "{id}", "{uuid}", "{n:03}", "{faker.pyint}", "{name}", "1", "a", "-", "9-", "-9", " "])


@settings(max_examples=60, deadline=None)
@given(template=st.lists(pieces, min_size=1, max_size=4).map("".join))
def test_templates_called_distinct_are(template: str) -> None:
    spec = spec_of({"template": template})
    if distinct(spec) is not None:
        assert len(fill(spec, rows_at(range(2500))).unique()) == 2500


# --- each kind -------------------------------------------------------------------------------------------------------


def test_nulls_have_their_share_and_do_not_follow_the_value() -> None:
    made = filled({"choice": ["a", "b"], "null": 0.3})
    whole = filled({"choice": ["a", "b"]})
    assert within_chance(made.null_count / MOST, MOST, 0.3)
    assert made.drop_null().equals(whole.filter(made.is_valid()))
    of_a = texts(pc.equal(whole.filter(made.is_null()), "a"))
    assert within_chance(sum(of_a) / len(of_a), len(of_a), 0.5)
    assert filled({"value": 1, "null": 1}, 100).null_count == 100
    assert filled({"value": 1, "null": 0}, 100).null_count == 0


@pytest.mark.parametrize("weights", [None, [9, 1, 0, 2.5], [0.1, 0.2, 0.3, 0.4]])
def test_a_choice_keeps_to_its_weights(weights: list[float] | None) -> None:
    options = ["a", "b", "c", "d"]
    made = filled({"choice": options} | ({"weights": weights} if weights else {}))
    counts = Counter(texts(made))
    for option, weight in zip(options, weights or [1] * 4, strict=True):
        assert within_chance(counts[option] / MOST, MOST, weight / sum(weights or [1] * 4))


@given(
    words=st.lists(st.integers(0, 2**64 - 1) | st.sampled_from([0, 2**32, 2**63, 2**64 - 1]), min_size=1, max_size=5),
    ends=st.tuples(*[st.integers(-(2**62), 2**62 - 1) | st.integers(-5, 5)] * 2).map(sorted),
)
def test_a_range_is_exact(words: list[int], ends: list[int]) -> None:
    low, high = ends
    found = draw_integers(np.array(words, dtype=np.uint64), low, high).tolist()
    assert found == [low + (word * (high - low + 1) >> 64) for word in words]


def test_numbers_have_the_decimals_that_were_asked_for() -> None:
    made = texts(filled({"uniform": [-1, 1.005], "decimals": 2}))
    assert {round(value, 2) for value in made} == set(made)
    assert (min(made), max(made), len(set(made))) == (-1.0, 1.0, 201)
    assert within_chance(sum(made) / MOST, MOST, 0.0, low=-1, high=1)


def test_floats_fill_their_range() -> None:
    made = texts(filled({"uniform": [0.5, 2.5]}))
    assert 0.5 <= min(made) < 0.51
    assert 2.49 < max(made) <= 2.5
    assert within_chance(sum(made) / MOST, MOST, 1.5, low=0.5, high=2.5)
    assert set(texts(filled({"uniform": [0.1, 0.1]}, 20))) == {0.1}


def test_dates_and_times_come_out_as_they_went_in() -> None:
    assert set(texts(filled({"uniform": [date(2024, 2, 28), date(2024, 3, 1)]}, 200))) == {
        date(2024, 2, 28),
        date(2024, 2, 29),
        date(2024, 3, 1),
    }
    offset = "2026-01-01T01:00:00+01:00"
    assert texts(filled({"value": datetime.fromisoformat(offset)}, 1)) == [datetime(2026, 1, 1)]
    assert texts(filled(tomllib.loads("f = { uniform = [09:30:00, 09:30:00] }")["f"], 1)) == [time(9, 30)]
    given_field = tomllib.loads("f = { value = 1979-05-27T07:32:00.999999-07:00 }")["f"]
    assert texts(filled(given_field, 1)) == [datetime(1979, 5, 27, 14, 32, 0, 999999)]


def test_a_moment_after_another() -> None:
    rows = rows_at(range(MOST))
    created = rows.values("created_at").cast(pa.int64()).to_numpy()
    for within, most in (("36 hours", 36 * 3_600_000_000), ("1.5 days", 36 * 3_600_000_000), (None, 10**15)):
        given_field = {"after": "created_at"} | ({"within": within} if within else {})
        made = fill(spec_of(given_field), rows).cast(pa.int64()).to_numpy()
        assert ((made > created) | (created == NOW)).all()
        assert (made <= np.minimum(created + most, NOW)).all()
        assert (made == NOW).any()
    nulls = FieldRows(
        Streams(1, 1), "t", "c", np.arange(2), pa.record_batch({"at": pa.array([None, 0], pa.timestamp("us"))}), NOW
    )
    assert [each is None for each in texts(fill(parse_field(WHERE, {"after": "at"}, FAKES), nulls))] == [True, False]


def test_uuids_are_of_version_4() -> None:
    made = texts(filled({"uuid": 4}))
    assert {(UUID(text).version, UUID(text).variant) for text in made} == {(4, "specified in RFC 4122")}
    assert [str(UUID(text)) for text in made] == made
    ones = np.array([UUID(text).int for text in made[:5000]], dtype=object)
    for bit in (0, 47, 80, 127):
        assert within_chance(sum(int(each) >> bit & 1 for each in ones) / 5000, 5000, 0.5)


def test_a_template_puts_in_what_it_names() -> None:
    made = texts(filled({"template": "{{{n}}} {id:06} {email} [{name}] {is_active} {created_at}"}, 2))
    assert made == [
        "{1} 001001 user0@example.com [] true 2026-06-01 12:30:00.000000",
        "{2} 001002 user1@example.com [Name 1] false 2026-05-31 12:30:00.000000",
    ]
    twice = texts(filled({"template": "{uuid} {uuid}|{faker.first_name} {faker.first_name}"}))
    assert all(text.split("|")[0].split()[0] != text.split("|")[0].split()[1] for text in twice)
    assert sum(text.split("|")[1].split()[0] == text.split("|")[1].split()[1] for text in twice) < MOST / 20


def test_columns_are_copied_and_rows_counted() -> None:
    rows = rows_at(range(7, 10))
    assert fill(spec_of({"copy": "email"}), rows).equals(rows.values("email"))
    assert texts(fill(spec_of({"sequence": {"start": 10, "step": 10}}), rows)) == [80, 90, 100]
    assert texts(fill(spec_of({"sequence": {}}), rows)) == [8, 9, 10]


# --- Faker -----------------------------------------------------------------------------------------------------------


def test_values_are_those_of_faker_for_the_locale() -> None:
    for locale, method in (("de_DE", "state"), ("ja_JP", "last_name"), ("en-US", "month_name")):
        reference = Faker(locale.replace("-", "_"))
        reference.seed_instance(1)
        known = {getattr(reference, method)() for _ in range(3000)}
        spec = parse_field(WHERE, f"faker:{method}", Fakes(locale, 1, NOW))
        made = texts(fill(spec, rows_at(range(500))))
        assert set(made) <= known


def test_a_pool_has_as_many_values_as_asked_and_keeps_fakers_shares() -> None:
    assert len(filled({"faker": "uuid4", "pool": 30}).unique()) == 30
    assert len(filled({"faker": "uuid4"}).unique()) == 1000
    lucky = filled({"faker": "boolean", "args": {"chance_of_getting_true": 90}, "pool": 20_000})
    assert within_chance(pc.sum(lucky).as_py() / MOST, 10_000, 0.9)


def test_fakers_clock_stands_still() -> None:
    def made(method: str, as_of: datetime) -> list[Any]:
        return texts(
            fill(
                spec_of(f"faker:{method}", Fakes("en_US", 1, microseconds(as_of), FAKES.providers)), rows_at(range(300))
            )
        )

    long_ago = datetime(1995, 3, 2, 1, tzinfo=UTC)
    assert {value.year for value in made("date_this_year", long_ago)} == {1995}
    assert all(value < long_ago.replace(tzinfo=None) for value in made("past_datetime", long_ago))
    assert all(value.date() >= long_ago.date() for value in made("future_datetime", long_ago))
    assert {type(value) for value in made("past_datetime", AS_OF)} == {datetime}
    # a provider of the user's own, too
    assert set(made("today", long_ago)) == {"1995-03-02T01:00:00+00:00"}


def test_nothing_is_left_behind_by_a_pool() -> None:
    state = random.getstate()
    before = {name: getattr(faker.providers.date_time, name) for name in ("datetime", "dtdate")}
    with raises("faker-call-failed", "date_between", kind=InputError):
        spec_of({"faker": "date_between", "args": {"start_date": "rubbish"}})
    # one that draws from Python's own generator
    Fakes("el_GR", 1, NOW).pool("ssn", {}, 5)
    assert random.getstate() == state
    assert {name: getattr(faker.providers.date_time, name) for name in before} == before
    assert set(before.values()) == {datetime, date}


def test_unique_values_are() -> None:
    made = texts(filled({"faker": "awkward", "unique": True}))
    assert len(set(made)) == MOST
    for text, first in (("a", "a-1001"), ("a 1", "a 1 1001"), ("a@b@1", "a@b.1001@1")):
        given_field = {"faker": "random_element", "args": {"elements": [text]}, "unique": True}
        assert texts(filled(given_field, 1)) == [first]
    assert texts(filled({"faker": "email", "unique": True}, 1))[0].count("@") == 1


# --- functions of the user's -----------------------------------------------------------------------------------------


def test_functions_fill_rows() -> None:
    assert set(map(len, texts(filled({"call": "fillers:phones"}, 500)))) == {9}
    assert within_chance(pc.sum(filled({"call": "fillers:is_new"})).as_py() / MOST, MOST, 0.125)
    assert texts(filled({"call": "fillers:chunks"}, 5)) == [0, 1, 2, 3, 4]
    assert texts(filled({"call": "fillers:greetings"}, 2)) == [None, "Hello Name 1"]
    assert texts(filled({"call": "fillers:seconds"}, 2)) == [datetime(2026, 1, 1), datetime(2026, 1, 1, 0, 0, 1)]
    assert texts(filled({"call": "fillers:many", "per": "row"}, 4)) == [None, [], [1, 2], [3]]
    [text, *_] = texts(filled({"call": "fillers:table", "per": "row"}, 1))
    assert json.loads(text) == {"who": "user0@example.com", "share": "0.5", "key": str(UUID(int=0))}
    here = [text.split()[0] == "here" for text in texts(filled({"call": "fillers:status", "per": "row"}, 2000))]
    assert within_chance(sum(here) / 2000, 2000, 0.5)


WRONG_FUNCTIONS: Final = {
    "too_few": ("wrong-result", "batch from row 5", "9 values", "10 rows"),
    "one_for_all": ("wrong-result", "batch from row 5", "str"),
    "failing": ("function-failed", "batch from row 5", "ValueError in line ", "of fillers.py: no phones today"),
    "with_nul": ("wrong-result", "batch from row 5", r"'a\x00b'", "NUL"),
    "failing_at_seven row": ("function-failed", "row 7", "ZeroDivisionError in line ", "of fillers.py: "),
    "mixed_at_seven row": ("wrong-result", "row 7", "'x'", "texts", "numbers"),
    "sets row": ("wrong-result", "row 5", "{1}", "type set"),
}
"""Functions, and how they are called: the code and the facts of their errors."""


@pytest.mark.parametrize("called", WRONG_FUNCTIONS)
def test_wrong_functions_are_reported_with_their_row(called: str) -> None:
    name, _, per = called.partition(" ")
    spec = spec_of({"call": f"fillers:{name}"} | ({"per": per} if per else {}))
    code, at, *facts = WRONG_FUNCTIONS[called]
    with raises(code, f"{WHERE}: at ", f"{at} of users, fillers:{name} ", *facts, kind=RunError):
        fill(spec, rows_at(range(5, 15)))


def test_a_missing_column_is_reported_in_a_run() -> None:
    facts = "users.phone: ", "emial", "did you mean email"
    with raises("unknown-column", *facts, kind=RunError):
        fill(spec_of({"call": "fillers:misspelt", "per": "row"}), rows_at([1]))
    with raises("unknown-column", *facts, kind=RunError):
        fill(parse_field(WHERE, {"copy": "emial"}, FAKES), rows_at([1]))


# --- wrong fields ----------------------------------------------------------------------------------------------------


def read_wrong_fields() -> dict[str, tuple[str, str, list[str]]]:
    """The cases of wrong_fields.txt: a field as TOML has it, and below it, divided by bars, the key within the field
    that is wrong, the code of the error (- for ``wrong-scenario``), and facts.
    """
    lines = (Path(__file__).parent / "wrong_fields.txt").read_text().splitlines()
    cases = {}
    for written, expected in zip(lines[::2], lines[1::2], strict=True):
        key, code, *facts = expected.split("|")
        cases[written] = (
            key.strip(),
            "wrong-scenario" if code.strip() == "-" else code.strip(),
            [fact.strip() for fact in facts],
        )
    return cases


WRONG_FIELDS: Final = read_wrong_fields()


@pytest.mark.parametrize("written", WRONG_FIELDS)
def test_wrong_fields_are_refused(written: str, tmp_path: Path) -> None:
    key, code, facts = WRONG_FIELDS[written]
    file = tmp_path / "app.toml"
    file.write_text(f'providers = ["fillers:AppProvider"]\n[fields.users]\nphone = {written}')
    with raises(code, kind=InputError) as caught:
        read_scenario(str(file), Fakes("en_US", 1, NOW))
    [line] = str(caught.value).splitlines()
    assert line.startswith(f"{file}: {WHERE}{key}: "), line
    assert [fact for fact in facts if fact not in line] == [], line


def test_a_value_without_a_form_in_json_is_refused() -> None:
    with raises("unusable-value", f"{WHERE}: ", "type set", kind=InputError):
        normalise({"value": [1, {2}]}, WHERE)


def test_faker_values_that_no_column_can_hold_are_refused_before_a_run() -> None:
    for method, *facts in (("mixed", "numbers", "texts"), ("a_set", "type set")):
        spec = spec_of(f"faker:{method}")
        with raises("unusable-value", f"{WHERE}: ", method, *facts, kind=InputError):
            expected_arrow(spec)


def test_wrong_providers_are_refused() -> None:
    for name, code, *facts in (
        ("fillers:phones", "not-a-faker-provider", "BaseProvider"),
        ("fillers:AppProvidr", "unknown-name", "did you mean AppProvider"),
    ):
        with raises(code, f"{WHERE}: providers: ", *name.split(":"), *facts, kind=InputError):
            parse_field(WHERE, "faker:plan_code", Fakes("en_US", 1, NOW, (name,)))
    assert all(text.startswith("P-") for text in texts(filled("faker:plan_code", 20)))
