"""Makes the pictures of the documentation from real output: `python docs/pictures.py`.

A project is made, elefast and pytest are run in it on a local server, and what they print becomes an SVG.
What belongs to this machine alone is replaced: directories, passwords.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

REPOSITORY = Path(__file__).parents[1]
IMAGES = Path(__file__).parent / "images"
FAILING = """\
from shop.models import Product


def test_price(db_session):
    db_session.add(Product(name="tea", price_cents=350))
    db_session.commit()
    assert db_session.get(Product, 1).price_cents == 300
"""
MANY = """\
import pytest
from shop.models import Product


@pytest.mark.parametrize("number", range(100))
def test_many(db_session, number):
    db_session.add(Product(name="tea", price_cents=number))
    db_session.commit()
"""


def main() -> int:
    """Make all of them."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="pictures-", dir=memory) as path:
        work = Path(path)
        work.chmod(0o711)
        project = work / "shop"
        given = REPOSITORY / "examples" / "quickstart"
        shutil.copytree(given, project, ignore=shutil.ignore_patterns("__pycache__", "tests", "*.sql"))
        (project / "pyproject.toml").write_text(
            '[project]\nname = "shop"\n\n[tool.elefast]\nmigrator = "alembic"\nprovider = "local"\n\n'
            '[tool.pytest.ini_options]\npythonpath = ["."]\nasyncio_default_fixture_loop_scope = "function"\n'
        )
        tests = project / "tests"
        tests.mkdir()
        (tests / "test_many.py").write_text(MANY)
        _picture(work, "report", "pytest -q --elefast-report")
        _picture(work, "check", "elefast check --start")
        (tests / "test_many.py").unlink()
        (tests / "test_shop.py").write_text(FAILING)
        _picture(work, "kept", "pytest --elefast-keep")
        _run(work, "elefast prune --all")
        _run(work, "elefast down")
    return 0


def _run(work: Path, command: str) -> str:
    env = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(work),
        "FORCE_COLOR": "1",
        "COLUMNS": "110",
        "PYTEST_ADDOPTS": "-p no:cacheprovider -p no:randomly --color=yes",
        "PYTHONDONTWRITEBYTECODE": "1",
        "_ELEFAST_ROOT": str(work / "elefast"),
    }
    (work / "elefast").mkdir(exist_ok=True)
    (work / "elefast").chmod(0o711)
    done = subprocess.run(command.split(), cwd=work / "shop", env=env, capture_output=True, text=True, check=False)
    return done.stdout


def _picture(work: Path, name: str, command: str) -> None:
    text = _run(work, command)
    text = text.replace(str(work / "elefast"), "/dev/shm/elefast").replace(str(work / "shop"), "/home/me/shop")
    text = re.sub(r"(postgres):[^@\s]+@", r"\1:***@", text)
    text = text.replace(str(Path(sys.executable).parents[1]), "/home/me/shop/.venv")
    console = Console(record=True, width=118, file=open(os.devnull, "w"))  # noqa: SIM115  for the time of the script
    console.print(Text(f"$ {command}", style="bold"))
    console.print(Text.from_ansi(text.strip("\n")))
    svg = console.export_svg(title="", unique_id=name)
    # Nothing is fetched from elsewhere: a reader without the font has another one.
    svg = re.sub(r"@font-face \{[^}]*\}\s*", "", svg)
    (IMAGES / f"{name}.svg").write_text(svg, encoding="utf-8", newline="\n")
    print(f"wrote {IMAGES / f'{name}.svg'}")


if __name__ == "__main__":
    sys.exit(main())
