"""What copies of a template have from the start."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

import elefast
from elefast.postgres import databases
from elefast.postgres.names import Kind, Name


def test_copies_have_statistics_and_the_cache_file_of_their_catalogs(project: Path, env: dict[str, str]) -> None:
    """So that the first plan is a good one, and the first connection need not read all catalogs."""
    (project / "schema.sql").write_text(
        f"create table note as select g as id, 'x' as body from generate_series(1, 500) g;\n"
        f"create table empty (id int);\n-- {project}\n"
    )
    with elefast.from_config(project, env=env, template={"strategy": "file_copy"}) as stack:
        lent = stack.checkout()
        with lent.sync.session() as session:
            assert session.scalar(text("select reltuples from pg_class where relname = 'note'")) == 500
            assert session.scalar(text("select count(*) from pg_stats where tablename = 'note'")) == 2
        lent.release()
        files = stack.service.manager.session.call(_files, stack.report().template)
        assert "pg_internal.init" in files


def test_files_are_copied_as_always_where_blocks_cannot_be_shared(
    stack: elefast.Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands in for a file system that refuses; PostgreSQL reports what it says as an internal error."""
    stack.checkout().release()
    manager = stack.service.manager
    if manager.session.server_info.version < 180000:
        pytest.skip("the server has one way to copy files")
    ways: list[str] = []
    clone = databases.clone

    def refusing(connection: Connection, name: Any, **options: Any) -> None:
        ways.append(str(connection.scalar(text("show file_copy_method"))))
        if ways[-1] == "clone":
            error = Exception("could not clone file: Function not implemented")
            error.sqlstate = "XX000"  # type: ignore[attr-defined]
            raise OperationalError("CREATE DATABASE", {}, error)
        clone(connection, name, **options)

    monkeypatch.setattr(databases, "clone", refusing)
    stack.service.checkout("first", "utf8")
    stack.service.checkout("second", "utf8")
    assert ways == ["clone", "copy", "copy"]


def test_an_interrupt_right_after_a_draft_was_made_leaves_none(
    stack: elefast.Stack, names: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ctrl-C may come after the server has done something and before anybody has noted it."""
    before = names()
    create = databases.create

    def interrupted(connection: Connection, name: Name, **options: str) -> None:
        create(connection, name, **options)
        assert str(name) in names()
        raise KeyboardInterrupt

    monkeypatch.setattr(databases, "create", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stack.checkout()
    assert names() == before


def test_an_interrupt_right_after_a_template_of_the_run_was_made_leaves_none(
    project: Path, env: dict[str, str], names: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes at the end, though nobody has used it yet."""
    before = names()
    rename = databases.rename

    def interrupted(connection: Connection, name: str, new: Name) -> None:
        rename(connection, name, new)
        assert new.kind is Kind.VOLATILE
        assert str(new) in names()
        raise KeyboardInterrupt

    with elefast.from_config(project, env=env, template={"cache": False}) as stack, monkeypatch.context() as patch:
        patch.setattr(databases, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stack.checkout()
    assert names() == before


def _files(connection: Connection, name: str) -> list[str]:
    found = connection.execute(
        text("select pg_ls_dir('base/' || oid) from pg_database where datname = :name"), {"name": name}
    )
    return [str(file) for (file,) in found]


def _alone(project: Path) -> None:
    """Give the project a name that no other test has, so that no other template is the last one of it."""
    file = project / "pyproject.toml"
    file.write_text(file.read_text().replace("stack-tests", f"stack-tests-{project.name}"))


def _reason(project: Path, env: dict[str, str], **keys: Any) -> str:
    with elefast.from_config(project, env=env, **{f"template__{key}": value for key, value in keys.items()}) as stack:
        stack.checkout().release()
        return stack.report().template_reason


def test_a_variable_that_is_named(project: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`template.variables` gives each value a template of its own; not set differs from empty."""
    _alone(project)
    monkeypatch.delenv("WATCHED_DIMS", raising=False)
    keys = {"variables": ["WATCHED_DIMS"]}
    assert _reason(project, env, **keys) == "built: there was none yet"
    monkeypatch.setenv("WATCHED_DIMS", "")
    assert _reason(project, env, **keys) == "built: changed variable WATCHED_DIMS"
    monkeypatch.setenv("WATCHED_DIMS", "5")
    assert _reason(project, env, **keys) == "built: changed variable WATCHED_DIMS"
    assert _reason(project, env, **keys).startswith("reused")
    monkeypatch.delenv("WATCHED_DIMS")
    assert _reason(project, env, **keys).startswith("reused")


def test_a_template_that_is_too_old(project: Path, env: dict[str, str]) -> None:
    """`template.max_age` lets it be built again, and the summary says so; without it, age does not count."""
    _alone(project)
    (project / "schema.sql").write_text(f"create table note as select now() as made;\n-- {project}\n")
    assert _reason(project, env, max_age="1h") == "built: there was none yet"
    assert _reason(project, env, max_age="1h").startswith("reused")
    time.sleep(1.1)
    assert _reason(project, env).startswith("reused")
    assert _reason(project, env, max_age="1s").startswith("built: the last one is older than template.max_age (0:00:0")
    assert _reason(project, env, max_age="1h").startswith("reused")
