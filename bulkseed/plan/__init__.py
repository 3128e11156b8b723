"""The plan of a run: counts, tables, activity, shards and ids, as frozen values and pure functions of them."""

__all__ = ["activity", "plan", "scenario", "shards", "slices", "tables"]
