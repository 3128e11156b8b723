"""The rows of ``users`` (rules U1 to U5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bulkseed.arrays import TIMESTAMP, times
from bulkseed.generators.context import BATCH_ROWS, Context
from bulkseed.plan.shards import Shard
from bulkseed.randomness.draws import Ints, below, chance
from bulkseed.text.names import SLUG_CHARACTERS, draw_names, scalar
from bulkseed.text.prose import RANDOM_WORDS_PER_TEXT

__all__ = ["BIO_CHARACTERS", "SCHEMA", "emails", "unique_values", "user_batches", "user_names"]

BIO_CHARACTERS: Final = 200
MAIL_DOMAINS: Final = pa.array(["example.com", "example.net", "example.org"])
"""Reserved for examples (RFC 2606), as in ``Faker.safe_email``: mail to a seeded user reaches nobody."""

Bytes = npt.NDArray[np.uint8]
HEX: Final = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
UUID_GROUPS: Final = (8, 4, 4, 4, 12)

SCHEMA: Final = pa.schema(
    [
        ("id", pa.int64()),
        ("auth0_id", pa.string()),
        ("email", pa.string()),
        ("is_active", pa.bool_()),
        ("created_at", TIMESTAMP),
        ("name", pa.string()),
        ("picture", pa.string()),
        ("bio", pa.string()),
    ]
)


def user_batches(context: Context, shard: Shard) -> Iterator[pa.RecordBatch]:
    """Yield the users of ``shard``, in order of id."""
    for start in range(shard.start, shard.stop, BATCH_ROWS):
        yield user_batch(context, start, min(BATCH_ROWS, shard.stop - start))


def user_names(context: Context, users: Ints) -> tuple[pa.StringArray, pa.StringArray]:
    """Return the names of ``users``, ordinals in ascending order, and their slugs (rule U5)."""
    return draw_names(context.corpus.person, context.streams, "users", "name", users)


def emails(context: Context, slugs: pa.StringArray, start: int) -> pa.StringArray:
    """Return e-mail addresses with the slugs of names; the user's id makes each unique (rule U2)."""
    count = len(slugs)
    ids = pa.array(context.placement.first_user + start + np.arange(count)).cast(pa.string())
    local = pc.utf8_rtrim(pc.utf8_slice_codeunits(slugs, 0, SLUG_CHARACTERS), ".")
    local = pc.if_else(pc.equal(local, scalar("")), scalar("user"), local)
    if context.placement.variant:
        ids = pc.binary_join_element_wise(ids, scalar(str(context.placement.variant)), scalar("-"))
    domains = below(context.streams.words("users", "email", start, count), len(MAIL_DOMAINS))
    return pc.binary_join_element_wise(
        pc.binary_join_element_wise(local, ids, scalar(".")), MAIL_DOMAINS.take(pa.array(domains)), scalar("@")
    )


def unique_values(context: Context, start: int, count: int) -> dict[str, pa.StringArray]:
    """Return the columns, by name, that must not collide with existing values of the table (rules U1 and U2)."""
    _, slugs = user_names(context, np.arange(start, start + count))
    return {"auth0_id": auth0_ids(context, start, count), "email": emails(context, slugs, start)}


def auth0_ids(context: Context, start: int, count: int) -> pa.StringArray:
    """Return ``auth0|`` and a version-4 UUID for each user (RFC 9562, section 5.4; rule U1)."""
    octets = random_octets(context, f"auth0_id.{context.placement.variant}", start, count)
    octets[:, 6] = octets[:, 6] & 0x0F | 0x40
    octets[:, 8] = octets[:, 8] & 0x3F | 0x80
    digits = hex_digits(octets)
    columns = [repeat("auth0|", count)]
    start_digit = 0
    for size in UUID_GROUPS:
        columns += [repeat("-", count)] * (start_digit > 0) + [digits[:, start_digit : start_digit + size]]
        start_digit += size
    return fixed_width(columns)


def pictures(context: Context, start: int, count: int) -> pa.StringArray:
    """Return URLs of avatars: gravatar.com draws a picture for any hash."""
    digits = hex_digits(random_octets(context, "picture", start, count))
    before, after = "https://www.gravatar.com/avatar/", "?d=identicon"
    return fixed_width([repeat(before, count), digits, repeat(after, count)])


def random_octets(context: Context, column: str, start: int, count: int) -> Bytes:
    words = context.streams.words("users", column, 2 * start, 2 * count)
    return words.astype("<u8", copy=False).view(np.uint8).reshape(count, 16)


def hex_digits(octets: Bytes) -> Bytes:
    return HEX[np.stack([octets >> 4, octets & 0x0F], axis=2)].reshape(len(octets), -1)


def repeat(text: str, count: int) -> Bytes:
    return np.broadcast_to(np.frombuffer(text.encode(), dtype=np.uint8), (count, len(text)))


def fixed_width(columns: list[Bytes]) -> pa.StringArray:
    table = np.hstack(columns)
    offsets = np.arange(len(table) + 1, dtype=np.int32) * table.shape[1]
    return pa.StringArray.from_buffers(len(table), pa.py_buffer(offsets), pa.py_buffer(table))


def user_batch(context: Context, start: int, count: int) -> pa.RecordBatch:
    streams = context.streams
    names, slugs = user_names(context, np.arange(start, start + count))
    created = context.user_created[start : start + count]
    bio_bits = streams.words("users", "bio", start * RANDOM_WORDS_PER_TEXT, count * RANDOM_WORDS_PER_TEXT)
    sentences = 1 + below(streams.words("users", "bio.sentences", start, count), 2)
    return pa.record_batch(
        [
            pa.array(context.placement.first_user + start + np.arange(count)),
            auth0_ids(context, start, count),
            emails(context, slugs, start),
            pa.array(chance(streams.words("users", "is_active", start, count), context.plan.probabilities.user_active)),
            times(created),
            names,
            pictures(context, start, count),
            context.prose.short_texts(bio_bits, sentences, BIO_CHARACTERS),
        ],
        schema=SCHEMA,
    )
