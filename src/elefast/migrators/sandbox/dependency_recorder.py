"""Records what code of the project uses while it builds a template, and makes a manifest of it.

- Audit events of the interpreter show which files it reads, and which programs it starts.
- A finder that finds nothing shows which modules it imports.
- Replacements of functions of `os` show which paths it looks at.
- `elefast.migrators.sandbox.variable_recorder` shows which environment variables it reads.

The files that another program reads remain unknown. Of files that a C library opens, those are recorded for which
the library raises an audit event (sqlite3, ctypes), and those that are still mapped into memory at the end.
The recorder must start before any code of the project runs, in an interpreter that does nothing else.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache, wraps
from importlib import metadata
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import BuiltinFunctionType, FrameType, ModuleType
from typing import Any

from elefast.migrators.sandbox.variable_recorder import VariableRecorder
from elefast.templates.file_digests import Stamp, stamp
from elefast.templates.manifest import (
    ABSENT,
    UNSETTLED,
    Manifest,
    distribution_facts,
    file_digest,
    listing_digest,
    module_kinds,
    path_kind,
    relative,
)
from elefast.templates.project_files import Installed, is_inside, is_own

__all__ = ["DependencyRecorder"]

_VCS = (".git", ".hg", ".jj", ".svn")

# Callers whose reads are no inputs of the template, besides elefast itself. The import system lists every directory
# of the import path. Alembic reads a whole pyproject.toml, but uses only its own table, which is in the key.
_IMPORT_SYSTEM = ("<frozen importlib", "importlib/metadata", "importlib\\metadata")
_ALEMBIC_CONFIG = ("alembic/config.py", "alembic\\config.py")

# The events for the start of a program, or of a copy of this process.
_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty")
# Events of C code that opens the file in its first argument. (`mmap` gets a file that was opened before.)
_OPENS = ("sqlite3.connect", "ctypes.dlopen")
_STDLIB = os.path.dirname(os.__file__)
# They read source files only to show them in tracebacks and warnings.
_SOURCE_READERS = tuple(os.path.join(_STDLIB, name) for name in ("linecache.py", "inspect.py", "traceback.py"))
# Functions that look at a path without an audit event. On Windows, those of `os.path` do not call those of `os`.
_LOOKS = ("stat", "lstat", "access", "readlink")
_LOOKS_OF_PATHS = ("exists", "lexists", "isfile", "isdir", "islink", "isjunction")
# Files of the frames between the event and the code that starts the program.
_STARTERS = ("<frozen os>", os.path.join(_STDLIB, "os.py"), os.path.join(_STDLIB, "subprocess.py"))
# Modules that start programs to find out about the machine: its name, its libraries.
_PROBES = tuple(os.path.join(_STDLIB, *name.split("/")) for name in ("platform.py", "uuid.py", "ctypes/util.py"))
_PSYCOPG_PROBE = ("psycopg/pq/misc.py", "psycopg\\pq\\misc.py")


class _Lookups(MetaPathFinder):
    """Records which modules are searched for in which directories; other finders find the modules."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, tuple[str, ...]], None] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # An entry of the path that is no path at all must not break the import.
        with suppress(Exception):
            # Made absolute now, because the working directory may change.
            places = tuple(_absolute(entry, os.getcwd()) for entry in (sys.path if path is None else path))
            self.seen[fullname, places] = None
        return None


@cache
def _absolute(path: str, working_directory: str) -> str:
    return os.path.normpath(os.path.join(working_directory, path))


