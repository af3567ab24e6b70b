"""Text from anywhere, shown anywhere."""

from __future__ import annotations

from elefast.errors import ConfigurationError, LeakWarning, MigrationError, Problem
from elefast.runtime.text import escape_controls, one_line, shorten_lines


def test_what_is_readable_stays() -> None:
    """Letters of any script, signs, spaces of any width, ends of lines."""
    text = "größe\t\u00a0« 🐘\u200d👓 »\n日本"
    assert escape_controls(text) == text


def test_what_would_do_something_is_escaped() -> None:
    """Controls, marks of direction, separators that some programs take for ends of lines, and halves of characters."""
    assert escape_controls("\x1b[2J\r\x9b\u202e\u2028\ufeff\udcff\0") == (
        "\\u001b[2J\\u000d\\u009b\\u202e\\u2028\\ufeff\\udcff\\u0000"
    )


def test_short_text_is_one_line() -> None:
    """And has its length whatever had to be escaped."""
    assert one_line("a\nb\tc") == "a\\nb\\tc"
    assert one_line("x" * 80) == "x" * 80
    assert one_line("\0" * 80) == "\\u0000" * 13 + "\\u..."


def test_long_lines_keep_their_ends() -> None:
    """What is wrong stands at the beginning of a line, and what to do at its end."""
    assert shorten_lines("a" * 1300) == "a" * 1300
    assert shorten_lines(f"x\n{'a' * 2000}{'b' * 2000}") == f"x\n{'a' * 1000} ... {'b' * 300}"
    assert str(MigrationError("a" * 5000)) == f"{'a' * 1000} ... {'a' * 300}"


def test_every_error_can_be_shown() -> None:
    """Errors and warnings escape what they were given; a problem has its place and key on one line."""
    assert str(MigrationError("\x1b\udcff\n")) == "\\u001b\\udcff\n"
    assert str(LeakWarning("\x1b")) == "\\u001b"
    error = ConfigurationError([Problem("env A\n", "b\nc", "d\x1b", code="wrong-value")])
    assert "\n  env A\\n  b\\nc: d\\u001b" in str(error)


def test_thousands_of_problems_are_told_by_the_first() -> None:
    """The message says how many more there are; whoever wants them all has them."""
    error = ConfigurationError([Problem(f"elefast.toml:{line}", "x", "no") for line in range(1, 2001)], "a hint")
    lines = str(error).splitlines()
    assert lines[0] == "2000 problems in elefast's configuration"
    assert lines[50:] == ["  elefast.toml:50  x: no", "  … and 1,950 more", "a hint"]
    assert len(error.problems) == 2000
