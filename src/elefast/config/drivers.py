"""Which drivers a project's engines have, read from its settings alone.

This module must not import SQLAlchemy: the plugin calls it before it imports the project's own code.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elefast.config.model import Settings

__all__ = ["async_driver", "sync_driver"]

_SYNC = ("psycopg", "psycopg2", "pg8000")
_ASYNC = ("asyncpg", "psycopg")


def sync_driver(settings: Settings) -> str:
    """The scheme of URLs for sync engines, such as ``postgresql+psycopg``.

    It is `engine.driver`, else that of `engine.url` if that is a sync one, else psycopg.
    """
    written = _written(settings)
    return f"postgresql+{settings.engine.driver or (written if written in _SYNC else 'psycopg')}"


def async_driver(settings: Settings) -> str:
    """The scheme of URLs for async engines, such as ``postgresql+asyncpg``.

    It is `engine.async_driver`, else that of `engine.url` if that is an async one, else asyncpg if it is
    installed, else psycopg.
    """
    written = _written(settings)
    fallback = "asyncpg" if find_spec("asyncpg") else "psycopg"
    return f"postgresql+{settings.engine.async_driver or (written if written in _ASYNC else fallback)}"


def _written(settings: Settings) -> str:
    """The driver in `engine.url`; empty where there is none."""
    return settings.engine.url.partition(":")[0].partition("+")[2]
