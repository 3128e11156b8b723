"""Any random value from its row number alone: no generator is shared, and none depends on shard or worker."""

__all__ = ["distributions", "draws", "uuids"]
