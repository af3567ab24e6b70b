"""`elefast schema`: the JSON Schema of the configuration, for editors and checkers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from elefast.errors import UsageError

__all__ = ["HELP", "NAME", "add_arguments", "run", "schema_text"]

NAME = "schema"
HELP = "print the JSON Schema of [tool.elefast] and of elefast.toml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--schemastore",
        action="store_true",
        help="what SchemaStore takes: the entry of its catalog, the part of its pyproject.json, and the schema",
    )
    parser.add_argument("--output", metavar="FILE", help="write it there instead")


def run(arguments: argparse.Namespace) -> int:
    """Print or write it.

    Raises:
        UsageError: The file cannot be written.
    """
    text = _json(_store()) if arguments.schemastore else schema_text()
    if not arguments.output:
        print(text, end="")
        return 0
    try:
        Path(arguments.output).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UsageError(
            f"{arguments.output} cannot be written: {error.strerror}; expected the path of a file in a directory "
            "that is there",
            code="output-unwritable",
        ) from error
    return 0


def schema_text() -> str:
    """The schema as a file has it."""
    from elefast.config.schema import get_schema

    return _json(get_schema())


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _store() -> dict[str, Any]:
    from elefast.config.schema import ID, get_schema

    schema = get_schema()
    return {
        "catalog.json": {
            "name": "elefast",
            "description": schema["description"],
            "fileMatch": ["elefast.toml"],
            "url": ID,
        },
        "pyproject.json": {"elefast": {"$ref": ID, "title": "elefast", "description": schema["description"]}},
        "elefast.json": schema,
    }
