"""Random values as pure functions of a row's number: they depend on no shard, worker or order of generation."""

__all__ = ["distributions", "draws", "keyed", "uuids"]
