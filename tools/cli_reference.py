"""`docs/reference/cli.md`: every command with its options, made from the parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from elefast import cli

__all__ = ["reference"]

_HEAD = """\
# Command line

<!-- Made from src/elefast/cli; do not edit. -->

`elefast COMMAND` works on the project of the working directory: on the nearest configuration upwards.
`python -m elefast.cli` is the same where the script is not on the path.

Output is for people; with `--json` it is one JSON document, whose keys stay.
Colours are for terminals only; `NO_COLOR` and `FORCE_COLOR` are obeyed.
Errors go to the standard error, and end with the code that `elefast explain` says more about; `--traceback` shows where in the code they came from.

## Exit status

| Status | Meaning |
| --- | --- |
| 0 | done |
| 1 | `check` has found something wrong, or another error of elefast |
| 2 | the command line or the configuration is wrong, or something is not installed |
| 3 | there is no server to work with |
| 4 | refused: not elefast's own, or not this machine |
| 5 | the template could not be built |
| 70 | a mistake in elefast itself |
| 130 | ended by Ctrl-C |

`elefast run` and `elefast psql` end with the status of what they ran; `run` with 127 where there is no such command, and 126 where it cannot be run.

## Commands
"""


def reference() -> str:
    """The whole page."""
    lines = [_HEAD, "| Command | |", "| --- | --- |"]
    lines += [f"| [`{command.NAME}`](#{command.NAME}) | {command.HELP} |" for command in cli.COMMANDS]
    for command in cli.COMMANDS:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        lines += ["", *_command(command.NAME, command.HELP, parser)]
    return "\n".join(lines) + "\n"


def _command(name: str, text: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"### {name}"
    yield ""
    yield f"{text[0].upper()}{text[1:]}."
    aliases = getattr(next(one for one in cli.COMMANDS if name == one.NAME), "ALIASES", ())
    if aliases:
        yield f"Also: {', '.join(f'`elefast {alias}`' for alias in aliases)}."
    yield ""
    yield "| Argument | Meaning |"
    yield "| --- | --- |"
    for action in parser._actions:
        if "-h" not in action.option_strings:
            yield f"| `{_shown(action)}` | {_meaning(action)} |"


def _shown(action: argparse.Action) -> str:
    metavar = action.metavar if isinstance(action.metavar, str) else None
    value = metavar or (("{" + ",".join(map(str, action.choices)) + "}") if action.choices else action.dest.upper())
    if not action.option_strings:
        return (value if action.nargs == argparse.REMAINDER else f"[{value}]").replace("|", r"\|")
    names = ", ".join(action.option_strings)
    return names if action.nargs == 0 else f"{names} {value}"


def _meaning(action: argparse.Action) -> str:
    return ((action.help or "") % vars(action)).replace("|", r"\|")
