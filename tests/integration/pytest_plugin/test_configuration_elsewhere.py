"""A test requests a fixture of elefast's, and pytest's rootdir has no configuration: the run says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

TABLE = '[tool.elefast]\nmigrator = "none"\n'


def write(path: Path, text: str) -> None:
    """Write a file, and its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["alone", "xdist"])
@pytest.mark.parametrize("place", ["backend", "packages/api", "../beside"])
def test_it_lies_elsewhere(pytester: pytest.Pytester, place: str, options: tuple[str, ...]) -> None:
    """Below the rootdir or beside it; the message names both and the remedy."""
    root = pytester.path / "root"
    (pytester.path / ".git").mkdir()
    write(root / "pytest.ini", "[pytest]\n")
    write(root / "tests/test_it.py", "def test_it(db_session): pass\n")
    write(root / place / "pyproject.toml", TABLE)
    result = pytester.runpytest_subprocess(*options, "--rootdir", root, root)
    result.assert_outcomes(errors=1)
    directory = (root / place).resolve()
    found = [line.replace("root/../", "") for line in result.outlines]
    where = f"{directory}/pyproject.toml, but pytest's rootdir is {root}."
    assert f"db_session: a configuration of elefast was found in {where}" in found
    assert any(f"--rootdir={directory}" in line for line in found)


def test_it_lies_between_the_rootdir_and_the_test(pytester: pytest.Pytester) -> None:
    """As deep as it may be, since the test knows the way."""
    write(pytester.path / "pytest.ini", "[pytest]\n")
    write(pytester.path / "a/b/c/pyproject.toml", TABLE)
    write(pytester.path / "a/b/c/test_it.py", "def test_it(async_db): pass\n")
    result = pytester.runpytest_inprocess()
    result.stdout.fnmatch_lines(
        [f"async_db: a configuration of elefast was found in {pytester.path}/a/b/c/pyproject.toml, *"]
    )


def test_there_is_none(pytester: pytest.Pytester) -> None:
    """Then there is a command that writes one."""
    pytester.makepyfile("def test_it(db_session): pass")
    result = pytester.runpytest_inprocess()
    result.stdout.fnmatch_lines(["db_session: there is no configuration of elefast in *", 'Run "elefast init" there*'])


def test_other_fixtures_are_no_concern(pytester: pytest.Pytester) -> None:
    """Nothing is said of what is not elefast's."""
    pytester.makepyfile("def test_it(database): pass\ndef test_bad(): assert 0")
    assert "of elefast" not in pytester.runpytest_inprocess().stdout.str()
