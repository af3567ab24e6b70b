"""The lines of keys in TOML files."""

from __future__ import annotations

import pytest

from elefast.config.toml_positions import line_of, lines

DOCUMENT = '''\
# [not.a.table]
title = "a # no comment"
[tool.first] # comment
plain = 1
"quoted key" = 2
'single "quoted"' = 3
dotted.inner.key = 4
 spaced . "out" = 5
text = """
fake = 1
[fake]
quotes "" inside \\""" and two at the end"""""
literal = \'\'\'
fake = 2 \'\'\'
array = [
  1, # one
  [2,
   3],
  "four", { five = 5, six = [
    6] },
]
inline = { a = 1, b.c = "}", "d e" = [] }
date = 1979-05-27 07:32:00Z

[[tool.many]]
name = "x"
[[tool.many]]
name = "y"
[ tool . "first.second" ]
last = true'''

EXPECTED = {
    ("title",): 2,
    ("tool", "first"): 3,
    ("tool", "first", "plain"): 4,
    ("tool", "first", "quoted key"): 5,
    ("tool", "first", 'single "quoted"'): 6,
    ("tool", "first", "dotted"): 7,
    ("tool", "first", "dotted", "inner", "key"): 7,
    ("tool", "first", "spaced", "out"): 8,
    ("tool", "first", "text"): 9,
    ("tool", "first", "literal"): 13,
    ("tool", "first", "array"): 15,
    ("tool", "first", "array", 0): 16,
    ("tool", "first", "array", 1): 17,
    ("tool", "first", "array", 1, 1): 18,
    ("tool", "first", "array", 2): 19,
    ("tool", "first", "array", 3, "five"): 19,
    ("tool", "first", "array", 3, "six", 0): 20,
    ("tool", "first", "inline"): 22,
    ("tool", "first", "inline", "b", "c"): 22,
    ("tool", "first", "inline", "d e"): 22,
    ("tool", "first", "date"): 23,
    ("tool", "many"): 25,
    ("tool", "many", "name"): 26,
    ("tool", "first.second"): 29,
    ("tool", "first.second", "last"): 30,
}


@pytest.mark.parametrize(("path", "line"), EXPECTED.items())
def test_the_line_of(path: tuple[str | int, ...], line: int) -> None:
    """Every way to write a key has the line that the key stands in."""
    assert lines(DOCUMENT).get(path) == line


def test_nothing_else_is_found() -> None:
    """What only looks like a key, in strings and comments, is none."""
    assert not any("fake" in path or "not" in path for path in lines(DOCUMENT))


def test_what_has_no_line_has_that_of_what_is_around_it() -> None:
    """A path that goes deeper than the text has the nearest line."""
    places = lines(DOCUMENT)
    assert line_of(places, ("tool", "first", "plain", 7, "x")) == 4
    assert line_of(places, ("tool", "first", "missing")) == 3
    assert line_of(places, ("nothing",)) == 0


def test_the_document_is_toml() -> None:
    """The test itself would be worth nothing otherwise."""
    import tomllib

    assert tomllib.loads(DOCUMENT)["tool"]["first"]["array"][3]["six"] == [6]


@pytest.mark.parametrize("text", ["x", "[", "x = [", 'x = "', "= 1", "x = {a"])
def test_what_is_no_toml_is_no_error(text: str) -> None:
    """Whether a file can be read is for tomllib to say."""
    lines(text)
