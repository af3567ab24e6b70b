"""The documentation builds as a site: no warning, no broken link or anchor, nothing fetched from elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.guarantees.docs.page import REPOSITORY

needs_group = pytest.mark.skipif(not find_spec("zensical"), reason="the group docs is not installed")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages."""
    root = tmp_path_factory.mktemp("site")
    for name in ("docs", "src", "zensical.toml", "CHANGELOG.md"):
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / name)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return root / "build" / "site"


@needs_group
def test_every_page_is_there(site: Path) -> None:
    """With the public names of the API on theirs, and the changelog on its."""
    pages = {path.relative_to(REPOSITORY / "docs").with_suffix(".html") for path in (REPOSITORY / "docs").rglob("*.md")}
    assert {path for path in pages if not (site / path).is_file()} == set()
    api = (site / "reference" / "api.html").read_text()
    for name in ("from_config", "create_database", "AsyncDatabase", "AlembicMigrator"):
        assert name in api
    assert "Keep a Changelog" in (site / "changelog.html").read_text()


@needs_group
def test_every_link_and_anchor_leads_somewhere(site: Path) -> None:
    """In what was built, so that generated anchors count."""
    anchors = {path: set(re.findall(r'\bid="([^"]+)"', path.read_text())) for path in site.rglob("*.html")}
    broken: list[str] = []
    for page in anchors:
        for link in re.findall(r'<a\b[^>]*\bhref="([^"]+)"', page.read_text()):
            target, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", link) or page.name == "404.html":
                continue
            file = (page.parent / target).resolve() if target else page
            file = file / "index.html" if file.is_dir() else file
            if not file.exists() or (anchor and file.suffix == ".html" and anchor not in anchors[file]):
                broken.append(f"{page.relative_to(site)}: {link}")
    assert broken == []


@needs_group
def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    """No fonts, scripts or styles of others; who reads the documentation tells nobody."""
    for page in site.rglob("*.html"):
        found = re.findall(r'<(?:script|img|iframe)\b[^>]*\bsrc="(https?:[^"]+)"', page.read_text())
        found += re.findall(
            r'<link\b[^>]*\brel="(?:stylesheet|preconnect)"[^>]*\bhref="(https?:[^"]+)"', page.read_text()
        )
        assert found == [], page


def test_every_page_is_in_the_navigation() -> None:
    """And nothing else is."""
    text = (REPOSITORY / "zensical.toml").read_text()
    tomllib.loads(text)
    pages = {path.relative_to(REPOSITORY / "docs").as_posix() for path in (REPOSITORY / "docs").rglob("*.md")}
    assert set(re.findall(r'"([\w./-]+\.md)"', text)) == pages
