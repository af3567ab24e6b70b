"""SQL scripts of which is known what they do: each puts values into a table, each value quoted in some way.

Nothing here splits anything: a script is put together from statements, so what it means is known beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

__all__ = ["TABLE", "File", "Piece", "commanded", "comments", "files", "literals", "scripts", "values"]

TABLE = "CREATE TABLE written (place int GENERATED ALWAYS AS IDENTITY, value text)"
"""What a script needs; `Piece.values` are what is in it in the end, by place."""

_ALPHABET = "'\"$;\\/*-%:().\n\r\t\f ,aeEuU&bx01_=é🐘\u00a0\u2028"
_TAGS = ["", "a", "_", "tag1", "größe", "🐘", "e", "BEGIN"]
_SPACES = [" ", "\n", "\t", "\r\n", "\f", "  \n", "\r", "\n\n"]


@dataclass(frozen=True)
class Piece:
    """A part of a script.

    Args:
        text: Statements, whole ones, with their semicolons and data.
        values: What they put into the table, in this order.
    """

    text: str
    values: tuple[str, ...] = field(default=())


_QUOTING = ["\\.", "\n\\.\n", "';", "$$;", "$a$", "--", "/*", "*/", "\\"]
values = st.text(_ALPHABET, max_size=12) | st.lists(st.sampled_from(_QUOTING), min_size=1, max_size=4).map("".join)
"""Texts that look like quoting."""


@st.composite
def comments(draw: st.DrawFn) -> str:
    """What the server takes for a space: white space, or a comment, perhaps with comments in it."""
    plain = st.text(_ALPHABET.replace("*", "").replace("/", ""), max_size=8)
    nested = st.recursive(plain, lambda inner: st.lists(inner, max_size=3).map(lambda all_: f"/*{''.join(all_)}*/"))
    line = st.text(_ALPHABET.replace("\n", "").replace("\r", ""), max_size=8).map(lambda text: f"--{text}")
    ended = st.tuples(line, st.sampled_from(["\n", "\r\n", "\r"])).map("".join)
    one = st.sampled_from(_SPACES) | ended | nested.map(lambda text: f"/*{text}*/")
    return "".join(draw(st.lists(one, min_size=1, max_size=3)))


@st.composite
def literals(draw: st.DrawFn, value: str) -> str:
    """`value` as SQL: any of the ways to write it."""
    return draw(st.sampled_from([_plain, _escaped, _dollars, _unicode, _continued]).flatmap(lambda way: way(value)))


def _plain(value: str) -> st.SearchStrategy[str]:
    return st.just("'" + value.replace("'", "''") + "'")


def _escaped(value: str) -> st.SearchStrategy[str]:
    quotes = st.sampled_from(["''", "\\'"])
    return st.tuples(st.sampled_from("eE"), quotes).map(
        lambda how: how[0] + "'" + value.replace("\\", "\\\\").replace("'", how[1]) + "'"
    )


def _dollars(value: str) -> st.SearchStrategy[str]:
    marks = [mark for tag in (*_TAGS, "rare_tag") if (f"{value}{(mark := f'${tag}$')}").index(mark) == len(value)]
    return st.sampled_from(marks).map(lambda mark: f"{mark}{value}{mark}")


def _unicode(value: str) -> st.SearchStrategy[str]:
    def write(how: tuple[str, bool]) -> str:
        mark, all_of_them = how
        text = "".join(_unicode_escape(one, all_of_them) for one in value)
        return f"{mark}&'{text}'"

    return st.tuples(st.sampled_from("uU"), st.booleans()).map(write)


def _unicode_escape(character: str, always: bool) -> str:
    if character == "\\":
        return "\\\\"
    if always or not character.isascii():
        return f"\\{ord(character):04x}" if ord(character) < 0x10000 else f"\\+{ord(character):06x}"
    return character.replace("'", "''")


def _continued(value: str) -> st.SearchStrategy[str]:
    """Two strings with the end of a line between them are one."""
    half = len(value) // 2
    parts = ["'" + part.replace("'", "''") + "'" for part in (value[:half], value[half:])]
    return st.sampled_from(["\n", " \r\n ", "\n--;'\n"]).map(lambda between: between.join(parts))


@st.composite
def _insert(draw: st.DrawFn, ends: str = ";") -> Piece:
    value = draw(values)
    literal = draw(literals(value))
    between = draw(comments())
    name = draw(st.sampled_from(['"a;""b"', '"--"', '"/*"', '"$$"', '"\'"', "a$$b", "é🐘$a$", "x1"]))
    form = draw(
        st.sampled_from(
            [
                f"INSERT INTO written (value){between}VALUES ({literal})",
                f"insert/**/into written (value) SELECT {literal}{between}AS {name}",
                f"INSERT INTO written(value)SELECT {name}{between}FROM (SELECT ({literal})) AS _ ({name})",
                f"WITH {name} AS (SELECT 5 - -1 * 2, 1.5e3){between}INSERT INTO written (value) SELECT {literal}",
            ]
        )
    )
    return Piece(form + ends, (value,))


@st.composite
def _block(draw: st.DrawFn) -> Piece:
    inside = draw(_insert())
    (body,) = [inside.text]
    quoted = draw(_dollars(f"BEGIN {body} END"))
    return Piece(f"DO{draw(comments())}{quoted};", inside.values)


@st.composite
def _routine(draw: st.DrawFn) -> Piece:
    value = draw(values)
    name = f"f{draw(st.integers(0, 5))}"
    head = draw(st.sampled_from(["FUNCTION", "function", "Function"]))
    between = draw(comments())
    body = (
        f"BEGIN ATOMIC SELECT 1;{between}SELECT CASE WHEN true THEN {draw(literals(value))} ELSE (';') END;{between}END"
    )
    return Piece(
        f"CREATE OR REPLACE {head} {name}() RETURNS text LANGUAGE sql{between}{body};"
        f"{between}INSERT INTO written (value) VALUES ({name}());",
        (value,),
    )


@st.composite
def _rule(draw: st.DrawFn) -> Piece:
    """Semicolons in parentheses."""
    first, second = draw(values), draw(values)
    inserts = f"INSERT INTO written (value) VALUES ({draw(literals(second))});{draw(comments())}SELECT 1;"
    return Piece(
        "CREATE TABLE ruled (x text);\n"
        f"CREATE RULE r AS ON INSERT TO ruled DO ALSO ({inserts});"
        f"INSERT INTO ruled VALUES ({draw(literals(first))});DROP TABLE ruled;",
        (second,),
    )


@st.composite
def _copy(draw: st.DrawFn) -> Piece:
    rows = draw(st.lists(values, max_size=4))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    after = draw(st.just(Piece("")) | _insert() | _copy_line())
    options, line = "", _text_line
    # psql, too, takes such a line for the end, wherever it is.
    if draw(st.booleans()) and not any("\\." in row.splitlines() for row in rows):
        options, line = draw(st.sampled_from([" CSV", " WITH (FORMAT csv)"])), _csv_line
    head = draw(st.sampled_from(["COPY written (value) FROM stdin", 'copy"written"("value")from/*;*/STDIN']))
    data = "".join(line(row) + end for row in rows)
    first = f"{head}{options};"
    if after.text.startswith("COPY"):
        # Both begin on one line, and their data come one after the other.
        return Piece(f"{first}{after.text.partition(chr(10))[0]}\n{data}\\.{end}{after.text.partition(chr(10))[2]}",
                     (*rows, *after.values))  # fmt: skip
    one_line = not any(character in after.text for character in "\n\r\f")
    rest = after if one_line and "--" not in after.text else Piece("")
    return Piece(f"{first}{rest.text}{end}{data}\\.{end}", (*rows, *rest.values))


@st.composite
def _copy_line(draw: st.DrawFn) -> Piece:
    rows = draw(st.lists(values, max_size=2))
    data = "".join(_text_line(row) + "\n" for row in rows)
    return Piece(f"COPY written (value) FROM stdin;\n{data}\\.\n", tuple(rows))


def _text_line(value: str) -> str:
    for character, escape in (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        value = value.replace(character, escape)
    return value


def _csv_line(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


@st.composite
def scripts(draw: st.DrawFn, *, is_ended: bool = False) -> Piece:
    """A whole script: pieces with comments between them, and perhaps no semicolon at its end, unless it `is_ended`."""
    # A rule is made once, and takes part in all that follows.
    pieces = draw(st.lists(_insert() | _block() | _routine() | _rule() | _copy(), max_size=5))
    text, found = draw(comments()), tuple[str, ...]()
    for piece in pieces:
        text += piece.text + draw(comments())
        found += piece.values
    if is_ended:
        return Piece(text, found)
    tail = draw(st.sampled_from([Piece(""), Piece(";;"), Piece("-- '"), Piece("/* ; */")]) | _insert(ends=""))
    return Piece(text + tail.text, found + tail.values)


_NOTHING_TO_US = ["restrict a1;'", 'unrestrict a1"']
_COMMANDS = [*"gexec . ; \\".split(), "", "connect other", "i x.sql", "copy a from 'b'", "!ls", "echo '", "set a 'b;"]
File = tuple[bytes, tuple[str, ...]]
"""What is in a file, and what it puts into the table."""


@st.composite
def commanded(draw: st.DrawFn) -> tuple[Piece, str, Piece]:
    """A script with a command of psql's in its last line, the name of that, and the script that goes on behind it.

    The name is empty where it is one that dumps have, which does nothing here.
    """
    before, after = draw(scripts(is_ended=True)), draw(scripts())
    is_of_dumps = draw(st.booleans())
    command = "\\" + draw(st.sampled_from(_NOTHING_TO_US if is_of_dumps else _COMMANDS))
    name = command.partition(" ")[0]
    return Piece(f"{before.text}\n{command}\n", before.values), "" if is_of_dumps else name, after


@st.composite
def files(draw: st.DrawFn) -> File:
    """A script as a file, with the ends of lines and the mark that Windows writes, and what it puts into the table."""
    script = draw(scripts())
    text = script.text
    if draw(st.booleans()) and not any(end in value for value in script.values for end in "\n\r"):
        text = text.replace("\r\n", "\n").replace("\n", "\r\n")
    return text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig"]))), script.values
