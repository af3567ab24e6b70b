"""The variables of `export_env`: unreachable values outside of tests, and those of the test's database during it.

From `pytest_load_initial_conftests` on nothing but elefast and the code of a test decides what they hold: a plugin
or a `load_dotenv(override=True)` that sets one of them has no effect, and is named at the end of the run.
It knows `os.environ`, hooks and URLs as text. It must not import SQLAlchemy: it works before conftests.
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

__all__ = ["ExportedEnvironment", "Intrusion", "mentioned", "mentions"]

# What counts for libpq more than PGHOST does.
_BEFORE_PGHOST = ("PGHOSTADDR", "PGSERVICE")
# Modules that change variables on behalf of the test that calls them, and change them back.
_ON_BEHALF = frozenset(["_pytest.monkeypatch", "unittest.mock"])
_INSTALLED = frozenset(["site-packages", "dist-packages"])
_OF_ELEFAST = re.compile(r"[^/?#&=\s]*_[a-z][0-9a-v]{12}_[0-9a-v]{1,8}_[0-9a-v]{8}")

# The key in any table, and the strings after it; neither a bracket nor the last quote need be there.
_LIST = re.compile(r"""\bexport_env\b["']?\s*=\s*\[?((?:[\s,]|#.*|["'][^"'\n]*["']?)*)""")
_COMMENT_LINE = re.compile(r"^\s*#.*", re.MULTILINE)
_ENTRY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\s*=.*)?")


class _Phase(Enum):
    """What pytest is doing, and so who may change the variables."""

    OUTSIDE = "imports, collection, hooks"
    FIXTURE = "the setup of a fixture that outlives a test"
    TEST = "a test, or a fixture of its own"


class Intrusion(NamedTuple):
    """An attempt of other code to decide what a variable of `export_env` holds.

    Args:
        name: The variable.
        place: The file and line, or the module, of that code.
        what: ``set``, ``removed``, or ``left changed`` where a test did not restore it.
    """

    name: str
    place: str
    what: str

    def __str__(self) -> str:
        outcome = "elefast set it back" if self.what == "left changed" else "ignored, because export_env names it"
        return f"{self.name} was {self.what} by {self.place}: {outcome}"


