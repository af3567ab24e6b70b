"""`docs/reference/errors.md`: all explanations, grouped by the class of the error."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from elefast import errors
from elefast.errors.explanations import EXPLANATIONS, Explanation

__all__ = ["reference"]

_HEAD = """# Errors

<!-- Made from src/elefast/errors/explanations; do not edit. -->

Every message states the problem, its place, the expected value and the next step.
The last line, `more: elefast explain CODE`, names the code; that command shows the same text as this page.
All classes are in `elefast.errors`, and all errors derive from `elefast.ElefastError`; `error.code` has the code.
The exit status is that of the command line; it is 70 if elefast itself is at fault, and 130 after Ctrl-C.
"""


def reference() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *_table(), *(line for kind in _classes() for line in _section(kind))])


def _classes() -> list[type]:
    """The classes that have an explanation, in the order of `elefast.errors`."""
    used = {one.raised_as for one in EXPLANATIONS}
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and kind in used]


def _of(kind: type) -> list[Explanation]:
    return [one for one in EXPLANATIONS if one.raised_as is kind]


def _table() -> Iterator[str]:
    yield "| Class | Exit status | Codes |"
    yield "| --- | --- | --- |"
    for kind in _classes():
        codes = ", ".join(f"[{one.code}](#{one.code})" for one in _of(kind))
        yield f"| `{kind.__name__}` | {_status(_of(kind)[0])} | {codes} |"
    yield ""


def _status(one: Explanation) -> str:
    return "a warning" if one.exit_status is None else str(one.exit_status)


def _section(kind: type) -> Iterator[str]:
    yield f"## {kind.__name__}"
    yield ""
    yield _sentences((inspect.getdoc(kind) or "").split("\n\n", 1)[0].replace("\n", " "))
    yield ""
    for one in _of(kind):
        # The heading is the anchor in every site generator.
        yield f"### {one.code}"
        yield ""
        yield f"**{one.title}.**"
        yield _sentences(one.meaning)
        yield ""
        yield "Usual causes:"
        yield ""
        yield from (f"- {cause}" for cause in one.causes)
        yield ""
        yield "What to do:"
        yield ""
        yield from (f"- {step}" for step in one.remedy)
        yield ""


def _sentences(text: str) -> str:
    """`text` with each sentence on a line, as in the files of the explanations."""
    return text.replace(". ", ".\n")
