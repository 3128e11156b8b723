"""UUID keys: functions of the id, in the form of RFC 9562, which SQL decodes, and which no other UUID is taken for."""

from __future__ import annotations

import asyncio
import pickle
import uuid
from contextlib import AsyncExitStack
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bulkseed.errors import InputError, RunError
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection
from bulkseed.randomness.draws import Streams
from bulkseed.randomness.uuids import HIGHEST_ID, Moments, Uuids
from bulkseed.sql import SQL, compose, identifier, trusted
from support.databases import MakeDatabase
from support.errors import raises

STREAMS = Streams(1, 1)
U = trusted("u")
FOUR = Uuids(STREAMS, "users")
YEAR = Moments(101, 1_000_000, 1_767_225_600_000_000, 1_780_272_000_123_456)
SEVEN = Uuids(STREAMS, "users", YEAR)
VERSIONS = (FOUR, SEVEN)
each_version = pytest.mark.parametrize("keys", VERSIONS, ids=["4", "7"])

ids = st.integers(0, HIGHEST_ID) | st.integers(0, 10**7) | st.sampled_from([0, 1, 101, 1_000_101, HIGHEST_ID])


def is_ours(keys: Uuids, expression: SQL, first: int, last: int) -> SQL:
    """The SQL condition that the uuid ``expression`` is the key of an id from ``first`` to ``last``.

    A random UUID of an app is taken for one with probability ``(last - first + 1) / 2**62``, and one of another version
    or variant never.
    """
    return compose(
        "({id} BETWEEN {first} AND {last} AND get_byte(uuid_send({key}), 6) >> 4 = {version})",
        id=keys.decoded(expression),
        first=first,
        last=last,
        key=expression,
        version=keys.version,
    )


def keys_of(keys: Uuids, numbers: list[int | None]) -> list[uuid.UUID | None]:
    octets = keys.octets(pa.array(numbers, pa.int64()))
    assert octets.type == pa.binary(16)
    return [None if key is None else uuid.UUID(bytes=key) for key in octets.to_pylist()]


@given(st.sampled_from(VERSIONS), st.lists(ids | st.none(), max_size=20), st.integers(0, 5))
@example(FOUR, [], 0)
@example(SEVEN, [None, None], 1)
def test_keys_are_of_the_form_and_of_their_id_alone(keys: Uuids, numbers: list[int | None], start: int) -> None:
    found = keys_of(keys, numbers)
    for number, key in zip(numbers, found, strict=True):
        if number is None:
            assert key is None
        else:
            assert key is not None
            assert (key.version, key.variant) == (keys.version, uuid.RFC_4122)
            assert keys_of(keys, [number]) == [key]
    sliced = pa.array(numbers, pa.int64()).slice(start)
    assert keys.octets(sliced).to_pylist() == [key and key.bytes for key in found[start:]]
    assert len(set(found)) == len(set(numbers))


async def read(connection: Connection, keys: Uuids, found: list[uuid.UUID | None]) -> list[int | None]:
    sql = compose("SELECT {id} AS id FROM unnest($1::uuid[]) AS u", id=keys.decoded(U))
    rows = await connection.fetch(str(sql), found)
    return [row["id"] for row in rows]


@pytest.mark.core
def test_sql_reads_them_back_and_no_other(database: Address) -> None:
    anything = st.uuids() | st.integers(0, 2**128 - 1).map(lambda number: uuid.UUID(int=number))
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        connection = runner.run(stack.enter_async_context(open_connection(database)))

        async def check(keys: Uuids, numbers: list[int | None], others: list[uuid.UUID]) -> None:
            assert await read(connection, keys, keys_of(keys, numbers)) == numbers
            foreign = [number for number in await read(connection, keys, [*others]) if number is not None]
            assert len(foreign) == len(others)
            known = [number for number in numbers if number is not None]
            for first, last in ((0, HIGHEST_ID), (min(known, default=0), max(known, default=0)), (5, 4)):
                ours = is_ours(keys, U, first, last)
                sql = compose("SELECT {ours} FROM unnest($1::uuid[]) AS u", ours=ours)
                found = [row[0] for row in await connection.fetch(str(sql), keys_of(keys, numbers))]
                assert found == [None if number is None else first <= number <= last for number in numbers]
                for row, other in zip(await connection.fetch(str(sql), others), others, strict=True):
                    has_form = other.variant == uuid.RFC_4122 and other.version == keys.version
                    assert row[0] is False or (has_form and last - first > 2**30)  # so wide a range has others, too

        @settings(max_examples=60, deadline=None)
        @given(st.sampled_from(VERSIONS), st.lists(ids | st.none(), max_size=20), st.lists(anything, max_size=20))
        @example(FOUR, [1], [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)])
        def both_ways(keys: Uuids, numbers: list[int | None], others: list[uuid.UUID]) -> None:
            runner.run(check(keys, numbers, others))

        both_ways()
        runner.run(stack.aclose())


