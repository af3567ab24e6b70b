"""SQL files, real dumps among them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from sqlalchemy import URL

from elefast.errors import ConfigurationError, MigrationError
from elefast.migrators import Plan, Sql
from elefast.templates.manifest import Manifest
from tests.integration.migrators.migrator_support import Project, dsn_of, query, tables
from tests.support.dumps import pg_dumps

_SCHEMA = r"""
CREATE SCHEMA "Odd ""name";
CREATE TYPE mood AS ENUM ('sad', 'it''s; ok');
CREATE TABLE people (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, mood mood DEFAULT 'sad');
COMMENT ON TABLE people IS 'with; a "comment" and $$';
CREATE TABLE "Odd ""name".log (at timestamptz NOT NULL, note text) PARTITION BY RANGE (at);
CREATE TABLE "Odd ""name".log_2025 PARTITION OF "Odd ""name".log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  -- don't; stop
  NEW.name := NEW.name || E'\'; /*';
  RETURN NEW;
END $$;
CREATE FUNCTION two() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END; END;
INSERT INTO people (name) VALUES (E'tab\there'), (E'back\\slash \\. \\N'), (E'new\nline'), (NULL), ('ünï'), (E'\\.');
INSERT INTO "Odd ""name".log VALUES ('2025-02-03', 'x');
CREATE TRIGGER touched BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION touch();
CREATE VIEW sad AS SELECT name FROM people WHERE mood = 'sad';
"""
_FACTS = (
    "SELECT id, name, mood::text FROM people ORDER BY id",
    'SELECT note FROM "Odd ""name".log_2025',
    "SELECT two()",
    "SELECT count(*) FROM sad",
    "SELECT prosrc FROM pg_proc WHERE proname = 'touch'",
    "SELECT obj_description('people'::regclass)",
    "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
)


def run(project: Project, template: URL, *files: str) -> None:
    """Run the SQL `files` of the project."""
    Plan(root=project.root, migrator=Sql(files)).build(template)


@pytest.mark.parametrize("options", [[], ["--inserts"], ["--quote-all-identifiers", "--column-inserts"]])
@pytest.mark.parametrize("program", pg_dumps())
def test_real_dump(
    project: Project, template: URL, new_database: Callable[[], URL], program: str, options: list[str]
) -> None:
    """What pg_dump writes today makes the same database again."""
    project.write("source.sql", _SCHEMA)
    run(project, template, "source.sql")
    dump = subprocess.run([program, *options, dsn_of(template)], capture_output=True, check=False)
    if b"server version mismatch" in dump.stderr:
        pytest.skip(dump.stderr.decode())
    assert dump.returncode == 0, dump.stderr.decode()
    (project.root / "dump.sql").write_bytes(dump.stdout)
    copy = new_database()

    run(project, copy, "dump.sql")

    for fact in _FACTS:
        assert query(copy, fact) == query(template, fact)


def test_each_file_has_a_connection_of_its_own(project: Project, template: URL) -> None:
    """The empty search_path of a dump does not reach the next file."""
    project.write("1.sql", "SELECT pg_catalog.set_config('search_path', '', false); CREATE TABLE public.a ();")
    project.write("2.sql", "CREATE TABLE b ();")

    run(project, template, "1.sql", "2.sql")

    assert tables(template) == ["a", "b"]


def test_order_of_files_and_globs(project: Project, template: URL) -> None:
    """Files come in the order they are written in, those of a glob sorted, each once."""
    project.write("migrations/2.sql", "INSERT INTO t VALUES ('2');")
    project.write("migrations/1.sql", "INSERT INTO t VALUES ('1');")
    project.write("migrations/deep/0.sql", "INSERT INTO t VALUES ('0');")
    project.write("schema.sql", "CREATE TABLE t (x text, n int GENERATED ALWAYS AS IDENTITY);")

    run(project, template, "schema.sql", "migrations/2.sql", "migrations/*.sql", "migrations/**/*.sql")

    assert query(template, "SELECT x FROM t ORDER BY n") == [("2",), ("1",), ("0",)]


def test_transactions(project: Project, template: URL) -> None:
    """BEGIN and COMMIT of the file count, and statements that refuse a transaction work outside of one."""
    project.write(
        "1.sql",
        "BEGIN; CREATE TABLE a (x int); ROLLBACK; BEGIN; CREATE TABLE b (x int); COMMIT;"
        "CREATE INDEX CONCURRENTLY i ON b (x); VACUUM b; SELECT '100%', '%s';",
    )

    run(project, template, "1.sql")

    assert tables(template) == ["b"]


def test_open_transaction(project: Project, template: URL) -> None:
    """A transaction that is left open would be lost, so it is an error."""
    project.write("1.sql", "BEGIN; CREATE TABLE a ();")

    with pytest.raises(MigrationError, match=r"1\.sql: a transaction is still open"):
        run(project, template, "1.sql")


def test_failing_statement(project: Project, template: URL) -> None:
    """The error has file and line of the mistake, and the beginning of the statement."""
    project.write("sub/1.sql", "SELECT 1;\n\nSELECT 1,\n  nothing\nFROM generate_series(1, 2);")

    with pytest.raises(MigrationError) as caught:
        run(project, template, "sub/1.sql")

    assert str(caught.value) == (
        'sub/1.sql:4: column "nothing" does not exist\n  statement: SELECT 1, nothing FROM generate_series(1, 2)'
    )


def test_passwords_in_failing_statements(project: Project, template: URL) -> None:
    """They are hidden, however they are quoted."""
    for number, statement in enumerate(("CREATE ROLE x PASSWORD 'it''s secret'", "ALTER ROLE x password E'a\\'secret")):
        project.write(f"{number}.sql", f"{statement} nonsense;")
        with pytest.raises(MigrationError) as caught:
            run(project, template, f"{number}.sql")
        assert "secret" not in str(caught.value).partition("statement: ")[2]
        assert "***" in str(caught.value)


def test_failing_data(project: Project, template: URL) -> None:
    """A mistake in the data of COPY is located by PostgreSQL's own words."""
    project.write("1.sql", "CREATE TABLE t (x int);\nCOPY t FROM stdin;\n1\nabc\n\\.\n")

    with pytest.raises(MigrationError, match=r'1\.sql:2: invalid input syntax(?s:.*)COPY t, line 2, column x: "abc"'):
        run(project, template, "1.sql")


