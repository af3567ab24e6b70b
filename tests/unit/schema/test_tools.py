"""The schema in the programs that people check TOML with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from elefast.cli import main
from elefast.config.schema import ID, get_schema

REPOSITORY = Path(__file__).parents[3]
PYPROJECT = """
[project]
name = "shop"
version = "1"
[tool.elefast]
migrator = "none"
docker.port = {port}
"""


def program(name: str) -> str:
    """A program of the environment that runs the tests."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found, f"{name} is not installed; it is in the group `test`"
    return found


def run(*words: str, cwd: Path) -> tuple[bool, str]:
    """Whether it was content, and what it said."""
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=60)
    return done.returncode == 0, done.stdout + done.stderr


def test_validate_pyproject_checks_the_table(tmp_path: Path) -> None:
    """By the entry point, without being told."""
    file = tmp_path / "pyproject.toml"
    file.write_text(PYPROJECT.format(port=5433))
    well, said = run(program("validate-pyproject"), str(file), cwd=tmp_path)
    assert well, said
    file.write_text(PYPROJECT.format(port='"5433"'))
    well, said = run(program("validate-pyproject"), str(file), cwd=tmp_path)
    assert not well
    assert "tool.elefast.docker.port" in said


def test_check_jsonschema_accepts_schema_and_example(tmp_path: Path) -> None:
    """The stored file against the draft that it names, and the example against it; a typo is found."""
    schema = REPOSITORY / "schemas" / "elefast.schema.json"
    well, said = run(program("check-jsonschema"), "--check-metaschema", str(schema), cwd=tmp_path)
    assert well, said
    example = tmp_path / "elefast.toml"
    shutil.copy(REPOSITORY / "elefast.toml.example", example)
    check = [program("check-jsonschema"), "--schemafile", str(schema), str(example)]
    well, said = run(*check, cwd=tmp_path)
    assert well, said
    example.write_text(example.read_text().replace("[pool]", "[pool]\nsizes = 1"))
    well, said = run(*check, cwd=tmp_path)
    assert not well
    assert "sizes" in said


@pytest.mark.parametrize("linter", [("tombi", "lint", "--offline"), ("taplo", "lint")], ids=["tombi", "taplo"])
def test_editors_find_the_schema_by_the_first_line(tmp_path: Path, linter: tuple[str, ...]) -> None:
    """The example as it is, beside the schema as it is; and a wrong value in it."""
    shutil.copytree(REPOSITORY / "schemas", tmp_path / "schemas")
    example = tmp_path / "elefast.toml"
    shutil.copy(REPOSITORY / "elefast.toml.example", example)
    name, *options = linter
    well, said = run(program(name), *options, str(example), cwd=tmp_path)
    assert well, said
    example.write_text(example.read_text().replace("\nsize = 4", '\nsize = "four"'))
    assert not run(program(name), *options, str(example), cwd=tmp_path)[0]


def test_the_command_prints_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same as the stored file."""
    stored = (REPOSITORY / "schemas" / "elefast.schema.json").read_text(encoding="utf-8")
    assert main(["schema"]) == 0
    assert capsys.readouterr().out == stored
    assert main(["schema", "--output", str(tmp_path / "it.json")]) == 0
    assert (tmp_path / "it.json").read_text(encoding="utf-8") == stored
    assert main(["schema", "--output", str(tmp_path / "no" / "it.json")]) == 2
    assert "output-unwritable" in capsys.readouterr().err


def test_what_schemastore_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """An entry of its catalog, a reference for its pyproject.json, and the schema under the id that both name."""
    assert main(["schema", "--schemastore"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["catalog.json"]["url"] == told["pyproject.json"]["elefast"]["$ref"] == told["elefast.json"]["$id"] == ID
    assert told["catalog.json"]["fileMatch"] == ["elefast.toml"]
    assert told["elefast.json"] == get_schema()
