"""Statements that a command can do without: a failure is told, and the command goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from bulkseed.errors import ConnectionLostError, RunError
from bulkseed.postgres.connection import Connection, translate_errors
from bulkseed.sql import SQL

__all__ = ["execute_optional"]

logger = logging.getLogger(__name__)


async def execute_optional(
    connection: Connection, statement: SQL, doing: str, on_note: Callable[[str], None] = lambda message: None
) -> bool:
    """Execute a statement; pass its failure to ``on_note`` as a sentence that begins with ``doing``.

    Return whether it succeeded. The transaction of the caller, if there is one, can go on in both cases. Raises
    ConnectionLostError.
    """
    in_transaction = connection.is_in_transaction()
    block: AbstractAsyncContextManager[object] = connection.transaction() if in_transaction else nullcontext()
    try:
        with translate_errors(connection, doing):
            async with block:
                await connection.execute(statement)
    except ConnectionLostError:
        raise
    except RunError as error:
        logger.info("%s", error)
        on_note(f"{error}; everything else goes on without it")
        return False
    return True
