"""Puts text into the project's files: whole or not at all, and never over something that was there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from elefast.errors import ConfigurationError

__all__ = ["append", "create", "replace"]


def append(file: Path, before: str, text: str) -> None:
    """Add `text` at the end of a file; no byte of what is there changes, and its line endings are kept.

    Args:
        file: The file; where it is a link, the file that it leads to is written.
        before: What it had when it was read.
        text: What to add, with plain line feeds.

    Raises:
        ConfigurationError: It cannot be written, or has changed meanwhile.
    """
    newline = "\r\n" if "\r\n" in before else "\n"
    gap = "" if not before else ("\n" if before.endswith(("\n", "\r")) else "\n\n")
    _replace(file.resolve(), before.encode(), (before + (gap + text).replace("\n", newline)).encode())


def replace(file: Path, before: str, after: str) -> None:
    """Give a file another text, which has all lines of the one before.

    Args:
        file: The file; where it is a link, the file that it leads to is written.
        before: What it had when it was read.
        after: What it has now.

    Raises:
        ConfigurationError: It cannot be written, or has changed meanwhile.
    """
    _replace(file.resolve(), before.encode(), after.encode())


def create(file: Path, text: str) -> bool:
    """Write a new file, with its directory; False, and nothing happens, where there is one.

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


def _replace(file: Path, before: bytes, after: bytes) -> None:
    try:
        facts = file.stat()
        # Beside the file, since only within one file system is a rename one step.
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
        try:
            with open(descriptor, "wb") as stream:
                stream.write(after)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(name, facts.st_mode)
            if hasattr(os, "chown"):
                with contextlib.suppress(OSError):  # only root may give files away, and only root's would need it
                    os.chown(name, facts.st_uid, facts.st_gid)
            # By its mode as well: root may write anything, but somebody meant this file to stay as it is.
            if not facts.st_mode & 0o222 or not os.access(file, os.W_OK):
                raise PermissionError(13, "it is read-only")
            if file.read_bytes() != before:
                raise OSError(0, "somebody else has changed it meanwhile")
            os.replace(name, file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:
        raise _refused(file, error) from None


def _refused(file: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{file} cannot be written: {error.strerror}. Nothing was changed; "
        "`elefast init --dry-run` shows what would be written.",
        code="file-unwritable",
    )
