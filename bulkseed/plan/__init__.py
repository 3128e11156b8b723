"""What is to be made: counts, tables, activity, shards, ids. Frozen values, and what follows from them."""

__all__ = ["activity", "plan", "scenario", "shards", "tables"]
