"""How templates are made and kept, in plain values."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TemplateOptions"]


@dataclass(frozen=True, kw_only=True)
class TemplateOptions:
    """How the templates of one recipe are made and kept.

    Args:
        project: The project that the templates and kept databases belong to; older ones of the same project retire.
            Empty for none.
        test_run: The same in all processes of one test run, which share a failed build; empty for a single process.
        strategy: How databases are copied: ``auto``, ``file_copy`` or ``wal_log``.
        cache: Whether a template may outlive the run.
        rebuild: Build the template even where there is one that fits.
        keep: How many older templates of the project stay.
        max_age: Seconds after which a template is built again; 0 for never.
    """

    project: str = ""
    test_run: str = ""
    strategy: str = "auto"
    cache: bool = True
    rebuild: bool = False
    keep: int = 3
    max_age: float = 0
