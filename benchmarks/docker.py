"""``python -m benchmarks.docker``: from the start of a process to its first row from a server in a container.

Each figure is that of a fresh interpreter, imports included; all of them import SQLAlchemy, as the project's models
would. The image is there before. A table for the cold start,
where there is no container yet, and one for the second start, as the next run of the tests would make it:

- elefast finds the container that it kept;
- ``docker start`` is what a script can do with a container that it stopped, whose data are on disk;
- testcontainers-python makes a new container each time. Its reaper is off, since that takes an image of its own.

``docker run`` is the image with nothing but a password, polled every 20 ms until it answers over TCP.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import environment
from benchmarks.render import company
from benchmarks.rounds import interleaved, median

HERE = Path(__file__).parent

# What each process does; the first argument is the image, the second one what the variant needs.
ROW = """
import time, psycopg, sqlalchemy
def row(url):
    with psycopg.connect(url, connect_timeout=2) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    print(time.monotonic(), flush=True)
"""

ELEFAST = """
import sys
from elefast.extras.docker import postgres
from elefast.extras.docker.configuration import Configuration, Container
url = postgres("psycopg", config=Configuration(container=Container(image=sys.argv[1])))
row(url.set(drivername="postgresql").render_as_string(hide_password=False))
"""

DOCKER = """
import subprocess, sys
def docker(*words):
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()
name = sys.argv[2]
if sys.argv[3] == "run":
    docker("run", "-d", "--name", name, "-e", "POSTGRES_PASSWORD=secret", "-p", "127.0.0.1::5432", sys.argv[1])
else:
    docker("start", name)
url = "postgresql://postgres:secret@" + docker("port", name, "5432/tcp") + "/postgres"
while True:
    try:
        row(url)
        break
    except psycopg.OperationalError:
        time.sleep(0.02)
"""

TESTCONTAINERS = """
import sys
try:
    from testcontainers.community.postgres import PostgresContainer
except ImportError:
    from testcontainers.postgres import PostgresContainer
container = PostgresContainer(sys.argv[1], driver=None)
try:
    container.start()
    row(container.get_connection_url())
finally:
    container.stop()
"""


@dataclass(frozen=True)
class Client:
    """Starts processes that get a row.

    Args:
        image: What all of them use.
        project: A directory of its own.
    """

    image: str
    project: Path

    def milliseconds(self, program: str, *arguments: str) -> float:
        """How long a fresh process takes to its first row."""
        command = [sys.executable, "-c", ROW + program, self.image, *arguments]
        env = {**os.environ, "_ELEFAST_ROOT": str(self.project), "TESTCONTAINERS_RYUK_DISABLED": "true"}
        began = time.monotonic()
        done = subprocess.run(command, cwd=self.project, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command[3:])}: {done.stderr}")
        return (float(done.stdout.split()[0]) - began) * 1000

    def elefast(self) -> tuple[float, float]:
        """A container that is kept."""
        try:
            return self.milliseconds(ELEFAST), self.milliseconds(ELEFAST)
        finally:
            self._remove("--filter", f"label=dev.elefast.project={os.path.realpath(self.project)}")

    def docker(self) -> tuple[float, float]:
        """The image as it is."""
        name = f"elefast-bench-{os.getpid()}"
        try:
            cold = self.milliseconds(DOCKER, name, "run")
            subprocess.run(["docker", "stop", name], check=True, capture_output=True)
            return cold, self.milliseconds(DOCKER, name, "start")
        finally:
            self._remove("--filter", f"name={name}")

    def testcontainers(self) -> tuple[float, float]:
        """A peer."""
        return self.milliseconds(TESTCONTAINERS), self.milliseconds(TESTCONTAINERS)

    def _remove(self, *which: str) -> None:
        found = subprocess.run(["docker", "ps", "-aq", *which], check=True, capture_output=True, text=True)
        for container in found.stdout.split():
            subprocess.run(["docker", "rm", "-f", "-v", container], check=True, capture_output=True)


LABELS = {
    "cold": {"elefast": "elefast", "docker": "`docker run`", "testcontainers": "testcontainers-python"},
    "second": {"elefast": "elefast", "docker": "`docker start`", "testcontainers": "testcontainers-python"},
}


def measure(image: str, rounds: int, parent: str) -> dict[str, Any]:
    """All variants, each once before the first round that counts."""
    from benchmarks.machine import busy, facts

    others = busy()
    with TemporaryDirectory(prefix="elefast-bench-", dir=parent) as path:
        client = Client(image, Path(path))
        variants: Mapping[str, Callable[[], tuple[float, float]]] = {
            "elefast": client.elefast,
            "docker": client.docker,
            "testcontainers": client.testcontainers,
        }
        interleaved(variants, 1, f"warming up with {image}")
        taken = interleaved(variants, rounds, f"starts of {image}")
    figures = {
        start: {
            name: {"ms": round(median(values), 1), "each_ms": [round(value, 1) for value in values]}
            for name in variants
            for values in [[one[name][index] for one in taken]]
        }
        for index, start in enumerate(LABELS)
    }
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "rounds": rounds,
        "busy": others,
        "image": image,
        "engine": subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"], check=True, capture_output=True, text=True
        ).stdout.strip(),
        "machine": facts(),
        "testcontainers": _version("testcontainers"),
        "starts": figures,
    }


def _version(name: str) -> str:
    from importlib.metadata import version

    return version(name)


def markdown(results: dict[str, Any]) -> str:
    """Both tables, with what they were measured on before them."""
    machine = results["machine"]
    lines = [
        "# Starts in a container",
        "",
        f"`{results['image']}`, Docker {results['engine']}, {machine['processors']} processors, "
        f"{machine['memory_gb']} GiB, {machine['system']}, Python {machine['python']}, "
        f"testcontainers {results['testcontainers']}.",
        f"Commit {machine['commit']}, {results['date']}; medians of {results['rounds']} interleaved rounds.",
        *company(results["busy"]),
    ]
    titles = {"cold": "Cold start: the image is there, no container", "second": "Second start"}
    for start, figures in results["starts"].items():
        ours = figures["elefast"]["ms"]
        lines += [
            "",
            f"## {titles[start]}",
            "",
            "| | first row after, ms | each round | of elefast's |",
            "|---|--:|--:|--:|",
        ]
        for name, figure in sorted(figures.items(), key=lambda item: item[1]["ms"]):
            spread = f"{min(figure['each_ms']):.0f} to {max(figure['each_ms']):.0f}"
            lines.append(f"| {LABELS[start][name]} | {figure['ms']:.0f} | {spread} | {figure['ms'] / ours:.2f} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Parse the command line, and run in an environment of the benchmarks' own unless told otherwise."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.docker", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", default="postgres:18", help="which must be there (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="how often each variant starts (default: 7)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where results go (default: %(default)s)")
    parser.add_argument("--venv", type=Path, help="keep the environment here for the next time")
    parser.add_argument("--here", action="store_true", help="use this environment, with what is installed in it")
    options = parser.parse_args(arguments)
    parent = "/dev/shm" if Path("/dev/shm").is_dir() else ""
    if not options.here and not environment.is_inside():
        how = {"module": "benchmarks.docker", "requirements": "requirements-docker.txt"}
        if options.venv:
            return environment.enter(options.venv.absolute(), arguments, **how)
        with TemporaryDirectory(prefix="elefast-bench-venv-", dir=parent or None) as path:
            return environment.enter(Path(path), arguments, **how)
    results = measure(options.image, options.rounds, parent)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "docker.json").write_text(json.dumps(results, indent=1) + "\n")
    (options.out / "docker.md").write_text(markdown(results))
    print(markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
