"""The variables of `export_env`: the test's database during a test, and an unreachable host at all other times.

After `pytest_load_initial_conftests`, only elefast and the code of a test can set them. A plugin or a
`load_dotenv(override=True)` that sets one has no effect, and the report at the end of the run names it.
This module knows `os.environ`, hooks and URLs as text. It must not import SQLAlchemy, because it works before
conftests are imported.
"""

from __future__ import annotations

import os
import re
import sysconfig
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import pytest

from elefast.postgres.url_variables import ExportedVariable, MalformedEntryError
from elefast.pytest_plugin.guarded_environ import guard, writer
from elefast.pytest_plugin.unreachable_host import NOWHERE

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = ["ExportedEnvironment", "UnexpectedChange", "mentions_key", "variables_in_text"]

# Variables that libpq prefers to PGHOST.
_PREFERRED_TO_PGHOST = ("PGHOSTADDR", "PGSERVICE")
# Modules that set variables for the test that calls them, and restore them.
_TEST_TOOLS = frozenset(["_pytest.monkeypatch", "unittest.mock"])
_INSTALL_DIRECTORIES = frozenset(["site-packages", "dist-packages"])
_DATABASE_NAME = re.compile(r"[^/?#&=\s]*_[a-z][0-9a-v]{12}_[0-9a-v]{1,8}_[0-9a-v]{8}")

# The key in any table, and the strings after it. The brackets and the last quote may be missing.
_LIST = re.compile(r"""\bexport_env\b["']?\s*=\s*\[?((?:[\s,]|#.*|["'][^"'\n]*["']?)*)""")
_COMMENT_LINE = re.compile(r"^\s*#.*", re.MULTILINE)
_ENTRY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\s*=.*)?")


class _Phase(Enum):
    """What pytest is doing, which decides which code may change the variables."""

    OUTSIDE = "imports, collection, hooks"
    FIXTURE = "the setup of a fixture that outlives a test"
    TEST = "a test, or a fixture with function scope"


class UnexpectedChange(NamedTuple):
    """A change of a variable of `export_env` by other code than elefast's.

    Args:
        name: The variable.
        place: The file and line, or the module, of that code.
        what: ``set``, ``removed``, or ``left changed`` where a test did not restore it.
    """

    name: str
    place: str
    what: str

    def __str__(self) -> str:
        outcome = "elefast restored it" if self.what == "left changed" else "ignored, because export_env names it"
        return f"{self.name} was {self.what} by {self.place}: {outcome}"


