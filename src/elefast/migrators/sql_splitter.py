"""Splits SQL scripts into statements, the way psql does.

It knows the lexical rules of PostgreSQL (strings, dollar quotes, comments, bodies of SQL functions) and those of
psql: data of COPY, and commands that begin with a backslash. It must not know what statements mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["BackslashCommand", "Statement", "split"]

# The server takes every character beyond ASCII for a letter, also those that Unicode calls spaces or signs.
_SPACE = " \t\n\r\f\v"
_LETTER = "A-Za-z_\u0080-\U0010ffff"
_IDENTIFIER = re.compile(rf"[{_LETTER}][{_LETTER}0-9$]*")
_DOLLAR_TAG = re.compile(rf"\$(?:[{_LETTER}][{_LETTER}0-9]*)?\$")
_END_OF_LINE = re.compile(r"[\n\r]")
_PLAIN_STRING = re.compile(r"'(?:[^']|'')*+'")
_ESCAPED_STRING = re.compile(r"'(?:[^'\\]|\\.|'')*+'", re.DOTALL)
# A string may continue after the end of a line, and keeps its kind. Not after "\n": psql reads line by line.
_CONTINUED = re.compile(r"(?:[ \t\f\v]|--[^\r\n]*+)*+\r(?:[ \t\r\f\v]|--[^\r\n]*+\r)*+(?=')")
_PLAIN_NAME = re.compile(r'"(?:[^"]|"")*+"')
_NUMBER = re.compile(rf"[0-9]+(?:\.[0-9]*)?(?:[{_LETTER}][{_LETTER}0-9$]*)?")
_COMMENT_MARK = re.compile(r"/\*|\*/")
_COMMAND = re.compile(r"\\(\S*)[^\n]*")
# COPY with a parenthesis has a query, which has no FROM STDIN.
_COPY = re.compile(r"\s*COPY\b(?!\s*\().*\bFROM\s+STDIN\b", re.IGNORECASE | re.DOTALL)
_END_OF_DATA = re.compile(r"^\\\.\r?$\n?", re.MULTILINE)
# pg_dump writes them around a script since 2025, so that psql executes no commands from the data.
_IGNORED_COMMANDS = frozenset({"restrict", "unrestrict"})


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a script.

    Args:
        text: The text of the script, without the semicolon.
        line: The line of its first word, counted from 1.
        data: The data after a ``COPY ... FROM stdin``; None for any other statement.
    """

    text: str
    line: int
    data: str | None = None


class BackslashCommand(Exception):  # noqa: N818  a fact about the script; the caller makes the error
    """The script has a command for psql, which is no SQL.

    Args:
        command: Its name, with the backslash.
        line: Its line, counted from 1.
    """

    def __init__(self, command: str, line: int) -> None:
        self.command = command
        self.line = line
        super().__init__(f"{command} in line {line}")


def split(script: str, backslash_escapes: Callable[[], bool] = lambda: False) -> Iterator[Statement]:
    """The statements of `script`, one after the other.

    Args:
        script: The text of a file.
        backslash_escapes: Whether a backslash escapes in plain strings (``standard_conforming_strings`` is off).
            Called for each string, because statements of the script can change the setting.

    Raises:
        BackslashCommand: The script has a command for psql that pg_dump does not write.
    """
    return _Splitter(script, backslash_escapes).statements()