class DependencyRecorder:
    """Records from `start` on; `manifest` gives the result.

    Args:
        root: The project directory, which the paths of the manifest are relative to.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)
        self._declared: frozenset[str] = frozenset()
        self._opened: dict[str, Stamp | None] = {}
        self._looked_at: dict[str, str] = {}
        self._variables = VariableRecorder()
        self._written: set[str] = set()
        self._listed: set[str] = set()
        self._programs: set[str] = set()
        self._lookups = _Lookups()
        self._before: frozenset[str] = frozenset()
        self._recording = False

    def start(self) -> None:
        """Record from now on. An audit hook cannot be removed, so call it in a process that does nothing else."""
        self._before = frozenset(sys.modules)
        self._recording = True
        sys.meta_path.insert(0, self._lookups)
        sys.addaudithook(self._audit)
        self._watch_looks()

    def watch_variables(self, given: Iterable[str]) -> None:
        """Record the environment variables that are read from now on, without those in `given`."""
        self._variables.start(given)

    def declare(self, paths: Iterable[str]) -> None:
        """Leave out these files and directories, which are in the template's key already."""
        self._declared = frozenset(os.path.abspath(path) for path in paths)

    def stop(self) -> None:
        """Record no more."""
        self._recording = False
        self._variables.stop()

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._recording:
            return
        # An error of the recorder must not break the code that it observes.
        with suppress(Exception):
            if event == "open":
                self._on_open(*arguments)
            elif event in ("os.listdir", "os.scandir"):
                self._on_list(arguments[0])
            elif event == "os.rename":
                self._written.update(_path(name) for name in arguments[:2])
            elif event in _STARTS:
                self._on_start(event, arguments)
            elif event in _OPENS:
                self._on_open_in_c(arguments[0])

    def _on_open(self, name: Any, mode: str | None, flags: int) -> None:
        if isinstance(name, int):
            return
        path = _path(name)
        writing = set(mode) & set("wax+") if mode else flags & (os.O_WRONLY | os.O_RDWR)
        if writing:
            self._written.add(path)
            return
        caller = _caller()
        if is_own(caller) or caller.endswith(_ALEMBIC_CONFIG):
            return
        path = _source(path)
        if path not in self._opened:
            self._opened[path] = stamp(path)

    def _on_open_in_c(self, name: Any) -> None:
        path = _path(name)
        # A library that is named without a directory belongs to the machine.
        if os.path.dirname(os.fsdecode(name)) or os.path.isfile(path):
            self._opened.setdefault(path, stamp(path))

    def _watch_looks(self) -> None:
        sets = (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks, os.supports_effective_ids)
        for module, names in ((os, _LOOKS), (os.path, _LOOKS_OF_PATHS)):
            for name in names:
                original: Any = getattr(module, name, None)
                if not isinstance(original, BuiltinFunctionType):
                    continue
                watched = self._watched_look(original)
                setattr(module, name, watched)
                for supporting in sets:
                    if original in supporting:
                        supporting.add(watched)

    def _watched_look(self, original: Any) -> Any:
        @wraps(original)
        def look(path: Any, *arguments: Any, **keywords: Any) -> Any:
            if self._recording and not isinstance(path, int) and keywords.get("dir_fd") is None:
                with suppress(Exception):
                    self._on_look(path)
            return original(path, *arguments, **keywords)

        return look

    def _on_look(self, name: Any) -> None:
        # Frames: this function, the replacement, and then its caller.
        frame: FrameType | None = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
        while frame is not None and (path := frame.f_code.co_filename) and _passes_on(path):
            if path in _SOURCE_READERS:
                return
            frame = frame.f_back
        if frame is None or is_own(frame.f_code.co_filename):
            return
        path = _path(name)
        if path not in self._looked_at:
            self._looked_at[path] = path_kind(path)

    def _on_list(self, name: Any) -> None:
        caller = _caller()
        if not isinstance(name, int) and not any(part in caller for part in _IMPORT_SYSTEM):
            self._listed.add(_path("." if name is None else name))

    def _on_start(self, event: str, arguments: tuple[Any, ...]) -> None:
        caller = _caller(_STARTERS)
        if not is_own(caller) and caller not in _PROBES and not caller.endswith(_PSYCOPG_PROBE):
            self._programs.add(_program(event, arguments))

    def manifest(self) -> Manifest:
        """Stop, and return what was recorded."""
        self.stop()
        installed = Installed()
        modules = self._modules()
        imported = {
            path for path in modules.values() if os.path.isfile(path) and not installed.has(path) and not is_own(path)
        }
        lookups = self._lookup_facts(installed)
        roots = self._roots(imported, installed)

        def of_the_project(path: str) -> bool:
            inside = any(is_inside(name, root) for name in {path, os.path.realpath(path)} for root in roots)
            return inside and not installed.has(path) and not is_own(path) and path not in self._declared

        self._add_mapped()
        read = {path for path in self._opened if path not in self._written and of_the_project(path)}
        # Subdirectories of a declared directory, such as Alembic's versions, are declared, too.
        listed = {
            path
            for path in self._listed
            if of_the_project(path) and not any(is_inside(path, place) for place in self._declared)
        }
        files = {
            relative(path, self._root): self._digest(path)
            for path in sorted(read | (imported - self._declared))
            if not os.path.exists(path) or os.path.isfile(path)
        }
        looked_at = {
            relative(path, self._root): kind
            for path, kind in sorted(self._looked_at.items())
            # A path that the build itself created counts as it was before: the code may have asked whether it exists.
            if of_the_project(path) and not any(is_inside(path, place) for place in self._declared)
        }
        return Manifest(
            # One fact for each path: for one that was absent the lookup, for a file that was read its digest.
            files={path: found for path, found in files.items() if found or looked_at.get(path) != ABSENT},
            paths={path: kind for path, kind in looked_at.items() if not files.get(path)},
            listings={relative(path, self._root): listing_digest(path) for path in sorted(listed)},
            lookups=lookups,
            distributions=self._distributions(modules, installed),
            variables=self._variables.variables(),
            programs=self._all_programs(modules),
        )

    def _all_programs(self, modules: Iterable[str]) -> tuple[str, ...]:
        # Some start methods of multiprocessing raise no event, but each imports a module of its own.
        if any(name.startswith("multiprocessing.popen_") for name in modules):
            return tuple(sorted({*self._programs, "multiprocessing"}))
        return tuple(sorted(self._programs))

    def _add_mapped(self) -> None:
        """Count files that are mapped into memory as opened: C extensions open them without an audit event."""
        with suppress(OSError), open("/proc/self/maps", "rb") as maps:
            for line in maps:
                fields = line.rstrip(b"\n").split(None, 5)
                if len(fields) == 6 and fields[5].startswith(b"/"):
                    path = os.fsdecode(fields[5])
                    self._opened.setdefault(path, stamp(path))

    def _digest(self, path: str) -> str:
        if path in self._opened and self._opened[path] != stamp(path):
            return UNSETTLED
        return file_digest(path)

    def _modules(self) -> dict[str, str]:
        """The modules that were imported since `start`, each with its source file."""
        found: dict[str, str] = {}
        for name, module in list(sys.modules.items()):
            origin = getattr(module, "__file__", None)
            if name not in self._before and isinstance(origin, str):
                found[name] = _source(_path(origin))
        return found

    def _roots(self, imported: Iterable[str], installed: Installed) -> set[str]:
        """The directories with files of the project. Files elsewhere belong to the machine, and are no inputs."""
        roots = {self._root, *(os.path.dirname(path) for path in imported)}
        roots |= {
            place
            for _, places in self._lookups.seen
            for place in places
            if os.path.isdir(place) and not installed.has(place)
        }
        for place in (self._root, *map(str, Path(self._root).parents)):
            if any(os.path.exists(os.path.join(place, name)) for name in _VCS):
                roots.add(place)
                break
        return roots

    def _lookup_facts(self, installed: Installed) -> dict[str, Mapping[str, tuple[str, ...]]]:
        facts: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        wanted: dict[str, set[str]] = defaultdict(set)
        for name, places in self._lookups.seen:
            for place in places:
                wanted[place].add(name.rpartition(".")[2])
        kinds = {place: module_kinds(place, names) for place, names in wanted.items()}
        for name, places in self._lookups.seen:
            if name.partition(".")[0] in sys.builtin_module_names:
                continue
            tail = name.rpartition(".")[2]
            found = False
            passed: list[str] = []
            for place in places:
                passed.append(place)
                if found := kinds[place][tail] in ("package", "module"):
                    break
            for place in passed:
                if installed.has(place) or is_own(place) or not os.path.isdir(place):
                    continue
                kind = kinds[place][tail]
                if found and kind in ("nothing", "directory"):
                    # Python prefers a regular module to a plain directory, even to one that comes earlier in the path.
                    kind = "no module"
                facts[relative(place, self._root)][kind].add(tail)
        return {
            place: {kind: tuple(sorted(names)) for kind, names in sorted(found_there.items())}
            for place, found_there in sorted(facts.items())
        }

    def _distributions(self, modules: Mapping[str, str], installed: Installed) -> dict[str, tuple[str, str]]:
        top_level = {
            name.partition(".")[0]
            for name, path in modules.items()
            if installed.has(path) and not name.startswith("__editable__")
        }
        # The modules of an editable elefast are outside of site-packages, so it would not be found.
        names = {"elefast"}
        by_module = metadata.packages_distributions()
        for module in top_level:
            names.update(by_module.get(module, ()))
        facts = {name: distribution_facts(name) for name in sorted(names)}
        return {name: fact for name, fact in facts.items() if fact is not None}


