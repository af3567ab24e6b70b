"""From the tuning keys to server settings."""

from __future__ import annotations

from elefast.providers import server_settings


def test_defaults_do_not_wait_for_the_disk() -> None:
    """What is written by default is what DESIGN promises."""
    settings = server_settings()
    assert settings["fsync"] == settings["synchronous_commit"] == settings["full_page_writes"] == "off"
    assert settings["wal_level"] == "replica"
    assert settings["max_wal_senders"] == "0"
    assert settings["max_connections"] == "300"
    assert settings["checkpoint_timeout"] == "1d"


def test_empty_keys_are_left_to_the_server() -> None:
    """An empty string or None turns a key off."""
    assert "work_mem" not in server_settings()
    assert "shared_buffers" not in server_settings(shared_buffers="")
    assert "max_connections" not in server_settings(max_connections=None)


def test_true_is_on() -> None:
    """Truth values have PostgreSQL's spelling."""
    assert server_settings(fsync=True)["fsync"] == "on"


def test_statements_are_logged_on_demand() -> None:
    """``log_statements`` stands for ``log_statement = all``."""
    assert "log_statement" not in server_settings()
    assert server_settings(log_statements=True)["log_statement"] == "all"


def test_settings_come_last() -> None:
    """``settings`` wins over the keys, and takes one out with an empty value."""
    settings = server_settings(settings={"fsync": True, "jit": "", "geqo": "off"})
    assert settings["fsync"] == "on"
    assert settings["geqo"] == "off"
    assert "jit" not in settings
