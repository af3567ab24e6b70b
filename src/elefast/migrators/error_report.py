"""Turns an exception of the project's code into a message for the person who wrote that code.

It knows tracebacks and messages of PostgreSQL. It must not know kinds of migrators.
"""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote, quote_plus

from sqlalchemy import URL

from elefast.templates.manifest import relative
from elefast.templates.project_files import Installed, is_own

__all__ = ["PlaceError", "code_of", "explain", "tail", "user_lines", "without_secret"]

# PostgreSQL's messages. They are matched as text, because the drivers have no common attribute for them.
_CAUSES = (
    ("extension-missing", re.compile(r'extension "[^"]+" is not available|could not open extension control file')),
    ("wrong-password", re.compile(r"password authentication failed for user|no password supplied")),
    ("extension-rights", re.compile(r'permission denied to create extension "')),
)
_NEEDS_ITS_TOOL = re.compile(
    r"no (running|current) event loop|cannot be called from a running event loop|"
    r"[Oo]utside of (the )?(application|app|request) context"
)
_ADVICE = {
    "extension-missing": "The extension has to be installed where the server runs: SELECT name FROM "
    "pg_available_extensions lists what is there.",
    "wrong-password": "env.py or the function connects with a user or password of its own. Let it take the URL that "
    "elefast sets: sqlalchemy.url, or a variable named in alembic.env or export_env.",
    "env-needs-its-tool": 'It needs what another program sets up. Run that program with migrator = "command", such as '
    'command.run = ["flask", "db", "upgrade"], or call it from a function with migrator = "callable".',
}
_OUTPUT_LINES = 30
# A shorter password may be an ordinary word, or a part of other words.
_SECRET_LENGTH = 8


class PlaceError(Exception):
    """Names the place within a step at which its cause was raised: the revision of a migration.

    Args:
        place: Such as ``revision 4f2a (migrations/versions/4f2a_users.py)``.
    """


def explain(label: str, error: BaseException, root: Path, refused: Sequence[str] = ()) -> str:
    """A complete message: the step that failed, the error's text, and the lines of the project that led to it.

    Args:
        label: The label of the step: ``alembic upgrade heads``.
        error: The exception.
        root: The project directory; paths in the message are relative to it.
        refused: Connections that were refused before, which may be the real cause.
    """
    place = ""
    if isinstance(error, PlaceError) and error.__cause__ is not None:
        place = f" in {error}"
        error = error.__cause__
    lines = [f"{label} failed{place}:", *_indented(_text(error))]
    if where := user_lines(error, root):
        lines += ["  where:", *(f"    {line}" for line in where)]
    lines += advice(code_of(error))
    if others := [text for text in refused if text not in str(error)]:
        lines += ["  refused connections:", *(f"    {text}" for text in others)]
    return "\n".join(lines)


def code_of(error: BaseException, refused: Sequence[str] = ()) -> str:
    """The code of elefast's explanation for an exception of the project's code; arguments as for `explain`."""
    if refused:
        return "migration-elsewhere"
    for cause in _chain(error):
        text = str(cause)
        for code, pattern in _CAUSES:
            if pattern.search(text):
                return code
        if isinstance(cause, RuntimeError) and _NEEDS_ITS_TOOL.search(text):
            return "env-needs-its-tool"
    # Alembic's errors, told without importing it. A mistake in the tree of revisions may be a KeyError there.
    raised_in = [frame.filename for frame in traceback.extract_tb(error.__traceback__)[-1:]]
    about_revisions = type(error).__name__ == "CommandError" or any(
        filename.endswith(os.path.join("alembic", "script", "revision.py")) for filename in raised_in
    )
    return "migration-revisions" if about_revisions and not isinstance(error, PlaceError) else "migration-failed"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and its causes, as far as ``raise ... from None`` has not hidden them."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def advice(code: str) -> list[str]:
    """Lines for a message with a remedy for `code`; empty where there is none."""
    return [f"  {_ADVICE[code]}"] if code in _ADVICE else []


def _text(error: BaseException) -> str:
    text = str(error).strip()
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]


def user_lines(error: BaseException, root: Path) -> list[str]:
    """The lines of the traceback that are in files of the project: ``path:line in function: code``.

    The last line of the whole traceback where none is.
    """
    installed = Installed()
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if not frame.filename.startswith("<") and not installed.has(frame.filename) and not is_own(frame.filename)
    ]
    lines = [_line(frame, root) for frame in own or frames[-1:]]
    if isinstance(error, SyntaxError) and error.filename:
        lines.append(f"{relative(error.filename, str(root))}:{error.lineno}")
    return lines


def _line(frame: traceback.FrameSummary, root: Path) -> str:
    code = f": {frame.line}" if frame.line else ""
    return f"{relative(frame.filename, str(root))}:{frame.lineno} in {frame.name}{code}"


def tail(output: str) -> list[str]:
    """The last lines of a program's output, for a message; empty where there is no output."""
    lines = output.strip().splitlines()
    if not lines:
        return []
    left_out = [f"    ({len(lines) - _OUTPUT_LINES} lines before)"] if len(lines) > _OUTPUT_LINES else []
    return ["  output:", *left_out, *(f"    {line}" for line in lines[-_OUTPUT_LINES:])]


def without_secret(text: str, url: URL) -> str:
    """`text` without the password of `url`, plain or quoted as in URLs.

    A password of at least 8 characters is replaced everywhere. A shorter one, and one that is also the name of the
    user or of the database, is replaced only where it is clearly the password: ``:…@``, ``PGPASSWORD=…``.
    """
    if not url.password:
        return text
    secret = str(url.password)
    quoted = {quote(secret, safe=""), quote(secret, safe=" +"), quote_plus(secret)}
    forms = {secret, repr(secret)[1:-1], *quoted, *(form.replace("%", "%%") for form in quoted)}
    either = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
    text = re.sub(f":(?:{either})@", ":***@", text)
    text = re.sub(rf"""((?i:password)["']?\s*[=:]\s*["']?)(?:{either})""", r"\1***", text)
    if len(secret) >= _SECRET_LENGTH and secret not in (url.username, url.database):
        text = re.sub(either, "***", text)
    return text
