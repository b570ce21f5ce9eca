"""Finding a handler by its name: ``module:name``."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from typing import Any

__all__ = ["LoadError", "load"]


class LoadError(Exception):
    """There is no such handler, or its module cannot be imported; __cause__ is what the module raised."""


def load(name: str) -> Any:
    """The object of a name such as ``chat:handler`` or ``shop.chat:rooms.handler``.

    Modules are looked for in the current directory too, before anywhere else.

    Raises:
        LoadError: not such a name, or there is no such thing. What the module itself raises is its __cause__.
    """
    module_name, colon, path = name.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module_name.split("."), *path.split(".")]):
        hint = (
            f"; a file is imported by its name: {name[:-3].replace(os.sep, '.')}:NAME" if name.endswith(".py") else ""
        )
        raise LoadError(f"{name!r} is no name of a handler, which is MODULE:NAME{hint}")
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()  # files change between two of our lives
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            hint = f"; is it {module_name[:-3]}:{path}?" if module_name.endswith(".py") else ""
            raise LoadError(
                f"there is no module {error.name!r} in {here} or where Python looks for modules{hint}"
            ) from None
        raise LoadError(f"can't import {module_name!r}: {_spell(error)}") from error
    for index, part in enumerate(path.split(".")):
        if not hasattr(found, part):
            owner = ".".join([module_name, *path.split(".")[:index]])
            near = difflib.get_close_matches(part, dir(found), n=1)
            raise LoadError(f"{owner} has no {part!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        found = getattr(found, part)
    if not callable(found):
        raise LoadError(f"{name} is no function: {found!r:.100}")
    return found


def _spell(error: Exception) -> str:
    """What went wrong, and where."""
    if isinstance(error, SyntaxError):
        return f"{error.msg} ({error.filename}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
