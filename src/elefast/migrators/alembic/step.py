"""``migrator = "alembic"``: the files that a template of it depends on, and the step that builds it.

The key of the template comes from files only. Alembic is imported, and env.py runs, only for a build.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from elefast.errors import MissingDependencyError
from elefast.migrators.alembic.layout import Layout, read_layout
from elefast.migrators.files import file_input
from elefast.migrators.steps import BuildTarget
from elefast.templates.fingerprint import Input
from elefast.templates.manifest import relative

if TYPE_CHECKING:
    from elefast.migrators.alembic.upgrade import UpgradeOptions

__all__ = ["Alembic"]


@dataclass(frozen=True, slots=True)
class Alembic:
    """An Alembic project; its env.py needs no changes for elefast.

    Args:
        config: Path of the alembic.ini or pyproject.toml, relative to the project directory.
        section: Section of the ini file, as with ``alembic -n``.
        revision: The revision to upgrade to.
        x: Arguments for env.py, as with ``alembic -x``.
    """

    config: str = "alembic.ini"
    section: str = "alembic"
    revision: str = "heads"
    x: tuple[str, ...] = ()
    runs_project_code: ClassVar[bool] = True

    @property
    def label(self) -> str:
        return f"alembic upgrade {self.revision}"

    def layout(self, root: Path) -> Layout:
        """Where the project's files are.

        Raises:
            ConfigurationError: A file is missing or malformed, or the project migrates several databases.
            MissingDependencyError: Alembic is not installed.
        """
        require_alembic()
        return read_layout(root / self.config, self.section, root)

    def inputs(self, root: Path) -> Sequence[Input]:
        layout = self.layout(root)
        inputs = [
            Input.of("alembic.section", self.section),
            Input.of("alembic.revision", self.revision),
            Input.of("alembic.x", *self.x),
            # The directories themselves, since one that has no revisions is not in the list of files.
            Input.of(
                "alembic's version_locations",
                *(relative(str(place), str(root)) for place in layout.version_directories),
            ),
        ]
        if layout.toml:
            inputs.append(Input.of(f"{relative(str(layout.toml), str(root))} [tool.alembic]", layout.table))
        files = [str(layout.env), *layout.revisions(), *([str(layout.ini)] if layout.ini else [])]
        return inputs + [file_input(path, root) for path in files]

    def declared(self, root: Path) -> Sequence[Path]:
        layout = self.layout(root)
        files = [layout.env, *map(Path, layout.revisions()), *layout.version_directories]
        return files + ([layout.ini] if layout.ini else [])

    def why_not_kept(self, root: Path) -> str:
        return ""

    def describe(self, root: Path) -> tuple[Sequence[Input], str]:
        return self.inputs(root), self.why_not_kept(root)

    def run(self, target: BuildTarget) -> None:
        from elefast.migrators.alembic.upgrade import upgrade_template

        upgrade_template(self.upgrade_options(), self.layout(target.root), target)

    def upgrade_options(self) -> UpgradeOptions:
        """The arguments for `elefast.migrators.alembic.upgrade`."""
        from elefast.migrators.alembic.upgrade import UpgradeOptions

        return UpgradeOptions(self.section, self.revision, self.x, self.label)


def require_alembic() -> None:
    """Check that Alembic is installed, without importing it.

    Raises:
        MissingDependencyError: It is not.
    """
    spec = importlib.util.find_spec("alembic")
    # A spec without an origin is a plain directory of that name, very likely the project's migrations.
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            'migrator = "alembic" needs Alembic, which is not installed: pip install "elefast[alembic]"',
            code="alembic-missing",
        )
