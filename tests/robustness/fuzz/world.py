"""A project whose schema depends on files and variables in every way that elefast knows, and random changes of them.

What the schema should be is not computed here: a fresh interpreter without compiled files is asked.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["World"]

# The function that builds is asked for its names by the oracle, too.
_CREATING = """\
import os
import app.models, settings, shared, linked
import space.first
try:
    import local_settings
except ImportError:
    local_settings = None

def names():
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "data", "names.csv")) as file:
        found = file.read().split()
    found += [name.partition(".")[0] for name in os.listdir(os.path.join(here, "plugins"))]
    found += [app.models.NAME, settings.NAME, shared.NAME, linked.NAME, space.first.NAME]
    if local_settings is not None:
        found.append(local_settings.NAME)
    if os.environ.get("WORLD_NAME"):
        found.append(os.environ["WORLD_NAME"])
    if os.path.exists(os.path.join(here, "marker")):
        found.append("t_marker")
    return sorted(set(found))

def create(connection):
    for name in names():
        connection.exec_driver_sql(f"CREATE TABLE {name} (id int)")
"""
_MODULES = ("app/models.py", "settings.py", "../library/shared.py", "../library/one.py", "../library/two.py")
_VARIABLE = Path("the variable WORLD_NAME")
_UNRELATED = ("notes.txt", "app/views.py", "other.py", "data/other.csv", "../library/unused.py")


class World:
    """Files in `place`: a project, and beside it a library that is installed editable.

    Args:
        place: An empty directory.
        chance: Where all randomness comes from.
    """

    def __init__(self, place: Path, chance: random.Random) -> None:
        self.place = place
        self.root = place / "project"
        self.chance = chance
        self.path = [str(self.root), str(place / "library"), str(place / "parts")]
        self.happened: list[str] = []
        self._write("creating.py", _CREATING)
        self._write("app/__init__.py", "")
        for module in (*_MODULES, "space/first.py"):
            self._write(module, self._line())
        for unrelated in _UNRELATED:
            self._write(unrelated, self._line())
        self._write("data/names.csv", f"{self._name()}\n")
        self._write("plugins/p_one.txt", "")
        self._write("../parts/space/second.py", self._line())
        (self.root / "linked.py").symlink_to("../library/one.py")
        self.has_git = shutil.which("git") is not None
        if self.has_git:
            self._git("init", "-q", "-b", "main")
            self.branch()

    def branch(self) -> None:
        """Let both branches begin with what is there now."""
        if self.has_git:
            self._commit("start")
            self._git("branch", "-f", "other")

    # -- what may happen ------------------------------------------------------------------------------------

    @property
    def harmless(self) -> list[Callable[[], None]]:
        """What changes nothing that counts: the template must still fit."""
        return [
            self.touch,
            self.write_the_same,
            self.replace_by_the_same,
            self.change_mode,
            self.move_away_and_back,
            self.edit_something_else,
            self.come_and_go,
            self.leave_compiled_files,
            self.commit,
            self.set_another_variable,
        ]

    @property
    def harmful(self) -> list[Callable[[], None]]:
        """What may change the schema."""
        return [
            self.edit,
            self.edit_keeping_times,
            self.edit_twice_at_once,
            self.replace_keeping_times,
            self.swap,
            self.edit_data,
            self.set_variable,
            self.place_marker,
            self.plug,
            self.override,
            self.turn_into_package,
            self.link_elsewhere,
            self.spread_namespace,
            self.remove_and_shadow,
            self.switch_branch,
        ]

    def touch(self) -> None:
        """Another time, now or whenever, as `touch -d` sets it."""
        when = time.time_ns() + self.chance.choice((0, -(10**9), 10**9, -(10**17), 1))
        os.utime(self._some_module(), ns=(when, when))

    def write_the_same(self) -> None:
        """An editor that saves what is there."""
        path = self._some_module()
        path.write_bytes(path.read_bytes())

    def replace_by_the_same(self) -> None:
        """An editor that saves by renaming; a new inode."""
        path = self._some_module()
        self._replace(path, path.read_text())

    def change_mode(self) -> None:
        """Only the time of change moves."""
        path = self._some_module()
        path.chmod(path.stat().st_mode ^ 0o040)

    def move_away_and_back(self) -> None:
        """A directory is gone for a moment."""
        away = self.root / "app_away"
        (self.root / "app").rename(away)
        away.rename(self.root / "app")

    def edit_something_else(self) -> None:
        """A file that nothing imports."""
        self._write(self.chance.choice(_UNRELATED), self._line())

    def come_and_go(self) -> None:
        """Files that nothing looks for appear, move and vanish."""
        path = self.root / self.chance.choice(("new_file.py", "app/new_file.py", "data/new.csv"))
        moved = path.with_name(f"moved_{path.name}")
        if moved.exists():
            moved.unlink()
        elif path.exists():
            path.rename(moved)
        else:
            path.write_text(self._line())

    def leave_compiled_files(self) -> None:
        """The tests import the same modules, and Python keeps what it compiled."""
        self._ask(compiled=True)

    def commit(self) -> None:
        """What is there becomes a revision."""
        if self.has_git:
            self._commit("more")

    def edit(self) -> None:
        """Another name of the same length."""
        self._some_module().write_text(self._line())

    def edit_keeping_times(self) -> None:
        """Another name of the same length, and the times as they were."""
        path = self._some_module()
        before = path.stat()
        path.write_text(self._line())
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def edit_twice_at_once(self) -> None:
        """Two edits within a tick of the clock; who looks in between sees the first one."""
        path = self._some_module()
        path.write_text(self._line())
        self.look()
        path.write_text(self._line())

    def replace_keeping_times(self) -> None:
        """What rsync and archives do: another file with the old one's times."""
        path = self._some_module()
        before = path.stat()
        self._replace(path, self._line())
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def swap(self) -> None:
        """Two files change places; both keep inode, times and size."""
        one, two = (self.root / name for name in self.chance.sample(_MODULES[2:], 2))
        aside = one.with_name("aside")
        one.rename(aside)
        two.rename(one)
        aside.rename(two)

    def edit_data(self) -> None:
        """A file that is read, with the same size and the old times, now and then."""
        path = self.root / "data/names.csv"
        before = path.stat()
        path.write_text(f"{self._name()}\n")
        if self.chance.random() < 0.5:
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def plug(self) -> None:
        """A file comes to a directory that is listed, or goes."""
        path = self.root / "plugins" / f"p_{self.chance.choice(('two', 'three'))}.txt"
        path.unlink() if path.exists() else path.touch()

    def override(self) -> None:
        """A module that was looked for in vain comes, or goes."""
        path = self.root / "local_settings.py"
        path.unlink() if path.exists() else path.write_text(self._line())

    def turn_into_package(self) -> None:
        """A package of the same name comes before the module."""
        package = self.root / "settings"
        if package.exists():
            shutil.rmtree(package)
        else:
            self._write("settings/__init__.py", self._line())

    def link_elsewhere(self) -> None:
        """The same path leads to another file."""
        link = self.root / "linked.py"
        target = "../library/two.py" if "one" in os.readlink(link) else "../library/one.py"
        link.unlink()
        link.symlink_to(target)

    def spread_namespace(self) -> None:
        """Another place on the path gets the module of a namespace package, which comes first or not at all."""
        path = self.place / "library" / "space" / "first.py"
        if path.parent.exists():
            shutil.rmtree(path.parent)
        else:
            self._write("../library/space/first.py", self._line())

    def remove_and_shadow(self) -> None:
        """A module of the library is now found in the project, which comes before it."""
        path = self.root / "shared.py"
        path.unlink() if path.exists() else path.write_text(self._line())

    def switch_branch(self) -> None:
        """Another branch, with an edit of its own."""
        if not self.has_git:
            return self.edit()
        self._commit("before")
        self._git("checkout", "-q", "other" if self._git("branch", "--show-current") == "main" else "main")
        if self.chance.random() < 0.3:
            self.edit()
        return None

    def look(self) -> None:
        """Called in the middle of some of these; for whoever wants to look then."""

    def set_variable(self) -> None:
        """A variable that the code reads gets another value, or none."""
        if self.chance.random() < 0.3:
            os.environ.pop("WORLD_NAME", None)
        else:
            os.environ["WORLD_NAME"] = self._name()

    def set_another_variable(self) -> None:
        """Variables that the code does not read, or that are of a worker."""
        os.environ[self.chance.choice(("WORLD_OTHER", "PYTEST_XDIST_WORKER"))] = self._name()

    def place_marker(self) -> None:
        """A file whose existence alone counts comes, or goes."""
        path = self.root / "marker"
        path.unlink() if path.exists() else path.touch()

    # -- what is so -----------------------------------------------------------------------------------------

    def schema(self) -> list[str]:
        """The tables that the project makes as it is now, from its sources alone."""
        return self._ask(compiled=False)

    def snapshot(self) -> dict[Path, bytes | str]:
        """All files but those of git and of Python, as bytes or where they link to, and the variable."""
        found: dict[Path, bytes | str] = {_VARIABLE: os.environ.get("WORLD_NAME", "")}
        for where, directories, names in os.walk(self.place):
            directories[:] = [name for name in directories if name not in (".git", "__pycache__")]
            for name in names:
                path = Path(where, name)
                found[path] = os.readlink(path) if path.is_symlink() else path.read_bytes()
        return found

    def restore(self, before: dict[Path, bytes | str]) -> None:
        """Undo what happened since `snapshot`, as version control does it: only what differs is written."""
        before = dict(before)
        os.environ["WORLD_NAME"] = str(before.pop(_VARIABLE))
        if not os.environ["WORLD_NAME"]:
            del os.environ["WORLD_NAME"]
        now = self.snapshot()
        del now[_VARIABLE]
        for path in now.keys() - before.keys():
            path.unlink()
            shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
        for path, content in before.items():
            if now.get(path) == content:
                continue
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                path.symlink_to(content)
            else:
                path.write_bytes(content)

    def _ask(self, *, compiled: bool) -> list[str]:
        program = "import json, sys; sys.path[:0] = json.loads(sys.argv[1]); import creating; print(*creating.names())"
        with tempfile.TemporaryDirectory(dir=self.place.parent) as nothing:
            options = [] if compiled else ["-B", "-X", f"pycache_prefix={nothing}"]
            environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
            done = subprocess.run(
                [sys.executable, "-I", "-S", *options, "-c", program, json.dumps(self.path)],
                capture_output=True,
                text=True,
                check=True,
                env=environment,
            )
        return done.stdout.split()

    def _some_module(self) -> Path:
        return self.root / self.chance.choice(_MODULES)

    def _name(self) -> str:
        return f"t_{self.chance.randrange(10**6):06}"

    def _line(self) -> str:
        return f'NAME = "{self._name()}"\n'

    def _write(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def _replace(self, path: Path, text: str) -> None:
        other = path.with_name("being_written")
        other.write_text(text)
        os.replace(other, path)

    def _commit(self, message: str) -> None:
        self._git("add", "-A")
        self._git("commit", "-q", "--allow-empty", "-m", message)

    def _git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.invalid", "-c", "commit.gpgsign=no")
        done = subprocess.run(["git", *identity, *arguments], cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout.strip()
