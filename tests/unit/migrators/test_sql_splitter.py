"""SQL scripts are split as psql splits them."""

from __future__ import annotations

import pytest

from elefast.migrators.sql_splitter import BackslashCommand, split


@pytest.mark.parametrize(
    ("script", "statements"),
    [
        ("", []),
        (" ;; -- nothing\n ; /* nothing */ ", []),
        ("SELECT 1; SELECT 2", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';'; SELECT 'it''s; '", ["SELECT ';'", "SELECT 'it''s; '"]),
        (r"SELECT '\'; SELECT 2", [r"SELECT '\'", "SELECT 2"]),
        (r"SELECT E'\';', e'\\'; SELECT 2", [r"SELECT E'\';', e'\\'", "SELECT 2"]),
        ('SELECT 1 AS "a;""b;"; SELECT 2', ['SELECT 1 AS "a;""b;"', "SELECT 2"]),
        ("SELECT $$a;$$; SELECT $tag$ $$; $other$; $tag$;", ["SELECT $$a;$$", "SELECT $tag$ $$; $other$; $tag$"]),
        ("SELECT foo$1$; SELECT $1; SELECT 1a$b$; ", ["SELECT foo$1$", "SELECT $1", "SELECT 1a$b$"]),
        ("SELECT $größe$;$größe$; SELECT 2", ["SELECT $größe$;$größe$", "SELECT 2"]),
        ("SELECT $🐘$;$🐘$; SELECT 2", ["SELECT $🐘$;$🐘$", "SELECT 2"]),
        ("SELECT 1$a$;$a$; SELECT 2", ["SELECT 1$a$;$a$", "SELECT 2"]),
        ("-- one\rSELECT 1; -- two\r\nSELECT 2", ["SELECT 1", "SELECT 2"]),
        ("\u00a0; SELECT 1 AS \u2028;", ["\u00a0", "SELECT 1 AS \u2028"]),
        ("/* a; /* b; */ c; */ SELECT 1; SELECT /* ; */ 2 -- ;\n + 3", ["SELECT 1", "SELECT /* ; */ 2 -- ;\n + 3"]),
        ("SELECT 5 - -1 / 2; SELECT 2", ["SELECT 5 - -1 / 2", "SELECT 2"]),
        (
            "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); SELECT 3",
            ["CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)", "SELECT 3"],
        ),
        (
            "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 1 END; END;"
            "SELECT 2",
            [
                "CREATE OR REPLACE FUNCTION f() RETURNS int "
                "BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 1 END; END",
                "SELECT 2",
            ],
        ),
        ("BEGIN; SELECT 1; END; SELECT 2", ["BEGIN", "SELECT 1", "END", "SELECT 2"]),
        ("\\restrict abc;'\nSELECT 1;\n\\unrestrict abc;'\n", ["SELECT 1"]),
        ("SELECT 'unfinished; SELECT 2", ["SELECT 'unfinished; SELECT 2"]),
        ("SELECT $$unfinished; SELECT 2", ["SELECT $$unfinished; SELECT 2"]),
    ],
)
def test_statements(script: str, statements: list[str]) -> None:
    """Strings, names, comments, parentheses and bodies of functions hide semicolons."""
    assert [statement.text for statement in split(script)] == statements


def test_data_of_copy() -> None:
    """The lines behind COPY ... FROM stdin up to the mark are its data."""
    script = "COPY public.t (a, b) FROM stdin;\n1\tit's; \\N\n\\\\.\t\\.\n\\.\nSELECT 1;\ncopy t from STDIN;\n\\.\n"

    found = [(statement.text, statement.data, statement.line) for statement in split(script)]

    assert found == [
        ("COPY public.t (a, b) FROM stdin", "1\tit's; \\N\n\\\\.\t\\.\n", 1),
        ("SELECT 1", None, 5),
        ("copy t from STDIN", "", 6),
    ]


def test_data_up_to_the_end() -> None:
    """Without the mark, everything up to the end of the file is data."""
    assert [statement.data for statement in split("COPY t FROM stdin;\n1\n2")] == ["1\n2"]


def test_copy_to_is_no_data() -> None:
    """Only FROM stdin brings data with it; a string that says so does not, nor a table of that name in a query."""
    script = (
        "COPY t TO stdout; COPY t (\"from stdin\") FROM '/from stdin'; SELECT 'COPY t FROM stdin';\n"
        "COPY (SELECT * FROM stdin) TO '/x'; x"
    )

    assert [statement.data for statement in split(script)] == [None] * 5


def test_what_follows_copy_in_its_line() -> None:
    """It comes after the data, as psql has it, and none of it is lost; lines are those of the file."""
    script = (
        "COPY t FROM stdin; SELECT\n1\n\\.\n 2; COPY t FROM stdin; COPY u FROM stdin; -- x\n3\n\\.\n4\n\\.\nSELECT 5"
    )

    found = [(statement.text, statement.data, statement.line) for statement in split(script)]

    assert found == [
        ("COPY t FROM stdin", "1\n", 1),
        ("SELECT\n 2", None, 1),
        ("COPY t FROM stdin", "3\n", 4),
        ("COPY u FROM stdin", "4\n", 4),
        ("SELECT 5", None, 9),
    ]


def test_lines() -> None:
    """Each statement knows the line of its first word."""
    script = "-- one\n\n/* two\n */ SELECT 1;\n\nSELECT\n'a\nb'; SELECT 3"

    assert [statement.line for statement in split(script)] == [4, 6, 8]


def test_windows_line_ends() -> None:
    """Carriage returns are white space, also behind the mark of the data."""
    found = list(split("COPY t FROM stdin;\r\n1\r\n\\.\r\nSELECT 1;\r\n"))

    assert [(statement.text, statement.data) for statement in found] == [
        ("COPY t FROM stdin", "1\r\n"),
        ("SELECT 1", None),
    ]


@pytest.mark.parametrize("command", ["\\connect", "\\i", "\\gexec", "\\.", "\\restrict"])
def test_other_commands_of_psql(command: str) -> None:
    """A command of psql is refused with its name and line, wherever it stands; in a statement every one is."""
    with pytest.raises(BackslashCommand) as caught:
        list(split(f"SELECT 1;\nSELECT 2 {command} other"))

    assert (caught.value.command, caught.value.line) == (command, 2)


def test_backslashes_when_strings_are_not_conforming() -> None:
    """With standard_conforming_strings off, a backslash escapes in every string; it is asked at each."""
    escapes = [False]
    found: list[str] = []
    for statement in split(r"SELECT '\'; SET x = off; SELECT '\';'; SELECT 2", lambda: escapes[0]):
        found.append(statement.text)
        escapes[0] = statement.text.startswith("SET") or escapes[0]

    assert found == [r"SELECT '\'", "SET x = off", r"SELECT '\';'", "SELECT 2"]


@pytest.mark.parametrize("literal", ["b'\\'", "X'\\'", "U&'\\'", "u&'\\'"])
def test_kinds_of_strings_without_backslashes(literal: str) -> None:
    """In bits, and where a backslash begins a character's number, it escapes no quote, whatever the setting."""
    found = [statement.text for statement in split(f"SELECT {literal}; SELECT 2", lambda: True)]

    assert found == [f"SELECT {literal}", "SELECT 2"]


@pytest.mark.parametrize("between", ["\r", " \t\r\r ", " -- ';\r"])
def test_a_string_goes_on_behind_the_end_of_a_line(between: str) -> None:
    """As the kind that it was, where psql sees both at once; it reads up to a line feed, and takes the next for new."""
    first = f"SELECT E'a'{between}'\\';'"

    assert [statement.text for statement in split(f"{first}; SELECT 2")] == [first, "SELECT 2"]
    for new in (" ", "\n", "\r\n"):
        assert [statement.line for statement in split(f"SELECT E'a'{new}'\\'; SELECT 2")] == [1, 1 + ("\n" in new)]
