"""Every example is green in a copy outside of this repository: twice in a row, and with workers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

EXAMPLES = Path(__file__).parents[3] / "examples"
# The directories in which pytest is run, and further ones whose modules are installed in a real environment.
RUNS = {
    "quickstart": (".", []),
    "sync": (".", []),
    "scenarios": (".", []),
    "fastapi-async": (".", []),
    "existing-ci-service": (".", []),
    "uv-monorepo/orders": ("packages/orders", ["packages/orders", "testing"]),
    "uv-monorepo/stock": ("packages/stock", ["packages/stock", "testing"]),
}


def run(name: str, tmp_path: Path, server_url: str, *options: str, **env: str) -> str:
    """Run pytest in a copy of an example; what it said."""
    example = name.partition("/")[0]
    copy = tmp_path / example
    shutil.copytree(
        EXAMPLES / example, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".venv", "uv.lock")
    )
    where, paths = RUNS[name]
    plugin = ["-p", "shop_testing"] if example == "uv-monorepo" else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *plugin, *options],
        cwd=copy / where,
        env={
            **os.environ,
            "ELEFAST_ENGINE__URL": server_url,
            "PYTHONPATH": os.pathsep.join(str(copy / path) for path in paths),
            "PYTHONDONTWRITEBYTECODE": "1",
            **env,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("name", RUNS)
def test_green_twice_and_with_workers(name: str, tmp_path: Path, server_url: str) -> None:
    """As its README says."""
    passed = run(name, tmp_path, server_url).splitlines()[-1].split()[0]
    assert int(passed) >= 2
    assert run(name, tmp_path, server_url, "-n", "2", "-p", "no:randomly").splitlines()[-1].split()[0] == passed


def test_every_example_is_run_and_has_a_readme() -> None:
    """None is forgotten."""
    there = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert there == {name.partition("/")[0] for name in RUNS}
    assert all((EXAMPLES / name / "README.md").read_text().startswith("# ") for name in there)


def test_the_profile_of_ci_is_in_the_jobs(tmp_path: Path, server_url: str) -> None:
    """Both files are YAML with the profile and the URL, and the example passes with them."""
    example = EXAMPLES / "existing-ci-service"
    github = yaml.safe_load((example / ".github/workflows/test.yml").read_text())["jobs"]["test"]["env"]
    gitlab = yaml.safe_load((example / ".gitlab-ci.yml").read_text())["test"]["variables"]
    for variables in (github, gitlab):
        assert variables["ELEFAST_PROFILE"] == "ci"
        assert variables["ELEFAST_ENGINE__URL"].startswith("postgresql://")
    assert gitlab["ELEFAST_ENGINE__ALLOW_REMOTE"] == "true"
    run("existing-ci-service", tmp_path, server_url, ELEFAST_PROFILE="ci")


def test_the_workspace_names_its_members() -> None:
    """What `uv sync` installs is there, and the plugin is declared."""
    root = EXAMPLES / "uv-monorepo"
    document = tomllib.loads((root / "pyproject.toml").read_text())
    members = [path for pattern in document["tool"]["uv"]["workspace"]["members"] for path in root.glob(pattern)]
    names = {tomllib.loads((path / "pyproject.toml").read_text())["project"]["name"] for path in members}
    assert names == set(document["tool"]["uv"]["sources"]) == {"orders", "stock", "shop-testing"}
    plugin = tomllib.loads((root / "testing" / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert plugin == {"shop-testing": "shop_testing"}
