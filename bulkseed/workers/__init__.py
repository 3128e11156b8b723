"""Worker processes: each makes and COPYs its own shards over a connection of its own."""

from bulkseed.workers.parent import Worker, hired, load_shards
from bulkseed.workers.turns import Turns
from bulkseed.workers.wire import Done

__all__ = ["Done", "Turns", "Worker", "hired", "load_shards"]
