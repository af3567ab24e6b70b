"""``python -m benchmarks.first_test``: count commands and lines, and run them; writes JSON and `docs/first-test.md`.

The project is there before: models, `alembic.ini`, `env.py` as `alembic init` writes it, and one test of two lines
with the fixture `db_session`. Counted is, the same way for all, what a user types until that test passes with a
database for each test: commands of the shell, and lines that are neither empty nor in the project before.
An installation counts as one command, whatever it installs, and is not timed: it depends on the network.
The image of PostgreSQL is there, as Docker has it after the first time.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.environment import interpreter

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
SHOP = REPOSITORY / "examples" / "quickstart"
TEST = """\
from shop.models import Product
from sqlalchemy import func, select


def test_a_product(db_session):
    assert db_session.scalar(select(func.count()).select_from(Product)) == 0
"""
CONTAINER = "first-test-of-elefast"
DOCKER = f"docker run -d --rm --name {CONTAINER} -p 127.0.0.1:54329:5432 -e POSTGRES_PASSWORD=secret postgres:18"
READY = f"until docker exec {CONTAINER} pg_isready -q -h 127.0.0.1; do sleep 0.1; done"


@dataclass(frozen=True)
class Way:
    """A tool, and what its user does.

    Args:
        name: Of its directory.
        label: For people.
        install: What is installed.
        commands: After that, in order.
        note: What else is needed.
    """

    name: str
    label: str
    install: str
    commands: Sequence[str]
    note: str = ""


WAYS = (
    Way("elefast", "elefast", "elefast[alembic,embedded] pytest", ["pytest"], "no server and no Docker needed"),
    Way("elefast_init", "elefast, with init", "elefast[alembic,embedded] pytest", ["elefast init", "pytest"]),
    Way(
        "pytest_postgresql",
        "pytest-postgresql",
        "pytest-postgresql alembic sqlalchemy psycopg[binary] pytest",
        ["pytest"],
        "PostgreSQL's programs on the machine; not as root",
    ),
    Way("testcontainers", "testcontainers", "testcontainers alembic sqlalchemy psycopg[binary] pytest", ["pytest"]),
    Way("pgtestdbpy", "pgtestdbpy", "pgtestdbpy alembic sqlalchemy psycopg[binary] pytest", [DOCKER, "pytest"]),
    Way("by_hand", "by hand", "alembic sqlalchemy psycopg[binary] pytest", [DOCKER, "pytest"]),
)


def main() -> int:
    """Run all of them; each in an environment and a copy of its own."""
    rows = []
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with TemporaryDirectory(prefix="first-test-", dir=memory) as path:
        work = Path(path)
        work.chmod(0o755)
        for way in WAYS:
            print(way.label, file=sys.stderr, flush=True)
            rows.append(_row(way, work))
    result = {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "rows": rows}
    (HERE.parent / "results" / "first-test.json").write_text(json.dumps(result, indent=1) + "\n")
    (REPOSITORY / "docs" / "first-test.md").write_text(_page(result))
    return 0


def _row(way: Way, work: Path) -> dict[str, object]:
    project = work / way.name
    shutil.copytree(SHOP, project, ignore=shutil.ignore_patterns("__pycache__", "tests", "pyproject.toml", "*.sql"))
    (project / "tests").mkdir()
    (project / "tests" / "test_one.py").write_text(TEST)
    (project / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    lines = 0
    for file in (HERE / way.name).iterdir():
        if not file.name.startswith("."):
            shutil.copy(file, project)
            lines += sum(1 for line in file.read_text().splitlines() if line.strip())
    venv = work / f"venv-{way.name}"
    subprocess.run([interpreter(), "-m", "venv", "--without-pip", str(venv)], check=True)
    wanted = way.install.replace("elefast[", f"{REPOSITORY}[").split()
    pip = [sys.executable, "-m", "pip", "--python", str(venv), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *wanted], check=True)
    env = {
        "PATH": f"{venv / 'bin'}:{os.environ['PATH']}",
        "HOME": str(work),
        "ELEFAST_PROVIDER": "local",
        "_ELEFAST_ROOT": str(work / "root"),
        "TESTCONTAINERS_RYUK_DISABLED": "true",
    }
    (work / "root").mkdir(exist_ok=True)
    (work / "root").chmod(0o711)
    user: list[str] = []
    if way.name == "pytest_postgresql" and os.geteuid() == 0:
        user = ["runuser", "-u", "postgres", "--", "env", f"PATH={env['PATH']}:/usr/lib/postgresql/15/bin"]
        subprocess.run(["chown", "-R", "postgres", str(project)], check=True)
    begin = time.monotonic()
    try:
        for command in way.commands:
            shell = f"{command} >/dev/null\n{READY}" if command == DOCKER else command
            done = subprocess.run(
                [*user, "bash", "-ec", shell], cwd=project, env=env, capture_output=True, text=True, timeout=300
            )
            failed = done.returncode != 0
            if failed:
                print(done.stdout + done.stderr, file=sys.stderr)
                break
        seconds = time.monotonic() - begin
    finally:
        if DOCKER in way.commands:
            subprocess.run(["docker", "stop", CONTAINER], capture_output=True, check=False)
    return {
        **asdict(way),
        "commands": [f"pip install {way.install}", *way.commands],
        "lines": lines,
        "passed": not failed,
        "seconds": round(seconds, 2),
    }


def _page(result: dict[str, Any]) -> str:
    rows = [dict(row) for row in result["rows"]]
    ours = float(rows[0]["seconds"])
    lines = [
        "# The first test",
        "",
        "<!-- Made by `python -m benchmarks.first_test`; do not edit. -->",
        "",
        "From a project with models, `alembic.ini` and a stock `env.py` to one migrated test that passes, with a "
        "database for each test: what each tool asks of its user, counted the same way for all.",
        "",
        "A command is one line of the shell, the installation among them; a line is one that is neither empty nor in "
        "the project before.",
        "The time is that of all commands but the installation, over that of elefast in the same run.",
        "",
        "| | commands | lines | time | |",
        "| --- | --: | --: | --: | --- |",
    ]
    for row in rows:
        taken = f"{float(row['seconds']) / ours:.1f}" if row["passed"] else "did not run here"
        lines.append(f"| {row['label']} | {len(row['commands'])} | {row['lines']} | {taken} | {row['note']} |")
    lines += [
        "",
        "The one line of elefast is `[tool.elefast]`: that there is an `alembic.ini` beside it says the rest.",
        "With `elefast init` nothing is written by hand; it runs the stack and an example test, which is its time.",
        "Those by hand, with testcontainers and with pgtestdbpy migrate in each run and for each process, and have no "
        "answer yet for `pytest -n` on one server and for a run that was killed.",
        "",
        f"Run on {result['date']}, once; the projects are in `benchmarks/first_test`.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
