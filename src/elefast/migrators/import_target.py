"""Imports the object that ``module:attribute`` names in the project; its errors name the part that is wrong.

The caller checks the kind of the object.

`elefast.pytest_plugin.patch_targets` resolves targets of the same form by itself. It needs the owner of the attribute,
to replace its value, not the object. It imports with pytest's import path instead of the project directory, and its
errors show the whole traceback. What both have in common is the split at the colon.
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
    """Add the project directory to the import path inside of the ``with`` block."""
    directory = str(root)
    if directory in sys.path:
        yield
        return
    sys.path.insert(0, directory)
    try:
        yield
    finally:
        if directory in sys.path:
            sys.path.remove(directory)


def load(target: str, key: str, root: Path) -> object:
    """Import the object that `target` names.

    Args:
        target: ``package.module:attribute``; the attribute may have dots.
        key: The configuration key that has the target, for errors.
        root: The project directory, which is on the import path during the import.

    Raises:
        ConfigurationError: The target is malformed, there is no such module or attribute, or the import failed.
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
