"""Loads into generated schemas: each is refused with the database untouched, or leaves no trace after cleanup."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from bulkseed.embedded import Server
from schemas.case import Case, kept
from schemas.outcome import NotApplied, Wrong, make_roles, outcome, outcome_of_kept
from schemas.strategy import drawn

SHORT: Final = 6
"""The schemas of a normal run."""
KEPT: Final = sorted((Path(__file__).parent / "kept").glob("*.sql"))


@pytest.fixture(scope="module")
def with_roles(server: Server) -> Server:
    """The server, with the users who load."""
    make_roles(server)
    return server


@pytest.mark.parametrize("file", KEPT, ids=lambda file: file.stem)
def test_a_kept_schema(with_roles: Server, file: Path) -> None:
    """Schemas that ended otherwise once."""
    case = kept(file)
    try:
        found = outcome_of_kept(with_roles, case)
    except NotApplied as error:
        pytest.skip(f"the server does not know all of it: {error}")
    assert found == case.outcome or (case.outcome == "refused" and found != "loaded")


def test_generated_schemas(
    with_roles: Server, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """``--schemas`` of them, or a few that are always the same."""
    asked: int | None = pytestconfig.getoption("--schemas", None)
    first: int = pytestconfig.getoption("--schemas-seed", None) or 0
    cases = drawn(first, SHORT if asked is None else asked)
    ends: Counter[str] = Counter()
    faults: dict[str, Case] = {}
    folder = tmp_path_factory.getbasetemp()
    for case in cases:
        try:
            ends[outcome(with_roles, case)] += 1
        except Wrong as wrong:
            ends[f"WRONG: {wrong.kind}"] += 1
            if wrong.kind not in faults:
                faults[wrong.kind], fault = reduced(with_roles, case, wrong)
                name = f"failed_{len(faults)}"
                faults[wrong.kind].keep(folder, name, "loaded")
                print(f"\n{folder / name}.sql: {fault}", (folder / f"{name}.sql").read_text(), sep="\n")
    shown = "\n".join(f"{number:4} {end}" for end, number in ends.most_common())
    print(f"\n{len(cases)} schemas, --schemas-seed {first}\n{shown}")
    assert not faults, f"{len(faults)} faults, in {folder}, --schemas-seed {first}"


def reduced(server: Server, case: Case, error: Wrong) -> tuple[Case, Wrong]:
    """Return a case without the parts that the fault does not need, and its error."""
    for index in range(len(case.features) - 1, -1, -1):
        smaller = case.without(index)
        try:
            outcome(server, smaller)
        except Wrong as same:
            if same.kind == error.kind:
                case, error = smaller, same
    return case, error
