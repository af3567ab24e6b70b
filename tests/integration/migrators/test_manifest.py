"""What a build was seen to depend on: changes that matter are noticed, and others are not."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Generator

import pytest
from sqlalchemy import URL

from elefast.migrators import Function, Plan
from elefast.templates.manifest import Manifest
from tests.integration.migrators.migrator_support import Project


@pytest.fixture(autouse=True)
def forget_modules(project: Project) -> Generator[None]:
    """Forget what a test imported from its project."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        origin = getattr(sys.modules[name], "__file__", None) or ""
        if origin.startswith(str(project.root)):
            del sys.modules[name]


def build(project: Project, template: URL, code: str) -> Manifest:
    """Build with a function of the project whose module has `code` at its top; the manifest after a round trip."""
    project.write("creating.py", f"{code}\n\ndef create(connection):\n    pass\n")
    manifest = Plan(root=project.root, migrator=Function("creating:create")).build(template)
    again = Manifest.from_json(json.loads(json.dumps(manifest.to_json())))
    assert again.digest == manifest.digest
    assert again.differences(project.root) == []
    return again


def test_module_that_is_imported(project: Project, template: URL) -> None:
    """A change to a module that the code imports is noticed, and one to its neighbour is not."""
    project.write("app/__init__.py")
    project.write("app/models.py", "X = 1")
    project.write("app/views.py", "X = 1")
    manifest = build(project, template, "import app.models")

    project.write("app/views.py", "X = 2")
    project.write("app/new.py")
    project.write("notes.txt")
    assert manifest.differences(project.root) == []

    project.write("app/models.py", "X = 2")
    assert manifest.differences(project.root) == ["changed app/models.py"]

    (project.root / "app/models.py").unlink()
    assert manifest.differences(project.root) == ["removed app/models.py", "module models gone in app"]


def test_modules_that_this_process_has_imported(project: Project, template: URL) -> None:
    """That the tests imported a module before makes no difference."""
    project.write("app_before.py", "X = 1")
    sys.path.insert(0, str(project.root))
    try:
        importlib.import_module("app_before")
    finally:
        sys.path.remove(str(project.root))

    manifest = build(project, template, "import app_before")

    assert set(manifest.files) == {"app_before.py", "creating.py"}


def test_compiled_modules(project: Project, template: URL) -> None:
    """A second build imports compiled files, and sees the same sources."""
    project.write("helper.py", "X = 1")
    first = build(project, template, "import helper")

    assert build(project, template, "import helper").files == first.files


def test_module_that_would_shadow(project: Project, template: URL) -> None:
    """A new module that would now be found first is noticed."""
    manifest = build(project, template, "import wave, alembic")

    project.write("colour.py")
    assert manifest.differences(project.root) == []

    project.write("wave.py")
    assert manifest.differences(project.root) == ["new module wave in ."]


def test_directory_that_shadows_nothing(project: Project, template: URL) -> None:
    """A plain directory called like an installed package hides nothing, and counts for nothing."""
    manifest = build(project, template, "import alembic")

    project.write("alembic/notes.txt")

    assert manifest.differences(project.root) == []


def test_optional_module_appears(project: Project, template: URL) -> None:
    """A module that was looked for in vain is noticed when it appears."""
    manifest = build(project, template, "try:\n    import local_settings\nexcept ImportError:\n    pass")

    project.write("local_settings.py")

    assert manifest.differences(project.root) == ["new module local_settings in ."]


def test_module_becomes_a_package(project: Project, template: URL) -> None:
    """A package of the same name comes before a module."""
    project.write("settings.py")
    manifest = build(project, template, "import settings")

    project.write("settings/__init__.py")

    assert manifest.differences(project.root) == ["module settings is now a package in ."]


def test_part_of_a_namespace_appears(project: Project, template: URL) -> None:
    """Another part of a namespace package is noticed."""
    project.write("one/space/a.py")
    project.write("two/b.py")
    manifest = build(project, template, "import sys\nsys.path[:0] = ['one', 'two']\nimport b\nimport space.a")

    project.write("two/space/c.py")

    assert manifest.differences(project.root) == ["new module space in two"]


def test_file_that_is_read(project: Project, template: URL) -> None:
    """A file that the code opens is noticed when it changes, and when it goes."""
    project.write("data/names.csv", "a,b")
    manifest = build(project, template, "from pathlib import Path\nPath('data/names.csv').read_text()")

    project.write("data/other.csv", "a,b")
    assert manifest.differences(project.root) == []

    project.write("data/names.csv", "a,b,c")
    assert manifest.differences(project.root) == ["changed data/names.csv"]


def test_file_that_was_looked_for(project: Project, template: URL) -> None:
    """A file that the code tried to open is noticed when it appears."""
    manifest = build(project, template, "try:\n    open('local.toml')\nexcept OSError:\n    pass")

    project.write("local.toml")

    assert manifest.differences(project.root) == ["added local.toml"]


def test_file_that_is_written(project: Project, template: URL) -> None:
    """What the build itself writes is no input of it."""
    manifest = build(project, template, "open('made.txt', 'w').write('x')\nassert open('made.txt').read()")

    assert set(manifest.files) == {"creating.py"}