class ExportedEnvironment:
    """Sets the variables, and guards them. It is also a pytest plugin, to know what pytest is doing.

    Args:
        config: The configuration of the run.
        variables: The variables to export.
        driver: The driver for URLs that name none, such as ``postgresql+psycopg``.
    """

    def __init__(self, config: pytest.Config, variables: Iterable[ExportedVariable], driver: str) -> None:
        self._config = config
        self.variables = tuple(variables)
        self._driver = driver
        self._expected: dict[str, str | None] = {}
        self._original: dict[str, str | None] = {}
        self._phase = _Phase.OUTSIDE
        self._module: dict[str, Any] | None = None
        self._mapping = os.environ
        self._earlier_threads: frozenset[threading.Thread] = frozenset()
        self._writers: dict[str, str] = {}
        self._end_guard: Callable[[], None] | None = None
        self.unexpected_changes: list[UnexpectedChange] = []

    def protect(self) -> None:
        """Set the variables to values that cannot be connected to, and guard them from now on."""
        self._expected = {item.name: item.unreachable(NOWHERE, self._driver) for item in self.variables}
        if "PGHOST" in self._expected:
            self._expected |= dict.fromkeys(_PREFERRED_TO_PGHOST)
        self._original = {name: os.environ.get(name) for name in self._expected}
        _set(self._expected)
        self._end_guard = guard(self._accepts)

    def restore(self) -> None:
        """Restore the values from before the run."""
        if self._end_guard is not None:
            self._end_guard()
            self._end_guard = None
            _set(self._original)

    @contextmanager
    def during_test(self, url_for: Callable[[str], URL]) -> Generator[None]:
        """Set the variables for the database of one test, and end that.

        Args:
            url_for: Gives the URL, password included, for a driver; ``""`` stands for the configured one.
        """
        before = {item.name: os.environ.get(item.name) for item in self.variables}
        expected = self._expected
        # The expected values come first, so that a thread which restores the variables meanwhile restores these.
        self._expected = expected | {item.name: item.value(url_for) for item in self.variables}
        _set({item.name: self._expected[item.name] for item in self.variables})
        try:
            yield
        finally:
            self._expected = expected
            os.environ = self._mapping  # noqa: B003 - a test may have bound the name to another mapping
            _set(before)

    # -- which code may change them -------------------------------------------------------------------------

    def _accepts(self, name: str, value: str | None) -> bool:
        """Whether a write to `os.environ` is allowed; otherwise the change is noted."""
        if name not in self._expected:
            return True
        expected = self._expected[name]
        if value == expected:
            return True
        frame = writer()
        module = frame.f_globals.get("__name__")
        if module == __name__:
            return True
        if self._is_deliberate(frame, module) and (
            self._phase is _Phase.TEST or (value is not None and self._is_database_of_elefast(name, value))
        ):
            self._writers[name] = self._place(frame)
            return True
        # `mock.patch.dict` removes all variables at its end, and then sets them again.
        if value is not None or module not in _TEST_TOOLS:
            self._note(name, self._place(frame), "removed" if value is None else "set")
        return False

    def _is_deliberate(self, frame: FrameType, module: object) -> bool:
        """Whether a test or fixture changes the variable itself, and not a library that it calls."""
        if self._phase is _Phase.OUTSIDE or threading.current_thread() in self._earlier_threads:
            return False
        if module in _TEST_TOOLS or frame.f_globals is self._module or frame.f_code.co_filename.startswith("<doctest "):
            return True
        # A conftest, or a module of the project that `pytest_plugins` names.
        return not _is_installed(frame.f_code.co_filename) and any(
            getattr(plugin, "__dict__", None) is frame.f_globals for plugin in self._config.pluginmanager.get_plugins()
        )

    def _is_database_of_elefast(self, name: str, value: str) -> bool:
        """Whether a fixture may set this value for several tests: a database of elefast, or a part of its URL."""
        parts = next((item.parts for item in self.variables if item.name == name), frozenset[str]())
        return ("url" not in parts and "database" not in parts) or _names_elefast_database(value)

    def _restore_changed(self) -> None:
        """Restore what a test or a fixture left changed, except for a value that leads to a database of elefast."""
        changed = [name for name, value in self._expected.items() if os.environ.get(name) != value]
        if changed and any(_names_elefast_database(os.environ.get(name, "")) for name in self._expected):
            changed = [name for name in changed if not self._is_database_of_elefast(name, os.environ.get(name, ""))]
        if not changed:
            return
        for name in changed:
            self._note(name, self._writers.get(name, "code that elefast did not see"), "left changed")
        _set({name: self._expected[name] for name in changed})

    def _update_process_environment(self) -> None:
        """Undo calls of `os.putenv()`, which change what child processes get and not `os.environ`."""
        for name in self._expected:
            value = os.environ.get(name)
            if value is None:
                os.unsetenv(name)
            else:
                os.putenv(name, value)

    def _note(self, name: str, place: str, what: str) -> None:
        change = UnexpectedChange(name, place, what)
        if change not in self.unexpected_changes:
            self.unexpected_changes.append(change)

    def _place(self, frame: FrameType) -> str:
        """The line of the project that led to this frame, and the installed module that the line called."""
        module = str(frame.f_globals.get("__name__", "unknown code"))
        inner: FrameType | None = frame
        while inner is not None and _is_installed(inner.f_code.co_filename):
            inner = inner.f_back
        if inner is None:
            return module
        path = os.path.relpath(inner.f_code.co_filename, self._config.rootpath)
        line = f"{path}:{inner.f_lineno}"
        return line if inner is frame else f"{line} through {module}"

    # -- hooks ----------------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Note the module of the test, whose code may change the variables, and the state before the test."""
        module = getattr(item, "module", None)
        self._module = None if module is None else vars(module)
        self._mapping = os.environ
        self._earlier_threads = frozenset(threading.enumerate()) - {threading.current_thread()}
        self._update_process_environment()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        """Note whether a fixture is for one test or for several."""
        __tracebackhide__ = True
        before, self._phase = self._phase, _Phase.TEST if fixturedef.scope == "function" else _Phase.FIXTURE
        try:
            return (yield)
        finally:
            if self._phase is _Phase.FIXTURE:
                self._mapping = os.environ
                self._restore_changed()
            self._phase = before

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """Note that the test itself runs."""
        __tracebackhide__ = True
        self._phase = _Phase.TEST
        try:
            return (yield)
        finally:
            self._phase = _Phase.OUTSIDE

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        """Let fixtures restore what they set, and restore afterwards what they did not."""
        __tracebackhide__ = True
        self._phase = _Phase.TEST
        try:
            return (yield)
        finally:
            self._phase = _Phase.OUTSIDE
            os.environ = self._mapping  # noqa: B003
            self._restore_changed()


def _set(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _names_elefast_database(value: str) -> bool:
    """Whether this text contains the name of a database that elefast made."""
    names = _DATABASE_NAME.findall(unquote(value))
    if not names:
        return False
    from elefast.postgres.names import Name

    return any(Name.parse(name) for name in names)


def _is_installed(file: str) -> bool:
    """Whether this file is not the project's: it is installed, of the standard library, or no file at all."""
    path = Path(file)
    if file.startswith("<") or _INSTALL_DIRECTORIES.intersection(path.parts):
        return True
    return path.is_relative_to(sysconfig.get_path("stdlib"))


def mentions_key(key: str, files: Iterable[Path]) -> bool:
    """Whether this key of the top table may be configured. A word in a comment counts as well."""
    return bool(os.environ.get(f"ELEFAST_{key.upper()}")) or any(key in _text(file) for file in files)


def variables_in_text(files: Iterable[Path]) -> list[ExportedVariable]:
    """The variables of `export_env` in the files and in ``ELEFAST_EXPORT_ENV``, found without parsing.

    This is for a configuration with an error. Every test will fail with that error, but code that reads its URL at
    import must not reach a developer's database before. The files are not parsed, because their syntax may be wrong.
    """
    lists = [os.environ.get("ELEFAST_EXPORT_ENV", "")]
    lists += [match for file in files for match in _LIST.findall(_COMMENT_LINE.sub("", _text(file)))]
    return list(dict.fromkeys(_variable_of(entry) for text in lists for entry in _entries(text)))


def _variable_of(entry: str) -> ExportedVariable:
    """The variable of an entry. An entry that is malformed counts as a variable with the URL."""
    name, equals, template = entry.partition("=")
    try:
        return ExportedVariable.parse(f"{name.strip()}{equals}{template.strip()}")
    except MalformedEntryError:
        return ExportedVariable(name.strip())


def _entries(text: str) -> list[str]:
    """The text between quotes, commas, brackets and ends of lines."""
    pieces = re.split(r"""["',\[\]\n]""", re.sub("#.*", "", text))
    return [piece.strip() for piece in pieces if _ENTRY.fullmatch(piece.strip())]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
