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

LOADERS: Final[dict[bool, list[Loader]]] = {False: ["superuser"], True: ["superuser", "owner", "granted"]}
"""Who loads, also those for whom parts are pending."""

PARTS: Final = {
    True: st.one_of([*KINDS.values()]),
    False: st.one_of([kind.filter(lambda part: not part.pending) for kind in KINDS.values()]),
}
"""The strategy for a part, also for those that are pending."""


@st.composite
def cases(draw: st.DrawFn, pending: bool) -> Case:
    """Tables, some further parts, perhaps rows of the app's own among them, and the options of the load."""
    base = draw(bases)
    features = draw(st.lists(PARTS[pending], min_size=2, max_size=9))
    where = draw(st.sampled_from([None, 0, len(features)]))
    if where is not None:
        features.insert(where, own_rows(base[0], base[1]))
    options = LoadOptions(
        defer=draw(st.sampled_from(["always", "never", "auto"])),
        copy_format=draw(st.sampled_from(["auto", "records", "binary"])),
        rows_per_shard=draw(st.sampled_from([200, 100_000])),
        loader=draw(st.sampled_from(LOADERS[pending])),
        schema=draw(st.sampled_from(["public", "public", "app", *(["apart"] if pending else [])])),
        checks=draw(st.sampled_from([False, False, False, True])),
    )
    return Case(options, base, tuple(features))


def drawn(seed_number: int, count: int, pending: bool) -> list[Case]:
    """Return ``count`` cases: the seed determines them, together with the version of hypothesis."""
    found: list[Case] = []

    @seed(seed_number)
    @settings(max_examples=count * APART, database=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck])
    @given(cases(pending))
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return found[APART - 1 :: APART][:count]
