"""elefast: a declarative, config-driven test harness for PostgreSQL.

Every name is imported when it is first used (PEP 562), so that ``import elefast`` costs nothing, and the
sync half works where SQLAlchemy was installed without greenlet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from elefast.runtime.lazy import lazy

if TYPE_CHECKING:
    from elefast.asyncio import (
        AsyncDatabase,
        AsyncDatabaseServer,
        AsyncMetadataMigrator,
        AsyncMigrator,
        AsyncSnapshot,
        CanBeTurnedIntoAsyncEngine,
    )
    from elefast.config import Settings, load_settings
    from elefast.errors import ElefastError, LeakWarning
    from elefast.factory import from_config
    from elefast.stack import Stack
    from elefast.sync import CanBeTurnedIntoEngine, Database, DatabaseServer, MetadataMigrator, Migrator, Snapshot

    __version__: str

__all__ = [
    "AsyncDatabase",
    "AsyncDatabaseServer",
    "AsyncMetadataMigrator",
    "AsyncMigrator",
    "AsyncSnapshot",
    "CanBeTurnedIntoAsyncEngine",
    "CanBeTurnedIntoEngine",
    "Database",
    "DatabaseServer",
    "ElefastError",
    "LeakWarning",
    "MetadataMigrator",
    "Migrator",
    "Settings",
    "Snapshot",
    "Stack",
    "__version__",
    "from_config",
    "load_settings",
]

_HOME = {
    "AsyncDatabase": "asyncio",
    "AsyncDatabaseServer": "asyncio",
    "AsyncMetadataMigrator": "asyncio",
    "AsyncMigrator": "asyncio",
    "AsyncSnapshot": "asyncio",
    "CanBeTurnedIntoAsyncEngine": "asyncio",
    "CanBeTurnedIntoEngine": "sync",
    "Database": "sync",
    "DatabaseServer": "sync",
    "ElefastError": "errors",
    "LeakWarning": "errors",
    "MetadataMigrator": "sync",
    "Migrator": "sync",
    "Settings": "config",
    "Snapshot": "sync",
    "Stack": "stack",
    "from_config": "factory",
    "load_settings": "config",
}
_attribute = lazy(__name__, _HOME)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("elefast")
    return _attribute(name)


def __dir__() -> list[str]:
    return sorted(__all__)
