"""Objects of the user's own modules, by references as packages' entry points write them: ``module:name``."""

from __future__ import annotations

import re
from functools import reduce
from importlib import import_module
from typing import Any, Final

from bulkseed.errors import InputError
from bulkseed.suggestions import suggestion

__all__ = ["imported"]

REFERENCE: Final = re.compile(r"(?P<module>\w+(\.\w+)*):(?P<name>\w+(\.\w+)*)")


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
        raise InputError(
            f"{where}: the module {match['module']} cannot be imported ({type(error).__name__}: {error}): mend it, "
            "install it here, or add its folder to PYTHONPATH"
        ) from error
    try:
        return reduce(getattr, match["name"].split("."), module)
    except AttributeError as error:
        near = suggestion(match["name"], vars(module), "write it as in myapp.seed:phones")
        raise InputError(f"{where}: the module {match['module']} has no {match['name']}: {near}") from error
