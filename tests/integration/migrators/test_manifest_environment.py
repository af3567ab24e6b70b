"""Environment variables that a build reads, and files that it looks for: changes that matter are noticed."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from sqlalchemy import URL

from elefast.migrators import Function, Plan
from elefast.templates.manifest import Manifest
from tests.integration.migrators.migrator_support import Project

Build = Callable[[str], Manifest]

_NAMES = ("DIMS", "OTHER", "APP_SIZE", "APP_DB__HOST", "SIZE", "APP_PREFIXED", "app_size")


@pytest.fixture
def build(project: Project, template: URL, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Builds with a function whose module has some code at its top; the manifest after a round trip."""
    for name in _NAMES:
        monkeypatch.delenv(name, raising=False)

    def build(code: str) -> Manifest:
        project.write("creating.py", f"{code}\n\ndef create(connection):\n    pass\n")
        plan = Plan(root=project.root, migrator=Function("creating:create"), url_variables=["DATABASE_URL"])
        manifest = plan.build(template)
        text = json.dumps(manifest.to_json())
        again = Manifest.from_json(json.loads(text))
        assert again == manifest
        assert again.differences(project.root) == []
        return again

    return build


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.environ.get('DIMS')",
        "from os import environ\ntry: environ['DIMS']\nexcept KeyError: pass",
        "import os; 'DIMS' in os.environ",
        "from os import getenv; getenv('DIMS', '3')",
        "import os; os.environb.get(b'DIMS')",
        "import os; os.path.expandvars('$DIMS')",
        "import os, string; string.Template('${DIMS}').safe_substitute(os.environ)",
        "import os; {n: os.environ[n] for n in os.environ}.get('DIMS')",
        "import os; dict(os.environ).get('DIMS')",
        "import os; {**os.environ}.get('DIMS')",
        "import os; os.environ.copy().get('DIMS')",
        "import os; [v for k, v in os.environ.items() if k.startswith('DI')]",
        "import os, configparser; configparser.ConfigParser(os.environ, interpolation=None)",
    ],
)
def test_variable_that_is_read(code: str, build: Build, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way of reading a variable is seen: it fits no longer when it is set, and again when it is not."""
    manifest = build(code)

    monkeypatch.setenv("DIMS", "5")
    assert manifest.differences(project.root) == ["set variable DIMS"]

    monkeypatch.delenv("DIMS")
    assert manifest.differences(project.root) == []


def test_variable_that_changes(build: Build, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change and a removal are told apart, other variables do not count, and no value is in the record."""
    monkeypatch.setenv("DIMS", "a secret value")
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    manifest = build("import os; os.environ['DIMS'], os.environ.get('PYTEST_XDIST_WORKER')")
    assert set(manifest.variables.digests) == {"DIMS"}
    assert "secret" not in json.dumps(manifest.to_json())

    monkeypatch.setenv("OTHER", "1")
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw1")
    assert manifest.differences(project.root) == []
    monkeypatch.setenv("DIMS", "another value")
    assert manifest.differences(project.root) == ["changed variable DIMS"]
    monkeypatch.delenv("DIMS")
    assert manifest.differences(project.root) == ["unset variable DIMS"]


def test_variables_that_do_not_count(build: Build, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those that elefast sets, that a library reads for itself, that the build sets, and that it never reads."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://one.invalid/x")
    manifest = build(
        """\
import os, sqlalchemy.ext.asyncio, asyncio, tempfile, logging.config, locale
os.environ["OTHER"] = "set by the build"
os.environ.get("OTHER"), os.environ.get("DATABASE_URL"), os.environ.get("PGHOST"), os.environ.get("PGPASSWORD")
tempfile.gettempdir()
os.path.expanduser("~")
"""
    )

    assert dict(manifest.variables.digests) == {}
    assert manifest.variables.left_out is None


def test_whole_environment(build: Build, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that copies it depends on all of it, except what differs from shell to shell and what elefast sets."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    manifest = build("import os; dict(os.environ)")

    for name in ("PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST", "PWD", "_", "TERM", "DATABASE_URL", "PGHOST"):
        monkeypatch.setenv(name, "another")
    assert manifest.differences(project.root) == []
    monkeypatch.setenv("HOME", "/another")
    assert manifest.differences(project.root) == ["changed variable HOME"]


def test_library_that_gets_a_name(build: Build, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that reads what the project asks it for reads it for the project; its own variables do not count."""
    project.write(
        "lib/site-packages/config_library.py",
        """\
        import os

        _OWN = "LIBRARY_DEBUG"
        os.environ.get(_OWN), os.getenv("LIBRARY_HOME")

        def config(name, default=""):
            return os.environ.get(name, default)
        """,
    )
    manifest = build(
        "import sys; sys.path.append('lib/site-packages')\nimport config_library; config_library.config('DIMS')"
    )

    assert set(manifest.variables.digests) == {"DIMS"}


_SETTINGS = """\
from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

class Db(BaseModel):
    host: str = ""

class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="APP_", env_nested_delimiter="__", env_file=".env", extra="ignore")
    size: int = 1
    db: Db = Db()
    aliased: str = Field("", validation_alias="OTHER")

settings = Settings()
"""


def test_pydantic_settings(build: Build, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of the fields count: by prefix, alias and nested delimiter, in upper and lower case."""
    manifest = build(_SETTINGS)
    assert manifest.variables.left_out is None

    for name, expected in (
        ("APP_SIZE", ["set variable APP_SIZE"]),
        ("app_size", ["set variable app_size"]),
        ("APP_DB__HOST", ["set variable APP_DB__HOST"]),
        ("OTHER", ["set variable OTHER"]),
        ("SIZE", []),
        ("APP_PREFIXED", []),
        ("HOME", []),
    ):
        with monkeypatch.context() as context:
            context.setenv(name, "5")
            assert manifest.differences(project.root) == expected

    project.write(".env", "APP_SIZE=5\n")
    assert manifest.differences(project.root) == ["added .env"]


def test_dotenv(build: Build, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A .env file that is loaded counts, and of the environment what it defines and names."""
    pytest.importorskip("dotenv")
    project.write(".env", "DIMS=3\nX_NAMED=${OTHER}\n")
    manifest = build("import dotenv; dotenv.load_dotenv('.env'); assert dotenv.dotenv_values('.env')['DIMS'] == '3'")
    assert set(manifest.variables.digests) == {"DIMS", "OTHER", "X_NAMED"}

    monkeypatch.setenv("DIMS", "5")
    assert manifest.differences(project.root) == ["set variable DIMS"]
    monkeypatch.delenv("DIMS")
    project.write(".env", "DIMS=4\n")
    assert manifest.differences(project.root) == ["changed .env"]


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.path.exists('local.toml')",
        "import os; os.path.isfile('local.toml')",
        "import os; os.access('local.toml', os.R_OK)",
        "import os; os.path.lexists('local.toml')",
        "from pathlib import Path; Path('local.toml').exists()",
        "from pathlib import Path; Path('local.toml').is_file()",
        "from pathlib import Path\ntry: Path('local.toml').stat()\nexcept OSError: pass",
        "import glob; glob.glob('local.toml')",
        "import os\ntry: os.open('local.toml', os.O_RDONLY)\nexcept OSError: pass",
        "import shutil\ntry: shutil.copy('local.toml', '/dev/null')\nexcept OSError: pass",
        "import os\ntry: os.readlink('local.toml')\nexcept OSError: pass",
    ],
)
def test_file_that_is_looked_for(code: str, build: Build, project: Project) -> None:
    """Whatever asks whether a file exists, the template fits no longer when the file appears."""
    manifest = build(code)

    path = project.write("local.toml", "x = 1")
    assert manifest.differences(project.root) == ["added local.toml"]

    path.unlink()
    assert manifest.differences(project.root) == []


def test_file_that_is_only_looked_at(build: Build, project: Project) -> None:
    """Where code asks only whether a file exists, its content does not count."""
    project.write("marker", "1")
    manifest = build("import os; os.path.exists('marker'), os.path.isdir('folder')")

    project.write("marker", "2")
    assert manifest.differences(project.root) == []
    (project.root / "folder").mkdir()
    assert manifest.differences(project.root) == ["added folder"]
    (project.root / "folder").rmdir()
    (project.root / "marker").unlink()
    (project.root / "marker").mkdir()
    assert manifest.differences(project.root) == ["marker is now a directory"]


@pytest.mark.skipif(os.name == "nt", reason="making symbolic links takes a privilege on Windows")
@pytest.mark.parametrize("look", ["readlink", "path.realpath", "path.lexists", "path.islink"])
def test_target_of_a_link(look: str, build: Build, project: Project) -> None:
    """A link that leads elsewhere is another input, also where nothing is at its target."""
    link = project.root / "current"
    link.symlink_to("one")
    manifest = build(f"import os; os.{look}('current')")

    link.unlink()
    assert manifest.differences(project.root) == ["removed current"]
    link.symlink_to("two")
    assert manifest.differences(project.root) == ["current is now a dangling link to two"]


@pytest.mark.parametrize("code", ["import os; list(os.scandir('parts'))", "import glob; glob.glob('parts/*.sql')"])
def test_directory_that_is_not_there(code: str, build: Build, project: Project) -> None:
    """A directory that was listed in vain is noticed when it comes with a file."""
    manifest = build(f"try: {code}\nexcept OSError: pass" if "scandir" in code else code)

    project.write("parts/one.sql", "")
    assert manifest.differences(project.root) != []


def test_functions_of_os_work_as_before(build: Build) -> None:
    """What is watched has the signatures, the sets and the errors that it had."""
    build(
        """\
import os, shutil, tempfile
assert os.stat in os.supports_follow_symlinks and os.stat in os.supports_dir_fd and os.stat in os.supports_fd
assert os.access in os.supports_effective_ids
with tempfile.TemporaryDirectory() as place:
    first = os.path.join(place, "first")
    open(first, "w").close()
    shutil.copystat(first, shutil.copy(first, os.path.join(place, "second")), follow_symlinks=False)
    descriptor = os.open(place, os.O_RDONLY)
    assert os.stat("first", dir_fd=descriptor) == os.stat(first) and os.stat(descriptor).st_mode
    os.close(descriptor)
    list(os.fwalk(place))
assert os.environ == dict(os.environ) and len(os.environ) == len(list(os.environ)) and "environ" in repr(os.environ)
assert os.environ.pop("NOT_THERE", None) is None and os.environ.setdefault("MADE", "1") == os.environ["MADE"]
"""
    )


def test_files_that_c_code_opens(build: Build, project: Project) -> None:
    """A database of sqlite3 counts, and so does what is mapped into memory at the end."""
    data = project.root / "data.sqlite"
    with closing(sqlite3.connect(data)) as connection:
        connection.execute("CREATE TABLE dims (n int)")
        connection.commit()
    project.write("mapped.bin", "1" * 8192)
    manifest = build(
        "import sqlite3, mmap, ctypes\n"
        "sqlite3.connect('data.sqlite').execute('SELECT * FROM dims').fetchall()\n"
        "file = open('mapped.bin', 'rb')\n"
        "kept = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)"
    )
    assert {"data.sqlite", "mapped.bin"} <= set(manifest.files)

    with closing(sqlite3.connect(data)) as connection:
        connection.execute("INSERT INTO dims VALUES (5)")
        connection.commit()
    assert manifest.differences(project.root) == ["changed data.sqlite"]


def test_value_that_is_no_text(build: Build, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are no UTF-8 are compared like any others."""
    monkeypatch.setitem(os.environb, b"DIMS", b"\xff\xfe")
    manifest = build("import os; os.environ['DIMS']")

    monkeypatch.setitem(os.environb, b"DIMS", b"\xff\xfd")
    assert manifest.differences(project.root) == ["changed variable DIMS"]
