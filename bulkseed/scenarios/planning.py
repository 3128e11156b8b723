"""Making a plan of what a user asks for: a scale, a scenario, and what wins over them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bulkseed.errors import InputError
from bulkseed.plan.plan import Plan, microseconds, parse_as_of, scaled_counts
from bulkseed.scenarios.scenario_file import read_scenario
from bulkseed.text.faker_source import Fakes, corpus_of

__all__ = ["make_plan"]


def make_plan(
    scale: str = "1x",
    *,
    users: int | None = None,
    channels: int | None = None,
    messages_per_channel: int | None = None,
    max_members: int | None = None,
    seed: int = 1,
    as_of: str | datetime | None = None,
    locale: str = "en_US",
    scenario: str | Path = "default",
    schema: str | None = None,
    plugins: Sequence[str] = (),
    metadata: str | None = None,
) -> Plan:
    """A plan, as the options of the command line describe one: counts of their own win over the ``scale``.

    ``as_of`` is a moment in ISO 8601 or an aware datetime, now where it is None; ``scenario`` the name of one that
    ships, or a TOML file; ``schema`` where the tables are; ``plugins`` further tables, as ``module:name``;
    ``metadata`` the app's models, as ``module:name``, whose own defaults fill what the scenario does not. Raises
    InputError for what cannot be, all of it at once.
    """
    if isinstance(plugins, str):
        raise InputError(f"plugins is the text {plugins!r}: give a list, such as [{plugins!r}]")
    now = datetime.now(UTC)
    if isinstance(as_of, datetime):
        if as_of.tzinfo is None:
            raise InputError("as_of has no time zone: give an aware datetime, such as datetime.now(UTC)")
        as_of = as_of.isoformat()
    moment = now if as_of is None else parse_as_of(as_of, now)
    locale = corpus_of(locale).locale
    found = read_scenario(str(scenario), Fakes(locale, seed, microseconds(moment)), schema=schema, plugins=plugins)
    whole = found.scenario
    if metadata is not None:
        # only here: SQLAlchemy takes a fifth of a second to import
        from bulkseed.scenarios.metadata import with_metadata  # noqa: PLC0415

        whole = with_metadata(whole, metadata)
    scaled = scaled_counts(scale, found.counts)

    def count(name: str, alone: int | None) -> int:
        return scaled[name] if alone is None else alone

    return Plan(
        users=count("users", users),
        channels=count("channels", channels),
        messages_per_channel=count("messages_per_channel", messages_per_channel),
        as_of=moment,
        seed=seed,
        max_members=max_members,
        locale=locale,
        probabilities=found.probabilities,
        scenario=whole,
    )
