"""Errors of task groups: the one that says what happened, with its own cause."""

from __future__ import annotations

import anyio
import pytest

from bulkseed.errors import RunError, TransientError, reraise_first


async def fail(error: Exception, cause: Exception | None) -> None:
    try:
        int("no number")
    except ValueError:
        if cause is None:
            raise error  # noqa: B904 - the context alone
        raise error from cause


async def fail_in_group(error: Exception, cause: Exception | None) -> None:
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail, error, cause)
            await anyio.sleep_forever()
    except BaseExceptionGroup as group:
        reraise_first(group)


@pytest.mark.parametrize("cause", [None, KeyError("the driver's")])
async def test_the_error_of_a_task_group_keeps_its_cause_and_context(cause: Exception | None) -> None:
    error = RunError("failed", code="some-code")
    with pytest.raises(RunError) as caught:
        await fail_in_group(error, cause)
    assert caught.value is error
    assert error.__cause__ is cause
    assert isinstance(error.__context__, ValueError)
    assert error.__suppress_context__ == (cause is not None)


def test_an_error_of_bulkseed_comes_before_others() -> None:
    ours = TransientError("ours")
    with pytest.raises(TransientError) as caught:
        reraise_first(BaseExceptionGroup("", [OSError("other"), ExceptionGroup("", [ours])]))
    assert caught.value is ours
