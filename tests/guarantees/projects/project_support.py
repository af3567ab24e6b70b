"""A project in a directory of its own, with pytest run in it as its developers would."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Without it pytest-asyncio warns, and some of these runs make warnings errors.
_SCOPE = "asyncio_default_fixture_loop_scope=function"

__all__ = ["REPOSITORY", "Outcome", "Project"]

REPOSITORY = Path(__file__).parents[3]


@dataclass(frozen=True)
class Outcome:
    """What a run of pytest came to."""

    status: int
    text: str

    @property
    def template(self) -> str:
        """Where the template came from, as the summary says; of several layers, the lowest one that was built."""
        found = re.search(r"^template +(.*(?:\n {10}\w+: .*)*)$", self.text, re.MULTILINE)
        assert found, self.text
        reasons = [re.sub(r"^ *(?:\w+: (?=built|reused))?| \(\d+\.\d+ s\)$", "", line) for line in found[1].split("\n")]
        return next((reason for reason in reasons if reason.startswith("built")), reasons[0])


@dataclass(frozen=True)
class Project:
    """A project in a directory of its own."""

    path: Path
    env: Mapping[str, str]

    def write(self, name: str, text: str) -> Path:
        """Write a file."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def pytest(self, *arguments: str, passes: bool = True, **env: str) -> Outcome:
        """Run pytest there."""
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", _SCOPE, *arguments],
            cwd=self.path,
            env={**self.env, **env},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=180,
        )
        assert not passes or run.returncode == 0, run.stdout
        return Outcome(run.returncode, run.stdout)
