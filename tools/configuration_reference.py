"""`docs/reference/configuration.md`: every key with its type, default, variable and meaning, made from the model."""

from __future__ import annotations

from collections.abc import Iterator

from elefast.config.environment import ALIASES
from elefast.config.keys import Key, TableOfKeys, all_tables, named_tables, variable
from elefast.config.toml_writer import toml_value

__all__ = ["reference"]

_HEAD = """\
# Configuration

<!-- Made from src/elefast/config; do not edit. -->

Every key, with its default and its variable.
`elefast.toml.example` at the top of the repository has the same as one file to copy from.

## Where values come from

`from_config(...)` arguments, then `ELEFAST_*` environment variables, then the profile in `elefast.toml`, then \
`elefast.toml`, then the profile in `pyproject.toml`, then `pyproject.toml`, then defaults.

Tables merge key by key; lists are replaced.
`elefast config --origin` shows each value with the place that it came from.

- `pyproject.toml` has the table `[tool.elefast]`, and below it `[tool.elefast.docker]` and so on.
- `elefast.toml` lies beside it and has the same keys without `tool.elefast`; it is for one person or one machine, or it is the only file.
- The nearest directory upwards that has either is the project's. Relative paths are relative to the file that they stand in.
- A variable is `ELEFAST_`, then the parts of the key with two underscores between them. An empty one counts as unset.
- Lists in a variable are JSON or have commas: `ELEFAST_EXPORT_ENV=DATABASE_URL,APP_URL`. A table is JSON, or one variable for each key.
- An unknown key and an unknown `ELEFAST_*` variable are errors that say what was probably meant.

## Profiles

Any key can stand in `[tool.elefast.profiles.NAME]` as well, and wins over the same key outside while the profile is in force.
`from_config(profile="NAME")`, `pytest --elefast-profile=NAME`, `elefast COMMAND --profile NAME` and `ELEFAST_PROFILE=NAME` put it in force, the first of them before the others.

```toml
[tool.elefast]
migrator = "none"

[tool.elefast.profiles.ci]
keep = "failed"
docker.reuse = false
```
"""


def reference() -> str:
    """The whole page."""
    lines = [line for table in all_tables() for line in _table(table)]
    lines += [line for table in named_tables() for line in _table(table, f"{table.name}.NAME")]
    return "\n".join([_HEAD, *lines]).rstrip("\n") + "\n"


def _table(table: TableOfKeys, shown: str = "") -> Iterator[str]:
    name = shown or table.name
    yield f"## `[{name}]`" if name else "## At the top"
    yield ""
    if name:
        yield _sentences(table.description)
        yield f"In a `pyproject.toml` the table is `[tool.elefast.{name}]`."
        if shown:
            yield "NAME stands for a name that the project chooses. There can be any number of these tables."
        yield ""
    for key in table.keys:
        yield from _key(key)


def _key(key: Key) -> Iterator[str]:
    yield f"### `{key.name.replace('*', 'NAME')}`"
    yield ""
    yield _sentences(key.description)
    yield ""
    yield f"- type: {_type(key)}"
    yield f"- default: {_code(toml_value(key.default))}"
    yield f"- variable: `{variable(key.path).replace('*', 'NAME')}`{_aliases(key)}"
    for value in key.examples:
        yield f"- example: {_code(f'{key.path[-1]} = {toml_value(value)}')}"
    yield f"- since {key.since}"
    meanings = {choice: meaning for choice, meaning in key.choices.items() if meaning}
    if meanings:
        yield ""
        yield "| Value | Meaning |"
        yield "| --- | --- |"
        yield from (f"| {_code(toml_value(choice))} | {meaning} |" for choice, meaning in meanings.items())
    yield ""


def _type(key: Key) -> str:
    expected = key.expected
    if key.minimum is not None and key.maximum is not None:
        return f"{expected}, from {key.minimum} to {key.maximum}"
    return f"{expected}, at least {key.minimum}" if key.minimum is not None else expected


def _aliases(key: Key) -> str:
    names = [name for name, path in ALIASES if path == key.path]
    return f"; also {', '.join(f'`{name}`' for name in reversed(names))}" if names else ""


def _code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _sentences(text: str) -> str:
    """One sentence a line, as all pages have it."""
    return text.replace(". ", ".\n")