@each_version
async def test_keys_of_an_app_and_of_other_runs_and_tables_are_not_ours(connection: Connection, keys: Uuids) -> None:
    numbers = pa.array(np.arange(1, 20_001))
    moments = keys.moments
    others = [
        uuid.UUID(bytes=octets)
        for other in (Uuids(Streams(1, 2), "users", moments), Uuids(STREAMS, "channels", moments))
        for octets in other.octets(numbers).to_pylist()
    ]
    ours = is_ours(keys, U, 0, 2**40)
    sql = compose("SELECT count(*) FROM unnest($1::uuid[]) AS u WHERE {ours}", ours=ours)
    assert await connection.fetchval(str(sql), others) == 0
    sql = compose(
        "SELECT count(*) FROM (SELECT gen_random_uuid() AS u FROM generate_series(1, 50000)) AS app WHERE {ours}",
        ours=ours,
    )
    assert await connection.fetchval(str(sql)) == 0


async def test_keys_of_twenty_thousand_rows_are_read_back(make_database: MakeDatabase) -> None:
    count = 20_000
    async with open_connection(await make_database("empty")) as connection:
        for keys in VERSIONS:
            await connection.execute("DROP TABLE IF EXISTS t; CREATE TABLE t (key uuid PRIMARY KEY, id bigint)")
            octets = keys.octets(pa.array(np.arange(101, 101 + count)))
            rows = zip((uuid.UUID(bytes=key) for key in octets.to_pylist()), range(101, 101 + count), strict=True)
            await connection.copy_records_to_table("t", records=rows, columns=["key", "id"], schema_name=None)
            decoded = compose("SELECT count(*) FROM t WHERE {id} = id", id=keys.decoded(identifier("key")))
            assert await connection.fetchval(str(decoded)) == count
            ours = is_ours(keys, identifier("t", "key"), 1001, 2000)
            in_range = compose("SELECT array_agg(id ORDER BY id) FROM t WHERE {ours}", ours=ours)
            assert await connection.fetchval(str(in_range)) == [*range(1001, 2001)]


def test_random_bits_are_as_even_as_chance() -> None:
    count = 50_000
    octets = np.frombuffer(b"".join(FOUR.octets(pa.array(np.arange(count))).to_pylist()), dtype=np.uint8)
    shares = np.unpackbits(octets.reshape(count, 16), axis=1).mean(axis=0)
    fixed = [*range(48, 52), 64, 65]
    np.testing.assert_array_equal(shares[fixed], [0, 1, 0, 0, 1, 0])
    # the bits after the variant change with 256 values of one octet
    assert np.abs(np.delete(shares[:64], fixed[:4]) - 0.5).max() < 5 * 0.5 / np.sqrt(count)
    tails = {bytes(row[8:14]) for row in octets.reshape(count, 16)}
    assert len(tails) > 200


def test_version_7_keys_grow_evenly_with_the_id() -> None:
    last = YEAR.first + YEAR.count
    numbers = np.array([0, YEAR.first, YEAR.first + YEAR.count // 4, YEAR.first + YEAR.count // 2, last, last + 5])
    times = [key.int >> 80 for key in keys_of(SEVEN, numbers.tolist()) if key is not None]
    start, end = YEAR.start // 1000, YEAR.end // 1000
    assert times == [start, start, start + (end - start) // 4, start + (end - start) // 2, end, end]
    many = SEVEN.octets(pa.array(np.arange(YEAR.first, YEAR.first + 50_000))).to_pylist()
    assert [octets[:6] for octets in many] == sorted(octets[:6] for octets in many)


@each_version
def test_ids_that_make_no_key(keys: Uuids) -> None:
    for wrong in (-1, HIGHEST_ID + 1):
        with raises("id-out-of-range", wrong, "users", HIGHEST_ID, kind=RunError):
            keys.octets(pa.array([1, None, wrong]))


def test_version_7_begins_in_1970() -> None:
    with raises("uuid-before-1970", "users", "1970", "--as-of", kind=InputError):
        Uuids(STREAMS, "users", Moments(1, 10, -1, 5))


def test_they_can_be_sent_to_another_process() -> None:
    for keys in VERSIONS:
        assert pickle.loads(pickle.dumps(keys)) == keys


@each_version
def test_keys_are_what_they_always_were(keys: Uuids) -> None:
    """So that the ids of runs of the first generator can be read."""
    keys = replace(keys, streams=replace(keys.streams, generator=1))
    pinned = {
        4: [
            "e15506f5-0b0c-48a2-baee-4676c2ae4e7a",
            "647e2a15-f8be-47c3-b11c-4bff999341f4",
            "c61cb170-1123-44ed-8ff9-c13764ce7538",
        ],
        7: [
            "019b76da-a800-78a2-baee-4676c2ae4e7a",
            "019b76da-a800-77c3-b11c-4bff999341f4",
            "019e807a-ec7b-74ed-8ff9-c13764ce7538",
        ],
    }
    assert [str(key) for key in keys_of(keys, [1, 2, 10**12])] == pinned[keys.version]
