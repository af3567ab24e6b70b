"""`elefast.toml.example`: every key with its default and its meaning, made from the model."""

from __future__ import annotations

import textwrap

from elefast.config.keys import Key, all_tables, named_tables
from elefast.config.toml_writer import toml_value

__all__ = ["example"]

_HEAD = """\
#:schema ./schemas/elefast.schema.json

# Every key of elefast, with its default.
#
# Copy the lines that you change to "elefast.toml" beside your pyproject.toml. What stands there wins over
# [tool.elefast] in pyproject.toml, which has the same keys; tables merge key by key, lists are replaced.
# Paths are relative to the file that they stand in.
#
# Any of it can stand in a profile as well, [profiles.ci] or [profiles.ci.docker],
# which ELEFAST_PROFILE=ci or pytest --elefast-profile=ci puts in force.
"""


def example() -> str:
    """The text of the file."""
    blocks = [_HEAD]
    for table in all_tables():
        if table.name:
            blocks.append(f"{_comment(table.description)}\n[{table.name}]\n")
        blocks += [_entry(key) for key in table.keys]
    for table in named_tables():
        # Its keys are comments, because no table exists until the project names one.
        lines = [_comment(table.description), f"[{table.name}]", f"# [{table.name}.NAME]"]
        lines += [f"# {line}" if line else "" for key in table.keys for line in _entry(key).split("\n")]
        blocks.append("\n".join(lines))
    return "\n".join(blocks).rstrip("\n") + "\n"


def _entry(key: Key) -> str:
    name = key.path[-1]
    lines = [_comment(key.description)]
    lines += [_comment(f'"{choice}": {meaning}') for choice, meaning in key.choices.items() if meaning]
    lines += [f"# Example: {name} = {toml_value(value)}" for value in key.examples]
    return "\n".join([*lines, f"{name} = {toml_value(key.default)}", ""])


def _comment(text: str) -> str:
    return textwrap.fill(text, width=110, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