class _Splitter:
    def __init__(self, script: str, backslash_escapes: Callable[[], bool]) -> None:
        self._script = script
        self._backslash_escapes = backslash_escapes
        self._at = 0
        self._counted = (0, 1)  # a position and its line
        self._removed: list[tuple[int, int]] = []  # positions of lines of data that were cut out, and their number
        self._begin()

    def _begin(self) -> None:
        self._start: int | None = None  # where the statement's first word is
        self._code: list[str] = []  # the statement without comments and strings
        self._words: list[str] = []
        self._parentheses = 0
        self._blocks = 0

    def statements(self) -> Iterator[Statement]:
        while self._at < len(self._script):
            character = self._script[self._at]
            if character == ";" and self._parentheses == 0 and self._blocks == 0:
                self._at += 1
                if self._start is not None:
                    yield self._finished(self._at - 1)
                self._begin()
            elif character == "\\":
                self._command()
            else:
                self._advance(character)
        if self._start is not None:
            yield self._finished(len(self._script))

    def _finished(self, end: int) -> Statement:
        assert self._start is not None
        line = self._line(self._start)
        text = self._script[self._start : end].rstrip(_SPACE)
        data = self._copy_data() if _COPY.match("".join(self._code)) else None
        return Statement(text, line, data)

    def _advance(self, character: str) -> None:
        """Go past the next token."""
        script = self._script
        two = script[self._at : self._at + 2]
        if two == "--":
            end = _END_OF_LINE.search(script, self._at)
            self._at = end.start() if end else len(script)
        elif two == "/*":
            self._comment()
        elif character in _SPACE:
            self._note(" ")
            self._at += 1
        else:
            if self._start is None:
                self._start = self._at
            self._token(character)

    def _note(self, code: str) -> None:
        # Only COPY is recognised by the text of the statement.
        if not self._words or self._words[0] == "copy":
            self._code.append(code)

    def _token(self, character: str) -> None:
        script = self._script
        if character == "'":
            self._string(escapes=self._backslash_escapes())
        elif character == '"':
            self._until('"')
            self._note(" x ")
        elif character == "$" and (tag := _DOLLAR_TAG.match(script, self._at)):
            end = script.find(tag[0], tag.end())
            self._at = len(script) if end < 0 else end + len(tag[0])
            self._note(" x ")
        elif match := _IDENTIFIER.match(script, self._at):
            self._at = match.end()
            kind = match[0].lower()
            if kind in ("e", "b", "x") and script.startswith("'", self._at):
                self._string(escapes=kind == "e")
            elif kind == "u" and script.startswith("&'", self._at):
                self._at += 1
                self._string(escapes=False)
            else:
                self._word(match[0])
        else:
            if character == "(":
                self._parentheses += 1
            elif character == ")":
                self._parentheses = max(0, self._parentheses - 1)
            self._note(character)
            # Letters after a number belong to it, so that a dollar among them starts no quote: 1a$b$.
            number = _NUMBER.match(script, self._at)
            self._at = number.end() if number else self._at + 1

    def _word(self, word: str) -> None:
        self._note(word)
        lower = word.lower()
        if len(self._words) < 4:
            self._words.append(lower)
        # In CREATE [OR REPLACE] FUNCTION ... BEGIN ATOMIC ...; ...; END, semicolons do not end the statement.
        if self._parentheses or not self._is_routine():
            return
        if lower == "begin" or (lower == "case" and self._blocks):
            self._blocks += 1
        elif lower == "end" and self._blocks:
            self._blocks -= 1

    def _is_routine(self) -> bool:
        words = self._words
        if words[:1] != ["create"]:
            return False
        kind = words[3:4] if words[1:3] == ["or", "replace"] else words[1:2]
        return kind in (["function"], ["procedure"])

    def _string(self, *, escapes: bool) -> None:
        self._until("'", escapes=escapes)
        while goes_on := _CONTINUED.match(self._script, self._at):
            self._at = goes_on.end()
            self._until("'", escapes=escapes)
        self._note(" x ")

    def _until(self, quote: str, *, escapes: bool = False) -> None:
        """Go past the string or name that begins here; a doubled quote is part of it."""
        pattern = _ESCAPED_STRING if escapes else _PLAIN_NAME if quote == '"' else _PLAIN_STRING
        match = pattern.match(self._script, self._at)
        self._at = match.end() if match else len(self._script)

    def _comment(self) -> None:
        """Go past a comment in /* */; such comments nest."""
        depth = 0
        for match in _COMMENT_MARK.finditer(self._script, self._at):
            depth += 1 if match[0] == "/*" else -1
            if depth == 0:
                self._at = match.end()
                self._note(" ")
                return
        self._at = len(self._script)

    def _command(self) -> None:
        """Go past a line such as ``\\restrict`` between two statements; refuse any other command of psql."""
        match = _COMMAND.match(self._script, self._at)
        assert match is not None
        if match[1] not in _IGNORED_COMMANDS or self._start is not None:
            raise BackslashCommand(f"\\{match[1]}", self._line(self._at))
        self._at = match.end()

    def _copy_data(self) -> str:
        """The lines after the current one up to ``\\.``, or to the end.

        Go past them. Where the script continues in the current line, cut them out instead: psql has read that line
        already, and goes on with it after the data.
        """
        script = self._script
        newline = script.find("\n", self._at)
        start = len(script) if newline < 0 else newline + 1
        end = _END_OF_DATA.search(script, start)
        after = end.end() if end else len(script)
        if script[self._at : start].strip(_SPACE):
            self._script = script[:start] + script[after:]
            self._removed.append((start, script.count("\n", start, after)))
        else:
            self._at = after
        return script[start : end.start() if end else after]

    def _line(self, position: int) -> int:
        known, line = self._counted
        if position < known:
            known, line = 0, 1
        line += self._script.count("\n", known, position)
        self._counted = (position, line)
        return line + sum(lines for place, lines in self._removed if place <= position)
