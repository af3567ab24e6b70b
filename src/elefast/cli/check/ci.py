"""What a CI system needs to run a project's tests: a server beside the job, its URL, and the commands.

A server beside the job works everywhere and needs neither Docker nor PostgreSQL in the job itself. The blocks are
meant to be pasted, so each is a whole file, or the part of one that its first line names.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elefast.cli.check.install import find_install
from elefast.cli.init.project import Look
from elefast.errors import UsageError

if TYPE_CHECKING:
    from elefast.config.model import Settings

__all__ = ["SYSTEMS", "block"]

_FILES = {
    ".github/workflows": "github",
    ".gitlab-ci.yml": "gitlab",
    ".circleci": "circleci",
    "azure-pipelines.yml": "azure",
    "bitbucket-pipelines.yml": "bitbucket",
}
_PASSWORD = "elefast"
_TUNING = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off"


@dataclass(frozen=True)
class _Job:
    """What the blocks say of the project.

    Args:
        image: Of the server.
        python: The version of Python.
        install: The commands that install it.
        test: The command that tests it.
        notes: What a reader has to know, each on a line.
        tuning: Arguments of ``initdb`` that make a server for tests; empty where its version has none such.
    """

    image: str
    python: str
    install: list[str]
    notes: list[str]
    test: str
    tuning: str

    def url(self, host: str = "127.0.0.1") -> str:
        return f"postgresql://postgres:{_PASSWORD}@{host}:5432/postgres"

    def lines(self, template: str, indent: int) -> str:
        """The install commands, each in `template`, at this depth."""
        return "\n".join(" " * indent + template.format(command) for command in self.install)

    def environment(self, indent: int, form: str = "{}: {}") -> str:
        """The variables of the server's container."""
        values = {"POSTGRES_PASSWORD": _PASSWORD}
        if self.tuning:
            values["POSTGRES_INITDB_ARGS"] = self.tuning
        return "\n".join(" " * indent + form.format(name, value) for name, value in values.items())


def block(system: str, settings: Settings, seen: Look) -> str:
    """The text for one CI system.

    Args:
        system: Its name; empty: that whose files lie in the project, else GitHub.
        settings: Of the project.
        seen: A look at its files.

    Raises:
        UsageError: There is no such system.
    """
    name = system or next((name for path, name in _FILES.items() if (seen.root / path).exists()), "github")
    if name not in SYSTEMS:
        raise UsageError(f'"{name}" is not known; expected one of {", ".join(SYSTEMS)}', code="unknown-ci-system")
    job = _job(settings, seen)
    first, _, rest = SYSTEMS[name](job).partition("\n")
    return "\n".join([first, *(f"# {line}" for line in job.notes), rest])


def _job(settings: Settings, seen: Look) -> _Job:
    image = settings.docker.image
    major = re.search(r":(\d+)", image)
    # initdb takes settings since PostgreSQL 16.
    tuning = _TUNING if major and int(major[1]) >= 16 else ""
    test = "pytest -n auto" if "pytest-xdist" in seen.installed else "pytest"
    return _Job(image, f"{sys.version_info.major}.{sys.version_info.minor}", *find_install(seen), test, tuning)


def _github(job: _Job) -> str:
    return f"""\
# .github/workflows/test.yml
name: test
on: [push, pull_request]
permissions: {{}}
jobs:
  test:
    runs-on: ubuntu-latest
    permissions:
      contents: read
    services:
      postgres:
        image: {job.image}
        env:
{job.environment(10)}
        ports: ["5432:5432"]
        options: >-
          --health-cmd "pg_isready -U postgres" --health-interval 1s --health-timeout 5s --health-retries 60
    env:
      ELEFAST_ENGINE__URL: {job.url()}
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "{job.python}"
          cache: pip
      - name: Install and test
        run: |
{job.lines("{}", 10)}
          {job.test}
"""


def _gitlab(job: _Job) -> str:
    return f"""\
# .gitlab-ci.yml
test:
  image: python:{job.python}
  services:
    - name: {job.image}
      alias: postgres
  variables:
{job.environment(4)}
    ELEFAST_ENGINE__URL: {job.url("postgres")}
    ELEFAST_ENGINE__ALLOW_REMOTE: "true"  # the service has a host name of its own
    PIP_CACHE_DIR: $CI_PROJECT_DIR/.cache/pip
  cache:
    paths: [.cache/pip]
  script:
{job.lines("- {}", 4)}
    - {job.test}
"""


def _circleci(job: _Job) -> str:
    return f"""\
# .circleci/config.yml
version: 2.1
jobs:
  test:
    docker:
      - image: cimg/python:{job.python}
      - image: {job.image}
        environment:
{job.environment(10)}
    environment:
      ELEFAST_ENGINE__URL: {job.url()}
    steps:
      - checkout
      - run: |
{job.lines("{}", 10)}
          {job.test}
workflows:
  test:
    jobs: [test]
"""


def _azure(job: _Job) -> str:
    return f"""\
# azure-pipelines.yml
pool:
  vmImage: ubuntu-latest
resources:
  containers:
    - container: postgres
      image: {job.image}
      ports: ["5432:5432"]
      env:
{job.environment(8)}
services:
  postgres: postgres
steps:
  - task: UsePythonVersion@0
    inputs:
      versionSpec: "{job.python}"
  - script: |
{job.lines("{}", 6)}
      {job.test}
    env:
      ELEFAST_ENGINE__URL: {job.url()}
"""


def _bitbucket(job: _Job) -> str:
    return f"""\
# bitbucket-pipelines.yml
image: python:{job.python}
definitions:
  services:
    postgres:
      image: {job.image}
      variables:
{job.environment(8)}
pipelines:
  default:
    - step:
        caches: [pip]
        services: [postgres]
        script:
{job.lines("- {}", 10)}
          - export ELEFAST_ENGINE__URL={job.url()}
          - {job.test}
"""


def _shell(job: _Job) -> str:
    environment = job.environment(0, "--env {}='{}'").replace("\n", " ")
    return f"""\
# any machine with Docker; without it: pip install "elefast[embedded]", and no server to start
docker run --detach --rm --name elefast-ci --publish 127.0.0.1:5432:5432 \\
  {environment} {job.image}
trap 'docker stop elefast-ci' EXIT
export ELEFAST_ENGINE__URL={job.url()}
{job.lines("{}", 0)}
{job.test}
"""


SYSTEMS: dict[str, Callable[[_Job], str]] = {
    "github": _github,
    "gitlab": _gitlab,
    "circleci": _circleci,
    "azure": _azure,
    "bitbucket": _bitbucket,
    "shell": _shell,
}
"""How each system is told, by its name."""
