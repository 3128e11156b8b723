"""Plans made from the user's options: a scale, a scenario, and options that take precedence over them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bulkseed.errors import InputError
from bulkseed.plan.plan import Plan, check_time_zone, microseconds, parse_as_of, scale_counts
from bulkseed.scenarios.scenario_file import read_scenario
from bulkseed.text.faker_source import make_corpus
from bulkseed.text.fakes import Fakes

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
    """Return a plan for the given options, those of the command line. Counts take precedence over the ``scale``.

    ``as_of`` is a time in ISO 8601 or an aware datetime, by default the current time; ``scenario`` is the name of a
    shipped scenario or a TOML file; ``schema`` is the schema of the tables; ``plugins`` are further tables, as
    ``module:name``; ``metadata`` names the app's models as ``module:name``: their defaults fill columns that the
    scenario does not fill. Raises InputError for wrong options, and with a line for each problem of the scenario.
    """
    if isinstance(plugins, str):
        raise InputError(
            f"plugins is the text {plugins!r}: give a list, such as [{plugins!r}]", code="plugins-not-a-list"
        )
    now = datetime.now(UTC)
    if isinstance(as_of, datetime):
        check_time_zone(as_of)
        as_of = as_of.isoformat()
    moment = now if as_of is None else parse_as_of(as_of, now)
    locale = make_corpus(locale).locale
    file = read_scenario(str(scenario), Fakes(locale, seed, microseconds(moment)), schema=schema, plugins=plugins)
    complete = file.scenario
    if metadata is not None:
        # only here: SQLAlchemy takes a fifth of a second to import
        from bulkseed.scenarios.metadata import add_metadata  # noqa: PLC0415

        complete = add_metadata(complete, metadata)
    scaled = scale_counts(scale, file.counts)

    def count(name: str, option: int | None) -> int:
        return scaled[name] if option is None else option

    return Plan(
        users=count("users", users),
        channels=count("channels", channels),
        messages_per_channel=count("messages_per_channel", messages_per_channel),
        as_of=moment,
        seed=seed,
        max_members=max_members,
        locale=locale,
        probabilities=file.probabilities,
        scenario=complete,
    )
