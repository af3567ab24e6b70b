"""Writes the files that are made from the code: from the model of the configuration, the commands and the errors.

Run it at the top of the repository: `python -m elefast.generate`. Nothing of elefast imports it.
"""

from __future__ import annotations

import json
from pathlib import Path

from elefast.cli.reference import reference as cli_reference
from elefast.config.example import example
from elefast.config.reference import reference as configuration_reference
from elefast.config.schema import get_schema
from elefast.config.typed_arguments import typed_arguments
from elefast.explanations.reference import reference as errors_reference

__all__ = ["COMMAND", "generated"]

COMMAND = "python -m elefast.generate"


def generated() -> dict[str, str]:
    """The text of each file, by its path in the repository."""
    return {
        "elefast.toml.example": example(),
        "schemas/elefast.schema.json": json.dumps(get_schema(), indent=2, ensure_ascii=False) + "\n",
        "docs/reference/configuration.md": configuration_reference(),
        "docs/reference/cli.md": cli_reference(),
        "docs/reference/errors.md": errors_reference(),
        "src/elefast/config/overrides.py": typed_arguments(),
    }


def main() -> None:
    """Write the files below the working directory."""
    for path, text in generated().items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, encoding="utf-8", newline="\n")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
