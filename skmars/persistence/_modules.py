"""Import the modules in which somebody registers classes of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module


def import_modules(names: Iterable[str]) -> None:
    """Import modules by name, also those of the working folder.

    Parameters
    ----------
    names : iterable of str

    Raises
    ------
    ImportError
        If there is no such module.
    """
    for name in names:
        if "" not in sys.path:  # as `python` itself has it, but not a command
            sys.path.insert(0, "")
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name.partition(".")[0] and error.name != name:
                raise
            raise ImportError(
                f"--import {name}: there is no such module, neither installed nor in this folder. "
                "Name the module that registers your classes, without .py."
            ) from error
