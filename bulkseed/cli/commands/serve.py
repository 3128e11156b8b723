"""``bulkseed serve``."""

from __future__ import annotations

import sys

import anyio
import click

from bulkseed.cli.runner import Interrupted, opened, run
from bulkseed.cli.serving import DEFAULT_PORT, is_free, kept_password, set_password
from bulkseed.embedded import Listen

__all__ = ["serve_command"]


@click.command("serve")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=None,
    metavar="N",
    help=f"The port on 127.0.0.1.  [default: {DEFAULT_PORT}, or any free one]",
)
def serve_command(port: int | None) -> None:
    """Keep the embedded server up on a port of this machine until Ctrl-C, and print its URL."""
    if port is None:
        port = DEFAULT_PORT if is_free(DEFAULT_PORT) else 0
    with opened(None, listen=Listen(port)) as database:
        server = database.server
        assert server is not None
        password = kept_password(server.home)
        run(set_password, database.address, password)
        print(f"postgresql://{server.user}:{password}@127.0.0.1:{server.tcp_port}/{server.database}", flush=True)
        print("bulkseed: serving until Ctrl-C", file=sys.stderr)
        try:
            run(anyio.sleep_forever)
        except (Interrupted, KeyboardInterrupt):
            print("bulkseed: stopping", file=sys.stderr)
