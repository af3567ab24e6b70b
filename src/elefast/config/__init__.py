"""What the project said: `load_settings()` and what it returns.

Configuration knows nothing of the rest of elefast but its errors.
The names are imported when they are first used (PEP 562), because the pytest plugin asks
`elefast.config.discovery` on every start and must not pay for pydantic where nothing is configured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from elefast.runtime.lazy import lazy

if TYPE_CHECKING:
    from elefast.config.cache import settings_for_run
    from elefast.config.discovery import Found, find
    from elefast.config.load import load_settings
    from elefast.config.loaded import Loaded, Selection
    from elefast.config.model import Settings
    from elefast.config.provenance import Origin

__all__ = ["Found", "Loaded", "Origin", "Selection", "Settings", "find", "load_settings", "settings_for_run"]

_HOMES = {
    "Found": "discovery",
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
