"""Every page of the documentation is run, block by block."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.docs.page import REPOSITORY, Project, blocks, pages


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_a_page_works_as_it_is_written(page: Path, tmp_path: Path, server_url: str) -> None:
    """Configurations are valid, code runs, commands succeed, and the tests on it pass."""
    project = Project(page, tmp_path / "page", {**os.environ, "ELEFAST_ENGINE__URL": server_url})
    for block in blocks(page):
        project.do(block)
    project.finish()


# Of all pages, so that whoever adds one comes by here.
NOT_RUN = {"README.md": 3, "docs/concepts/docker.md": 2}


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
