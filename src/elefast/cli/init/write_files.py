"""Writes the project's files: as a whole or not at all, and never over existing content."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from elefast.errors import ConfigurationError

__all__ = ["append", "create", "replace"]


def append(file: Path, before: str, text: str) -> None:
    """Add `text` at the end of a file. No existing byte changes, and the line endings are kept.

    Args:
        file: The file. If it is a link, its target is written.
        before: The content when it was read.
        text: The addition, with plain line feeds.

    Raises:
        ConfigurationError: It cannot be written, or has changed since.
    """
    newline = "\r\n" if "\r\n" in before else "\n"
    gap = "" if not before else ("\n" if before.endswith(("\n", "\r")) else "\n\n")
    replace(file, before, before + (gap + text).replace("\n", newline))


def replace(file: Path, before: str, after: str) -> None:
    """Replace the text of a file by one that has all of its lines.

    Args:
        file: The file. If it is a link, its target is written.
        before: The content when it was read.
        after: The new content.

    Raises:
        ConfigurationError: It cannot be written, or has changed since.
    """
    file = file.resolve()
    try:
        facts = file.stat()
        # Beside the file, since only within one file system is a rename one step.
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
        try:
            with open(descriptor, "wb") as stream:
                stream.write(after.encode())
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(name, facts.st_mode)
            if hasattr(os, "chown"):
                with contextlib.suppress(OSError):  # only root may do it, and only root has to
                    os.chown(name, facts.st_uid, facts.st_gid)
            # The mode counts as well: root may write any file, but this one was protected on purpose.
            if not facts.st_mode & 0o222 or not os.access(file, os.W_OK):
                raise PermissionError(13, "it is read-only")
            if file.read_bytes() != before.encode():
                raise OSError(0, "another program has changed it meanwhile")
            os.replace(name, file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:
        raise _refused(file, error) from None


def create(file: Path, text: str) -> bool:
    """Write a new file, with its directory. False, and nothing happens, if the file exists.

    Raises:
        ConfigurationError: It cannot be written.
    """
    if os.path.lexists(file):
        return False
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "x", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
    except OSError as error:
        raise _refused(file, error) from None
    return True


def _refused(file: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{file} cannot be written: {error.strerror}. Nothing was changed; "
        "`elefast init --dry-run` shows what would be written.",
        code="file-unwritable",
    )
