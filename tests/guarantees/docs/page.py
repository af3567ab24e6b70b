"""A page of the documentation as blocks, and a project directory in which they are run."""

from __future__ import annotations

import os
import re
import shlex
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
from elefast.errors import ElefastError
from elefast.providers.local.binaries import find

__all__ = ["REPOSITORY", "Block", "Project", "blocks", "pages"]

REPOSITORY = Path(__file__).parents[3]
GIVEN = Path(__file__).parent / "pages"
READ_ONLY = {"", "text", "sql", "json", "ini"}
# Keys of CI systems whose values are commands.
COMMANDS = {"run", "script", "before_script", "after_script"}
PYTEST_OPTIONS = "-p no:cacheprovider -p no:randomly -q -o asyncio_default_fixture_loop_scope=function"


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
        # The server's own psql before the machine's, which may be Debian's wrapper without a client behind it.
        places = [str(self._programs), str(Path(sys.executable).parent), *_server_programs(), env["PATH"]]
        path = os.pathsep.join(places)
        self.missing = ""
        """What this machine has not, though blocks wanted it; they were passed over."""
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
        name = block.title
        match block.language:
            case "toml":
                name = self._validate(block, place)
            case "yaml":
                for commands in _commands(yaml.safe_load(block.text)):
                    self._recognise(commands, place)
            case "python" if not name:
                self._python(block, place)
            case "sh" if not name:
                self._shell(block, place)
            case "console":
                self._console(block, place)
            case language:
                assert name or language in READ_ONLY, f"{place}: nobody knows how to run {language}"
        if name:
            file = self.directory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")

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

    def _validate(self, block: Block, place: str) -> str:
        """See that elefast accepts it; the name of the file that it is, empty where it is for reading only."""
        document = tomllib.loads(block.text)
        own = "elefast" in document.get("tool", {})
        name = block.title or (
            "elefast.toml" if block.text.startswith("# elefast.toml") else "pyproject.toml" if own else ""
        )
        kind = Path(name).name
        if kind == "elefast.toml" or (kind == "pyproject.toml" and own):
            # By itself: what the page has built up so far must not mend it.
            alone = self._top / f"alone-{next(self._numbers)}"
            alone.mkdir()
            (alone / kind).write_text(block.text, encoding="utf-8")
            profiles = document.get("tool", {}).get("elefast", document).get("profiles", {})
            for profile in (None, *profiles):
                try:
                    load_settings(alone, env={}, profile=profile)
                except ElefastError as error:
                    raise AssertionError(f"{place}: {error}") from error
        return name

    def _shell(self, block: Block, place: str) -> None:
        missing = [image for image in _images(block.text) if not _is_there(image)]
        if missing:
            self.missing = f"{place}: no Docker engine with {', '.join(missing)}"
        else:
            self._run(["bash", "-e", "-c", block.text], place)

    def _console(self, block: Block, place: str) -> None:
        """Run what follows ``$ ``, and compare what it prints with the lines below; ``...`` stands for anything."""
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE):
            printed = self._run(["bash", "-c", command], place, success=False)
            pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
            assert re.fullmatch(pattern, printed.strip(), re.DOTALL), f"{place}: {command} printed\n{printed}"

    def _recognise(self, commands: str, place: str) -> None:
        """See that the shell can read the lines, and that each begins with a program that is there."""
        self._run(["bash", "-n", "-c", commands], place)
        for line in commands.splitlines():
            for word in shlex.split(line, comments=True)[:1]:
                self._run(["bash", "-c", 'type "$1"', "type", word], place)

    def _run(self, command: list[str], place: str, *, success: bool = True) -> str:
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
        assert done.returncode == 0 or not success, f"{place}: exit status {done.returncode}\n{done.stdout}"
        return done.stdout


def _commands(document: object) -> Iterator[str]:
    """The commands of a job, as any CI system writes them."""
    match document:
        case dict():
            for key, value in document.items():
                if key in COMMANDS and isinstance(value, (str, list)):
                    yield from ([value] if isinstance(value, str) else (str(line) for line in value))
                else:
                    yield from _commands(value)
        case list():
            for value in document:
                yield from _commands(value)
        case _:
            pass


def _images(commands: str) -> list[str]:
    """The images that `commands` run."""
    return re.findall(r"\bdocker run\b.*\b(postgres:\d+)", commands.replace("\\\n", ""))


def _is_there(image: str) -> bool:
    """Whether there is an engine with that image; nothing is pulled here."""
    # By a shell, which has a status for a program that is not there, too.
    look = ["sh", "-c", f"docker image inspect {image}"]
    return subprocess.run(look, capture_output=True, check=False).returncode == 0


def _server_programs() -> list[str]:
    """The directory of the programs that belong to the server of the tests, psql among them."""
    try:
        return [str(find(os.environ.get("TEST_POSTGRES_BIN", ""), "").directory)]
    except ElefastError:
        return []


# What it is asked for is looked up, not installed: the tests have no business on a network.
_PIP = """#!{python}
import os
import sys
from importlib.metadata import PackageNotFoundError, distribution
from packaging.requirements import Requirement

words = [word for word in sys.argv[1:] if not word.startswith("-")]
if words[:1] == ["run"]:
    os.execvp(words[1], sys.argv[sys.argv.index(words[1]) :])
while words and words[0] in ("install", "add", "pip", "tool", "sync"):
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
