"""Alembic projects as people have them, with an env.py that nobody edited for elefast."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy import URL

from elefast.errors import ConfigurationError, MigrationError
from elefast.migrators import Alembic, Plan
from elefast.templates.fingerprint import Key
from tests.integration.migrators.migrator_support import Project, dsn_of, query, tables

# An env.py that gets its engine from a line of the test.
_ENV = """\
from alembic import context
from sqlalchemy import create_engine, text
import os

{setup}
with create_engine(url).connect() as connection:
    {before}
    context.configure(connection=connection{options})
    with context.begin_transaction():
        context.run_migrations()
"""


def plan(project: Project, *variables: str, **options: object) -> Plan:
    """A plan with the Alembic project in `project`."""
    return Plan(root=project.root, migrator=Alembic(**options), url_variables=variables)  # type: ignore[arg-type]


def write_env(project: Project, setup: str, before: str = "", options: str = "") -> None:
    """Replace env.py by one that finds its URL by the code `setup`."""
    project.write("migrations/env.py", _ENV.format(setup=setup, before=before, options=options))


@pytest.mark.parametrize("kind", ["generic", "async", "pyproject", "pyproject_async"])
def test_templates_of_alembic_work_unedited(project: Project, template: URL, kind: str) -> None:
    """Each of Alembic's own templates migrates the template."""
    project.alembic_init(kind)

    plan(project).build(template)

    assert tables(template) == ["alembic_version", "first", "second"]
    assert query(template, "SELECT version_num FROM alembic_version") == [("0002",)]


def test_pyproject_can_be_named(project: Project, template: URL) -> None:
    """The configuration may be the pyproject.toml; the alembic.ini beside it counts as well."""
    project.alembic_init("pyproject")

    plan(project, config="pyproject.toml").build(template)

    assert "second" in tables(template)


def test_pyproject_alone(project: Project, template: URL) -> None:
    """A pyproject.toml without an alembic.ini is enough."""
    project.alembic_init("pyproject")
    (project.root / "alembic.ini").unlink()

    plan(project, config="pyproject.toml").build(template)

    assert "second" in tables(template)


def test_multidb_is_refused(project: Project) -> None:
    """A configuration for several databases is refused, with their names and a way out."""
    project.alembic_init("multidb")

    with pytest.raises(ConfigurationError, match=r"several databases \(engine1, engine2.*callable") as caught:
        plan(project).inputs()

    assert caught.value.problems[0].key == "alembic.config"


def test_inside_a_running_event_loop(project: Project, template: URL) -> None:
    """An async env.py calls asyncio.run(); it may be asked for from a loop all the same."""
    project.alembic_init("async")

    async def build() -> None:
        plan(project).build(template)

    asyncio.run(build())

    assert "second" in tables(template)


def test_several_heads(project: Project, template: URL) -> None:
    """All heads are upgraded to."""
    project.alembic_init()
    project.revision("0003", "0001", "CREATE TABLE third (id int)")

    plan(project).build(template)

    assert tables(template) == ["alembic_version", "first", "second", "third"]


def test_one_head_of_several(project: Project, template: URL) -> None:
    """Alembic's own explanation is shown where "head" is ambiguous."""
    project.alembic_init()
    project.revision("0003", "0001", "CREATE TABLE third (id int)")

    with pytest.raises(MigrationError, match="Multiple head revisions"):
        plan(project, revision="head").build(template)


def test_dependency_between_branches(project: Project, template: URL) -> None:
    """A head that another one depends on is not in the version table, and not missed."""
    project.alembic_init()
    project.revision("0003", None, "CREATE TABLE third (id int)")
    project.replace("migrations/versions/0003_it.py", "depends_on = None", "depends_on = '0002'")

    plan(project).build(template)

    assert query(template, "SELECT version_num FROM alembic_version") == [("0003",)]


