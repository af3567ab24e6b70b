"""Profiles: which one is in force, and that both files can have parts of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from elefast.errors import ConfigurationError

if TYPE_CHECKING:
    from tests.unit.config.conftest import Project


def test_the_argument_wins_over_the_variable(project: Project) -> None:
    """`profile=`, which `--elefast-profile` becomes, decides before `ELEFAST_PROFILE`."""
    project.write("elefast.toml", "profiles.a.keep = 'failed'\nprofiles.b.keep = 'always'\n")
    loaded = project.load({"ELEFAST_PROFILE": "a"}, profile="b")
    assert (loaded.profile, loaded.settings.keep) == ("b", "always")
    assert project.load({"ELEFAST_PROFILE": "a"}).settings.keep == "failed"


def test_one_profile_in_two_files(project: Project) -> None:
    """The parts of a profile merge like everything else."""
    project.write("pyproject.toml", "[tool.elefast.profiles.ci]\nkeep = 'failed'\nleaks = 'error'\n")
    project.write("elefast.toml", "profiles.ci.keep = 'always'\n")
    settings = project.load(profile="ci").settings
    assert (settings.keep, settings.leaks) == ("always", "error")


def test_a_profile_can_switch_the_kind(project: Project) -> None:
    """A table that the other kind uses may stay: unused tables are legal."""
    project.write(
        "pyproject.toml",
        "[tool.elefast]\nprovider = 'docker'\ndocker.port = 5433\n"
        "[tool.elefast.profiles.ci]\nprovider = 'url'\nengine.url = 'postgresql://localhost/x'\n",
    )
    settings = project.load(profile="ci").settings
    assert (settings.provider, settings.docker.port) == ("url", 5433)


def test_a_migrator_of_another_profile_is_not_written(project: Project) -> None:
    """With "auto", only the tables that are in force count."""
    project.write("elefast.toml", "[sql]\nfiles = ['a.sql']\n[profiles.ci.command]\nrun = ['x']\n[profiles.local]\n")
    assert project.load(profile="local").migrator.migrator == "sql"


def test_relative_paths_of_a_profile(project: Project) -> None:
    """They are relative to the file, like all others."""
    project.write("elefast.toml", "profiles.ci.seed = ['seed.sql']\n")
    assert project.load(profile="ci").settings.seed == [str(project.directory / "seed.sql")]


def test_names_that_need_quotes(project: Project) -> None:
    """A profile may have any name."""
    project.write("elefast.toml", "[profiles.'py 3.14'.docker]\nport = 3\n")
    loaded = project.load({"ELEFAST_PROFILE": "py 3.14"})
    assert loaded.settings.docker.port == 3
    assert str(loaded.provenance["docker.port"]) == "elefast.toml:2"


def test_a_profile_without_a_name_is_refused(project: Project) -> None:
    """It would be in force whenever no other one is."""
    project.write("elefast.toml", "[profiles.'']\nkeep = 'always'\n")
    with pytest.raises(ConfigurationError, match=r"elefast.toml:1 .*a profile needs a name"):
        project.load()
