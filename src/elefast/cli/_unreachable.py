"""Values for the variables of `export_env` while no test runs, for project code that reads them at import."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elefast.config.model import Settings

__all__ = ["exported", "unreachable"]

_HOST = "no-test-runs.elefast.invalid"


def unreachable(settings: Settings) -> dict[str, str]:
    """Values in the form that a test has, with a host that does not exist."""
    from elefast.config.drivers import sync_driver
    from elefast.postgres.url_variables import ExportedVariable

    variables = [ExportedVariable.parse(entry) for entry in settings.export_env]
    return {variable.name: variable.unreachable(_HOST, sync_driver(settings)) for variable in variables}


@contextmanager
def exported(settings: Settings) -> Generator[None]:
    """While this lasts, these values are set in this process."""
    values = unreachable(settings)
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
