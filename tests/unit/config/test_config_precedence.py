"""Who wins: every layer over every one below it, key by key, and what each value says of its origin."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.unit.config.conftest import Project

LAYERS = ["argument", "environment", "overlay profile", "overlay", "pyproject profile", "pyproject"]

ORIGINS = {
    "argument": "from_config(docker=...)",
    "environment": "env ELEFAST_DOCKER__IMAGE",
    "overlay profile": "elefast.toml:5",
    "overlay": "elefast.toml:3",
    "pyproject profile": "pyproject.toml:5",
    "pyproject": "pyproject.toml:3",
}


def _set(project: Project, layers: tuple[str, ...]) -> tuple[dict[str, str], dict[str, Any]]:
    """Let these layers name themselves in `docker.image`; the others say nothing of it."""

    def line(layer: str) -> str:
        return f'image = "{layer}"' if layer in layers else ""

    project.write(
        "pyproject.toml",
        f"# a comment\n[tool.elefast.docker]\n{line('pyproject')}\n"
        f"[tool.elefast.profiles.ci.docker]\n{line('pyproject profile')}\n",
    )
    project.write(
        "elefast.toml",
        f"# a comment\n[docker]\n{line('overlay')}\n[profiles.ci.docker]\n{line('overlay profile')}\n",
    )
    env = {"ELEFAST_DOCKER__IMAGE": "environment"} if "environment" in layers else {}
    arguments = {"docker": {"image": "argument"}} if "argument" in layers else {}
    return env, arguments


@pytest.mark.parametrize(("higher", "lower"), list(combinations(LAYERS, 2)))
def test_the_higher_layer_wins(project: Project, higher: str, lower: str) -> None:
    """Of two layers that say something, the one that comes first in the list is in force."""
    env, arguments = _set(project, (higher, lower))
    loaded = project.load(env, profile="ci", **arguments)
    assert loaded.settings.docker.image == higher
    assert str(loaded.provenance["docker.image"]) == ORIGINS[higher]


@pytest.mark.parametrize("layer", LAYERS)
def test_one_layer_wins_over_the_default(project: Project, layer: str) -> None:
    """Each layer alone replaces the default."""
    env, arguments = _set(project, (layer,))
    loaded = project.load(env, profile="ci", **arguments)
    assert loaded.settings.docker.image == layer
    assert str(loaded.provenance["docker.image"]) == ORIGINS[layer]


def test_a_profile_that_is_not_chosen_says_nothing(project: Project) -> None:
    """Profiles are only read when they are in force."""
    env, arguments = _set(project, ("overlay profile", "pyproject"))
    loaded = project.load(env, **arguments)
    assert loaded.settings.docker.image == "pyproject"


def test_tables_merge_key_by_key(project: Project) -> None:
    """A layer that sets one key of a table leaves the other keys to the layers below."""
    project.write("pyproject.toml", '[tool.elefast.docker]\nimage = "a"\nport = 1\nuser = "u"\n')
    project.write("elefast.toml", '[docker]\nimage = "b"\n')
    docker = project.load({"ELEFAST_DOCKER__PORT": "2"}).settings.docker
    assert (docker.image, docker.port, docker.user, docker.name) == ("b", 2, "u", "")


def test_lists_are_replaced(project: Project) -> None:
    """A list of a higher layer is not added to that of a lower one."""
    project.write("pyproject.toml", '[tool.elefast]\nextensions = ["a", "b"]\n')
    project.write("elefast.toml", 'extensions = ["c"]\n')
    assert project.load().settings.extensions == ["c"]


def test_open_tables_merge_at_any_depth(project: Project) -> None:
    """The user's own tables merge as ours do, and each part knows where it came from."""
    project.write(
        "pyproject.toml",
        "[tool.elefast.engine]\nconnect_args = { server_settings = { jit = 'off', TimeZone = 'UTC' } }\n",
    )
    loaded = project.load(engine={"connect_args": {"server_settings": {"jit": "on"}}})
    assert loaded.settings.engine.connect_args == {"server_settings": {"jit": "on", "TimeZone": "UTC"}}
    origins = {key: str(origin) for key, origin in loaded.provenance.items() if "connect_args.server" in key}
    assert origins == {
        "engine.connect_args.server_settings.jit": "from_config(engine=...)",
        "engine.connect_args.server_settings.TimeZone": "pyproject.toml:2",
    }


def test_upper_case_names_in_open_tables_keep_their_case(project: Project) -> None:
    """A name that only the database or the driver knows is not ours to fold."""
    project.write("elefast.toml", "tuning.settings.DateStyle = 'ISO'\n[engine.options]\nMyOption = 1\n")
    settings = project.load().settings
    assert settings.tuning.settings == {"DateStyle": "ISO"}
    assert settings.engine.options == {"MyOption": 1}


def test_every_key_has_an_origin(project: Project) -> None:
    """What nobody set says so."""
    project.write("elefast.toml", 'provider = "local"\n')
    provenance = project.load().provenance
    assert str(provenance["provider"]) == "elefast.toml:1"
    assert str(provenance["pool.size"]) == "default"


def test_arguments_with_two_underscores_win_over_nested_ones(project: Project) -> None:
    """Both ways to write an argument work, and the more exact one decides."""
    project.write("elefast.toml", "")
    loaded = project.load(docker={"port": 1, "image": "x"}, docker__port=2)
    assert (loaded.settings.docker.port, loaded.settings.docker.image) == (2, "x")
    assert str(loaded.provenance["docker.port"]) == "from_config(docker__port=...)"
    assert str(loaded.provenance["docker.image"]) == "from_config(docker=...)"


def test_an_argument_that_is_none_is_not_given(project: Project) -> None:
    """Callers can hand on what they may not have."""
    project.write("elefast.toml", 'keep = "failed"\n')
    assert project.load(keep=None, docker={"port": None}).settings.keep == "failed"


def test_arguments_may_be_python_objects(project: Project) -> None:
    """Paths, tuples and SQLAlchemy's URLs are what people have at hand."""
    from sqlalchemy.engine import make_url

    project.write("elefast.toml", "")
    url = make_url("postgresql://me:secret@localhost/x")
    settings = project.load(
        alembic={"config": project.directory / "a.ini"}, engine__url=url, extensions=("a", "b")
    ).settings
    assert settings.alembic.config == str(project.directory / "a.ini")
    assert settings.engine.url == "postgresql://me:secret@localhost/x"
    assert settings.extensions == ["a", "b"]


def test_nothing_of_the_process_environment_gets_in(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A given environment replaces that of the process; without one, the process's is read now, not at import."""
    project.write("elefast.toml", "")
    monkeypatch.setenv("ELEFAST_KEEP", "failed")
    assert project.load({}).settings.keep == "never"
    from elefast.config import load_settings

    assert load_settings(project.directory).settings.keep == "failed"


def test_files_and_directories_are_reported(project: Project) -> None:
    """A tool can say which files it read."""
    project.write("pyproject.toml", "[tool.elefast]\n")
    project.write("elefast.toml", "")
    loaded = project.load()
    assert [file.name for file in loaded.files] == ["elefast.toml", "pyproject.toml"]
    assert loaded.directory == loaded.project == project.directory


def test_a_project_may_be_arguments_only(project: Project) -> None:
    """Arguments are a configuration as well."""
    loaded = project.load(provider="local")
    assert loaded.files == ()
    assert loaded.settings.provider == "local"
