"""A virtual environment of the benchmarks' own, so that peers and plugins never get into anybody else's."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

__all__ = ["enter", "interpreter", "is_inside", "open_to_all"]

HERE = Path(__file__).parent
INSIDE = "ELEFAST_BENCHMARKS_INSIDE"


def is_inside() -> bool:
    """Whether this process runs in it."""
    return INSIDE in os.environ


def open_to_all(program: str) -> bool:
    """Whether every user of the machine can run `program`; root's own interpreters often lie in its home."""
    path = Path(program).resolve()
    return all(part.stat().st_mode & stat.S_IXOTH for part in (path, *path.parents))


def enter(
    path: Path, arguments: list[str], *, module: str = "benchmarks", requirements: str = "requirements.txt"
) -> int:
    """Make the environment where there is none, and run the benchmarks in it; their exit status."""
    python = path / "bin" / "python"
    if not python.exists():
        print(f"making an environment in {path}", file=sys.stderr, flush=True)
        subprocess.run([interpreter(), "-m", "venv", "--without-pip", str(path)], check=True)
    # The pip of whoever calls us; not every Python of a system can make an environment with one in it.
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(HERE / requirements), "-e", f"{HERE.parent}[all]"], check=True)
    command = [str(python), "-m", module, *arguments]
    done = subprocess.run(command, cwd=HERE.parent, env=os.environ | {INSIDE: "1"}, check=False)
    return done.returncode


def interpreter() -> str:
    """This Python, or the system's where an ordinary user could not run this one (see item 5)."""
    ours = os.path.realpath(sys.executable)
    system = Path("/usr/bin/python3")
    if os.geteuid() or open_to_all(ours) or not system.exists():
        return sys.executable
    asked = [str(system), "-c", "import sys; print(sys.version_info >= (3, 11))"]
    fits = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == "True"
    return str(system) if fits else sys.executable
