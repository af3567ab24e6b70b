"""A page of the documentation as blocks, and a project directory in which they are run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from markdown_it import MarkdownIt

from elefast.config import load_settings

__all__ = ["REPOSITORY", "Block", "Project", "blocks", "pages"]

REPOSITORY = Path(__file__).parents[2]
GIVEN = Path(__file__).parent / "pages"
READ_ONLY = {"", "text", "console", "sql", "json", "ini"}
PYTEST_OPTIONS = "-p no:cacheprovider -q -o asyncio_default_fixture_loop_scope=function"


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        language: The first word after the fence.
        title: The file that it is; empty for none.
        text: What is in it.
        line: Where it begins.
        not_run: Why it is only read; empty where it is run.
        new_project: Whether it begins with an empty directory.
    """

    language: str
    title: str
    text: str
    line: int
    not_run: str
    new_project: bool


def pages() -> list[Path]:
    """Every page that is written by hand, and those that are made from the code."""
    return [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page in order."""
    comment = ""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            comment += token.content
        elif token.type == "fence":
            language, _, rest = token.info.strip().partition(" ")
            title = re.search(r'title="([^"]+)"', rest)
            reason = re.search(r"<!-- not run: (.+?) -->", comment, re.DOTALL)
            yield Block(
                language,
                title[1] if title else "",
                token.content,
                (token.map or [0])[0] + 1,
                reason[1] if reason else "",
                "<!-- new project -->" in comment,
            )
            comment = ""
        elif token.type == "inline":
            comment = ""


class Project:
    """Where one page is run.

    Args:
        page: The page.
        directory: Empty, or not there yet.
        env: The environment, with the server.
    """

    def __init__(self, page: Path, directory: Path, env: Mapping[str, str]) -> None:
        self._page = page
        self._top = directory
        self._numbers = iter(range(1, 1000))
        self._programs = directory / "programs"
        self._programs.mkdir(parents=True)
        _write_programs(self._programs)
        path = os.pathsep.join([str(self._programs), str(Path(sys.executable).parent), env["PATH"]])
        self._env = {**env, "PATH": path, "PYTEST_ADDOPTS": PYTEST_OPTIONS, "PYTHONDONTWRITEBYTECODE": "1"}
        self.directory = self._begin()

    def _begin(self) -> Path:
        directory = self._top / f"project-{next(self._numbers)}"
        name = "-".join(self._page.relative_to(REPOSITORY).with_suffix("").parts).removeprefix("docs-")
        given = GIVEN / name
        # Most pages are about a project that is there already; it is the same shop for all of them.
        source = given if given.is_dir() else GIVEN / "_shop"
        shutil.copytree(source, directory, ignore=shutil.ignore_patterns("__pycache__"))
        return directory

    def do(self, block: Block) -> None:
        """Do what the block says.

        Raises:
            AssertionError: It does not work.
        """
        if block.new_project:
            self.finish()
            self.directory = self._begin()
        if block.not_run:
            return
        place = f"{self._page.relative_to(REPOSITORY)}:{block.line}"
        if block.title:
            file = self.directory / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
            if block.language == "toml":
                self._validate(block, file.name, place)
        elif block.language == "toml":
            name = self._validate(block, "", place)
            if name:
                (self.directory / name).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            self._python(block, place)
        elif block.language in ("sh", "bash"):
            self._run(["bash", "-e", "-c", block.text], place)
        elif block.language in ("yaml", "yml"):
            yaml.safe_load(block.text)
        else:
            assert block.language in READ_ONLY, f"{place}: nobody knows how to run {block.language}"

    def finish(self) -> None:
        """Run all tests of the project."""
        if any(self.directory.rglob("test_*.py")):
            self._run([sys.executable, "-m", "pytest"], f"{self._page.relative_to(REPOSITORY)}, at the end")

    def _python(self, block: Block, place: str) -> None:
        number = next(self._numbers)
        if re.search(r"^\s*(async )?def test_", block.text, re.MULTILINE):
            file = self.directory / f"test_block_{number}.py"
            file.write_text(block.text, encoding="utf-8")
            self._run([sys.executable, "-m", "pytest", file.name], place)
            file.unlink()
        else:
            self._run([sys.executable, "-c", block.text], place)

    def _validate(self, block: Block, name: str, place: str) -> str:
        """See that elefast accepts it; the name of the file that it is, empty where it is none of elefast's."""
        document = tomllib.loads(block.text)
        if not name:
            name = "elefast.toml" if block.text.startswith("# elefast.toml") else "pyproject.toml"
        if name == "pyproject.toml" and "elefast" not in document.get("tool", {}):
            return ""
        if name in ("pyproject.toml", "elefast.toml"):
            # By itself: what the page has built up so far must not mend it.
            alone = self._top / f"alone-{next(self._numbers)}"
            alone.mkdir()
            (alone / name).write_text(block.text, encoding="utf-8")
            profiles = document.get("tool", {}).get("elefast", document).get("profiles", {})
            for profile in (None, *profiles):
                try:
                    load_settings(alone, env={}, profile=profile)
                except Exception as error:
                    raise AssertionError(f"{place}: {error}") from error
            return name
        return ""

    def _run(self, command: list[str], place: str) -> None:
        done = subprocess.run(
            command,
            cwd=self.directory,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, f"{place}: exit status {done.returncode}\n{done.stdout}"


# What it is asked for is looked up, not installed: the tests have no business on a network.
_PIP = """#!{python}
import sys
from importlib.metadata import PackageNotFoundError, distribution
from packaging.requirements import Requirement

words = [word for word in sys.argv[1:] if not word.startswith("-")]
while words and words[0] in ("install", "add", "pip", "tool", "sync", "run"):
    words.pop(0)
for word in words:
    if word == "." or word.startswith((".[", "-e")) or word.endswith(".txt"):
        continue
    wanted = Requirement(word)
    try:
        found = distribution(wanted.name)
    except PackageNotFoundError:
        sys.exit(f"{{word}} is not installed here, so nothing is known of it")
    extras = set(found.metadata.get_all("Provides-Extra") or ())
    unknown = wanted.extras - extras
    if unknown:
        sys.exit(f"{{wanted.name}} has no extra {{', '.join(sorted(unknown))}}")
    if not wanted.specifier.contains(found.version, prereleases=True):
        sys.exit(f"{{word}}: {{found.version}} is installed")
"""


def _write_programs(directory: Path) -> None:
    for name in ("pip", "uv"):
        file = directory / name
        file.write_text(_PIP.format(python=sys.executable), encoding="utf-8")
        file.chmod(0o755)
