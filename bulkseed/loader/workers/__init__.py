"""Worker processes: each makes and COPYs its own shards over a connection of its own."""

from bulkseed.loader.workers.ipc import Done
from bulkseed.loader.workers.parent import Worker, hired, load_shards
from bulkseed.loader.workers.shard_queue import Turns

__all__ = ["Done", "Turns", "Worker", "hired", "load_shards"]
