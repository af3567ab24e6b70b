"""Every page of the documentation is run, block by block."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.guarantees.docs.page import REPOSITORY, Block, Project, blocks, pages
from tests.integration.docker.docker_support import skip_or_fail


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_a_page_works_as_it_is_written(page: Path, tmp_path: Path, server_url: str) -> None:
    """Configurations are valid, code runs, commands succeed, and the tests on it pass."""
    server = {"ELEFAST_ENGINE__URL": server_url, "TESTING_DB_URL": server_url}
    project = Project(page, tmp_path / "page", {**os.environ, **server})
    for block in blocks(page):
        project.do(block)
    project.finish()
    if project.missing:
        skip_or_fail(project.missing)


# Of all pages, so that whoever adds one comes by here.
NOT_RUN = {
    "README.md": 3,
    "docs/concepts/docker.md": 2,
    "docs/how-to/from-pytest-postgresql.md": 1,
    "docs/how-to/from-testcontainers.md": 1,
}


def test_what_is_not_run_has_a_reason() -> None:
    """In words, and every such block is counted here."""
    reasons = [
        (str(page.relative_to(REPOSITORY)), block.not_run)
        for page in pages()
        for block in blocks(page)
        if block.not_run
    ]
    assert all(len(reason.split()) >= 4 for _, reason in reasons), reasons
    assert Counter(page for page, _ in reasons) == NOT_RUN


WRONG = {
    "a key that does not exist": ("toml", '[tool.elefast]\nmigratorr = "alembic"\n'),
    "a value in a profile that is not in force": ("toml", "[tool.elefast.profiles.ci]\nkeep = 3\n"),
    "code that fails": ("python", "1 / 0\n"),
    "a test that fails": ("python", "def test_it():\n    assert False\n"),
    "a command that fails before others": ("sh", "false\ntrue\n"),
    "an output that is another": ("console", "$ echo one two\none ... three\n"),
    "a package that nobody knows": ("sh", "pip install elefast-nobody-knows\n"),
    "an extra that there is not": ("sh", "uv add 'elefast[nothing]'\n"),
    "a job with a program that is not there": ("yaml", "test:\n  script:\n    - pytestt -q\n"),
    "a language that nobody runs": ("perl", "1;\n"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_on_a_page_fails(what: str, tmp_path: Path) -> None:
    """Each kind of block is really looked at."""
    language, text = WRONG[what]
    project = Project(REPOSITORY / "docs" / "wrong.md", tmp_path / "page", os.environ)
    with pytest.raises(AssertionError, match=r"docs/wrong\.md:7"):
        project.do(Block(language, "", text, line=7, not_run="", new_project=False))