class ExportedEnvironment:
    """Decides what the variables hold; also a plugin, whose hooks tell it what pytest is doing.

    Args:
        config: Of the run.
        variables: What to export.
        driver: The driver of URLs that name none, such as ``postgresql+psycopg``.
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
        self.intrusions: list[Intrusion] = []

    def protect(self) -> None:
        """From here on the variables hold values that cannot be connected to, whatever other code sets."""
        self._expected = {item.name: item.unreachable(NOWHERE, self._driver) for item in self.variables}
        if "PGHOST" in self._expected:
            self._expected |= dict.fromkeys(_BEFORE_PGHOST)
        self._original = {name: os.environ.get(name) for name in self._expected}
        _set(self._expected)
        self._end_guard = guard(self._accepts)

    def restore(self) -> None:
        """Set the variables back to what they held before the run."""
        if self._end_guard is not None:
            self._end_guard()
            self._end_guard = None
            _set(self._original)

    @contextmanager
    def during_test(self, url_for: Callable[[str], URL]) -> Generator[None]:
        """Let the variables hold what belongs to the database of one test.

        Args:
            url_for: Gives the URL, password included, for a driver; ``""`` stands for the configured one.
        """
        before = {item.name: os.environ.get(item.name) for item in self.variables}
        expected = self._expected
        # First what to expect, then the values: whoever sets them back meanwhile sets them to these.
        self._expected = expected | {item.name: item.value(url_for) for item in self.variables}
        _set({item.name: self._expected[item.name] for item in self.variables})
        try:
            yield
        finally:
            self._expected = expected
            os.environ = self._mapping  # noqa: B003 - a test may have bound the name to another mapping
            _set(before)

    # -- who may change them --------------------------------------------------------------------------------

    def _accepts(self, name: str, value: str | None) -> bool:
        """Whether a write to `os.environ` may have its effect."""
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
            self._phase is _Phase.TEST or (value is not None and self._may_be_ours(name, value))
        ):
            self._writers[name] = self._place(frame)
            return True
        # `mock.patch.dict` removes everything at its end, and then sets what was there.
        if value is not None or module not in _ON_BEHALF:
            self._note(name, self._place(frame), "removed" if value is None else "set")
        return False

    def _is_deliberate(self, frame: FrameType, module: object) -> bool:
        """Whether it is the code of a test or of a fixture that changes the variable, and not what that calls."""
        if self._phase is _Phase.OUTSIDE or threading.current_thread() in self._earlier_threads:
            return False
        if module in _ON_BEHALF or frame.f_globals is self._module or frame.f_code.co_filename.startswith("<doctest "):
            return True
        # A conftest, or a module of the project that `pytest_plugins` names.
        return not _is_installed(frame.f_code.co_filename) and any(
            getattr(plugin, "__dict__", None) is frame.f_globals for plugin in self._config.pluginmanager.get_plugins()
        )

    def _may_be_ours(self, name: str, value: str) -> bool:
        """Whether a fixture may set this value for several tests: a database of elefast's, or a part of its URL."""
        parts = next((item.parts for item in self.variables if item.name == name), frozenset[str]())
        return ("url" not in parts and "database" not in parts) or _leads_to_elefast(value)

    def _settle(self) -> None:
        """Restore what a test or a fixture has left, except for what leads to a database of elefast's."""
        changed = [name for name, value in self._expected.items() if os.environ.get(name) != value]
        if changed and any(_leads_to_elefast(os.environ.get(name, "")) for name in self._expected):
            changed = [name for name in changed if not self._may_be_ours(name, os.environ.get(name, ""))]
        if not changed:
            return
        for name in changed:
            self._note(name, self._writers.get(name, "code that elefast did not see"), "left changed")
        _set({name: self._expected[name] for name in changed})

    def _synchronise(self) -> None:
        """Let child processes get what `os.environ` has, because `os.putenv()` changes what they get alone."""
        for name in self._expected:
            value = os.environ.get(name)
            if value is None:
                os.unsetenv(name)
            else:
                os.putenv(name, value)

    def _note(self, name: str, place: str, what: str) -> None:
        intrusion = Intrusion(name, place, what)
        if intrusion not in self.intrusions:
            self.intrusions.append(intrusion)

    def _place(self, frame: FrameType) -> str:
        """The line of the project that leads to this frame, and the installed module that it calls."""
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
        """Remember the module of the test, whose code may change the variables, and the state that it begins with."""
        module = getattr(item, "module", None)
        self._module = None if module is None else vars(module)
        self._mapping = os.environ
        self._earlier_threads = frozenset(threading.enumerate()) - {threading.current_thread()}
        self._synchronise()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        """Note whether a fixture is made for one test or for several."""
        __tracebackhide__ = True
        before, self._phase = self._phase, _Phase.TEST if fixturedef.scope == "function" else _Phase.FIXTURE
        try:
            return (yield)
        finally:
            if self._phase is _Phase.FIXTURE:
                self._mapping = os.environ
                self._settle()
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
        """Note that fixtures set back what they had set, and see afterwards that they did."""
        __tracebackhide__ = True
        self._phase = _Phase.TEST
        try:
            return (yield)
        finally:
            self._phase = _Phase.OUTSIDE
            os.environ = self._mapping  # noqa: B003
            self._settle()


def _set(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _leads_to_elefast(value: str) -> bool:
    """Whether this text has the name of a database that bears elefast's mark."""
    names = _OF_ELEFAST.findall(unquote(value))
    if not names:
        return False
    from elefast.postgres.names import Name

    return any(Name.parse(name) for name in names)


def _is_installed(file: str) -> bool:
    """Whether this is no code of the project: a distribution, the standard library, or no file at all."""
    path = Path(file)
    if file.startswith("<") or _INSTALLED.intersection(path.parts):
        return True
    return path.is_relative_to(sysconfig.get_path("stdlib"))


def mentions(key: str, files: Iterable[Path]) -> bool:
    """Whether this key of the top table seems to be configured at all; a word in a comment counts too."""
    return bool(os.environ.get(f"ELEFAST_{key.upper()}")) or any(key in _text(file) for file in files)


def mentioned(files: Iterable[Path]) -> list[ExportedVariable]:
    """The entries that a person would read out of the files and out of ``ELEFAST_EXPORT_ENV``.

    It is for broken configurations: every test will fail with the error, but until then code that reads its URL at
    import must not reach a developer's own database. The files are not parsed, because the syntax may be broken.
    """
    lists = [os.environ.get("ELEFAST_EXPORT_ENV", "")]
    lists += [match for file in files for match in _LIST.findall(_COMMENT_LINE.sub("", _text(file)))]
    return list(dict.fromkeys(_leniently(entry) for text in lists for entry in _entries(text)))


def _leniently(entry: str) -> ExportedVariable:
    """The entry, or the URL in its variable where the entry means nothing."""
    name, equals, template = entry.partition("=")
    try:
        return ExportedVariable.parse(f"{name.strip()}{equals}{template.strip()}")
    except MalformedEntryError:
        return ExportedVariable(name.strip())


def _entries(text: str) -> list[str]:
    """What stands between quotes, commas, brackets and ends of lines."""
    pieces = re.split(r"""["',\[\]\n]""", re.sub("#.*", "", text))
    return [piece.strip() for piece in pieces if _ENTRY.fullmatch(piece.strip())]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
