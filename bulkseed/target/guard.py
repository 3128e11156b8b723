"""Where a command is about to write, as the server itself says, and whether that looks like production.

The target alone is judged, never a variable that claims to know what it is.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bulkseed.errors import InputError
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import connected, looked_at
from bulkseed.postgres.rowcount import estimated_rows

__all__ = ["Survey", "check_allowed", "looks_like_production", "survey"]

WORDS: Final = re.compile(r"(?:prod|production|prd|live)\d*")


@dataclass(frozen=True, slots=True)
class Survey:
    """The target: how it is reached, and what the server says of itself.

    ``names`` are those of its hosts, and the addresses that are used in their place; ``rows`` is about how many
    there are in the tables that a load writes to.
    """

    server: str
    host: str
    names: tuple[str, ...]
    database: str
    user: str
    rows: float

    @property
    def title(self) -> str:
        """HOST/DB, as it is typed after ``--allow``."""
        return f"{self.host}/{self.database}"


async def survey(address: Address, tables: Sequence[str]) -> Survey:
    """Look at the target, and at what ``tables`` hold (names as in SQL). Nothing is written.

    Raises ConnectError (ConnectionLost), and TargetError where this login may not look.
    """
    async with connected(address) as connection:
        with looked_at(connection, "looking at the target"):
            row = await connection.fetchrow("SELECT current_database(), current_user")
            rows = await estimated_rows(connection, tables)
    hosts = address.hosts
    return Survey(address.server, ",".join(hosts), (*hosts, *address.addresses), row[0], row[1], rows)


def looks_like_production(name: str) -> bool:
    """Whether a part of the name says so: of ``app_production``, ``db-prod-1.example.com`` and ``prod2``.

    Parts are what letters and digits make up; neither ``product`` nor ``livestream_test`` is meant.
    """
    plain = unicodedata.normalize("NFKC", name).casefold()
    return any(WORDS.fullmatch(part) for part in re.split(r"[\W_]+", plain))


def check_allowed(found: Survey, allow: str | None) -> None:
    """Raises InputError where the target looks like production and ``allow`` does not name it, or names another."""
    if allow is not None and allow != found.title:
        raise InputError(f"--allow names {allow!r}, but the target is {found.title!r}: nothing was touched")
    telling = [f"the database {found.database!r}"] if looks_like_production(found.database) else []
    telling += [f"the host {name!r}" for name in found.names if looks_like_production(name)]
    if telling and allow is None:
        raise InputError(
            f"{telling[0]} looks like production: "
            f"if that is where you mean to write, give --allow {shlex.quote(found.title)}"
        )
