"""Objects of the user's own modules, by references as packages' entry points write them: ``module:name``."""

from __future__ import annotations

import re
from functools import reduce
from importlib import import_module
from typing import Any, Final

from bulkseed.errors import InputError, suggestion

__all__ = ["imported", "said"]

REFERENCE: Final = re.compile(r"(?P<module>\w+(\.\w+)*):(?P<name>\w+(\.\w+)*)")
SLASH: Final = r"[\\/]"
OURS: Final = {"bulkseed", "importlib"}


def imported(reference: str, where: str) -> Any:
    """The object that ``reference`` names; its module is imported, by Python's own path.

    Raises InputError, naming ``where`` it was asked for, when it cannot be imported or has no such name.
    """
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise InputError(f"{where}: {reference!r} is not a name in a module: write it as in myapp.seed:phones")
    try:
        module = import_module(match["module"])
    except Exception as error:
        absent = isinstance(error, ModuleNotFoundError) and not place_of(error)
        mend = "install it here, or add its folder to PYTHONPATH" if absent else "mend it"
        raise InputError(f"{where}: the module {match['module']} cannot be imported ({said(error)}): {mend}") from error
    try:
        return reduce(getattr, match["name"].split("."), module)
    except AttributeError as error:
        near = suggestion(match["name"], vars(module), "write it as in myapp.seed:phones")
        raise InputError(f"{where}: the module {match['module']} has no {match['name']}: {near}") from error


def said(error: BaseException) -> str:
    """What an error of the user's own code says, and where that is: ``ValueError in line 12 of seed.py: no such …``."""
    return f"{type(error).__name__}{place_of(error)}: {error}"


def place_of(error: BaseException) -> str:
    trace, file, place = error.__traceback__, None, ""
    while trace is not None:
        named, here = str(trace.tb_frame.f_globals.get("__name__", "")), trace.tb_frame.f_code.co_filename
        # the first file that is not ours, and what it calls in itself, but no library's
        if named.split(".", maxsplit=1)[0] not in OURS and file in {None, here}:
            file, place = here, f" in line {trace.tb_lineno} of {re.split(SLASH, here)[-1]}"
        trace = trace.tb_next
    return place
