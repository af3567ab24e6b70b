"""The variables of `export_env`: a URL that leads nowhere before a test, and the test's own during it.

It knows `os.environ` and URLs as text. It must not import SQLAlchemy: it works before conftests.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

__all__ = ["NOWHERE", "Environment", "Exported", "mentioned", "mentions"]

NOWHERE = "request-the-db-fixture.elefast.invalid"
"""The host of the URL outside tests. Names under .invalid never resolve (RFC 6761), and this one says why."""

# The key in any table, and the strings after it; neither a bracket nor the last quote need be there.
_LIST = re.compile(r"""\bexport_env\b["']?\s*=\s*\[?((?:[\s,]|#.*|["'][^"'\n]*["']?)*)""")
_COMMENT_LINE = re.compile(r"^\s*#.*", re.MULTILINE)
_ENTRY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\s*=[A-Za-z0-9_+\s]*)?")


class Exported(NamedTuple):
    """One entry of `export_env`.

    Args:
        name: The variable.
        driver: The scheme of its URL, such as ``postgresql+asyncpg``; empty for the configured one.
    """

    name: str
    driver: str = ""

    @classmethod
    def of(cls, entry: str) -> Exported:
        """An entry as it is written: ``NAME`` or ``NAME=postgresql+asyncpg``."""
        name, _, driver = entry.partition("=")
        return cls(name.strip(), driver.strip())


class Environment:
    """Changes variables and gives them back.

    Args:
        entries: What to export, as in `export_env`.
        driver: The scheme for entries without one.
    """

    def __init__(self, entries: Iterable[str], driver: str) -> None:
        self._exported = tuple(Exported.of(entry) for entry in entries)
        self._driver = driver
        self._original: dict[str, str | None] = {}

    def lead_nowhere(self) -> None:
        """From here on the variables hold a URL that cannot connect."""
        self._original = {item.name: os.environ.get(item.name) for item in self._exported}
        for item in self._exported:
            os.environ[item.name] = f"{item.driver or self._driver}://elefast@{NOWHERE}/elefast"

    def restore(self) -> None:
        """Give the values back that were there at first."""
        _set(self._original)
        self._original = {}

    @contextmanager
    def during_test(self, url_for: Callable[[str], str]) -> Generator[None]:
        """Let the variables hold the URL of one test's database.

        Args:
            url_for: Gives the URL, password included, for a scheme; ``""`` stands for the configured one.
        """
        before = {item.name: os.environ.get(item.name) for item in self._exported}
        for item in self._exported:
            os.environ[item.name] = url_for(item.driver)
        try:
            yield
        finally:
            _set(before)


def _set(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def mentions(files: Iterable[Path]) -> bool:
    """Whether `export_env` seems to be configured at all; a word in a comment counts too."""
    return bool(os.environ.get("ELEFAST_EXPORT_ENV")) or any("export_env" in _text(file) for file in files)


def mentioned(files: Iterable[Path]) -> list[str]:
    """The entries that a person would read out of the files and out of ``ELEFAST_EXPORT_ENV``.

    It is for broken configurations: the tests will be told, but until then code that reads its URL at import
    must not reach a developer's own database. Nothing is parsed, because the syntax may be what is broken.
    """
    lists = [os.environ.get("ELEFAST_EXPORT_ENV", "")]
    lists += [match for file in files for match in _LIST.findall(_COMMENT_LINE.sub("", _text(file)))]
    return list(dict.fromkeys(entry for text in lists for entry in _entries(text)))


def _entries(text: str) -> list[str]:
    """What stands between quotes, commas, brackets and ends of lines."""
    pieces = re.split(r"""["',\[\]\n]""", re.sub("#.*", "", text))
    return [piece.strip() for piece in pieces if _ENTRY.fullmatch(piece.strip())]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
