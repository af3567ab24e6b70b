"""A project that does not use elefast does not notice it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("pydantic", "pydantic_settings", "sqlalchemy", "psycopg", "docker", "alembic")


def _imported(pytester: pytest.Pytester, *args: str) -> set[str]:
    """The packages that a run of pytest imports."""
    # pytest-randomly imports the libraries for test data that it finds, and with them SQLAlchemy.
    off = [option for name in ("cacheprovider", "randomly", "faker") for option in ("-p", f"no:{name}")]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pytest", *off, *args],
        cwd=pytester.path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_nothing_heavy_is_imported(pytester: pytest.Pytester) -> None:
    """Without a configuration the plugin costs no import but its own small ones."""
    pytester.makepyfile("def test_it(): pass")
    pytester.makepyprojecttoml('[project]\nname = "elefast-is-only-mentioned"')
    assert _imported(pytester).isdisjoint(HEAVY)


def test_there_are_no_fixtures(pytester: pytest.Pytester) -> None:
    """`db` may be somebody else's, or a mistake that pytest should report as it always does."""
    pytester.makepyfile("def test_it(db): pass")
    pytester.runpytest_subprocess().stdout.fnmatch_lines(["*fixture 'db' not found*"])


def test_marker_and_options_are_known(pytester: pytest.Pytester) -> None:
    """Shared markers and `addopts` do not break where there is no configuration."""
    pytester.makepyfile("import pytest\n@pytest.mark.elefast(keep='failed')\ndef test_it(): pass")
    result = pytester.runpytest_subprocess(
        "--strict-markers", "--elefast-profile=ci", "--elefast-keep", "--elefast-rebuild", "--elefast-report"
    )
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*elefast:*")
    result.stdout.no_fnmatch_line("*- elefast -*")


def test_a_configured_project_imports_nothing_heavy_to_collect(pytester: pytest.Pytester) -> None:
    """Collecting stays instant with a configuration, also with a broken one."""
    pytester.makepyfile("def test_it(db): pass")
    pytester.makefile(".toml", elefast="broken =")
    assert _imported(pytester, "--collect-only").isdisjoint(HEAVY)


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_reads_no_settings(pytester: pytest.Pytester, option: str) -> None:
    """`--help` works whatever the configuration is, even with variables to protect."""
    pytester.makefile(".toml", elefast='export_env = ["DATABASE_URL"]\nbroken =')
    assert _imported(pytester, option).isdisjoint(HEAVY)
