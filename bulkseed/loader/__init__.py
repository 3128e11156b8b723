"""A run, from its first row to its last index."""

__all__ = ["check", "complete", "load"]