def test_earlier_revision(project: Project, template: URL) -> None:
    """A revision before the head can be asked for."""
    project.alembic_init()

    plan(project, revision="0001").build(template)

    assert tables(template) == ["alembic_version", "first"]


def test_other_section(project: Project, template: URL) -> None:
    """Another section of the ini file counts where it is named."""
    project.alembic_init()
    project.replace("alembic.ini", "[alembic]", "[special]")

    plan(project, section="special").build(template)

    assert "second" in tables(template)


def test_unknown_section(project: Project) -> None:
    """A section that is not there is an error that names those that could be meant."""
    project.alembic_init()

    with pytest.raises(ConfigurationError, match=r'no section "specal"; it has a script_location in: alembic\n'):
        plan(project, section="specal").inputs()


def test_configuration_in_a_subdirectory(project: Project, template: URL) -> None:
    """A relative script_location starts where the configuration lies, as when Alembic runs there."""
    backend = project.below("backend")
    backend.alembic_init()
    ini = backend.root / "alembic.ini"
    # Alembic before 1.16 writes it like that anyway.
    backend.write("alembic.ini", ini.read_text().replace("script_location = %(here)s/", "script_location = "))
    assert "\nscript_location = migrations\n" in ini.read_text()
    backend.write("models.py", "NAME = 'x'")
    backend.replace("migrations/env.py", "from alembic import context", "from alembic import context\nimport models")

    manifest = plan(project, config="backend/alembic.ini").build(template)

    assert "second" in tables(template)
    assert "backend/models.py" in manifest.files


def test_configuration_that_is_used_from_the_project_directory(project: Project, template: URL) -> None:
    """``alembic -c conf/alembic.ini``: where env.py is found from there only, that is the working directory."""
    project.alembic_init()
    (project.root / "alembic.ini").unlink()
    project.write(
        "conf/alembic.ini", "[alembic]\nscript_location = migrations\nversion_locations = migrations/versions\n"
    )
    write_env(project, 'assert os.path.isdir("conf")\nurl = context.config.get_main_option("sqlalchemy.url")')

    plan(project, config="conf/alembic.ini").build(template)

    assert tables(template) == ["alembic_version", "first", "second"]


def test_configuration_without_an_env_anywhere(project: Project) -> None:
    """The error names both places."""
    project.write("conf/alembic.ini", "[alembic]\nscript_location = migrations\n")
    with pytest.raises(ConfigurationError) as caught:
        plan(project, config="conf/alembic.ini").inputs()
    for place in ("conf/migrations/env.py", "migrations/env.py"):
        assert f"no file {project.root / place}" in str(caught.value) or f"no {project.root / place}" in str(
            caught.value
        )


def test_version_table_of_another_name_and_schema(project: Project, template: URL) -> None:
    """The version table that env.py configures is the one that is looked at."""
    project.alembic_init()
    write_env(
        project,
        'url = context.config.get_main_option("sqlalchemy.url")',
        'connection.execute(text("CREATE SCHEMA meta")); connection.commit()',
        ', version_table="done", version_table_schema="meta"',
    )

    plan(project).build(template)

    assert tables(template, "meta") == ["done"]


def test_hard_coded_other_database(project: Project, template: URL, new_database: Callable[[], URL]) -> None:
    """An env.py that connects to a database of its own choice is refused, and that database not touched."""
    other = new_database()
    project.alembic_init()
    write_env(project, f"url = {other.render_as_string(hide_password=False)!r}")

    with pytest.raises(MigrationError) as caught:
        plan(project).build(template)

    assert tables(other) == []
    message = str(caught.value)
    assert f'database "{other.database}"' in message
    assert "migrations/env.py:" in message
    assert "alembic.env" in message


def test_sqlite_file(project: Project, template: URL) -> None:
    """A default such as a SQLite file is another database, too."""
    project.alembic_init()
    write_env(project, "url = 'sqlite:///dev.db'")

    with pytest.raises(MigrationError, match=r'database "\S*dev\.db"'):
        plan(project).build(template)

    assert not (project.root / "dev.db").exists()