def test_file_elsewhere(project: Project, template: URL) -> None:
    """Files of the machine are none of the project's."""
    manifest = build(project, template, "open('/etc/hosts').read()\nopen('/proc/self/status').read()")

    assert set(manifest.files) == {"creating.py"}


def test_file_that_changes_during_the_build(project: Project, template: URL) -> None:
    """A file that changed after it was read fits no template."""
    project.write("names.csv", "a,b")
    project.write(
        "creating.py",
        """\
        import subprocess, sys
        open('names.csv').read()
        subprocess.run([sys.executable, '-c', "open('names.csv', 'a').write('c')"], check=True)

        def create(connection):
            pass
        """,
    )

    manifest = Plan(root=project.root, migrator=Function("creating:create")).build(template)

    assert manifest.differences(project.root) == ["names.csv changed while the template was built"]


def test_directory_that_is_listed(project: Project, template: URL) -> None:
    """A directory that the code lists is noticed when a file comes."""
    project.write("plugins/one.txt")
    project.write("other/one.txt")
    manifest = build(project, template, "import os\nos.listdir('plugins')")

    project.write("other/two.txt")
    assert manifest.differences(project.root) == []

    project.write("plugins/two.txt")
    assert manifest.differences(project.root) == ["files came to or went from plugins"]


def test_workspace_sibling(project: Project, template: URL) -> None:
    """Modules outside of the project's directory count, with a path that leads there."""
    app = project.below("app")
    project.write("library/shared.py", "X = 1")
    app.write("pyproject.toml")
    manifest = build(app, template, "import sys\nsys.path.append('../library')\nimport shared")

    project.write("library/shared.py", "X = 2")

    assert manifest.differences(app.root) == ["changed ../library/shared.py"]


def test_distributions(project: Project, template: URL) -> None:
    """Installed distributions that were imported are known by version and content."""
    manifest = build(project, template, "import alembic")
    version, content = manifest.distributions["alembic"]
    assert "pytest" not in manifest.distributions

    def changed(facts: tuple[str, str]) -> list[str]:
        return Manifest(distributions={"alembic": facts}).differences(project.root)

    assert changed((version, content)) == []
    assert changed(("1.0", content)) == [f"alembic 1.0 -> {version}"]
    assert changed((version, "0" * 20)) == [f"alembic {version} was installed anew with other files"]
    assert Manifest(distributions={"gone": ("1", "")}).differences(project.root) == ["gone is no longer installed"]


def test_size(project: Project, template: URL) -> None:
    """A manifest is small enough for a comment on a database."""
    manifest = build(project, template, "import alembic.config, sqlalchemy.orm")

    assert len(json.dumps(manifest.to_json())) < 10_000


_WAYS_TO_RUN = {
    "subprocess": ("import subprocess\nsubprocess.run(['true'], check=True)", ("true",)),
    "shell": ("import os\nos.system('PGPASSWORD=secret true')", ("a shell",)),
    "popen": ("import os\nos.popen('true').close()", ("sh",)),
    "posix_spawn": (
        "import os, shutil\nos.waitpid(os.posix_spawn(shutil.which('true'), ['true'], {}), 0)",
        ("true",),
    ),
    "spawn": ("import os\nos.spawnlp(os.P_WAIT, 'true', 'true')", ("a copy of the process",)),
    "fork": (
        "import os\npid = os.fork()\nif not pid: os._exit(0)\nos.waitpid(pid, 0)",
        ("a copy of the process",),
    ),
    "multiprocessing": (
        "import multiprocessing\nprocess = multiprocessing.get_context('spawn').Process(target=print)\n"
        "process.start()\nprocess.join()",
        ("multiprocessing",),
    ),
}


@pytest.mark.skipif(os.name != "posix", reason="the programs and ways of POSIX")
@pytest.mark.parametrize("way", _WAYS_TO_RUN)
def test_programs(project: Project, template: URL, way: str) -> None:
    """A program that the code runs is known by name, and by no more of its command line."""
    code, expected = _WAYS_TO_RUN[way]

    assert build(project, template, code).programs == expected


def test_programs_that_tell_about_the_machine(project: Project, template: URL) -> None:
    """What the standard library asks the machine is no input of the build."""
    code = "import ctypes.util, platform, uuid\nctypes.util.find_library('pq')\nplatform.processor()\nuuid.getnode()"

    assert build(project, template, code).programs == ()


@pytest.mark.skipif(os.name != "posix", reason="runs a program of POSIX")
def test_result_of_a_program_fits_in_its_run_only(project: Project, template: URL) -> None:
    """What a program read is not known, so its result is for one run of tests, unless template.watch says it."""
    project.write("creating.py", "import subprocess\ndef create(connection):\n    subprocess.run(['true'])\n")

    def plan(test_run: str, *watch: str) -> Plan:
        return Plan(root=project.root, migrator=Function("creating:create"), test_run=test_run, watch=watch)

    manifest = Manifest.from_json(plan("one").build(template).to_json())

    assert plan("one").still_fits(manifest) == []
    assert plan("two", "creating.py").still_fits(manifest) == []
    for other in ("two", ""):
        assert plan(other).still_fits(manifest) == [
            "built with the help of true, whose inputs are not known without template.watch"
        ]