def _passes_on(path: str) -> bool:
    return path.startswith("<") or (path.startswith(_STDLIB + os.sep) and "site-packages" not in path)


def _caller(through: Sequence[str] = ()) -> str:
    """The file of the code that caused the current event; frames of pathlib and of files in `through` are skipped."""
    # Frames: this function, the handler, the hook, and then the code that caused the event.
    frame: FrameType | None = sys._getframe(3)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and ("pathlib" in frame.f_code.co_filename or frame.f_code.co_filename in through):
        frame = frame.f_back
    return frame.f_code.co_filename if frame is not None else ""


def _program(event: str, arguments: tuple[Any, ...]) -> str:
    """The name of a program that is started, without its arguments, which may have a password."""
    if event == "os.system":
        return "a shell"
    if event in ("os.fork", "os.forkpty"):
        return "a copy of the process"
    named = arguments[1] if event == "os.spawn" else arguments[0]
    try:
        return os.path.basename(os.fsdecode(named)) or event
    except TypeError:  # on Windows there may be a command line only
        return event


def _path(name: Any) -> str:
    return os.path.abspath(os.fsdecode(name))


def _source(path: str) -> str:
    """The source file of a byte-code file; any other path unchanged."""
    if path.endswith(".pyc") and os.path.basename(os.path.dirname(path)) == "__pycache__":
        try:
            return importlib.util.source_from_cache(path)
        except ValueError:
            return path
    return path