def test_variable_that_is_read_at_import(project: Project, template: URL) -> None:
    """A variable of alembic.env leads env.py to the template, whatever it was before."""
    project.alembic_init()
    write_env(project, 'url = os.environ["APP_DATABASE_URL"]')

    plan(project, "APP_DATABASE_URL").build(template)

    assert "second" in tables(template)


def test_variable_with_another_driver(project: Project, template: URL) -> None:
    """A variable may have the URL for another driver."""
    project.alembic_init("async")
    env = project.root / "migrations/env.py"
    env.write_text(
        env.read_text().replace(
            "config = context.config",
            "import os\nconfig = context.config\n"
            "assert os.environ['APP_URL'].startswith('postgresql+asyncpg://')\n"
            "config.set_main_option('sqlalchemy.url', os.environ['APP_URL'])",
        )
    )

    plan(project, "APP_URL=postgresql+asyncpg").build(template)

    assert "second" in tables(template)


def test_connection_of_the_attributes(project: Project, template: URL) -> None:
    """env.py may use the connection it is offered, and leave the commit to others."""
    project.alembic_init()
    project.write(
        "migrations/env.py",
        """\
        from alembic import context
        from sqlalchemy import text

        connection = context.config.attributes["connection"]
        assert not connection.in_transaction()
        connection.execute(text("SELECT 1"))
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
        """,
    )

    plan(project).build(template)

    assert "second" in tables(template)


def test_nothing_arrived(project: Project, template: URL) -> None:
    """An env.py that forgets to commit is named, with ways out."""
    project.alembic_init()
    write_env(
        project,
        'url = context.config.get_main_option("sqlalchemy.url")',
        'connection.execute(text("SET lock_timeout = 1000"))',
    )

    with pytest.raises(
        MigrationError, match=r"does not exist: migrations/env.py connected elsewhere, or did not commit"
    ):
        plan(project).build(template)


def test_env_that_does_nothing(project: Project, template: URL) -> None:
    """An env.py that does not run migrations is an error."""
    project.alembic_init()
    project.write("migrations/env.py", "")

    with pytest.raises(MigrationError, match=r"without context\.run_migrations"):
        plan(project).build(template)


def test_failing_migration(project: Project, template: URL) -> None:
    """The error has the revision, its file, PostgreSQL's own words, the line of the project and what was printed."""
    project.alembic_init()
    project.revision("0003", "0002", "ALTER TABLE nowhere ADD x int", extra="print('some words')")

    with pytest.raises(MigrationError) as caught:
        plan(project).build(template)

    message = str(caught.value)
    assert "alembic upgrade heads failed in revision 0003 (migrations/versions/0003_it.py)" in message
    assert 'relation "nowhere" does not exist' in message
    assert "migrations/versions/0003_it.py:11 in upgrade" in message
    assert "some words" in message
    assert "site-packages" not in message


def test_x_arguments(project: Project, template: URL) -> None:
    """env.py gets the arguments of alembic.x."""
    project.alembic_init()
    write_env(
        project,
        'url = context.config.get_main_option("sqlalchemy.url")\n'
        'assert context.get_x_argument(as_dictionary=True) == {"a": "1", "b": "2"}\n',
    )

    plan(project, x=("a=1", "b=2")).build(template)


