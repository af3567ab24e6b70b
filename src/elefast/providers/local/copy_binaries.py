"""Copies the binaries for a user that cannot execute them in their directory.

Other users often cannot enter the directory of root's virtual environment. PostgreSQL finds its libraries and data
files relative to the program, so a copy of the whole tree works anywhere.
This module must stay light, because the supervisor imports it.
"""

from __future__ import annotations

import os

from elefast.providers.failure import ProviderFailure
from elefast.providers.files import directories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["copy_installation"]

_LEFT_OUT = ("*.a", "pgxs", "pkgconfig", "include", "doc", "man", "__pycache__", "*.py", "*.pyc")


def copy_installation(binaries: str, parents: list[Callable[[], str]], key: str) -> str:
    """Copy the installation that has `binaries` as its ``bin``, unless the copy exists.

    Args:
        binaries: The directory of ``postgres`` and ``initdb``.
        parents: Functions that make a directory for the copy and return its path. The copy goes into the first one in
            which programs may be executed and that has space.
        key: The name of the copy, which identifies the installation.

    Returns:
        The ``bin`` of the copy.

    Raises:
        ProviderFailure: No parent is usable.
    """
    prefix = os.path.dirname(binaries)
    package = os.path.dirname(prefix)
    relative = os.path.join(os.path.basename(package), os.path.basename(prefix), os.path.basename(binaries))
    tried: list[str] = []
    for make in parents:
        parent = make()
        target = os.path.join(parent, key)
        if os.path.isdir(os.path.join(target, relative)):
            os.utime(target)  # tells the cleanup that the copy is in use
            return os.path.join(target, relative)
        if os.statvfs(parent).f_flag & getattr(os, "ST_NOEXEC", 0):
            tried.append(f"{parent}: programs may not be executed there (noexec)")
            continue
        try:
            _copy(prefix, package, target)
        except OSError as error:
            tried.append(f"{parent}: {error.strerror or error}")
            continue
        return os.path.join(target, relative)
    raise ProviderFailure(
        "ServerStartError",
        "\n".join([f"the PostgreSQL in {prefix} cannot be copied to where the server's user can execute it", *tried]),
        code="account-locked-out",
    )


def _copy(prefix: str, package: str, target: str) -> None:
    import shutil

    building = directories.building(os.path.dirname(target))
    try:
        inside = os.path.join(building, os.path.basename(package))
        for name in ("bin", "lib", "lib64", "share"):
            if os.path.isdir(os.path.join(prefix, name)):
                shutil.copytree(
                    os.path.join(prefix, name),
                    os.path.join(inside, os.path.basename(prefix), name),
                    ignore=shutil.ignore_patterns(*_LEFT_OUT),
                )
        # A wheel has its libraries beside the package.
        if os.path.isdir(f"{package}.libs"):
            shutil.copytree(f"{package}.libs", f"{inside}.libs")
        for directory, _, files in os.walk(building):
            os.chmod(directory, 0o755)
            for name in files:
                path = os.path.join(directory, name)
                os.chmod(path, os.stat(path).st_mode & 0o111 | 0o444)
        for name in ("postgres", "initdb"):
            os.chmod(os.path.join(inside, os.path.basename(prefix), "bin", name), 0o555)
        directories.publish(building, target)
    except BaseException:
        directories.remove(building)
        raise
