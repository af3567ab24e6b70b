"""The quickstart, run again and again: what is built, and why."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.guarantees.projects.project_support import Project


@pytest.fixture
def shop(quickstart: Callable[..., Project], elefast_root: Path) -> Iterator[Project]:
    """The quickstart with reuse on; its server's data goes at the end."""
    root = Path(tempfile.mkdtemp(dir=elefast_root))
    root.chmod(0o711)
    yield quickstart(ELEFAST_LOCAL__REUSE="true", _ELEFAST_ROOT=str(root))
    # The data of a server that is reused stays by design; the server itself goes with its last user.
    deadline = time.monotonic() + 20
    while any(root.rglob("postmaster.pid")) and time.monotonic() < deadline:
        time.sleep(0.05)
    shutil.rmtree(root)


def change(path: Path, text: str = "\n# changed\n") -> None:
    """Append to a file."""
    path.write_text(path.read_text() + text)


def test_the_second_and_third_run_migrate_nothing(shop: Project) -> None:
    """Not alone, and not with four workers either."""
    assert shop.pytest().template.startswith("built: there was none yet")
    assert shop.pytest().template.startswith("reused, built")
    assert shop.pytest("-n", "4").template.startswith("reused, built")
    assert shop.pytest("-n", "2", "--dist", "loadfile").template.startswith("reused, built")


@pytest.mark.parametrize("collected_first", [False, True], ids=["fresh", "tests import the models"])
def test_each_change_that_matters_builds_once_and_says_why(shop: Project, collected_first: bool) -> None:
    """A migration, a module that env.py imports, a seed; and nothing else."""
    if collected_first:
        shop.write("tests/conftest.py", "import shop.models\n")
    shop.pytest()
    for name, text in (
        ("migrations/versions/0002_orders.py", "\n# changed\n"),
        ("shop/models.py", "\n# changed\n"),
        ("migrations/env.py", "\n# changed\n"),
        ("seed.sql", "\n-- changed\n"),
    ):
        change(shop.path / name, text)
        assert shop.pytest().template == f"built: changed {name}"
        assert shop.pytest().template.startswith("reused")
    shop.write("shop/unrelated.py", "x = 1\n")
    shop.write("notes.txt", "unrelated\n")
    change(shop.path / "README.md")
    change(shop.path / "tests" / "test_shop.py")
    assert shop.pytest().template.startswith("reused")


def test_going_back_finds_the_old_template(shop: Project) -> None:
    """As switching a branch and back does."""
    models = shop.path / "shop" / "models.py"
    before = models.read_text()
    shop.pytest()
    change(models)
    assert shop.pytest().template.startswith("built: changed")
    models.write_text(before)
    assert shop.pytest().template.startswith("reused")


def test_a_rebuild_can_be_asked_for(shop: Project) -> None:
    """Once for all workers."""
    shop.pytest()
    assert shop.pytest("--elefast-rebuild", "-n", "3").template.startswith("built: asked for")


def test_eight_workers_on_a_cold_server_migrate_once(shop: Project) -> None:
    """No server, no data directory, no template: `-n 8` starts one and builds one."""
    outcome = shop.pytest("-n", "8", "--elefast-report")
    assert outcome.template.startswith("built: there was none yet")
    assert "(2 builds " in outcome.text


def test_each_value_of_a_variable_that_migrations_read_has_its_template(shop: Project) -> None:
    """Eight workers share it all the same, and a file that was looked for counts when it comes."""
    shop.write("shop/dims.py", 'import os\n\nos.environ.get("SHOP_DIMS")\nos.path.exists(".env")\n')
    env = shop.path / "migrations" / "env.py"
    env.write_text(f"import os\n\nimport shop.dims\n\nos.environ.get('PYTEST_XDIST_WORKER')\n{env.read_text()}")
    assert "(2 builds " in shop.pytest("-n", "8", "--elefast-report").text
    assert shop.pytest("-n", "2", SHOP_DIMS="5").template == "built: set variable SHOP_DIMS"
    assert shop.pytest(SHOP_DIMS="6").template == "built: changed variable SHOP_DIMS"
    assert shop.pytest("-n", "8").template.startswith("reused")
    assert shop.pytest(SHOP_DIMS="5").template.startswith("reused")
    shop.write(".env", "")
    # The newest template is that of another value.
    assert shop.pytest().template == "built: unset variable SHOP_DIMS, added .env"
