"""Errors in tests: their code, and the facts that a message names. Never its wording, which may change at any time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bulkseed.errors import BulkseedError

__all__ = ["raises"]


@contextmanager
def raises(
    code: str, *facts: object, kind: type[BulkseedError] = BulkseedError
) -> Iterator[pytest.ExceptionInfo[BulkseedError]]:
    """Expect an error of ``kind`` with this ``code``, whose message has each of ``facts`` as text: names and values.

    The error itself is the ``value`` of what the context manager returns, once the block has ended.
    """
    with pytest.raises(kind) as caught:
        yield caught
    assert caught.value.code == code, f"{caught.value.code}: {caught.value}"
    missing = [fact for fact in facts if str(fact) not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"
