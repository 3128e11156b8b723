"""Worker processes: each makes and COPYs its own shards over a connection of its own."""

from bulkseed.workers.parent import Worker, hired, load_shards

__all__ = ["Worker", "hired", "load_shards"]
