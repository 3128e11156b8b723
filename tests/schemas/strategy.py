"""The strategy for a whole generated schema."""

from __future__ import annotations

from typing import Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from schemas.case import Case, Loader, LoadOptions
from schemas.features import KINDS
from schemas.tables import bases, own_rows

APART: Final = 7
"""Every so many examples of hypothesis are taken: those in between are variants of their neighbours."""

LOADERS: Final[list[Loader]] = ["superuser", "owner", "granted"]

PARTS: Final = st.one_of([*KINDS.values()])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Tables, some further parts, perhaps rows of the app's own among them, and the options of the load."""
    base = draw(bases)
    features = draw(st.lists(PARTS, min_size=2, max_size=9))
    where = draw(st.sampled_from([None, 0, len(features)]))
    if where is not None:
        features.insert(where, own_rows(base[0], base[1]))
    options = LoadOptions(
        defer=draw(st.sampled_from(["always", "never", "auto"])),
        copy_format=draw(st.sampled_from(["auto", "records", "binary"])),
        rows_per_shard=draw(st.sampled_from([200, 100_000])),
        loader=draw(st.sampled_from(LOADERS)),
        schema=draw(st.sampled_from(["public", "public", "app", "apart"])),
        checks=draw(st.sampled_from([False, False, False, True])),
    )
    return Case(options, base, tuple(features))


def drawn(seed_number: int, count: int) -> list[Case]:
    """Return ``count`` cases: the seed determines them, together with the version of hypothesis."""
    found: list[Case] = []

    @seed(seed_number)
    @settings(max_examples=count * APART, database=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck])
    @given(cases())
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return found[APART - 1 :: APART][:count]
