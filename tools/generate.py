"""Writes the files that are made from the code: from the model of the configuration, the commands and the errors.

Run it at the top of the repository: `python -m tools.generate`. Nothing of elefast imports it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from elefast.config.schema import get_schema
from tools.cli_reference import reference as cli_reference
from tools.configuration_reference import reference as configuration_reference
from tools.error_reference import reference as errors_reference
from tools.example_file import example
from tools.imports import picture
from tools.typed_arguments import typed_arguments

__all__ = ["COMMAND", "generated"]

COMMAND = "python -m tools.generate"
REPOSITORY = Path(__file__).parents[1]


def generated() -> dict[str, str]:
    """The text of each file, by its path in the repository."""
    return {
        "elefast.toml.example": example(),
        "schemas/elefast.schema.json": json.dumps(get_schema(), indent=2, ensure_ascii=False) + "\n",
        "docs/reference/configuration.md": configuration_reference(),
        "docs/reference/cli.md": cli_reference(),
        "docs/reference/errors.md": errors_reference(),
        "src/elefast/config/overrides.py": typed_arguments(),
        "CONTRIBUTING.md": _with_picture(REPOSITORY.joinpath("CONTRIBUTING.md").read_text(encoding="utf-8")),
    }


def _with_picture(text: str) -> str:
    """`text` with the diagram of imports as it is now."""
    return re.sub(r"^```mermaid\n.*?^```$", lambda _: picture(), text, count=1, flags=re.MULTILINE | re.DOTALL)


def main() -> None:
    """Write the files below the working directory."""
    for path, text in generated().items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, encoding="utf-8", newline="\n")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
