"""Import of objects from the user's own modules, by references in the form of entry points: ``module:name``.

https://packaging.python.org/en/latest/specifications/entry-points/#data-model
"""

from __future__ import annotations

import re
from functools import reduce
from importlib import import_module
from typing import Any, Final

from bulkseed.errors import InputError, suggestion

__all__ = ["describe_error", "import_object"]

REFERENCE: Final = re.compile(r"(?P<module>\w+(\.\w+)*):(?P<name>\w+(\.\w+)*)")
SLASH: Final = r"[\\/]"
NOT_USER_CODE: Final = {"bulkseed", "importlib"}


def import_object(reference: str, where: str) -> Any:
    """Import a module, by Python's own path, and return the object in it that ``reference`` names.

    ``where`` is the option or the key that has the reference, for errors. Raises InputError for a reference that is
    not in the form ``module:name``, a module that cannot be imported, and a name that the module does not have.
    """
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise InputError(
            f"{where}: {reference!r} does not name an object of a module: write it as in myapp.seed:phones",
            code="wrong-reference",
        )
    try:
        module = import_module(match["module"])
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and not locate_error(error)
        fix = "install it here, or add its folder to PYTHONPATH" if missing else "fix it"
        raise InputError(
            f"{where}: the module {match['module']} cannot be imported ({describe_error(error)}): {fix}",
            code="missing-module" if missing else "broken-module",
        ) from error
    try:
        return reduce(getattr, match["name"].split("."), module)
    except AttributeError as error:
        fix = suggestion(match["name"], vars(module), "write it as in myapp.seed:phones")
        raise InputError(
            f"{where}: the module {match['module']} has no {match['name']}: {fix}", code="unknown-name"
        ) from error


def describe_error(error: BaseException) -> str:
    """Return the type, the place and the message of an error of the user's code:
    ``ValueError in line 12 of seed.py: no such …``.
    """
    return f"{type(error).__name__}{locate_error(error)}: {error}"


def locate_error(error: BaseException) -> str:
    """Return the line of the user's code in which an error arose: `` in line 12 of seed.py``, or an empty text."""
    trace, file, location = error.__traceback__, None, ""
    while trace is not None:
        module, current = str(trace.tb_frame.f_globals.get("__name__", "")), trace.tb_frame.f_code.co_filename
        # the first file of the user's in the traceback, and its deepest line: not those of libraries that it calls
        if module.split(".", maxsplit=1)[0] not in NOT_USER_CODE and file in {None, current}:
            file, location = current, f" in line {trace.tb_lineno} of {re.split(SLASH, current)[-1]}"
        trace = trace.tb_next
    return location
