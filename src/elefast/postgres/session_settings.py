"""Settings that each session of an engine has from its start, over any driver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, event

__all__ = ["apply_settings", "set_config_calls"]


def apply_settings(engine: Engine, settings: Mapping[str, object]) -> None:
    """Give all sessions of `engine` these settings.

    Args:
        engine: An engine, or the sync side of an async one.
        settings: The value of each setting, such as ``{"app.tenant": 1}``.
    """
    statement = f"SELECT {', '.join(set_config_calls(settings))}"

    def set_all(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        try:
            cursor.execute(statement)
        finally:
            cursor.close()
        connection.commit()  # a rollback would reset them

    event.listen(engine, "connect", set_all)


def set_config_calls(settings: Mapping[str, object], *, local: bool = False) -> list[str]:
    """A call of ``set_config`` for each setting.

    Args:
        settings: The value of each setting.
        local: Whether the settings end with the transaction.
    """
    scope = "true" if local else "false"
    return [f"set_config({_text(name)}, {_text(str(value))}, {scope})" for name, value in settings.items()]


def _text(value: str) -> str:
    """`value` as an expression without any character that a driver takes for a placeholder."""
    return f"convert_from(decode('{value.encode().hex()}', 'hex'), 'UTF8')"
