"""What `elefast init` and `elefast check` say about roles and policies in the migrations."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from elefast.cli.check.project import ProjectProbes
from elefast.cli.init.project import read_project
from elefast.cli.init.proposal import InitOptions, propose
from elefast.cli.init.roles import mentioned_roles
from elefast.config.load import resolve

POLICY = "alter table note enable row level security;\ncreate policy p on note using (true);\n"


def _project(root: Path, sql: str) -> None:
    (root / "pyproject.toml").write_text('[project]\nname = "shop"\n')
    (root / "schema.sql").write_text(f"create table note (id int);\n{sql}")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("", {}),
        (POLICY, {"role": "app", "roles": {"app": {"grants": "write"}}}),
        (
            POLICY + 'GRANT SELECT, INSERT ON note TO Web;\nALTER TABLE note OWNER TO "Owner";\n',
            {"role": "web", "roles": {"web": {"grants": "none"}, "Owner": {"grants": "none"}}},
        ),
        ("alter table note owner to shop_owner;", {"roles": {"shop_owner": {"grants": "none"}}}),
        ("grant select on note to public; grant all on schema public to current_user;", {}),
        ("create role web; grant select on note to web;", {}),
        (
            "do $$ begin create role web; exception when duplicate_object then null; end $$; grant all on note to web;",
            {"role": "web", "roles": {"web": {"grants": "none"}}},
        ),
        (
            "create policy p on note for select to reader using (true);",
            {"role": "reader", "roles": {"reader": {"grants": "none"}}},
        ),
    ],
)
def test_init_proposes_roles(tmp_path: Path, sql: str, expected: dict[str, object]) -> None:
    """Declared is what the migrations mention and do not create; tests get the role that is granted something."""
    _project(tmp_path, sql)
    proposal = propose(read_project(tmp_path), InitOptions())
    table = tomllib.loads(proposal.text(""))
    assert {key: value for key, value in table.items() if key in ("role", "roles")} == expected
    assert any("let it do so only where" in note for note in proposal.notes) == ("create role web; grant" in sql)


def test_revisions_are_searched(tmp_path: Path) -> None:
    """Roles in the SQL of Alembic's revisions count as well."""
    _project(tmp_path, "")
    (tmp_path / "schema.sql").unlink()
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = migrations\n")
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    (tmp_path / "migrations" / "env.py").write_text("from alembic import context\n")
    (versions / "0001.py").write_text(
        'from alembic import op\nrevision = "1"\ndown_revision = None\n'
        'def upgrade():\n    op.create_table("note")\n    op.execute("GRANT SELECT ON note TO app_reader")\n'
    )
    assert mentioned_roles(read_project(tmp_path)).grantees == ("app_reader",)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("", ("warning", 'role = "app" in [tool.elefast], and a table [tool.elefast.roles.app]')),
        ("[roles.web]\n", ("warning", 'role = "web" in [tool.elefast];')),
        ('role = "web"\n[roles.web]\n', ("ok", "")),
        (
            'role = "web"\n[roles.web]\nbypass_rls = true\n',
            ("warning", "bypass_rls = false in [tool.elefast.roles.web]"),
        ),
    ],
)
def test_check_reports_policies_that_do_not_apply(tmp_path: Path, keys: str, expected: tuple[str, str]) -> None:
    """It looks at the migrations and at the configuration, and starts nothing."""
    _project(tmp_path, POLICY)
    (tmp_path / "elefast.toml").write_text(f'migrator = "none"\n{keys}')
    status, _, remedy = ProjectProbes(resolve(tmp_path, env={}), read_project(tmp_path)).policies()
    assert status == expected[0]
    assert expected[1] in remedy
