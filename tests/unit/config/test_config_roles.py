"""`[tool.elefast.roles.NAME]`, tables with names of the project's choice: every source, and what is wrong in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from elefast.config import load_settings
from elefast.config.cache import settings_for_run
from elefast.config.keys import named_tables
from elefast.config.model import Settings
from elefast.errors import ConfigurationError


def _load(directory: Path, text: str, env: dict[str, str] | None = None, **arguments: Any) -> Settings:
    (directory / "elefast.toml").write_text(text)
    return load_settings(directory, env=env or {}, **arguments).settings


def _problems(directory: Path, text: str, env: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        _load(directory, text, env)
    return str(caught.value)


def test_a_table_without_keys_declares_a_role(tmp_path: Path) -> None:
    """An empty table counts: all keys have defaults."""
    settings = _load(tmp_path, 'role = "app"\n[roles.app]\n')
    assert settings.model_dump()["roles"] == {"app": {"grants": "none", "member_of": [], "bypass_rls": False}}


def test_paths_of_grants_are_relative_to_the_file(tmp_path: Path) -> None:
    """Files are made absolute, and words stay."""
    settings = _load(tmp_path, '[roles.app]\ngrants = ["db/grants.sql"]\n[roles.viewer]\ngrants = "read"\n')
    assert settings.roles["app"].grants == [str(tmp_path / "db/grants.sql")]
    assert settings.roles["viewer"].grants == "read"


def test_tables_of_roles_merge_key_by_key(tmp_path: Path) -> None:
    """Arguments, variables, profiles and files each set a key of the same role."""
    text = '[roles.app]\ngrants = "read"\n[roles.app_owner]\n[profiles.ci.roles.app]\nmember_of = ["app_owner"]\n'
    env = {"ELEFAST_ROLES__APP__GRANTS": "write", "ELEFAST_ROLES__APP_OWNER__MEMBER_OF": "a,b"}
    settings = _load(tmp_path, text, env, profile="ci", roles={"app": {"bypass_rls": True}})
    app = settings.roles["app"]
    assert (app.grants, app.member_of, app.bypass_rls) == ("write", ["app_owner"], True)
    assert settings.roles["app_owner"].member_of == ["a", "b"]


def test_a_variable_has_all_roles_as_json(tmp_path: Path) -> None:
    """`ELEFAST_ROLES` is an object of tables."""
    settings = _load(tmp_path, "", {"ELEFAST_ROLES": '{"App": {"grants": "read"}}'})
    assert settings.roles["App"].grants == "read"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[roles.app]\ngrant = 1\n", 'elefast.toml:2  roles.app.grant: unknown key, did you mean "grants"?'),
        (
            '[roles.app]\ngrants = "raed"\n',
            'elefast.toml:2  roles.app.grants: expected a list of strings, "none", "read" or "write", got "raed", '
            'did you mean "read"?',
        ),
        ("[roles.app]\ngrants = [1]\n", "elefast.toml:2  roles.app.grants: expected a string in the list, got 1"),
        ("[roles.app]\nbypass_rls = 1\n", "elefast.toml:2  roles.app.bypass_rls: expected true or false, got 1"),
        ("roles.app = 1\n", "elefast.toml:1  roles.app: expected a table, got 1"),
        ("roles = 1\n", "elefast.toml:1  roles: expected a table, got 1"),
        ("[rolls.app]\n", 'elefast.toml:1  rolls: unknown key, did you mean "roles"?'),
        ("[roles.pg_app]\n", "elefast.toml:1  roles.pg_app: PostgreSQL reserves this name"),
        (f"[roles.{'a' * 64}]\n", "the name of a role has 1 to 63 bytes"),
        (
            'role = "ap"\n[roles.app]\n',
            'elefast.toml:1  role: "ap" is not declared, the known ones are "app", did you mean "app"? '
            "Write the table [roles.ap]",
        ),
        ('[roles.a]\nmember_of = ["b"]\n[roles.b]\nmember_of = ["a"]\n', '"a" would be a member of itself'),
        ('[engine.connect_args]\nuser = "me"\n[roles.app]\n', "elefast.toml:2  engine.connect_args.user: would win"),
    ],
)
def test_errors_name_the_role_and_its_place(tmp_path: Path, text: str, expected: str) -> None:
    """A problem has file, line, the whole key and what was expected."""
    assert expected in _problems(tmp_path, text)


def test_an_unknown_key_of_a_role_in_a_variable_is_an_error(tmp_path: Path) -> None:
    """A variable that names no key of a role is not taken for anything."""
    assert "env ELEFAST_ROLES__APP__GRANT  unknown variable" in _problems(
        tmp_path, "", {"ELEFAST_ROLES__APP__GRANT": "x"}
    )


def test_remembered_settings_have_the_same_roles(tmp_path: Path) -> None:
    """The second run reads no file, and gets equal values."""
    (tmp_path / "elefast.toml").write_text('role = "app"\n[roles.app]\ngrants = ["a.sql"]\n[roles.other]\n')
    caches = str(tmp_path / "caches")
    first, second = (settings_for_run(env={}, start=tmp_path, caches=caches).settings for _ in range(2))
    assert type(first) is Settings
    assert type(second) is not Settings
    assert second.model_dump() == first.model_dump()
    assert second.roles["app"].grants == first.roles["app"].grants


def test_the_cache_knows_every_named_table() -> None:
    """The list in the cache, which must not import the model, is that of the model."""
    from elefast.config import cache

    assert list(cache.NAMED) == [table.name for table in named_tables()]
