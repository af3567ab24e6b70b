"""`elefast explain`: the explanation of an error's code, and the essentials of the guides."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from elefast.cli._output import add_json, console, print_json

if TYPE_CHECKING:
    from rich.text import Text

    from elefast.errors.explanations import Explanation, Topic

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "explain"
HELP = "say more about an error, or about a topic such as isolation or ci; without a word it lists all"

_UNKNOWN = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "codes",
        metavar="CODE_OR_TOPIC",
        nargs="*",
        help="from the last line of an error, such as docker-unreachable, or a topic; default: a list of all",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show the explanations of the codes and topics, or a list of all.

    Returns:
        The exit status: 0, or 2 if a code or topic does not exist; then the command shows no explanation.
    """
    from elefast.errors.explanations import EXPLANATIONS, TOPICS, find, topic

    codes: list[str] = arguments.codes
    if unknown := [code for code in codes if find(code) is None and topic(code) is None]:
        print("\n".join(_unknown(code) for code in unknown), file=sys.stderr)
        print("`elefast explain` lists all codes and topics", file=sys.stderr)
        return _UNKNOWN
    found = [one for code in codes if (one := find(code) or topic(code)) is not None]
    if arguments.json:
        print_json([_as_json(one) for one in found or EXPLANATIONS])
    elif found:
        out = console()
        for number, one in enumerate(found):
            out.print(*([""] if number else []), _shown(one), sep="\n")
    else:
        _list(EXPLANATIONS, TOPICS)
    return 0


def _unknown(code: str) -> str:
    from elefast.errors.explanations import closest

    better = closest(code)
    return f'there is no code and no topic "{code}"' + (f', did you mean "{better}"?' if better else "")


def _list(explanations: tuple[Explanation, ...], topics: tuple[Topic, ...]) -> None:
    from rich.text import Text

    out = console()
    width = max(len(one.code) for one in explanations) + 2
    out.print("topics")
    for one in topics:
        out.print(Text.assemble((one.name.ljust(width), "bold"), one.title))
    out.print("\ncodes of errors")
    for error in explanations:
        out.print(Text.assemble((error.code.ljust(width), "bold"), error.title))


def _shown(one: Explanation | Topic) -> Text:
    from rich.text import Text

    from elefast.errors.explanations import Topic

    if isinstance(one, Topic):
        text = Text.assemble((one.name, "bold"), "\n\n", (f"{one.title}.", "bold"))
        for line in one.lines:
            text.append("\n  - ").append_text(_code(line))
        return text
    status = "a warning" if one.exit_status is None else f"exit status {one.exit_status}"
    text = Text.assemble(
        (one.code, "bold"), f"  {one.raised_as.__name__}, {status}\n\n", (f"{one.title}.", "bold"), "\n"
    )
    text.append_text(_code(one.meaning))
    for head, lines in (("Usual causes", one.causes), ("What to do", one.remedy)):
        text.append(f"\n\n{head}", "bold")
        for line in lines:
            text.append("\n  - ").append_text(_code(line))
    return text


def _code(line: str) -> Text:
    """The line with its code in colour; the backticks stay, because not every terminal shows colours."""
    from rich.text import Text

    text = Text()
    for number, part in enumerate(line.split("`")):
        text.append(f"`{part}`" if number % 2 else part, "cyan" if number % 2 else "")
    return text


def _as_json(one: Explanation | Topic) -> dict[str, Any]:
    from elefast.errors.explanations import Topic

    if isinstance(one, Topic):
        return {"topic": one.name, "title": one.title, "lines": one.lines}
    return {
        "code": one.code,
        "class": one.raised_as.__name__,
        "exit_status": one.exit_status,
        "title": one.title,
        "meaning": one.meaning,
        "causes": one.causes,
        "remedy": one.remedy,
    }
