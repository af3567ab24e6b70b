"""A project in a temporary directory, for the tests of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from elefast.config import Loaded, load_settings
from elefast.errors import ConfigurationError


@dataclass(frozen=True)
class Project:
    """A directory with files, and an environment of its own: nothing of this process's gets in."""

    directory: Path

    def write(self, name: str, text: str) -> Path:
        """Write one file, and the directories that it lies in."""
        file = self.directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def load(self, env: Mapping[str, str] | None = None, **options: Any) -> Loaded:
        """Load it as `from_config()` would, from its directory."""
        return load_settings(env=env or {}, start=self.directory, **options)

    def problems(self, env: Mapping[str, str] | None = None, **options: Any) -> list[str]:
        """The lines of the error, without the first and the hint."""
        with pytest.raises(ConfigurationError) as caught:
            self.load(env, **options)
        return [str(problem) for problem in caught.value.problems]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project."""
    return Project(tmp_path)
