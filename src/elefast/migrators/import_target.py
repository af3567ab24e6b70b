"""Finds what ``module:attribute`` names in the project, and says precisely what is wrong where it cannot.

It imports; what is found there is for others to judge.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from elefast.errors import ConfigurationError, Problem
from elefast.migrators.error_report import user_lines

__all__ = ["load", "project_on_path"]


@contextmanager
def project_on_path(root: Path) -> Generator[None]:
    """Let modules of the project directory be imported meanwhile."""
    place = str(root)
    if place in sys.path:
        yield
        return
    sys.path.insert(0, place)
    try:
        yield
    finally:
        if place in sys.path:
            sys.path.remove(place)


def load(target: str, key: str, root: Path) -> object:
    """The object that `target` names.

    Args:
        target: ``package.module:attribute``; the attribute may have dots.
        key: The configuration key that it is from, for the errors.
        root: The project directory, which is on the import path meanwhile.

    Raises:
        ConfigurationError: It is spelled wrongly, there is no such module or attribute, or importing it failed.
    """
    module_name, colon, attribute = target.partition(":")
    if not (module_name and colon and attribute):
        raise _problem(key, f'expected "package.module:attribute", got "{target}"', "wrong-value")
    with project_on_path(root):
        try:
            found: object = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name and f"{module_name}.".startswith(f"{error.name}."):
                raise _problem(
                    key,
                    f'"{target}": there is no module "{error.name}" in {root}, nor elsewhere on the import path',
                    "target-not-found",
                ) from error
            raise _problem(key, _import_failed(target, module_name, error, root), "target-import-failed") from error
        except Exception as error:
            raise _problem(key, _import_failed(target, module_name, error, root), "target-import-failed") from error
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            close = difflib.get_close_matches(name, dir(found), 1)
            hint = f', did you mean "{close[0]}"?' if close else ""
            what = f"{module_name} has" if found is sys.modules.get(module_name) else f"{found!r} has"
            raise _problem(key, f'"{target}": {what} no attribute "{name}"{hint}', "target-not-found") from error
    return found


def _import_failed(target: str, module_name: str, error: Exception, root: Path) -> str:
    where = user_lines(error, root)
    return "\n".join(
        [
            f'"{target}": importing {module_name} failed: {type(error).__name__}: {error}',
            *(f"    {line}" for line in where),
        ]
    )


def _problem(key: str, message: str, code: str) -> ConfigurationError:
    return ConfigurationError([Problem("", key, message, code=code)])
