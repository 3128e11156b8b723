"""What a worker is given: all that its shards need, as plain data that another process can be sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bulkseed.copy.writer import CopyInto
from bulkseed.generators import Context
from bulkseed.ledger import Claim, Ledger
from bulkseed.plan.plan import Placement, Plan
from bulkseed.postgres.connection import Place
from bulkseed.postgres.retry import Patience
from bulkseed.text.corpus import Corpus

__all__ = ["Endpoint", "Job"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A database's place in plain values; ``arguments`` may hold a password, so they are left out of ``repr``."""

    arguments: Mapping[str, Any] = field(repr=False)
    server: str
    database: str
    unread: str | None = None

    @classmethod
    def of(cls, place: Place) -> Endpoint:
        """The same place."""
        return cls(place.arguments, place.server, place.database, place.unread)


@dataclass(frozen=True, slots=True)
class Job:
    """A run that is to be loaded: where, which one of the ledger's, what is made, the lane of each table, patience.

    ``path`` is Python's own, where the scenario has code of the user's.
    """

    endpoint: Endpoint
    ledger: Ledger
    run: Claim
    plan: Plan
    placement: Placement
    corpus: Corpus
    lanes: Mapping[str, CopyInto]
    patience: Patience
    path: tuple[str, ...] = ()

    def context(self) -> Context:
        """What its generators share."""
        return Context(self.plan, self.placement, self.corpus)
