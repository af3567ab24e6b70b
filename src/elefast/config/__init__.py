"""From files, variables and arguments to one validated set of values, each with the place where it was written.

    >>> loaded = load_settings(start=Path("tests"))
    >>> loaded.settings.pool.size
    4
    >>> str(loaded.provenance["export_env"])
    'pyproject.toml:12'

A setting takes four steps:

1. Read: `discovery` finds the files. `toml_files`, `environment` and `arguments` each make a `layers.Layer` of one
   place, with its line or name for every value.
2. Merge: `load` puts the layers into one dictionary, once, by the precedence that its docstring lists.
3. Validate: `model` and `tables` declare keys, types and defaults, and pydantic checks each value. `rules` checks
   values against each other. All problems become one `ConfigurationError`.
4. Use: the rest of elefast reads `Loaded.settings`. A run of tests gets it from `cache`, which skips the steps above
   if nothing has changed.

This room must not know servers, engines or pytest: it imports `runtime`, `errors` and the grammar of `export_env`
(`postgres.url_variables`). It starts nothing, and imports nothing of the project.

The names below are imported when they are first used (PEP 562). The pytest plugin asks `elefast.config.discovery` at
every start, and pydantic must not be imported where nothing is configured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from elefast.runtime.lazy import lazy

if TYPE_CHECKING:
    from elefast.config.cache import settings_for_run
    from elefast.config.discovery import FoundFiles, find
    from elefast.config.load import load_settings
    from elefast.config.loaded import Loaded, Selection
    from elefast.config.model import Settings
    from elefast.config.provenance import Origin

__all__ = ["FoundFiles", "Loaded", "Origin", "Selection", "Settings", "find", "load_settings", "settings_for_run"]

_HOMES = {
    "FoundFiles": "discovery",
    "Loaded": "loaded",
    "Origin": "provenance",
    "Selection": "loaded",
    "Settings": "model",
    "find": "discovery",
    "load_settings": "load",
    "settings_for_run": "cache",
}


__getattr__ = lazy(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