def test_password_with_special_characters(project: Project, template: URL) -> None:
    """Percent signs and the like in a password survive the ini file and the environment."""
    project.alembic_init()
    password = "p%40s:/@ %(here)s"
    role = f"{template.database}_role"
    with psycopg.connect(dsn_of(template), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'".encode())
        connection.execute(f'ALTER DATABASE "{template.database}" OWNER TO {role}'.encode())
    try:
        plan(project, "APP_URL").build(template.set(username=role, password=password))
        assert "second" in tables(template)
    finally:
        with psycopg.connect(dsn_of(template), autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {role} CASCADE".encode())
            connection.execute(f'ALTER DATABASE "{template.database}" OWNER TO CURRENT_USER'.encode())
            connection.execute(f"DROP ROLE {role}".encode())


def test_logging_of_this_process_is_not_touched(project: Project, template: URL) -> None:
    """fileConfig() in env.py does not switch off the loggers of the tests."""
    logger = logging.getLogger("some.application")
    project.alembic_init()

    plan(project).build(template)

    assert not logger.disabled


def labels(project: Project) -> set[str]:
    """The digests of all inputs of the Alembic project, to compare."""
    return {f"{item.label} {item.digest}" for item in plan(project).inputs() or ()}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("migrations/versions/0002_it.py", "# changed"),
        ("migrations/versions/0003_it.py", "revision = '0003'\ndown_revision = '0002'"),
        ("migrations/env.py", "# changed"),
        ("alembic.ini", "# changed"),
    ],
)
def test_key_changes(project: Project, path: str, text: str) -> None:
    """A change to a revision, to env.py or to the ini file, and another revision give another key."""
    project.alembic_init()
    before = labels(project)
    with (project.root / path).open("a") as file:
        file.write(text)

    assert labels(project) != before


def test_key_changes_when_a_revision_is_renamed(project: Project) -> None:
    """Names count as well as bytes."""
    project.alembic_init()
    before = labels(project)
    (project.root / "migrations/versions/0002_it.py").rename(project.root / "migrations/versions/0002_that.py")

    assert labels(project) != before


def test_key_of_a_pyproject_is_its_table(project: Project) -> None:
    """What a pyproject.toml says besides makes no other key, and no difference to the manifest."""
    project.alembic_init("pyproject")
    before = labels(project)
    project.replace("pyproject.toml", "[tool.alembic]", "[tool.other]\nx = 1\n[tool.alembic]")
    assert labels(project) == before

    project.replace("pyproject.toml", "[tool.alembic]", "[tool.alembic]\ntimezone = 'UTC'")
    assert labels(project) != before


def test_pyproject_is_not_in_the_manifest(project: Project, template: URL) -> None:
    """Alembic reads the pyproject.toml; that does not make the template depend on all of it."""
    project.alembic_init("pyproject")
    manifest = plan(project).build(template)
    project.replace("pyproject.toml", "[tool.alembic]", "[tool.other]\nx = 1\n[tool.alembic]")

    assert manifest.differences(project.root) == []


def test_unrelated_file_beside_the_revisions(project: Project, template: URL) -> None:
    """A file that is no revision makes no other key, and no difference to the manifest."""
    project.alembic_init()
    before = labels(project)
    manifest = plan(project).build(template)
    project.write("migrations/versions/.0002_it.py.swp")
    project.write("migrations/README.md")

    assert labels(project) == before
    assert manifest.differences(project.root) == []


def test_the_key_needs_no_alembic(project: Project) -> None:
    """Every test process asks for the key, so that must not import Alembic."""
    project.alembic_init()
    code = (
        "import sys; from pathlib import Path; from elefast.migrators import Alembic, Plan;"
        "plan = Plan(root=Path('.'), migrator=Alembic()); assert plan.inputs(); assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=project.root, check=True)


def test_missing_configuration(project: Project) -> None:
    """A path that leads nowhere is an error with the key and the path."""
    with pytest.raises(ConfigurationError, match=r"alembic\.config: there is no file .*alembic\.ini"):
        plan(project).inputs()


def test_labels_are_unique(project: Project) -> None:
    """Each input has a label of its own, so that a change can be named."""
    project.alembic_init()
    key = Key.of(plan(project).inputs() or ())
    project.replace("migrations/versions/0002_it.py", "second", "zweite")

    assert Key.of(plan(project).inputs() or ()).changes(key.inputs) == ["changed migrations/versions/0002_it.py"]