def test_commands_of_psql(project: Project, template: URL) -> None:
    """A command of psql is refused with file and line."""
    project.write("1.sql", "SELECT 1;\n\\connect other\n")

    with pytest.raises(MigrationError, match=r"1\.sql:2: \\connect is a command of psql"):
        run(project, template, "1.sql")


def test_missing_role(project: Project, template: URL) -> None:
    """A dump that names a role of another server gets the option that leaves them out."""
    project.write("1.sql", "CREATE TABLE t (); ALTER TABLE t OWNER TO nobody_here;")

    with pytest.raises(MigrationError, match="--no-owner --no-privileges"):
        run(project, template, "1.sql")


def test_files_that_are_no_sql(project: Project, template: URL) -> None:
    """An archive of pg_dump, and bytes that are not UTF-8, are named as what they are."""
    (project.root / "dump.sql").write_bytes(b"PGDMP\x01\x0e")
    (project.root / "latin.sql").write_bytes("SELECT 1;\nSELECT 'ü'".encode("latin-1"))

    with pytest.raises(MigrationError, match=r"dump\.sql is an archive of pg_dump"):
        run(project, template, "dump.sql")
    with pytest.raises(MigrationError, match=r"latin\.sql:2: byte 0xfc is not UTF-8"):
        run(project, template, "latin.sql")


def test_a_byte_that_ends_a_statement_for_the_driver(project: Project, template: URL) -> None:
    """Of a statement with a NUL in it libpq would send the first half, so nothing of the file is run."""
    project.write("1.sql", "CREATE TABLE t (x int);\nINSERT INTO t VALUES (1)\0, (2);")

    with pytest.raises(MigrationError, match=r"1\.sql:2: there is a NUL byte"):
        run(project, template, "1.sql")
    assert tables(template) == []


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_TW"])
def test_another_client_encoding(project: Project, template: URL, encoding: str) -> None:
    """What the encoding that the file sets does not have, or Python does not know, is told with its line."""
    project.write("1.sql", f"SET client_encoding = '{encoding}';\n\nSELECT 1;\nSELECT '🐘';")

    with pytest.raises(MigrationError, match=rf"1\.sql:[34]: this cannot be written in {encoding}"):
        run(project, template, "1.sql")


def test_a_client_encoding_that_has_all(project: Project, template: URL) -> None:
    """The characters of the file arrive, whatever bytes the server is sent for them."""
    project.write("1.sql", "SET client_encoding = 'LATIN1'; CREATE TABLE t AS SELECT 'ü' AS x;")

    run(project, template, "1.sql")

    assert query(template, "SELECT x FROM t") == [("ü",)]


def test_copy_to_nobody(project: Project, template: URL) -> None:
    """There is nowhere to write to, and the error says so in the words of SQL."""
    project.write("1.sql", "SELECT 1;\nCOPY (SELECT 1) TO stdout;")

    with pytest.raises(MigrationError, match=r"1\.sql:2: the output of COPY TO STDOUT is not read here"):
        run(project, template, "1.sql")


def test_byte_order_mark(project: Project, template: URL) -> None:
    """A file of Windows may begin with a mark."""
    (project.root / "1.sql").write_text("CREATE TABLE t ();", encoding="utf-8-sig")

    run(project, template, "1.sql")

    assert tables(template) == ["t"]


def test_missing_files(project: Project) -> None:
    """All files that do not exist and globs that match nothing are listed at once."""
    with pytest.raises(ConfigurationError) as caught:
        Plan(root=project.root, migrator=Sql(("schema.sql", "migrations/*.sql"))).inputs()

    assert [f"{problem.key}: {problem.message}" for problem in caught.value.problems] == [
        f'sql.files: there is no file "schema.sql" in {project.root}',
        f'sql.files: no file matches "migrations/*.sql" in {project.root}',
    ]


def test_no_interpreter_is_started(project: Project, template: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQL needs no interpreter of its own, and leaves nothing to observe."""
    project.write("1.sql", "CREATE TABLE t ();")
    monkeypatch.setattr(subprocess, "Popen", None)

    manifest = Plan(root=project.root, migrator=Sql(("1.sql",))).build(template)

    assert manifest == Manifest()
