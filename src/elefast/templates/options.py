"""The options of templates, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TemplateOptions"]


@dataclass(frozen=True, kw_only=True)
class TemplateOptions:
    """How the templates of one recipe are made and kept.

    Args:
        project: The project that the templates and kept databases belong to; empty for none. A new template retires
            older ones of the same project.
        test_run: The name of the test run, equal in all its processes, which share a failed build. Empty for a
            single process.
        strategy: How databases are copied: ``auto``, ``file_copy`` or ``wal_log``.
        cache: Whether a template may outlive the run.
        rebuild: Build the template even if one fits.
        keep: The number of older templates of the project that are not dropped.
        max_age: Seconds after which a template is built again; 0 for no limit.
        roles: The roles that exist before a template is built, and that it may refer to.
    """

    project: str = ""
    test_run: str = ""
    strategy: str = "auto"
    cache: bool = True
    rebuild: bool = False
    keep: int = 3
    max_age: float = 0
    roles: tuple[str, ...] = ()
