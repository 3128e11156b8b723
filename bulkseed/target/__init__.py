"""The tables of the database that a load fills: their checks, copy plans and ids, and the reference schema."""

__all__ = [
    "copy_plan",
    "counter_triggers",
    "database_code",
    "guard",
    "ids",
    "reference_schema",
    "scenario_rules",
    "sequences",
    "target",
    "thread_keys",
    "trial_limits",
    "trial_load",
]
